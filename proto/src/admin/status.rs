//! The hub at a glance: its configuration, its listeners, and what a file checked against it gets.

use serde::{Deserialize, Serialize};

/// `GET /v1/status`: the hub at a glance.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// The replica that answers.
    pub replica: String,
    /// Software version.
    pub version: String,
    /// Trust domain.
    pub trust_domain: String,
    /// When it started.
    pub started: String,
    /// Shards.
    pub shards: usize,
    /// Whether it takes new work, and what it waits for if not.
    pub ready: bool,
    /// What readiness waits for.
    pub waiting_for: Vec<String>,
    /// Generation of the snapshot in force, and the oldest that a shard still works with.
    pub generation: u64,
    /// The oldest generation in use.
    pub oldest_generation: u64,
    /// The configuration.
    pub config: ConfigStatus,
    /// Agents connected.
    pub agents: usize,
    /// Tunnels open.
    pub tunnels: usize,
    /// Uplinks known.
    pub uplinks: usize,
    /// Requests and connections under way.
    pub in_flight: u64,
    /// Address of the tunnel's UDP socket.
    pub tunnel_address: String,
    /// Where `/metrics`, `/livez` and `/readyz` are; `None`: nowhere.
    #[serde(default)]
    pub metrics_address: Option<String>,
    /// Listeners with the addresses they are bound to.
    pub listeners: Vec<ListenerStatus>,
    /// SHA-256 pins of the roots in force.
    pub roots: Vec<String>,
    /// When the hub's own certificate ends.
    pub certificate_ends: String,
}

/// A bound listener.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListenerStatus {
    /// Its name.
    pub name: String,
    /// HTTP, HTTPS, TCP or TLS.
    pub protocol: String,
    /// The address bound.
    pub address: String,
}

/// The configuration in force, and what is wrong with the newest one if it is not that.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ConfigStatus {
    /// The file.
    pub file: String,
    /// When the configuration in force was loaded.
    pub loaded: String,
    /// Errors of the newest file; empty when it is in force.
    pub errors: Vec<String>,
    /// Warnings of the configuration in force.
    pub warnings: Vec<String>,
}

/// `POST /v1/check` (body: TOML): what is wrong with a configuration, without loading it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CheckResult {
    /// Errors, each with line, what, why and mend.
    pub errors: Vec<String>,
    /// Warnings.
    pub warnings: Vec<String>,
}
