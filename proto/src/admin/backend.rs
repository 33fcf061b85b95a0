//! Backends as operators see them: what is asked of each, and how it and its endpoints are.

use crate::name::Zone;
use serde::{Deserialize, Serialize};

/// `GET /v1/backends`, `GET /v1/backends/{name}`: an uplink or service that a rule names.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Backend {
    /// `uplink` or `service`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What its policy asks, a line each; empty: nothing.
    pub policies: Vec<String>,
    /// Rules that name it, `route/rule`.
    pub rules: Vec<String>,
    /// Its own breaker, where it has one.
    pub breaker: Option<BreakerStatus>,
    /// Requests and connections under way against their bound.
    pub requests: Option<Bound>,
    /// Open connections against their bound.
    pub connections: Option<Bound>,
    /// Its endpoints.
    pub endpoints: Vec<BackendEndpoint>,
}

/// A bound and what is used of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bound {
    /// In use.
    pub used: u32,
    /// Waiting for it.
    pub waiting: u32,
    /// The bound.
    pub max: u32,
}

/// A circuit breaker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BreakerStatus {
    /// `closed`, `open` or `half-open`.
    pub state: String,
    /// How often it has opened.
    pub opened: u64,
    /// Seconds until it lets a probe through, where it is open.
    pub open_seconds: Option<f64>,
}

/// A mirror of a rule: what became of the copies, and how their answers compare with the clients'.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mirror {
    /// `uplink` or `service`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Requests that could have been copied.
    pub seen: u64,
    /// Copies that began.
    pub begun: u64,
    /// Copies that were answered.
    pub answered: u64,
    /// Copies that failed or took too long.
    pub failed: u64,
    /// Copies not made or broken off: too many under way, too long a body, nobody ready.
    pub dropped: u64,
    /// Answers compared.
    pub compared: u64,
    /// Of those, alike.
    pub matched: u64,
    /// Of those, with another status.
    pub other_status: u64,
    /// Of those, with another body.
    pub other_body: u64,
    /// Matches per cent of comparisons; `None` before the first.
    pub match_percent: Option<f64>,
    /// Mean time to the heads of the clients' answers that were compared, in milliseconds.
    pub primary_ms: Option<f64>,
    /// The same of the copies' answers.
    pub mirror_ms: Option<f64>,
    /// The latest answers that differed, newest first.
    pub examples: Vec<MirrorExample>,
}

/// Two answers that differed. No values and no query: these may be secrets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MirrorExample {
    /// When.
    pub at: String,
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// What differed, and where.
    pub difference: String,
}

/// One endpoint of a backend.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BackendEndpoint {
    /// The agent, or the address of a service.
    pub name: String,
    /// Where it is, where that is known.
    #[serde(default)]
    pub zone: Option<Zone>,
    /// `ready`, `slow-starting`, `half-open`, `unchecked`, `ejected`, `breaker-open`, `unready` or `draining`.
    pub verdict: String,
    /// What the verdict rests on, for people; empty when ready.
    pub reason: String,
    /// Its breaker, where it has one.
    pub breaker: Option<BreakerStatus>,
    /// How often it was ejected.
    pub ejected: u64,
    /// Under way.
    pub in_flight: u64,
    /// Ever given to it.
    pub picked: u64,
    /// Of those, failed on its side.
    pub failed: u64,
    /// How long its answers take lately, in milliseconds; known where something asks for it.
    pub latency_ms: Option<f64>,
    /// Sessions bound to it that have not ended.
    pub sessions: u64,
    /// Whether there may be more.
    pub sessions_at_least: bool,
}
