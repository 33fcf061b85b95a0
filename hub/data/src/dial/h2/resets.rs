//! Hop: dial -> backend. How many streams of a connection are cancelled before the workload is known to have taken them.
//!
//! A server counts streams that are reset while they still wait in its queue, and above a small number it takes the client for an
//! attacker and ends the connection with every stream on it (CVE-2023-44487; hyper at 20). A workload that stands still for a
//! moment has such a queue, and hedges, time limits and clients that leave then cancel much of it. So only a few cancellations are
//! on their way at once; the others wait, for a bounded time, until a later request was answered: queues are in order.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

/// Most cancellations of requests that the workload may not have taken yet: half of what the strictest known server allows.
pub(super) const MOST: usize = 10;

/// After this time a request counts as taken though nothing has shown it. Longer than workloads stand still, as a rule.
pub(super) const TAKEN_AFTER: Duration = Duration::from_secs(5);

/// What is known of a connection's requests, by their numbers in the order in which they were sent.
#[derive(Default)]
pub(super) struct Resets {
    sent: Cell<u64>,
    /// The newest request that was answered: all before it were taken.
    taken: Cell<u64>,
    /// Cancelled requests that may not have been taken, and when.
    loose: RefCell<Vec<(u64, Instant)>>,
    changed: Notify,
}

impl Resets {
    /// Numbers a request that was sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent.set(self.sent.get() + 1);
        self.sent.get()
    }

    /// Notes that a request was answered.
    pub(super) fn answered(&self, number: u64) {
        if number > self.taken.get() {
            self.taken.set(number);
            self.changed.notify_waiters();
        }
    }

    /// Whether a request may be cancelled now; counted if so.
    pub(super) fn take(&self, number: u64) -> bool {
        let (taken, now) = (self.taken.get(), Instant::now());
        if number <= taken {
            return true;
        }
        let mut loose = self.loose.borrow_mut();
        loose.retain(|(other, since)| *other > taken && now.duration_since(*since) < TAKEN_AFTER);
        let room = loose.len() < MOST;
        if room {
            loose.push((number, now));
        }
        room
    }

    /// Waits until a request may be cancelled, for [`TAKEN_AFTER`] at most.
    pub(super) async fn room(&self, number: u64) {
        let room = async {
            loop {
                let changed = self.changed.notified();
                if self.take(number) {
                    return;
                }
                changed.await;
            }
        };
        tokio::select! {
            () = room => {}
            () = sleep(TAKEN_AFTER) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn few_requests_are_cancelled_before_a_later_one_is_answered() {
        let resets = Resets::default();
        let numbers: Vec<_> = (0..2 * MOST + 2).map(|_| resets.sent()).collect();
        assert_eq!(numbers.iter().filter(|number| resets.take(**number)).count(), MOST);
        // It answers what came first: nothing is known of the others.
        resets.answered(numbers[0]);
        assert!(resets.take(numbers[MOST]), "one of those that were counted is known to be taken");
        assert!(!resets.take(numbers[MOST + 1]));
        let last = *numbers.last().unwrap();
        let start = Instant::now();
        tokio::join!(resets.room(numbers[MOST + 1]), async { resets.answered(last) });
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert!(numbers.iter().all(|number| resets.take(*number)), "all were taken, and none counts any more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancellation_waits_no_longer_than_its_time() {
        let resets = Resets::default();
        let numbers: Vec<_> = (0..=MOST).map(|_| resets.sent()).collect();
        numbers[..MOST].iter().for_each(|number| assert!(resets.take(*number)));
        let start = Instant::now();
        resets.room(numbers[MOST]).await;
        assert_eq!(start.elapsed(), TAKEN_AFTER);
        assert!(resets.take(resets.sent()), "what was counted then is forgotten");
    }
}
