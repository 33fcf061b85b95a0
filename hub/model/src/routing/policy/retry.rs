//! Retries of a rule: how often, after which answers, how far apart, and the second try that does not wait for the first.
//!
//! None of this widens what may be repeated: the retry table decides that first.

use std::sync::Arc;
use std::time::Duration;

/// What a rule asks of retries (Gateway API: `HTTPRouteRetry`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often a request that a workload may have seen is tried again. What reached no workload goes elsewhere all the same.
    pub attempts: u32,
    /// Shortest time between a try and the next, doubled with each and never above [`RetryPolicy::LONGEST_BACKOFF`]; up to
    /// half of it is added at random. Not for what reached no workload.
    pub backoff: Duration,
    /// Statuses of an answer that are tried again, ascending.
    pub codes: Vec<u16>,
    /// gRPC codes that are tried again where an answer's head has them already (trailers-only).
    pub grpc_codes: GrpcCodes,
    /// Why requests of any method may be repeated here, if they may.
    pub idempotent: Option<Arc<str>>,
    /// How long an answer is waited for before another endpoint is asked as well.
    pub hedge: Option<Duration>,
}

impl RetryPolicy {
    /// Longest backoff: retries that wait longer outlive most clients' patience.
    pub const LONGEST_BACKOFF: Duration = Duration::from_secs(1);

    /// The time to wait before retry number `n` (from 1). `random` is in 0..1.
    pub fn backoff(&self, n: u32, random: f64) -> Duration {
        let doubled = self.backoff.saturating_mul(1_u32.checked_shl(n.saturating_sub(1)).unwrap_or(u32::MAX));
        doubled.min(Self::LONGEST_BACKOFF.max(self.backoff)).mul_f64(1.0 + random.clamp(0.0, 1.0) / 2.0)
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 2,
            backoff: Duration::from_millis(50),
            codes: Vec::new(),
            grpc_codes: GrpcCodes::default(),
            idempotent: None,
            hedge: None,
        }
    }
}

/// A set of gRPC status codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GrpcCodes(u32);

impl GrpcCodes {
    /// Words of the codes that a retry can make sense for, with their numbers.
    pub const WORDS: [(&'static str, u8); 7] = [
        ("cancelled", 1),
        ("unknown", 2),
        ("deadline-exceeded", 4),
        ("resource-exhausted", 8),
        ("aborted", 10),
        ("internal", 13),
        ("unavailable", 14),
    ];

    /// Adds a code.
    pub fn insert(&mut self, code: u8) {
        self.0 |= 1_u32.checked_shl(code.into()).unwrap_or(0);
    }

    /// Whether a code, as `grpc-status` writes it, is in the set.
    pub fn has(self, text: &[u8]) -> bool {
        let code = std::str::from_utf8(text).ok().and_then(|text| text.parse::<u32>().ok());
        code.and_then(|code| 1_u32.checked_shl(code)).is_some_and(|bit| self.0 & bit != 0)
    }

    /// Whether none is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_bound_and_never_falls_below_what_was_asked() {
        let policy = RetryPolicy { backoff: Duration::from_millis(100), ..RetryPolicy::default() };
        let at = |n, random| policy.backoff(n, random).as_millis();
        assert_eq!((at(1, 0.0), at(2, 0.0), at(3, 0.0), at(4, 0.0), at(5, 0.0)), (100, 200, 400, 800, 1000));
        assert_eq!((at(1, 1.0), at(40, 1.0), at(0, 0.5)), (150, 1500, 125));
        let long = RetryPolicy { backoff: Duration::from_secs(3), ..RetryPolicy::default() };
        assert_eq!(long.backoff(7, 0.0), Duration::from_secs(3));
        let none = RetryPolicy { backoff: Duration::ZERO, ..RetryPolicy::default() };
        assert_eq!(none.backoff(9, 1.0), Duration::ZERO);
    }

    #[test]
    fn a_grpc_status_is_read_strictly() {
        let mut codes = GrpcCodes::default();
        assert!(codes.is_empty());
        codes.insert(14);
        assert!(
            codes.has(b"14")
                && !codes.has(b"0")
                && !codes.has(b"")
                && !codes.has(b"14x")
                && !codes.has(b"4294967295")
                && !codes.has(b"\xff")
        );
    }
}
