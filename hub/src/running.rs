//! A hub that runs, as the program around it sees it: addresses, reloads, drain, the end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use figspan_control::Control;
use figspan_model::settings::HubSettings;
use figspan_proto::admin::{ConfigStatus, ListenerStatus, Problem};
use figspan_tunnel::drain::Drain;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::face::Face;
use crate::reload::Reloader;
use crate::threads::Threads;

/// Time for the admin API and metrics to finish their answers.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Time for control to close all tunnels, and for the threads to end afterwards.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// A part of the hub that should have lived.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{part} has died; the hub cannot go on without it; restart it, and report the panic in its log")]
pub struct PartDied {
    /// The thread.
    pub part: String,
}

/// A hub that runs. Dropped, it ends at once; see [`Running::drain`].
#[derive(Debug)]
pub struct Running {
    pub(crate) settings: HubSettings,
    pub(crate) control: Control,
    pub(crate) face: Arc<Face>,
    pub(crate) reloader: Reloader,
    /// One per shard, and one for the admin API and metrics.
    pub(crate) shard_drains: Vec<Drain>,
    pub(crate) serve_drain: Drain,
    pub(crate) end: CancellationToken,
    pub(crate) threads: watch::Receiver<Threads>,
    pub(crate) socket: PathBuf,
    pub(crate) admin_tcp: Option<SocketAddr>,
    pub(crate) metrics: Option<SocketAddr>,
}

impl Running {
    /// The settings that the hub was started with.
    pub fn settings(&self) -> &HubSettings {
        &self.settings
    }

    /// Listeners and the addresses they are bound to.
    pub fn listeners(&self) -> Vec<ListenerStatus> {
        self.face.listeners().to_vec()
    }

    /// The address of a listener.
    pub fn listener(&self, name: &str) -> Option<SocketAddr> {
        let listeners = self.face.listeners();
        listeners.iter().find(|listener| listener.name == name).and_then(|listener| listener.address.parse().ok())
    }

    /// Where agents dial.
    pub fn tunnel_address(&self) -> SocketAddr {
        self.face.tunnel_address
    }

    /// The admin API's socket.
    pub fn admin_socket(&self) -> &Path {
        &self.socket
    }

    /// The admin API over TCP.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_tcp
    }

    /// Where `/metrics`, `/livez` and `/readyz` are.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// The control path.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// What readiness waits for; empty when ready.
    pub fn waiting_for(&self) -> Vec<String> {
        self.face.waiting_for(&self.control)
    }

    /// The state of the configuration.
    pub fn config(&self) -> Arc<ConfigStatus> {
        self.face.config()
    }

    /// Shards whose threads hang.
    pub fn stuck(&self) -> Vec<usize> {
        self.face.stuck()
    }

    /// Reads the configuration again. With errors in it (see the answer) the one before stays in force.
    pub async fn reload(&self, who: &str) -> Result<ConfigStatus, Problem> {
        self.reloader.reload_file(who).await
    }

    /// Brings another configuration into force, in place of the file's.
    pub async fn reload_text(&self, text: &str, who: &str) -> Result<ConfigStatus, Problem> {
        self.reloader.reload_text(text.to_owned(), who).await
    }

    /// Waits until the hub has ended, or says which part of it died. Cancel-safe.
    pub async fn wait(&self) -> Result<(), PartDied> {
        let mut threads = self.threads.clone();
        let ended = threads.wait_for(|threads| threads.died.is_some() || threads.alive == 0).await;
        match ended.ok().and_then(|threads| threads.died.clone()) {
            Some(part) => Err(PartDied { part }),
            None => Ok(()),
        }
    }

    /// Leaves without a lame duck: see [`Running::leave`].
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.leave(Duration::ZERO, deadline).await
    }

    /// Leaves: readiness ends and agents are told; everything is served on for the time of the lame duck, and clients are asked
    /// to go elsewhere. Then nothing new is accepted, what is under way may finish within the deadline; then the rest is cut,
    /// tunnels are closed and the threads end. `true` when nothing had to be cut.
    pub async fn leave(&self, lame_duck: Duration, deadline: Duration) -> bool {
        self.face.leave();
        let mut drains = self.reloader.leave().await;
        if !lame_duck.is_zero() && !drains.is_empty() {
            drains.iter().chain(&self.shard_drains).for_each(Drain::leave);
            let _ = tokio::join!(self.control.say_leaving(lame_duck + deadline), tokio::time::sleep(lame_duck));
        }
        drains.extend(self.shard_drains.iter().cloned());
        let shards = async {
            let finished = futures_util::future::join_all(drains.iter().map(|drain| drain.run(deadline))).await;
            finished.into_iter().all(|in_time| in_time)
        };
        let (left, finished) = tokio::join!(self.control.leave(deadline), shards);
        self.serve_drain.run(LAST_ANSWERS).await;
        // What does not answer any more is ended with its thread.
        let _ = tokio::time::timeout(LAST_WORDS, self.control.stop()).await;
        self.end.cancel();
        let _ = tokio::time::timeout(LAST_WORDS, self.wait()).await;
        left && finished
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.serve_drain.force();
        self.shard_drains.iter().for_each(Drain::force);
        self.end.cancel();
    }
}
