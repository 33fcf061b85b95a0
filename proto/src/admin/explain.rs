//! What would become of a request, or of a connection whose bytes are not looked into.

use serde::{Deserialize, Serialize};

use super::route::{RuleBackend, Tier};

/// `POST /v1/explain`: a request, as a client would send it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// The listener; else the first one that fits the URL's scheme.
    #[serde(default)]
    pub listener: Option<String>,
    /// The method.
    pub method: String,
    /// `http://host/path?query`.
    pub url: String,
    /// Headers.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The client's address; else one of this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
}

/// `POST /v1/explain-connection`: a connection to a TCP or TLS-passthrough listener.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainConnection {
    /// The listener.
    pub listener: String,
    /// The server name of its ClientHello; else it sends none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// The address it comes from; else one that the listener takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
}

/// The answer to [`ExplainRequest`] and [`ExplainConnection`]. What only requests have is empty for a connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Explanation {
    /// Refused by admission, or not taken at all: why.
    pub refused: Option<String>,
    /// The canonical target that matching used; of a connection, where it came in.
    pub target: String,
    /// The route and rule that match.
    pub route: Option<String>,
    /// Index of the rule.
    pub rule: Option<usize>,
    /// The rule's name, where it has one.
    #[serde(default)]
    pub rule_name: Option<String>,
    /// What the rule asks for beyond matches and weights, in the order in which it acts.
    #[serde(default)]
    pub policies: Vec<String>,
    /// Why this rule and not another, in order.
    pub why: Vec<String>,
    /// What each policy does with this request, in the order in which they act; those that the rule does not ask for are left out.
    #[serde(default)]
    pub decisions: Vec<Decision>,
    /// The rule's backends.
    pub backends: Vec<RuleBackend>,
    /// Tiers of them that may fail over.
    #[serde(default)]
    pub tiers: Vec<Tier>,
    /// What the next request would get, without counting as one.
    pub next: Option<String>,
    /// The endpoints that it would be given to, one after the other, if each failed before it.
    #[serde(default)]
    pub attempts: Vec<String>,
    /// When it would be given to the next one.
    #[serde(default)]
    pub retried: Vec<String>,
    /// The status that the hub itself would answer, where no backend can.
    pub status: Option<u16>,
}

/// What one policy does with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Which: `jwt`, `pins`, `filters`, `limits`, `mirrors`, `affinity`, `backends`, `failover`, `timeouts`; of a connection `client`, `limits`, `backends`, `failover`,
    /// `timeouts`.
    pub step: String,
    /// What, a line each.
    pub says: Vec<String>,
}
