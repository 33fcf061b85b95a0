//! Changes of weights.

use serde::{Deserialize, Serialize};

use crate::name::{AgentName, UplinkName};
use crate::weight::Weight;

/// `PUT /v1/uplinks/{name}/weight`; `DELETE` on the same path takes `WeightReset`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetWeight {
    /// The weight; 0 drains.
    pub weight: Weight,
    /// At weight 0: after how many seconds sessions bound there end too. Without it they end by themselves, and a drain that
    /// is asked for again keeps the deadline it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions_seconds: Option<u64>,
    /// One agent alone; else the uplink as a whole.
    #[serde(default)]
    pub agent: Option<AgentName>,
    /// Why; kept in the audit.
    pub reason: String,
    /// Say what would happen, change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// Body of `DELETE /v1/uplinks/{name}/weight`: back to what the agents say.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResetWeight {
    /// One agent alone; else the uplink as a whole.
    #[serde(default)]
    pub agent: Option<AgentName>,
    /// Why; kept in the audit.
    pub reason: String,
    /// Say what would happen, change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// The answer to both.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WeightChange {
    /// The uplink.
    pub uplink: UplinkName,
    /// The agent, where only one was meant.
    pub agent: Option<AgentName>,
    /// Before.
    pub old: Weight,
    /// After.
    pub new: Weight,
    /// Generation that carries the change; `None` for a dry run.
    pub generation: Option<u64>,
    /// Replicas on which every shard works with it.
    pub confirmed: Vec<String>,
    /// Whether nothing was changed.
    pub dry_run: bool,
}
