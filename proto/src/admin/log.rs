//! The level of the hub's log, for a while.

use serde::{Deserialize, Serialize};

/// `POST /v1/log-level`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetLogLevel {
    /// A level or directives; `None` goes back to the configured level now.
    #[serde(default)]
    pub level: Option<String>,
    /// The one module that it is for; all where absent.
    #[serde(default)]
    pub target: Option<String>,
    /// For how long, 1 to 86400.
    #[serde(default = "ten_minutes")]
    pub seconds: u64,
    /// Why; kept in the audit.
    #[serde(default)]
    pub reason: String,
}

const fn ten_minutes() -> u64 {
    600
}

/// `GET /v1/log-level`, and the answer to [`SetLogLevel`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogLevel {
    /// What the settings say.
    pub configured: String,
    /// What holds instead or beside it for a while.
    pub raised: Option<RaisedLevel>,
}

/// What holds for a while.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RaisedLevel {
    /// The level or directives.
    pub level: String,
    /// The one module that it is for.
    pub target: Option<String>,
    /// When it ends.
    pub until: String,
}
