//! A bound on what all shards together have open, with a queue: a count that never goes above it, and no lock.
//!
//! Each shard queues its own waiters, in turn, and lets only the first of them wait here (`figspan_data::limit`). Whoever leaves
//! wakes the first waiter of one shard, the shards in turn. A waiter that comes anew passes nobody of its own shard; between
//! shards the order is that of waking, so that none starves.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use crossbeam_utils::CachePadded;
use futures_util::task::AtomicWaker;
use tokio::sync::Notify;

use super::Shard;

/// The gate.
#[derive(Debug)]
pub struct Gate {
    used: CachePadded<AtomicU32>,
    waiting: CachePadded<AtomicU32>,
    firsts: Box<[CachePadded<First>]>,
    /// What each shard wakes to let go of what it holds without need.
    idlers: Box<[OnceLock<Arc<Notify>>]>,
    /// Whose turn it is to be woken.
    turn: AtomicUsize,
}

/// The first waiter of a shard.
#[derive(Debug, Default)]
struct First {
    asleep: AtomicBool,
    waker: AtomicWaker,
}

impl Gate {
    pub(super) fn new(shards: usize) -> Self {
        Self {
            used: CachePadded::default(),
            waiting: CachePadded::default(),
            firsts: (0..shards).map(|_| CachePadded::default()).collect(),
            idlers: (0..shards).map(|_| OnceLock::new()).collect(),
            turn: AtomicUsize::new(0),
        }
    }

    /// How many are in.
    pub fn used(&self) -> u32 {
        self.used.load(Ordering::SeqCst)
    }

    /// How many wait, over all shards.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Goes in, unless `most` are. Whoever went in leaves with [`Gate::leave`].
    pub fn enter(&self, most: u32) -> bool {
        let more = |used: u32| (used < most).then(|| used + 1);
        self.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    /// Makes room for another.
    pub fn leave(&self) {
        self.used.fetch_sub(1, Ordering::SeqCst);
        self.wake_next();
    }

    /// Takes a place among those that wait, unless `most` do. Given back with [`Gate::leave_queue`].
    pub fn queue(&self, most: u32) -> bool {
        let more = |waiting: u32| (waiting < most).then(|| waiting + 1);
        self.waiting.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    /// Has a shard woken when somebody waits for what it may hold without need.
    pub fn tell(&self, shard: Shard, idler: impl FnOnce() -> Arc<Notify>) {
        self.idlers[shard].get_or_init(idler);
    }

    /// Asks all shards to let go of what they hold without need.
    pub fn want(&self) {
        self.idlers.iter().filter_map(OnceLock::get).for_each(|idler| idler.notify_one());
    }

    /// Gives the place among those that wait back.
    pub fn leave_queue(&self) {
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    /// Waits to go in. Only the first waiter of a shard does; if it gives up, it says so with [`Gate::give_up`].
    pub fn poll_enter(&self, shard: Shard, most: u32, cx: &mut Context<'_>) -> Poll<()> {
        if self.enter(most) {
            self.give_up(shard);
            return Poll::Ready(());
        }
        let first = &self.firsts[shard];
        first.waker.register(cx.waker());
        first.asleep.store(true, Ordering::SeqCst);
        // Again, for what left between the look and the sleep: it saw nobody asleep.
        if self.enter(most) {
            self.give_up(shard);
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// The first waiter of a shard waits no more. Had it been woken, the wake goes on to another: there may be room.
    pub fn give_up(&self, shard: Shard) {
        if !self.firsts[shard].asleep.swap(false, Ordering::SeqCst) {
            self.wake_next();
        }
    }

    fn wake_next(&self) {
        let from = self.turn.load(Ordering::Relaxed);
        for step in 0..self.firsts.len() {
            let shard = (from + step) % self.firsts.len();
            let first = &self.firsts[shard];
            if first.asleep.load(Ordering::SeqCst) && first.asleep.swap(false, Ordering::SeqCst) {
                self.turn.store((shard + 1) % self.firsts.len(), Ordering::Relaxed);
                first.waker.wake();
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    /// Threads that go in and out as fast as they can: never more in than the bound, nobody left asleep, all out at the end.
    #[test]
    fn under_contention_the_bound_holds_and_nobody_sleeps_for_ever() {
        const SHARDS: usize = 4;
        const ROUNDS: u64 = 20_000;
        let gate = Arc::new(Gate::new(SHARDS));
        let (inside, most_inside) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let threads: Vec<_> = (0..SHARDS)
            .map(|shard| {
                let (gate, inside, most_inside) = (Arc::clone(&gate), Arc::clone(&inside), Arc::clone(&most_inside));
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    runtime.block_on(async {
                        for round in 0..ROUNDS {
                            if round % 7 == 0 && shard == 1 {
                                // One that gives up at once.
                                let polled = std::future::poll_fn(|cx| Poll::Ready(gate.poll_enter(shard, 2, cx))).await;
                                if polled.is_pending() {
                                    gate.give_up(shard);
                                    continue;
                                }
                            } else {
                                std::future::poll_fn(|cx| gate.poll_enter(shard, 2, cx)).await;
                            }
                            most_inside.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            if round % 16 == 0 {
                                tokio::task::yield_now().await;
                            }
                            inside.fetch_sub(1, Ordering::SeqCst);
                            gate.leave();
                        }
                    });
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!((gate.used(), inside.load(Ordering::SeqCst)), (0, 0));
        assert!((1..=2).contains(&most_inside.load(Ordering::SeqCst)));
    }

    #[test]
    fn the_queue_is_bounded_and_a_lower_bound_takes_effect_at_once() {
        let gate = Gate::new(1);
        assert!(gate.queue(2) && gate.queue(2) && !gate.queue(2));
        gate.leave_queue();
        assert_eq!(gate.waiting(), 1);
        assert!(gate.enter(3) && gate.enter(3) && !gate.enter(1));
        gate.leave();
        assert!(!gate.enter(1) && gate.enter(2));
    }
}
