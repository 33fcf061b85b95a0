//! The verdict on a drain, with its proof.

use serde::{Deserialize, Serialize};

use crate::name::{AgentName, UplinkName};

/// `GET /v1/uplinks/{name}/drain?agent=`: the verdict, with its proof. Never guessed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DrainVerdict {
    /// The uplink.
    pub uplink: UplinkName,
    /// The agent, where only one was meant.
    pub agent: Option<AgentName>,
    /// All of what follows holds.
    pub drained: bool,
    /// The weight in force is 0.
    pub weight_is_zero: bool,
    /// Replicas on which every shard works with the weight.
    pub confirmed: Vec<String>,
    /// Under way, over shards and replicas.
    pub in_flight: u64,
    /// Idle streams still held.
    pub pooled: u64,
    /// Sessions bound there that may still come, about so many; 0 is exact. `None`: no route keeps sessions there.
    #[serde(default)]
    pub sessions: Option<u64>,
    /// Counted by each agent after the hub's own sum was 0; `None`: not yet asked, or no answer.
    pub agents: Vec<AgentCount>,
    /// What it waits for, for people; empty when drained.
    pub waiting_for: Vec<String>,
}

/// One agent's count.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AgentCount {
    /// The agent.
    pub agent: AgentName,
    /// Open connections to the workload; `None`: no answer.
    pub open_connections: Option<u64>,
}
