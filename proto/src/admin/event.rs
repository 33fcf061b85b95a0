//! What happened; the audit of changes is part of it.

use serde::{Deserialize, Serialize};

/// `GET /v1/events?since=`: what happened, newest last. The audit of changes is part of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event {
    /// Grows by one.
    pub number: u64,
    /// When.
    pub at: String,
    /// `weight`, `grant`, `join`, `renew`, `revoke`, `connect`, `disconnect`, `uplink`, `refused`, `config`, `drain`.
    pub kind: String,
    /// What it is about.
    pub subject: String,
    /// Who did it: an operator, an agent, or the hub.
    pub who: String,
    /// Before, for changes.
    #[serde(default)]
    pub old: Option<String>,
    /// After, for changes.
    #[serde(default)]
    pub new: Option<String>,
    /// For people.
    pub message: String,
}
