//! What control's tasks hold: the shared facts, the way to the registry's one writer, the owner of tasks.

use std::ops::Deref;
use std::sync::Arc;

use figspan_proto::admin::Problem;
use figspan_proto::name::AgentName;
use figspan_tunnel::drain::Drain;
use tokio::sync::{mpsc, oneshot};

use crate::core::{Core, Job};
use crate::limiter::{Limiter, Pace};
use crate::problem;
use crate::shared::Shared;

/// What control's tasks hold.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) shared: Arc<Shared>,
    pub(crate) writer: Writer,
    /// Tasks that serve tunnels and operators.
    pub(crate) work: Drain,
    pub(crate) pace: Pace,
    /// Entries that agents may send.
    pub(crate) talk: Limiter<AgentName>,
}

impl Deref for Context {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Context {
    /// Runs something to its end, also when whoever waits for it goes away: a change must not stop between disk and memory.
    pub(crate) async fn to_the_end<R: Send + 'static>(&self, work: impl Future<Output = R> + Send + 'static) -> Result<R, Problem> {
        let (done, result) = oneshot::channel();
        self.work.spawn(async move {
            let _ = done.send(work.await);
        });
        result.await.map_err(|_| problem::ending())
    }
}

/// The way to the registry's one writer.
#[derive(Debug, Clone)]
pub(crate) struct Writer(mpsc::Sender<Job>);

impl Writer {
    /// A writer's two ends.
    pub(crate) fn channel(depth: usize) -> (Self, mpsc::Receiver<Job>) {
        let (sender, receiver) = mpsc::channel(depth);
        (Self(sender), receiver)
    }

    /// Lets the writer do something, and waits for what comes of it.
    pub(crate) async fn ask<R: Send + 'static>(&self, job: impl FnOnce(&mut Core) -> R + Send + 'static) -> Result<R, Problem> {
        let (answer, answered) = oneshot::channel();
        self.tell(move |core| {
            // Whoever asked may have gone.
            let _ = answer.send(job(core));
        })
        .await;
        answered.await.map_err(|_| problem::ending())
    }

    /// Lets the writer do something that may be left undone: nothing happens while it is busy.
    pub(crate) fn hint(&self, job: impl FnOnce(&mut Core) + Send + 'static) {
        let _ = self.0.try_send(Box::new(job));
    }

    /// Lets the writer do something. Waits while it is busy; after its end nothing happens.
    pub(crate) async fn tell(&self, job: impl FnOnce(&mut Core) + Send + 'static) {
        let _ = self.0.send(Box::new(job)).await;
    }
}
