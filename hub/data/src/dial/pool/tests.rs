use std::task::Waker;

use figspan_model::state::Book;

use super::*;

/// A connection that can be spoiled: something comes or ends on it, and its waker hears of it.
#[derive(Clone, Default)]
struct Fake(Rc<Inner>);

#[derive(Default)]
struct Inner {
    tunnel: Cell<Option<u64>>,
    /// How often it was asked whether something came.
    looks: Cell<usize>,
    spoiled: Cell<bool>,
    wanted: Cell<bool>,
    finished: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    ear: RefCell<Option<Ear>>,
}

impl Fake {
    fn spoil(&self) {
        self.0.spoiled.set(true);
        self.0.waker.borrow().iter().for_each(Waker::wake_by_ref);
    }

    /// The same before anybody could hear it.
    fn spoil_quietly(&self) {
        self.0.spoiled.set(true);
    }

    fn finished(&self) -> bool {
        self.0.finished.get()
    }

    fn poll(&self, waker: &Waker) -> Poll<()> {
        self.0.looks.set(self.0.looks.get() + 1);
        self.0.waker.replace(Some(waker.clone()));
        if self.0.spoiled.get() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Reusable for Fake {
    fn tunnel(&self) -> Option<u64> {
        self.0.tunnel.get()
    }

    fn rest(&self) {}

    fn listen(&self, make: impl FnOnce() -> Ear) -> Poll<()> {
        let mut ear = self.0.ear.borrow_mut();
        ear.get_or_insert_with(make).listen(|cx| self.poll(cx.waker()))
    }

    fn has_heard(&self) -> bool {
        self.0.ear.borrow().as_ref().is_none_or(Ear::has_heard)
    }

    fn look(&self) -> Poll<()> {
        self.poll(Waker::noop())
    }

    fn wanted(&self) -> bool {
        self.0.wanted.get()
    }

    fn finish(&self) {
        self.0.finished.set(true);
    }
}

struct Place {
    pool: Rc<Pool<Fake>>,
    state: Arc<EndpointState>,
    key: Key,
}

impl Place {
    fn new() -> Self {
        let state = Book::new(1).endpoint("service/s/127.0.0.1:1");
        Self { pool: Pool::new(0, Metrics::new()), key: Key::new(&state, 0, None), state }
    }

    /// Puts a connection back, as an answer that has come whole does.
    fn put(&self, connection: &Fake) {
        self.pool.put(self.key, &self.state, connection.clone(), 8, Duration::from_secs(60));
    }

    /// Idle ones, as the pool and the endpoint count them.
    fn idle(&self) -> (usize, u64) {
        (self.pool.idle(), self.state.pooled.sum())
    }
}

#[tokio::test]
async fn a_connection_on_which_something_came_is_not_kept() {
    let place = Place::new();
    let (good, early) = (Fake::default(), Fake::default());
    early.spoil_quietly();
    place.put(&early);
    assert!(early.finished(), "what ended or spoke before it was idle is of no use");
    assert_eq!(place.idle(), (0, 0));
    place.put(&good);
    assert_eq!((place.idle(), good.finished()), ((1, 1), false));
}

#[tokio::test]
async fn a_connection_that_was_spoiled_while_idle_is_never_handed_out() {
    let place = Place::new();
    let (good, stale) = (Fake::default(), Fake::default());
    place.put(&good);
    place.put(&stale);
    // Nobody has looked since: the request that takes it does.
    stale.spoil_quietly();
    let taken = place.pool.take(&place.key).expect("the other one is good");
    assert!(Rc::ptr_eq(&taken.0, &good.0) && stale.finished() && !good.finished());
    assert!(place.pool.take(&place.key).is_none());
    assert_eq!(place.idle(), (0, 0));
}

#[tokio::test]
async fn a_tunnels_connection_that_was_silent_is_used_without_another_look() {
    let place = Place::new();
    place.pool.sweep(Live { states: Set::from_iter([place.key.state]), tunnels: Set::from_iter([7]), ..Live::default() });
    let (silent, spoke) = (Fake::default(), Fake::default());
    for connection in [&silent, &spoke] {
        connection.0.tunnel.set(Some(7));
        place.put(connection);
    }
    // Heard, and not yet looked at by the pool.
    spoke.spoil();
    let taken = place.pool.take(&place.key).expect("the other one is good");
    assert!(Rc::ptr_eq(&taken.0, &silent.0) && spoke.finished() && !silent.finished());
    assert_eq!((silent.0.looks.get(), spoke.0.looks.get()), (1, 2), "once as they were put back");
}

#[tokio::test]
async fn a_connection_that_is_spoiled_while_idle_goes_at_once() {
    let place = Place::new();
    let (good, ends) = (Fake::default(), Fake::default());
    place.put(&good);
    place.put(&ends);
    ends.spoil();
    let watch = place.pool.watch();
    tokio::select! {
        () = watch => {}
        () = async { while !ends.finished() { tokio::task::yield_now().await } } => {}
    }
    assert_eq!((place.idle(), good.finished()), ((1, 1), false));
}

#[tokio::test]
async fn what_drains_is_not_kept() {
    let place = Place::new();
    let (before, after) = (Fake::default(), Fake::default());
    place.put(&before);
    // Live, ahead of the publication that sweeps: the count that a drain waits for must only fall.
    place.state.draining.store(true, Ordering::Release);
    place.put(&after);
    assert!(after.finished() && !before.finished());
    assert_eq!(place.idle(), (1, 1));
    place.pool.sweep(Live::default());
    assert!(before.finished(), "the publication ends what was idle before");
    assert_eq!(place.idle(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_others_wait_for_and_what_idles_too_long_is_given_back() {
    let place = Place::new();
    let (wanted, old) = (Fake::default(), Fake::default());
    wanted.0.wanted.set(true);
    place.put(&wanted);
    assert!(wanted.finished(), "somebody waits for its room");
    place.put(&old);
    tokio::time::advance(Duration::from_secs(61)).await;
    assert!(place.pool.take(&place.key).is_none() && old.finished());
    assert_eq!(place.pool.metrics.limit_hits(Limit::IdleStreamTime), 1);
}

#[tokio::test]
async fn a_pool_that_has_stopped_keeps_nothing() {
    let place = Place::new();
    let (before, after) = (Fake::default(), Fake::default());
    place.put(&before);
    place.pool.stop();
    place.put(&after);
    assert!(before.finished() && after.finished());
    assert_eq!(place.idle(), (0, 0));
}
