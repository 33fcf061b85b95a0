//! Drain, the same everywhere: stop new work, finish old work to a deadline, force. Before it there may be a lame duck: work is
//! taken as ever, and whoever brings it is asked to go elsewhere with the next.
//!
//! Owns the tasks of a part. Promises that [`Drain::run`] returns only when all tasks have ended or the deadline has passed; in
//! the second case tasks are told by [`Drain::forced`]. A second signal calls [`Drain::force`] at once.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The owner of a part's tasks. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    leave: CancellationToken,
    stop: CancellationToken,
    force: CancellationToken,
    tasks: TaskTracker,
}

impl Drain {
    /// An owner without tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// A part of this owner that may leave, stop and be forced before the whole is: its tasks are the owner's.
    #[must_use]
    pub fn part(&self) -> Self {
        let (leave, stop, force) = (self.leave.child_token(), self.stop.child_token(), self.force.child_token());
        Self { leave, stop, force, tasks: self.tasks.clone() }
    }

    /// Starts a task that drain waits for (on the current runtime).
    pub fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(task);
    }

    /// The same for the current thread's `LocalSet`.
    pub fn spawn_local<F>(&self, task: F)
    where
        F: Future<Output = ()> + 'static,
    {
        self.tasks.spawn_local(task);
    }

    /// Completes when the lame duck begins, or work stops without one. Cancel-safe.
    pub async fn leaving(&self) {
        self.leave.cancelled().await;
    }

    /// Whether whoever brings work shall be asked to go elsewhere with the next.
    pub fn is_leaving(&self) -> bool {
        self.leave.is_cancelled()
    }

    /// Completes when new work shall stop. Cancel-safe.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Whether new work shall stop.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Completes when old work shall be cut. Cancel-safe.
    pub async fn forced(&self) {
        self.force.cancelled().await;
    }

    /// Whether old work shall be cut.
    pub fn is_forced(&self) -> bool {
        self.force.is_cancelled()
    }

    /// How many tasks run.
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// Phase 0: the lame duck. Nothing is refused yet.
    pub fn leave(&self) {
        self.leave.cancel();
    }

    /// Phase 1: stop new work.
    pub fn stop(&self) {
        self.leave();
        self.stop.cancel();
        self.tasks.close();
    }

    /// Phase 3: cut old work.
    pub fn force(&self) {
        self.stop();
        self.force.cancel();
    }

    /// All three phases: true when all work finished before the deadline and nobody forced it.
    pub async fn run(&self, deadline: Duration) -> bool {
        self.stop();
        let done = tokio::select! {
            biased;
            () = self.tasks.wait() => !self.is_forced(),
            () = self.forced() => false,
            () = tokio::time::sleep(deadline) => false,
        };
        self.force.cancel();
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    const DEADLINE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn work_that_ends_in_time_is_waited_for_and_no_longer() {
        let drain = Drain::new();
        let owner = drain.clone();
        drain.spawn(async move {
            owner.stopping().await;
            tokio::time::sleep(Duration::from_secs(7)).await;
        });
        let began = Instant::now();
        assert!(!drain.is_stopping());
        assert!(drain.run(DEADLINE).await);
        assert_eq!((began.elapsed().as_secs(), drain.tasks()), (7, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lame_duck_refuses_nothing_and_every_stop_ends_one() {
        let drain = Drain::new();
        drain.leave();
        drain.leaving().await;
        assert!(drain.is_leaving() && !drain.is_stopping());
        let other = Drain::new();
        other.stop();
        other.leaving().await;
        assert!(other.is_leaving() && other.is_stopping());
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_ends_with_the_whole_or_before_it_and_its_tasks_are_waited_for() {
        let whole = Drain::new();
        let (one, other) = (whole.part(), whole.part());
        one.stop();
        assert!(one.is_leaving() && one.is_stopping() && !other.is_stopping() && !whole.is_leaving());
        other.spawn(tokio::time::sleep(Duration::from_secs(2)));
        let began = Instant::now();
        assert!(whole.run(DEADLINE).await);
        assert_eq!(began.elapsed().as_secs(), 2);
        assert!(other.is_stopping() && other.is_forced());
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_does_not_end_is_forced_at_the_deadline() {
        let drain = Drain::new();
        let owner = drain.clone();
        drain.spawn(async move { owner.forced().await });
        let began = Instant::now();
        assert!(!drain.run(DEADLINE).await);
        assert_eq!(began.elapsed(), DEADLINE);
        drain.tasks.wait().await;
        assert!(drain.is_forced());
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_ends_the_wait_at_once() {
        let drain = Drain::new();
        drain.spawn(std::future::pending());
        let second = drain.clone();
        let began = Instant::now();
        let (done, ()) = tokio::join!(drain.run(DEADLINE), async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            second.force();
        });
        assert!(!done);
        assert_eq!(began.elapsed().as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_is_begun_while_stopping_is_waited_for_too() {
        let drain = Drain::new();
        drain.stop();
        drain.spawn(tokio::time::sleep(Duration::from_secs(2)));
        let began = Instant::now();
        assert!(drain.run(DEADLINE).await);
        assert_eq!(began.elapsed().as_secs(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_of_one_thread_are_waited_for() {
        let drain = Drain::new();
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let held = std::rc::Rc::new(());
                drain.spawn_local(async move {
                    tokio::time::sleep(Duration::from_secs(3)).await;
                    drop(held);
                });
                assert!(drain.run(DEADLINE).await);
            })
            .await;
    }
}
