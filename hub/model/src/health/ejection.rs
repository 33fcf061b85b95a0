//! Outlier ejection: an endpoint that fails several times in a row is left out for a while, longer each time.
//!
//! Counts runs of errors on atomics that all shards share; a success writes only where there was an error before it. Whether
//! an endpoint may go is asked of its siblings ([`allowed`]): at most a share of them is out at once, and never the last that
//! could take work.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::Outcome;
use super::gate::{Gate, Why};
use crate::moment::Moment;

/// What a policy asks of ejection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// 5xx or no answer, so many times in a row; 0: not looked at.
    pub consecutive_5xx: u32,
    /// 502, 503, 504 or no answer, so many times in a row; 0: not looked at.
    pub consecutive_gateway_errors: u32,
    /// Answers later than this are slow.
    pub latency: Option<Duration>,
    /// Slow so many times in a row; 0: not looked at.
    pub consecutive_slow: u32,
    /// For each of these without an ejection, the next one is shorter by [`Terms::base`].
    pub interval: Duration,
    /// How long the first ejection lasts; the second lasts twice as long, and so on.
    pub base: Duration,
    /// The longest.
    pub max: Duration,
    /// Most endpoints of a backend that are out at once, in percent.
    pub max_percent: u32,
}

/// An endpoint's long-lived state.
#[derive(Debug, Default)]
pub struct Ejection {
    errors: AtomicU32,
    gateway: AtomicU32,
    slow: AtomicU32,
    until: AtomicU64,
    /// How often it was ejected, less what good behaviour took away.
    times: AtomicU32,
    total: AtomicU64,
}

impl Ejection {
    /// When it ends, or ended; [`Moment::NEVER`] if it never began.
    pub fn until(&self) -> Moment {
        Moment::from_millis(self.until.load(Ordering::Acquire))
    }

    /// Whether it is out now.
    pub fn is_out(&self, now: Moment) -> bool {
        now < self.until()
    }

    /// How often it was ejected.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Whether work may pass.
    pub fn gate(&self, now: Moment) -> Gate {
        let until = self.until();
        if now < until { Gate::LastResort(Why::Ejected { until }) } else { Gate::Open }
    }

    /// Takes in how an attempt ended; whether the endpoint has failed often enough to go.
    pub fn record(&self, terms: &Terms, outcome: &Outcome, now: Moment) -> bool {
        if self.is_out(now) {
            return false;
        }
        let slow = terms.latency.is_some_and(|limit| outcome.latency > limit);
        let errors = run(&self.errors, outcome.is_error(), terms.consecutive_5xx);
        let gateway = run(&self.gateway, outcome.is_gateway_error(), terms.consecutive_gateway_errors);
        let slow = run(&self.slow, slow, terms.consecutive_slow);
        errors || gateway || slow
    }

    /// Ejects. Whoever calls has asked [`allowed`] and holds the backend's turn.
    pub fn eject(&self, terms: &Terms, now: Moment) {
        let calm = now.since(self.until()).as_millis() / terms.interval.as_millis().max(1);
        let before = self.times.load(Ordering::Relaxed).saturating_sub(u32::try_from(calm).unwrap_or(u32::MAX));
        let times = before.saturating_add(1);
        self.times.store(times, Ordering::Relaxed);
        [&self.errors, &self.gateway, &self.slow].into_iter().for_each(|run| run.store(0, Ordering::Relaxed));
        self.total.fetch_add(1, Ordering::Relaxed);
        self.until.store((now + terms.base.saturating_mul(times).min(terms.max)).millis(), Ordering::Release);
    }
}

/// Counts a run of bad outcomes; whether it is long enough.
fn run(counter: &AtomicU32, bad: bool, most: u32) -> bool {
    if most == 0 {
        return false;
    }
    if bad {
        return counter.fetch_add(1, Ordering::Relaxed).saturating_add(1) >= most;
    }
    if counter.load(Ordering::Relaxed) != 0 {
        counter.store(0, Ordering::Relaxed);
    }
    false
}

/// Whether one more endpoint may be ejected, of `all` endpoints of which `out` are out and, beside the one in question,
/// `others` could take work.
pub fn allowed(terms: &Terms, all: usize, out: usize, others: usize) -> bool {
    others > 0 && (out + 1) * 100 <= terms.max_percent as usize * all
}

#[cfg(test)]
mod tests;
