//! What the hub's admin API says, as JSON: shared by the hub, which serves it, and `figspanctl`, which reads it.
//!
//! Times are RFC 3339 texts, durations seconds. Readers ignore fields that they do not know.

mod backend;

use serde::{Deserialize, Serialize};

pub use backend::{Backend, BackendEndpoint, Bound, BreakerStatus, Mirror, MirrorExample};

use crate::control::Protocol;
use crate::name::{AgentName, NamePattern, UplinkName};
use crate::weight::Weight;

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

/// `GET /v1/agents`, `GET /v1/agents/{name}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Agent {
    /// Its name.
    pub name: AgentName,
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
    /// Round trip in milliseconds.
    pub rtt_ms: f64,
    /// Path MTU in bytes.
    pub mtu: u16,
    /// When it was opened.
    pub since: String,
}

/// An uplink that the hub does not take.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RefusedUplink {
    /// Its name.
    pub uplink: UplinkName,
    /// Why.
    pub reason: String,
}

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

/// `GET /v1/routes`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Route {
    /// Its name.
    pub name: String,
    /// HTTP, TCP or TLS.
    pub kind: String,
    /// Listeners.
    pub listeners: Vec<String>,
    /// Hosts or server names.
    pub hostnames: Vec<String>,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// One rule of a route.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rule {
    /// Its index.
    pub index: usize,
    /// Its name, under which its state is kept; without one, its index counts.
    #[serde(default)]
    pub name: Option<String>,
    /// What it matches, for people, one entry for each alternative.
    pub matches: Vec<String>,
    /// What it asks for beyond matches and weights, a line each.
    #[serde(default)]
    pub policies: Vec<String>,
    /// Its mirrors.
    #[serde(default)]
    pub mirrors: Vec<Mirror>,
    /// Its backends.
    pub backends: Vec<RuleBackend>,
}

/// One backend of a rule.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RuleBackend {
    /// `uplink` or `service`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The weight in the file, if any.
    pub weight: Option<Weight>,
    /// The weight in force.
    pub effective_weight: Weight,
    /// Endpoints that accept, and all.
    pub ready_endpoints: usize,
    /// All endpoints.
    pub endpoints: usize,
    /// Share wanted, 0 to 1, among backends that accept.
    pub share_wanted: f64,
    /// Share observed in the last minute, 0 to 1; `None`: the rule was not asked for.
    #[serde(default)]
    pub share_observed: Option<f64>,
    /// Requests and connections that this rule gave to it, each try counted.
    #[serde(default)]
    pub picked: u64,
    /// Of those, in the last minute.
    #[serde(default)]
    pub picked_last_minute: u64,
}

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
}

/// The answer to [`ExplainRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Explanation {
    /// Refused by admission: why.
    pub refused: Option<String>,
    /// The canonical target that matching used.
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
    /// The rule's backends.
    pub backends: Vec<RuleBackend>,
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

/// `POST /v1/grants`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateGrant {
    /// The agent's name; `None` takes the name that the VM wants.
    #[serde(default)]
    pub agent: Option<AgentName>,
    /// Names that it may advertise.
    pub uplinks: Vec<NamePattern>,
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
    /// Names that it allows.
    pub uplinks: Vec<NamePattern>,
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

/// `POST /v1/check` (body: TOML): what is wrong with a configuration, without loading it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CheckResult {
    /// Errors, each with line, what, why and mend.
    pub errors: Vec<String>,
    /// Warnings.
    pub warnings: Vec<String>,
}

/// Every refusal of the API, with its HTTP status (RFC 9457, problem details).
#[derive(Debug, Clone, Serialize, Deserialize, thiserror::Error)]
#[error("{title}: {detail}")]
pub struct Problem {
    /// HTTP status.
    pub status: u16,
    /// What failed.
    pub title: String,
    /// Why, and how to mend it.
    pub detail: String,
}
