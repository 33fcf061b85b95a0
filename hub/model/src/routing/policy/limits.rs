//! Limits: of a backend as a whole (over all shards), and of the sources of a rule's requests.

use std::num::NonZeroU32;
use std::time::Duration;

use http::HeaderName;

/// How much a backend gets at once, over all rules and shards. `None`: as much as comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendLimits {
    /// Open connections, idle ones too.
    pub connections: Option<NonZeroU32>,
    /// Requests and connections under way; a WebSocket counts until it ends.
    pub requests: Option<NonZeroU32>,
    /// Requests that may wait for one of the above; more go elsewhere or get 503.
    pub pending: u32,
    /// How long they may wait.
    pub wait: Duration,
}

impl Default for BackendLimits {
    fn default() -> Self {
        Self { connections: None, requests: None, pending: 50, wait: Duration::from_secs(1) }
    }
}

/// What tells one source of requests from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Per {
    /// The client's address, as trusted proxies tell it; IPv6 by its first 64 bits, which is what one customer has.
    Client,
    /// The value of a header. Requests without it are one source.
    Header(HeaderName),
    /// A claim of the verified token; the rule then has a [`super::RuleJwt`]. Requests without it are one source.
    Claim(String),
}

impl std::fmt::Display for Per {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Client => f.write_str("client"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Claim(name) => write!(f, "claim:{name}"),
        }
    }
}

/// How many requests of a source pass in a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// What a source is.
    pub per: Per,
    /// So many requests ...
    pub requests: NonZeroU32,
    /// ... in this time, evenly.
    pub period: Duration,
    /// So many at once after a quiet time.
    pub burst: NonZeroU32,
    /// Whether every answer tells what is left, not only those that refuse.
    pub told: bool,
}

impl RateLimit {
    /// What its state is kept under, below its rule: another number of requests keeps the state, another source or period does not.
    pub fn key(&self) -> String {
        format!("{}/{}", self.per, self.period.as_millis())
    }
}

/// How many requests of a source may be under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InFlightLimit {
    /// What a source is.
    pub per: Per,
    /// The bound.
    pub max: NonZeroU32,
}

impl InFlightLimit {
    /// Largest bound: as far as a source's counter counts.
    pub const MOST: u32 = 1_000_000;
}
