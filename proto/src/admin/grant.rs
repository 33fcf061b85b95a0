//! Grants, and what takes them or agents back.

use serde::{Deserialize, Serialize};

use crate::name::{AgentName, NamePattern};
use crate::template::NameTemplate;

/// `POST /v1/grants`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateGrant {
    /// The agent's name; `None` takes the name that the VM wants.
    #[serde(default)]
    pub agent: Option<AgentName>,
    /// What names are made of where the grant has several uses; not with `agent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_template: Option<NameTemplate>,
    /// Names that it may advertise.
    pub uplinks: Vec<NamePattern>,
    /// Services that it may call; none by default. Not said then, for a hub from before refuses what it does not know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<NamePattern>,
    /// Life of the grant in seconds.
    pub ttl_seconds: u64,
    /// How often it may be redeemed. More than one only without a fixed name.
    #[serde(default = "one")]
    pub uses: u32,
    /// Where agents shall dial; else what the hub's settings say.
    #[serde(default)]
    pub hubs: Vec<String>,
    /// Check only.
    #[serde(default)]
    pub dry_run: bool,
}

const fn one() -> u32 {
    1
}

/// The answer to [`CreateGrant`]: the only time that the secret is shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CreatedGrant {
    /// The grant.
    pub grant: Grant,
    /// The line to paste; empty for a dry run.
    pub token: String,
}

/// `GET /v1/grants`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Grant {
    /// Its id.
    pub id: String,
    /// The agent's name, where fixed.
    pub agent: Option<AgentName>,
    /// What names are made of.
    #[serde(default)]
    pub name_template: Option<NameTemplate>,
    /// Names that it allows.
    pub uplinks: Vec<NamePattern>,
    /// Services that it allows to call.
    #[serde(default)]
    pub services: Vec<NamePattern>,
    /// When it ends.
    pub expires: String,
    /// Redemptions allowed.
    pub uses: u32,
    /// Agents that redeemed it.
    pub redeemed_by: Vec<AgentName>,
    /// Whether it was taken back.
    pub revoked: bool,
    /// Who made it.
    pub who: String,
    /// `open`, `used`, `expired` or `revoked`.
    pub state: String,
}

/// Body of `DELETE /v1/grants/{id}` and `DELETE /v1/agents/{name}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// Why; kept in the audit.
    pub reason: String,
    /// Say what would happen, change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// The answer to [`Revoke`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Revoked {
    /// What was revoked.
    pub subject: String,
    /// Tunnels cut.
    pub tunnels_closed: usize,
    /// Whether nothing was changed.
    pub dry_run: bool,
}
