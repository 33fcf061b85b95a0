//! Tasks that belong to one object and end with it: the one place of this crate that starts any.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::task::JoinSet;

/// Owns tasks; dropping it aborts them.
#[derive(Debug, Default)]
pub(crate) struct Tasks(Arc<Mutex<JoinSet<()>>>);

/// Lets a library start tasks that end with their owner; hyper's executor. After the owner's end it starts nothing.
#[derive(Debug, Clone)]
pub(crate) struct Starter(Weak<Mutex<JoinSet<()>>>);

impl Tasks {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(JoinSet::new())))
    }

    /// Starts a task on the current runtime.
    pub(crate) fn spawn<F: Future<Output = ()> + Send + 'static>(&self, task: F) {
        start(&self.0, task);
    }

    /// A handle for libraries. It does not keep the tasks alive, since the tasks themselves hold it.
    pub(crate) fn starter(&self) -> Starter {
        Starter(Arc::downgrade(&self.0))
    }
}

impl Starter {
    /// Starts a task on the current runtime, unless the owner is gone.
    pub(crate) fn spawn<F: Future<Output = ()> + Send + 'static>(&self, task: F) {
        if let Some(tasks) = self.0.upgrade() {
            start(&tasks, task);
        }
    }
}

/// Runs an endpoint's driver on the current runtime. Its owner is the endpoint with its connections: it ends after the last of them.
#[allow(clippy::disallowed_methods, reason = "it has to outlive the handles by their last words")]
pub(crate) fn drive(driver: figspan_quic::Driver) {
    tokio::spawn(driver);
}

/// The same on the current thread's `LocalSet`.
#[allow(clippy::disallowed_methods, reason = "it has to outlive the handles by their last words")]
pub(crate) fn drive_locally(driver: figspan_quic::Driver) {
    tokio::task::spawn_local(driver);
}

fn start<F: Future<Output = ()> + Send + 'static>(tasks: &Mutex<JoinSet<()>>, task: F) {
    let mut tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
    // Finished tasks leave their slot here, so that a long-lived owner does not collect them.
    while tasks.try_join_next().is_some() {}
    tasks.spawn(task);
}

impl<F> hyper::rt::Executor<F> for Starter
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, task: F) {
        if let Some(tasks) = self.0.upgrade() {
            start(&tasks, async move {
                task.await;
            });
        }
    }
}
