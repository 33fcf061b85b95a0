//! Hop: forward. Pure: whether a failed request may go elsewhere, and the budget that bounds how many do at once.
//!
//! The table of docs/reliability in code. What never reached a workload goes elsewhere with any method; what may have been
//! seen, only where a repetition does no harm, and within a budget so that a broken backend is not met with twice the load.

use std::cell::Cell;
use std::time::Duration;

use figspan_model::routing::Limits;
use http::Method;
use tokio::sync::Notify;

use crate::dial::Fault;
use crate::metrics::Retry;

/// Most endpoints that one request is given to.
pub const MAX_ATTEMPTS: u32 = 8;

/// How long a retry waits for the budget before it fails. Retries of an agent that died come all at once and each is short:
/// waiting keeps the bound on load without failing those that a moment later would have passed.
pub const BUDGET_WAIT: Duration = Duration::from_secs(1);

/// What to do after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Try another endpoint.
    Elsewhere(Retry),
    /// Tell the client.
    Answer,
}

/// Methods that may be repeated (RFC 9110, section 9.2.2).
pub fn idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE, Method::TRACE].contains(method)
}

/// The retry table. `repeatable`: the method is [`idempotent`], or the rule says why its requests are. `replayable`: the body
/// can be sent from its beginning.
pub fn verdict(fault: Fault, repeatable: bool, replayable: bool) -> Verdict {
    if !replayable || !fault.failure.elsewhere() {
        return Verdict::Answer;
    }
    match fault.seen {
        false => Verdict::Elsewhere(Retry::NotDelivered),
        true if repeatable => Verdict::Elsewhere(Retry::Idempotent),
        true => Verdict::Answer,
    }
}

/// How many requests of a shard live, and how many of them are retries.
#[derive(Default)]
pub struct Budget {
    live: Cell<usize>,
    retrying: Cell<usize>,
    freed: Notify,
}

impl Budget {
    /// Counts a request for as long as the guard lives.
    pub fn request(&self) -> Live<'_> {
        self.live.set(self.live.get() + 1);
        Live(self)
    }

    /// Leave to retry, for as long as the guard lives; `None` above the budget.
    pub fn retry(&self, limits: &Limits) -> Option<Retrying<'_>> {
        let share = self.live.get() * limits.retry_percent as usize / 100;
        if self.retrying.get() >= limits.retry_floor as usize + share {
            return None;
        }
        self.retrying.set(self.retrying.get() + 1);
        Some(Retrying(self))
    }

    /// The same, waiting a bounded time.
    pub async fn retry_soon(&self, limits: &Limits) -> Option<Retrying<'_>> {
        let wait = async {
            loop {
                let freed = self.freed.notified();
                if let Some(retrying) = self.retry(limits) {
                    return retrying;
                }
                freed.await;
            }
        };
        tokio::time::timeout(BUDGET_WAIT, wait).await.ok()
    }
}

/// A live request.
pub struct Live<'b>(&'b Budget);

impl Drop for Live<'_> {
    fn drop(&mut self) {
        self.0.live.set(self.0.live.get() - 1);
    }
}

/// A live retry.
pub struct Retrying<'b>(&'b Budget);

impl Drop for Retrying<'_> {
    fn drop(&mut self) {
        self.0.retrying.set(self.0.retrying.get() - 1);
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::Failure;

    #[test]
    fn the_retry_table_is_kept_to_the_letter() {
        let repeatable = [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE, Method::TRACE];
        let others = [Method::POST, Method::PATCH, Method::from_bytes(b"PURGE").unwrap()];
        for failure in Failure::ALL.iter().filter(|failure| failure.elsewhere()) {
            for method in &repeatable {
                assert_eq!(verdict(Fault::unseen(*failure), idempotent(method), true), Verdict::Elsewhere(Retry::NotDelivered));
                assert_eq!(verdict(Fault::seen(*failure), idempotent(method), true), Verdict::Elsewhere(Retry::Idempotent));
            }
            for method in &others {
                assert_eq!(verdict(Fault::unseen(*failure), idempotent(method), true), Verdict::Elsewhere(Retry::NotDelivered));
                assert_eq!(verdict(Fault::seen(*failure), idempotent(method), true), Verdict::Answer);
            }
            assert_eq!(verdict(Fault::unseen(*failure), true, false), Verdict::Answer);
        }
    }

    #[test]
    fn what_the_client_did_is_never_retried() {
        for failure in [Failure::ClientGone, Failure::ClientBody, Failure::ClientIdle, Failure::RequestTimeout] {
            assert_eq!(verdict(Fault::unseen(failure), true, true), Verdict::Answer);
        }
    }

    #[test]
    fn retries_are_a_share_of_live_requests_plus_a_floor() {
        let (budget, limits) = (Budget::default(), Limits { retry_percent: 20, retry_floor: 3, ..Limits::default() });
        let live: Vec<_> = (0..50).map(|_| budget.request()).collect();
        let retries: Vec<_> = std::iter::from_fn(|| budget.retry(&limits)).collect();
        assert_eq!(retries.len(), 13);
        drop(live);
        assert!(budget.retry(&limits).is_none());
        drop(retries);
        assert!(budget.retry(&limits).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_retry_above_the_budget_waits_for_another_to_end_and_not_for_ever() {
        let (budget, limits) = (Budget::default(), Limits { retry_percent: 0, retry_floor: 1, ..Limits::default() });
        let first = budget.retry(&limits).unwrap();
        assert!(budget.retry_soon(&limits).await.is_none());
        let (second, ()) = tokio::join!(budget.retry_soon(&limits), async { drop(first) });
        assert!(second.is_some());
    }
}
