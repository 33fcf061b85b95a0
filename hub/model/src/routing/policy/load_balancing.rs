//! How a backend's endpoints share its requests.

use std::time::Duration;

/// `load_balancing` of a backend.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoadBalancing {
    /// What decides among the endpoints.
    pub method: Method,
    /// How long an endpoint that is new or has recovered takes to come to its whole share; `None`: at once.
    pub slow_start: Option<Duration>,
    /// Whether endpoints in the hub's own zone go first.
    pub prefer_zone: bool,
}

/// What decides among endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// Their weights alone: exact shares, evenly spread.
    #[default]
    RoundRobin,
    /// Of two that their weights bring up, the one with less to do: requests under way for its weight, times how long its
    /// answers take lately; a failure counts as a slow answer.
    LeastLoad,
}
