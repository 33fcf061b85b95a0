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
    /// Share wanted, 0 to 1, among backends that accept.
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
