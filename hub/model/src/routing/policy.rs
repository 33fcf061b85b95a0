//! Policies: what a rule or a backend asks for beyond matches and weights. Pure data, checked by the reader.
//!
//! A rule's policy acts on requests (filters, retries, sessions, mirrors, rate limits, pins); a backend's acts wherever that
//! uplink or service is used (choice among endpoints, breaker, ejection, limits, checks). Both are absent unless asked for, so
//! that a rule without them costs nothing. Their state is never here: it is keyed by identity and outlives every reload
//! (`crate::state`).

mod filters;
mod hash;
mod health_check;
mod json_path;
mod jwt;
mod limits;
mod load_balancing;
mod mirror;
mod pin;
mod retry;
mod session;

pub use filters::{Coding, Compression, Cors, ErrorAnswer, Filters, HeaderEdit, MediaPattern, Origin, PathEdit, Redirect, Rewrite};
pub use hash::HashOn;
pub use health_check::{HealthCheck, Probe};
pub use json_path::{BadPath, JsonPath, Step};
pub use jwt::RuleJwt;
pub use limits::{BackendLimits, InFlightLimit, Per, RateLimit};
pub use load_balancing::{LoadBalancing, Method};
pub use mirror::{Compare, CompareBody, Mirror};
pub use pin::{Pin, PinnedBy};
pub use retry::{GrpcCodes, RetryPolicy};
pub use session::{SameSite, SessionPersistence};

use std::sync::Arc;

use crate::health::{Failover, Guard};

/// What one rule asks for. One field for each policy, each in a file of its own.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RulePolicy {
    /// Whose tokens its requests show; asked before anything else.
    pub jwt: Option<RuleJwt>,
    /// What is changed of requests and answers.
    pub filters: Filters,
    /// Choice by a hash of what the client brings.
    pub hash: Option<HashOn>,
    /// Where copies of its requests go.
    pub mirrors: Vec<Mirror>,
    /// When a request is tried again; without it only what is lost on the way.
    pub retry: Option<RetryPolicy>,
    /// How many requests of a source pass in a time, all of them.
    pub rate_limits: Vec<RateLimit>,
    /// How many requests of a source may be under way.
    pub in_flight: Option<InFlightLimit>,
    /// A cookie that keeps a client where its first request went.
    pub session: Option<SessionPersistence>,
    /// When it leaves a tier of its backends, and how it comes back.
    pub failover: Option<Arc<Failover>>,
    /// Who may choose a backend.
    pub pins: Vec<Pin>,
}

/// What an uplink or a service asks for, in whichever rule it is named. One field for each policy, each in a file of its own.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BackendPolicy {
    /// Circuit breaker, outlier ejection and checks: what stands between a choice and an endpoint.
    pub guard: Option<Guard>,
    /// How the hub checks its addresses; services only.
    pub health_check: Option<HealthCheck>,
    /// How its endpoints share its requests.
    pub load_balancing: Option<LoadBalancing>,
    /// How much it gets at once.
    pub limits: Option<BackendLimits>,
}
