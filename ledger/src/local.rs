//! hyper's tasks on the LocalSet of a thread, which owns them and ends them with itself.

use hyper::rt::Executor;

/// Runs hyper's tasks on the thread's LocalSet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Local;

impl<F: Future<Output = ()> + 'static> Executor<F> for Local {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}
