//! Hop: limit. One rate limit, asked for one source: `governor`'s GCRA over the debts that all shards share.
//!
//! Moments are counted from the process's first look at the clock, so that a debt means the same to every shard and over every
//! reload; parameters come from the policy at each look.

use std::cell::Cell;
use std::sync::OnceLock;
use std::time::Duration;

use figspan_model::routing::policy::RateLimit;
use figspan_model::state::RateState;
use governor::clock::Clock;
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

/// Lets a request of the source pass and says how many more would pass at once, or how long it has to wait.
pub(super) fn pass(limit: &RateLimit, debts: &RateState, source: u64) -> Result<u32, Duration> {
    pass_at(limit, debts, source, now())
}

/// What [`pass`] would say now, without counting a request.
pub(super) fn would_pass(limit: &RateLimit, debts: &RateState, source: u64) -> Result<u32, Duration> {
    ask(limit, Looked(debts.until(source)), source, now())
}

fn pass_at(limit: &RateLimit, debts: &RateState, source: u64, now: Nanos) -> Result<u32, Duration> {
    ask(limit, Debts(debts), source, now)
}

/// The time in which one request comes back.
pub(super) fn each(limit: &RateLimit) -> Duration {
    (limit.period / limit.requests.get()).max(Duration::from_nanos(1))
}

fn ask(limit: &RateLimit, debts: impl StateStore<Key = u64>, source: u64, now: Nanos) -> Result<u32, Duration> {
    let Some(quota) = Quota::with_period(each(limit)) else { return Ok(limit.burst.get()) };
    let limiter: RateLimiter<u64, _, Moment, StateInformationMiddleware> =
        RateLimiter::new(quota.allow_burst(limit.burst), debts, Moment { now, asked: Cell::new(false) });
    let passed = limiter.check_key(&source);
    passed.map(|after| after.remaining_burst_capacity()).map_err(|until| until.wait_time_from(now))
}

fn now() -> Nanos {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let first = *FIRST.get_or_init(Instant::now);
    Nanos::from(u64::try_from(Instant::now().saturating_duration_since(first).as_nanos()).unwrap_or(u64::MAX >> 1))
}

/// A clock that stands still for one look. A limiter asks it once for its own beginning, which is that of all: zero.
struct Moment {
    now: Nanos,
    asked: Cell<bool>,
}

impl Clock for Moment {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        if self.asked.replace(true) { self.now } else { Nanos::default() }
    }
}

struct Debts<'d>(&'d RateState);

impl StateStore for Debts<'_> {
    type Key = u64;

    fn measure_and_replace<T, F, E>(&self, source: &u64, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.0.update(*source, |until| decide(Some(Nanos::from(until))).map(|(answer, next)| (answer, next.as_u64())))
    }
}

/// A source's moment as it was seen; nothing is written back.
struct Looked(u64);

impl StateStore for Looked {
    type Key = u64;

    fn measure_and_replace<T, F, E>(&self, _: &u64, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        decide(Some(Nanos::from(self.0))).map(|(answer, _)| answer)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use figspan_model::routing::policy::Per;
    use proptest::prelude::*;

    use super::*;

    fn limit(requests: u32, period: Duration, burst: u32) -> RateLimit {
        let count = |n| NonZeroU32::new(n).unwrap();
        RateLimit { per: Per::Client, requests: count(requests), period, burst: count(burst), told: false }
    }

    fn at(millis: u64) -> Nanos {
        Nanos::from(Duration::from_millis(millis))
    }

    #[test]
    fn a_burst_passes_then_the_rate_holds_and_the_wait_is_what_is_missing() {
        let (debts, limit) = (RateState::default(), limit(10, Duration::from_secs(1), 3));
        let pass = |source, millis| pass_at(&limit, &debts, source, at(millis));
        assert_eq!([pass(1, 0), pass(1, 0), pass(1, 0)], [Ok(2), Ok(1), Ok(0)], "and each says how many more would pass");
        assert_eq!(pass(1, 0), Err(Duration::from_millis(100)));
        assert_eq!(pass(1, 60), Err(Duration::from_millis(40)));
        assert_eq!((pass(1, 100), pass(1, 100).is_err(), pass(2, 100)), (Ok(0), true, Ok(2)), "sources are apart");
        assert_eq!([pass(1, 5000), pass(1, 5000), pass(1, 5000), pass(1, 5000)].map(|passed| passed.is_ok()), [true, true, true, false]);
    }

    #[test]
    fn a_look_says_what_a_request_would_hear_and_counts_none() {
        let (debts, limit) = (RateState::default(), limit(1, Duration::from_secs(3600), 1));
        assert_eq!([would_pass(&limit, &debts, 1), would_pass(&limit, &debts, 1), pass(&limit, &debts, 1)], [Ok(0); 3]);
        assert!(would_pass(&limit, &debts, 1).is_err_and(|wait| wait > Duration::from_secs(3590)));
        assert_eq!(would_pass(&limit, &debts, 2), Ok(0), "another source owes nothing");
    }

    #[test]
    fn another_number_of_requests_keeps_what_a_source_owes() {
        let debts = RateState::default();
        let (strict, lax) = (limit(1, Duration::from_secs(10), 1), limit(1, Duration::from_secs(10), 5));
        assert!(pass_at(&strict, &debts, 1, at(0)).is_ok() && pass_at(&strict, &debts, 1, at(0)).is_err());
        assert!(pass_at(&lax, &debts, 1, at(0)).is_ok() && pass_at(&strict, &debts, 1, at(15_000)).is_err());
    }

    #[test]
    fn time_that_is_never_at_rest_is_read_from_the_runtime() {
        assert!(pass(&limit(1, Duration::from_secs(3600), 1), &RateState::default(), 1).is_ok());
    }

    proptest! {
        #[test]
        fn no_window_sees_more_than_burst_and_rate_allow(
            requests in 1u32..50, burst in 1u32..20, steps in prop::collection::vec(0u64..200, 1..200),
        ) {
            let (debts, limit) = (RateState::default(), limit(requests, Duration::from_secs(1), burst));
            let (mut now, mut passed) = (0, Vec::new());
            for step in steps {
                now += step;
                if pass_at(&limit, &debts, 9, at(now)).is_ok() {
                    passed.push(now);
                }
            }
            for (index, from) in passed.iter().enumerate() {
                for (count, to) in passed[index..].iter().enumerate() {
                    let allowed = f64::from(burst) + (to - from) as f64 / 1000.0 * f64::from(requests);
                    prop_assert!((count + 1) as f64 <= allowed + 1.0, "{} from {from} to {to}", count + 1);
                }
            }
        }
    }
}
