//! Agents and their tunnels.

use serde::{Deserialize, Serialize};

use crate::name::{AgentName, NamePattern, ServiceName, UplinkName, Zone};

/// `GET /v1/agents`, `GET /v1/agents/{name}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Agent {
    /// Its name.
    pub name: AgentName,
    /// Where it is, as its newest tunnel says.
    #[serde(default)]
    pub zone: Option<Zone>,
    /// Whether at least one tunnel is open.
    pub connected: bool,
    /// Whether it finishes old work only.
    pub draining: bool,
    /// Whether its identity was revoked.
    pub revoked: bool,
    /// Software version.
    pub version: String,
    /// Its processes (two during an upgrade).
    pub instances: Vec<String>,
    /// Its tunnels.
    pub tunnels: Vec<AgentTunnel>,
    /// Names it may advertise.
    pub allowed: Vec<NamePattern>,
    /// Names it advertises and may.
    pub uplinks: Vec<UplinkName>,
    /// Names it advertises and may not, with the reason.
    pub refused: Vec<RefusedUplink>,
    /// Services it may call.
    #[serde(default)]
    pub services: Vec<NamePattern>,
    /// Services it called lately and was refused, with the reason.
    #[serde(default)]
    pub refused_calls: Vec<RefusedCall>,
    /// Connections to services open now.
    #[serde(default)]
    pub calls_open: u64,
    /// Connections to services taken on so far.
    #[serde(default)]
    pub calls: u64,
    /// When its certificate ends.
    pub certificate_ends: Option<String>,
    /// Its clock minus the hub's, in milliseconds.
    pub clock_skew_ms: Option<i64>,
    /// When it was last heard of.
    pub last_seen: Option<String>,
}

/// One of an agent's tunnels.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AgentTunnel {
    /// The shard that carries it.
    pub shard: usize,
    /// Where it comes from.
    pub remote: String,
    /// What carries it: `quic` (UDP), or `tcp` where UDP does not pass.
    #[serde(default = "quic")]
    pub transport: String,
    /// Round trip in milliseconds.
    pub rtt_ms: f64,
    /// Path MTU in bytes.
    pub mtu: u16,
    /// When it was opened.
    pub since: String,
}

/// What hubs before 0.2 had no word for.
fn quic() -> String {
    "quic".to_owned()
}

/// An uplink that the hub does not take.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RefusedUplink {
    /// Its name.
    pub uplink: UplinkName,
    /// Why.
    pub reason: String,
}

/// A call that the hub did not take.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RefusedCall {
    /// The service called.
    pub service: ServiceName,
    /// Why not.
    pub reason: String,
    /// How often.
    pub times: u64,
    /// When it was so last.
    pub at: String,
}
