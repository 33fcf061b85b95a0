//! The CA of hub and agents, and how a change of it goes.

use serde::{Deserialize, Serialize};

use crate::name::AgentName;

/// `GET /v1/ca`: the CA of hub and agents, and how a change of it stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ca {
    /// Whether its files are given in the settings. Such a CA is not changed here.
    pub given: bool,
    /// Whether a change was begun and waits to be finished.
    pub changing: bool,
    /// All roots that are trusted, the one that issues first.
    pub roots: Vec<CaRoot>,
    /// How long certificates of hub and agents live, in seconds.
    pub certificate_lifetime: u64,
    /// Whether a change is under way and could be finished without leaving an agent behind.
    pub safe_to_finish: bool,
    /// Agents that may not know all roots: away since before they were told, or just back.
    pub untold: Vec<AgentName>,
    /// Agents whose certificate, as this replica saw it, is of a root that does not issue. They renew at two thirds of its life.
    pub on_old_root: Vec<AgentName>,
}

/// A root certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CaRoot {
    /// SHA-256 of its public key, `sha256:...`.
    pub pin: String,
    /// `issues`, `next` (trusted, issues when the change is finished) or `old` (trusted until its last certificates have ended).
    pub state: String,
    /// Since when it is in that state, where that is known.
    pub since: Option<String>,
    /// When an old one stops being trusted.
    pub until: Option<String>,
}

/// `POST /v1/ca/begin`: makes a second root and tells it to all agents.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeginCaChange {
    /// Why; kept in the audit.
    pub reason: String,
    /// Say what would happen, change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// `POST /v1/ca/finish`: lets the second root issue.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinishCaChange {
    /// Finish although agents may not know the new root; those have to join again.
    #[serde(default)]
    pub force: bool,
    /// Why; kept in the audit.
    pub reason: String,
    /// Say what would happen, change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// The answer to [`BeginCaChange`] and [`FinishCaChange`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CaChange {
    /// The CA as it is now.
    pub ca: Ca,
    /// Agents that a forced finish leaves behind: they have to join again.
    pub left_behind: Vec<AgentName>,
    /// Whether nothing was changed.
    pub dry_run: bool,
}
