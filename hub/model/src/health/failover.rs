//! Failover: when a rule leaves a tier of its backends, for how long, and how it comes back.

use std::ops::RangeInclusive;
use std::time::Duration;

/// `failover` of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failover {
    /// Statuses of answers that count as failures of their tier.
    pub on_status: Vec<RangeInclusive<u16>>,
    /// Answers later than this count as failures, and so does none by then.
    pub latency: Option<Duration>,
    /// So many failures among the last [`Failover::answers`] make the tier fail.
    pub failures: u32,
    /// How many answers count, at most [`Failover::MOST`].
    pub answers: u32,
    /// How long a tier that failed gets nothing after it was last seen unable.
    pub hold: Duration,
    /// How long it takes to get all of its share again; zero: all at once.
    pub failback: Duration,
}

impl Failover {
    /// Most answers that are looked at: what fits beside a moment into one word.
    pub const MOST: u32 = 32;

    /// Whether an answer of that status is a failure.
    pub fn on(&self, status: u16) -> bool {
        self.on_status.iter().any(|range| range.contains(&status))
    }
}

impl Default for Failover {
    fn default() -> Self {
        let (hold, failback) = (Duration::from_secs(10), Duration::from_secs(30));
        Self { on_status: Vec::new(), latency: None, failures: 5, answers: 10, hold, failback }
    }
}
