//! Drain, the same everywhere: stop new work, finish old work to a deadline, force. Before it there may be a lame duck: work is
//! taken as ever, and whoever brings it is asked to go elsewhere with the next.
//!
//! Owns the tasks of a part. Promises that [`Drain::run`] returns only when all tasks have ended or the deadline has passed; in
//! the second case tasks are told by [`Drain::forced`]. A second signal calls [`Drain::force`] at once.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The owner of a part's tasks. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    leave: Phase,
    stop: Phase,
    force: Phase,
    tasks: TaskTracker,
}

/// Something that begins once. Every connection of every shard asks, at each of its wake-ups, and nearly always hears no: so that costs a
/// read or two, and the token, which has a lock, is only asked by who has yet to wait for it.
#[derive(Debug, Clone, Default)]
struct Phase {
    begun: Arc<Begun>,
    token: CancellationToken,
}

#[derive(Debug, Default)]
struct Begun {
    here: AtomicBool,
    /// Of the whole that this is a part of.
    whole: Option<Arc<Begun>>,
}

impl Begun {
    fn get(&self) -> bool {
        self.here.load(Ordering::Acquire) || self.whole.as_ref().is_some_and(|whole| whole.get())
    }
}

impl Phase {
    fn part(&self) -> Self {
        let begun = Begun { here: AtomicBool::new(false), whole: Some(Arc::clone(&self.begun)) };
        Self { begun: Arc::new(begun), token: self.token.child_token() }
    }

    fn begin(&self) {
        // Before anybody is woken, so that who is woken finds it.
        self.begun.here.store(true, Ordering::Release);
        self.token.cancel();
    }

    fn has_begun(&self) -> bool {
        self.begun.get()
    }

    async fn begins(&self) {
        let mut cancelled = pin!(self.token.cancelled());
        let mut waits: Option<Waker> = None;
        std::future::poll_fn(|cx| {
            if self.has_begun() {
                return Poll::Ready(());
            }
            // Who waits already is woken when it begins.
            if waits.as_ref().is_some_and(|waits| waits.will_wake(cx.waker())) {
                return Poll::Pending;
            }
            waits = Some(cx.waker().clone());
            cancelled.as_mut().poll(cx)
        })
        .await;
    }
}

impl Drain {
    /// An owner without tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// A part of this owner that may leave, stop and be forced before the whole is: its tasks are the owner's.
    #[must_use]
    pub fn part(&self) -> Self {
        Self { leave: self.leave.part(), stop: self.stop.part(), force: self.force.part(), tasks: self.tasks.clone() }
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
        self.leave.begins().await;
    }

    /// Whether whoever brings work shall be asked to go elsewhere with the next.
    pub fn is_leaving(&self) -> bool {
        self.leave.has_begun()
    }

    /// Completes when new work shall stop. Cancel-safe.
    pub async fn stopping(&self) {
        self.stop.begins().await;
    }

    /// Whether new work shall stop.
    pub fn is_stopping(&self) -> bool {
        self.stop.has_begun()
    }

    /// Completes when old work shall be cut. Cancel-safe.
    pub async fn forced(&self) {
        self.force.begins().await;
    }

    /// Whether old work shall be cut.
    pub fn is_forced(&self) -> bool {
        self.force.has_begun()
    }

    /// How many tasks run.
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// Phase 0: the lame duck. Nothing is refused yet.
    pub fn leave(&self) {
        self.leave.begin();
    }

    /// Phase 1: stop new work.
    pub fn stop(&self) {
        self.leave();
        self.stop.begin();
        self.tasks.close();
    }

    /// Phase 3: cut old work.
    pub fn force(&self) {
        self.stop();
        self.force.begin();
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
        self.force.begin();
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::task::{Context, Wake};
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

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn whoever_asked_last_is_woken_and_finds_it_begun() {
        let counts = [Arc::new(Count::default()), Arc::default()];
        let [first, second] = counts.each_ref().map(|count| Waker::from(Arc::clone(count)));
        let whole = Drain::new();
        let part = whole.part();
        let mut stopping = pin!(part.stopping());
        let mut ask = |waker: &Waker| stopping.as_mut().poll(&mut Context::from_waker(waker)).is_ready();
        for waker in [&first, &first, &second, &second] {
            assert!(!ask(waker));
        }
        whole.stop();
        assert_eq!(counts.each_ref().map(|count| count.0.load(Ordering::Relaxed)), [0, 1]);
        assert!(ask(&second) && part.is_stopping() && part.is_leaving() && !part.is_forced());
        assert!(whole.part().is_stopping());
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
