//! One verdict for each endpoint: what an operator sees, and what every gate together says.

use std::time::Duration;

use super::Checked;
use super::breaker::State;
use super::guard::{EndpointHealth, Guard};
use crate::moment::Moment;

/// How an endpoint is, in one word and its details. The strongest reason against it wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It takes its share.
    Ready,
    /// It takes a growing share since it came up.
    SlowStarting {
        /// Of its share, in percent.
        percent: u32,
    },
    /// Its breaker lets probes through.
    HalfOpen {
        /// Probes that went well.
        succeeded: u32,
        /// Probes needed.
        needed: u32,
    },
    /// Nothing is known yet; it is used where nothing else is left.
    Unchecked,
    /// It failed several times in a row.
    Ejected {
        /// For how long still.
        left: Duration,
    },
    /// Its breaker is open.
    BreakerOpen {
        /// For how long still, at least.
        left: Duration,
    },
    /// Checks fail, or its agent says so or is away.
    Unready {
        /// Why.
        reason: String,
    },
    /// It finishes old work only.
    Draining,
}

impl Verdict {
    /// A word for tables and metric labels.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::SlowStarting { .. } => "slow-starting",
            Self::HalfOpen { .. } => "half-open",
            Self::Unchecked => "unchecked",
            Self::Ejected { .. } => "ejected",
            Self::BreakerOpen { .. } => "breaker-open",
            Self::Unready { .. } => "unready",
            Self::Draining => "draining",
        }
    }

    /// The verdict on an endpoint. `unready`: why its agent, tunnel or address says no, if one does. `growing`: the part of
    /// its share that it takes since it came up, in percent, while that is not all.
    pub fn of(
        guard: Option<&Guard>,
        health: &EndpointHealth,
        draining: bool,
        unready: Option<String>,
        growing: Option<u32>,
        now: Moment,
    ) -> Self {
        if draining {
            return Self::Draining;
        }
        if let Some(reason) = unready {
            return Self::Unready { reason };
        }
        let nothing = Guard::default();
        let guard = guard.unwrap_or(&nothing);
        if guard.checked && health.check.verdict() == Checked::Down {
            return Self::Unready { reason: health.check.reason().to_string() };
        }
        let half_open = match guard.endpoint_breaker().map(|terms| (terms, health.breaker.state())) {
            Some((_, State::Open { until })) if now < until => return Self::BreakerOpen { left: until.since(now) },
            Some((terms, State::Open { .. })) => Some(Self::HalfOpen { succeeded: 0, needed: terms.probes }),
            Some((terms, State::HalfOpen { succeeded, .. })) => Some(Self::HalfOpen { succeeded, needed: terms.probes }),
            Some((_, State::Closed { .. })) | None => None,
        };
        if guard.ejection.is_some() && health.ejection.is_out(now) {
            return Self::Ejected { left: health.ejection.until().since(now) };
        }
        if guard.checked && health.check.verdict() == Checked::Unknown {
            return Self::Unchecked;
        }
        if let Some(half_open) = half_open {
            return half_open;
        }
        growing.map_or(Self::Ready, |percent| Self::SlowStarting { percent })
    }
}
