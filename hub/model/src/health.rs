//! Health: whether a backend and an endpoint may be given work now. Pure state machines on atomics; time is passed in.
//!
//! A [`Guard`] is what a backend's policy asks for (breaker, ejection, checks); [`BackendHealth`] and [`EndpointHealth`] are
//! what is known, kept outside of every snapshot and shared by all shards without a lock. `balance` asks for a [`Gate`] and
//! enters with a [`Permit`]; each attempt then ends in one [`Outcome`], or is forgotten. What these machines promise:
//! a breaker opens only on evidence of its window, lets a bounded number of probes through before it closes, and ejection
//! alone never leaves a backend without an endpoint. They decide nothing about weights and never touch a request.

pub mod breaker;
pub mod check;
pub mod ejection;
pub mod expression;
pub mod failover;
pub mod gate;
pub mod guard;
pub mod tier;
pub mod verdict;
pub mod window;

use std::time::Duration;

pub use breaker::Breaker;
pub use check::Checked;
pub use ejection::Ejection;
pub use expression::Condition;
pub use failover::Failover;
pub use gate::{Gate, Why};
pub use guard::{BackendHealth, Changes, EndpointHealth, Guard, Permit};
pub use tier::{Cause, Standing, TIERS, TierState, Turn, WHOLE};
pub use verdict::Verdict;

/// How one attempt at an endpoint ended, as far as its health is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// What came.
    pub end: End,
    /// From the attempt's begin to the answer's head, or to the failure.
    pub latency: Duration,
}

/// What an attempt brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// An answer with that status. What gRPC says in the head counts as the HTTP status that goes with it.
    Answered(u16),
    /// A connection whose bytes are not looked into was made.
    Connected,
    /// No answer: the tunnel, the agent, the connection or the workload failed.
    Failed,
}

impl Outcome {
    /// Neither an answer in time nor a gateway's word for that: no answer, 502, 503 or 504.
    pub const fn is_gateway_error(&self) -> bool {
        matches!(self.end, End::Failed | End::Answered(502..=504))
    }

    /// No answer, or a 5xx.
    pub const fn is_error(&self) -> bool {
        matches!(self.end, End::Failed | End::Answered(500..))
    }
}
