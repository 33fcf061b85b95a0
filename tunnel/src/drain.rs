//! Drain, the same everywhere: stop new work, finish old work to a deadline, force.
use std::future::Future;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
/// The owner of a part's tasks. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Drain { stop: CancellationToken, force: CancellationToken, tasks: TaskTracker }
impl Drain {
    /// x
    pub fn new() -> Self { Self::default() }
    /// Starts a task that drain waits for (on the current runtime).
    pub fn spawn<F>(&self, task: F) where F: Future<Output = ()> + Send + 'static { self.tasks.spawn(task); }
    /// The same for the current thread's `LocalSet`.
    pub fn spawn_local<F>(&self, task: F) where F: Future<Output = ()> + 'static { self.tasks.spawn_local(task); }
    /// Completes when new work shall stop.
    pub async fn stopping(&self) { self.stop.cancelled().await }
    /// x
    pub fn is_stopping(&self) -> bool { self.stop.is_cancelled() }
    /// Completes when old work shall be cut.
    pub async fn forced(&self) { self.force.cancelled().await }
    /// Phase 1.
    pub fn stop(&self) { self.stop.cancel(); self.tasks.close(); }
    /// Phase 3.
    pub fn force(&self) { self.stop(); self.force.cancel(); }
    /// All three phases: true when all work finished in time.
    pub async fn run(&self, deadline: Duration) -> bool { self.stop(); let done = tokio::time::timeout(deadline, self.tasks.wait()).await.is_ok(); self.force.cancel(); done }
}
