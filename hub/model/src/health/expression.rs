//! The condition of a breaker: comparisons of what a window holds, joined by `&&`, `||`, `!` and parentheses.
//!
//! The words are Traefik's: `NetworkErrorRatio() > 0.30`, `LatencyAtQuantileMS(99.0) > 100`,
//! `ResponseCodeRatio(500, 600, 0, 600) > 0.25`; `ErrorRatio()` is ours and counts both missing answers and 5xx. Reading is
//! bounded in text, depth, comparisons and ranges; evaluation is total: a ratio of nothing is 0.

mod parse;

use std::fmt;

use super::window::{Range, Totals};

pub use parse::Mistake;

/// Longest text, in bytes.
pub const MAX_TEXT: usize = 512;

/// Deepest nesting of parentheses and `!`.
pub const MAX_DEPTH: usize = 16;

/// Most comparisons.
pub const MAX_COMPARISONS: usize = 16;

/// A condition.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    node: Node,
    /// What its `ResponseCodeRatio`s need counted, each range once.
    ranges: Vec<Range>,
    text: String,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Any(Vec<Node>),
    All(Vec<Node>),
    Not(Box<Node>),
    Compare(Value, Operator, f64),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Value {
    /// No answer, of all.
    NetworkErrors,
    /// No answer or 5xx, of all.
    Errors,
    /// In milliseconds; the quantile is 0 to 1.
    Latency(f64),
    /// Indices of two ranges: the first one's answers of the second one's.
    Codes(usize, usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Above,
    AtLeast,
    Below,
    AtMost,
    Equal,
    Unequal,
}

impl Condition {
    /// Reads a condition; the mistake says where it is.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        let (node, ranges) = parse::parse(text)?;
        Ok(Self { node, ranges, text: text.trim().to_owned() })
    }

    /// Whether it holds for what a window counted with these [`Condition::ranges`].
    pub fn holds(&self, totals: &Totals) -> bool {
        self.node.holds(totals)
    }

    /// The ranges of statuses that it needs counted.
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Node {
    fn holds(&self, totals: &Totals) -> bool {
        match self {
            Self::Any(nodes) => nodes.iter().any(|node| node.holds(totals)),
            Self::All(nodes) => nodes.iter().all(|node| node.holds(totals)),
            Self::Not(node) => !node.holds(totals),
            Self::Compare(value, operator, limit) => operator.holds(value.of(totals), *limit),
        }
    }
}

impl Value {
    fn of(self, totals: &Totals) -> f64 {
        let ratio = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        match self {
            Self::NetworkErrors => ratio(totals.failed, totals.total),
            Self::Errors => ratio(totals.errors, totals.total),
            Self::Latency(quantile) => totals.latency(quantile).as_secs_f64() * 1000.0,
            Self::Codes(part, whole) => ratio(totals.in_range(part), totals.in_range(whole)),
        }
    }
}

impl Operator {
    fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Above => left > right,
            Self::AtLeast => left >= right,
            Self::Below => left < right,
            Self::AtMost => left <= right,
            // Both sides are numbers that somebody wrote, or ratios of counts: nearness says what is meant.
            Self::Equal => (left - right).abs() < 1e-9,
            Self::Unequal => (left - right).abs() >= 1e-9,
        }
    }
}

#[cfg(test)]
mod tests;
