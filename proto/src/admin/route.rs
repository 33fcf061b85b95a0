//! Routes, their rules, and the shares of their backends.

use serde::{Deserialize, Serialize};

use super::backend::Mirror;
use crate::weight::Weight;

/// `GET /v1/routes`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Route {
    /// Its name.
    pub name: String,
    /// HTTP, TCP or TLS.
    pub kind: String,
    /// Listeners.
    pub listeners: Vec<String>,
    /// Hosts or server names.
    pub hostnames: Vec<String>,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// One rule of a route.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rule {
    /// Its index.
    pub index: usize,
    /// Its name, under which its state is kept; without one, its index counts.
    #[serde(default)]
    pub name: Option<String>,
    /// What it matches, for people, one entry for each alternative.
    pub matches: Vec<String>,
    /// What it asks for beyond matches and weights, a line each.
    #[serde(default)]
    pub policies: Vec<String>,
    /// Its mirrors.
    #[serde(default)]
    pub mirrors: Vec<Mirror>,
    /// Tiers of its backends that may fail over, where it asks for failover; the last tier never does.
    #[serde(default)]
    pub tiers: Vec<Tier>,
    /// Its backends.
    pub backends: Vec<RuleBackend>,
}

/// One backend of a rule.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RuleBackend {
    /// `uplink` or `service`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The weight in the file, if any.
    pub weight: Option<Weight>,
    /// The weight in force.
    pub effective_weight: Weight,
    /// Endpoints that accept, and all.
    pub ready_endpoints: usize,
    /// All endpoints.
    pub endpoints: usize,
    /// Its tier: its `fallback`.
    #[serde(default)]
    pub tier: u8,
    /// Share wanted, 0 to 1: what it gets of the next requests, by tiers, weights and what can take them.
    pub share_wanted: f64,
    /// Share observed in the last minute, 0 to 1; `None`: the rule was not asked for.
    #[serde(default)]
    pub share_observed: Option<f64>,
    /// Requests and connections that this rule gave to it, each try counted.
    #[serde(default)]
    pub picked: u64,
    /// Of those, in the last minute.
    #[serde(default)]
    pub picked_last_minute: u64,
}

/// A tier of a rule's backends under failover.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tier {
    /// Its number.
    pub tier: u8,
    /// `up`, `held` (it has failed, and gets nothing while a later tier can take requests) or `failing-back`.
    pub state: String,
    /// What it gets of the requests that come to it, 0 to 1, as far as its backends are able.
    pub share: f64,
    /// Why it failed, where it is not up: `unready`, `shut` (breaker, ejection or checks), `no-answer`, `status` or `latency`.
    pub cause: Option<String>,
    /// Held: seconds until it may be tried again; failing back: until it gets all.
    pub seconds_left: Option<f64>,
    /// How often it failed since the hub started.
    pub failovers: u64,
}
