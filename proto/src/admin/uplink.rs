//! Uplinks and the agents that carry them.

use serde::{Deserialize, Serialize};

use crate::control::Protocol;
use crate::name::{AgentName, UplinkName, Zone};
use crate::weight::Weight;

/// `GET /v1/uplinks`, `GET /v1/uplinks/{name}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Uplink {
    /// Its name.
    pub name: UplinkName,
    /// What its workloads speak.
    pub protocol: Protocol,
    /// The weight in force.
    pub weight: Weight,
    /// The operator's override, if any.
    pub weight_override: Option<Override>,
    /// Whether it drains as a whole.
    pub draining: bool,
    /// One for each agent.
    pub endpoints: Vec<Endpoint>,
    /// Requests and connections under way, over all endpoints.
    pub in_flight: u64,
    /// Requests and connections ever given to it.
    pub picked: u64,
    /// Of those, failed on its side.
    pub failed: u64,
}

/// One agent's side of an uplink.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Endpoint {
    /// The agent.
    pub agent: AgentName,
    /// Where it is, where it says so.
    #[serde(default)]
    pub zone: Option<Zone>,
    /// The weight in force.
    pub weight: Weight,
    /// What the agent's own file says.
    pub advertised_weight: Weight,
    /// The operator's override, if any.
    pub weight_override: Option<Override>,
    /// Whether new requests may go there.
    pub accepts: bool,
    /// Why not; empty when it accepts.
    pub reason: String,
    /// Tunnels that take new streams.
    pub tunnels: usize,
    /// Under way, as the hub counts.
    pub in_flight: u64,
    /// Idle pooled streams.
    pub pooled: u64,
    /// Connections to the workload, as the agent last said.
    pub open_connections: u64,
    /// Ever given to it.
    pub picked: u64,
    /// Of those, failed on its side.
    pub failed: u64,
}

/// An operator's word that beats the agent's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// The weight.
    pub weight: Weight,
    /// Who.
    pub who: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: String,
    /// At weight 0: when sessions bound there end too. Without it they end by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions_until: Option<String>,
}
