//! What the hub's admin API says, as JSON: shared by the hub, which serves it, and `figspanctl`, which reads it.
//!
//! Times are RFC 3339 texts, durations seconds. Readers ignore fields that they do not know.

mod agent;
mod backend;
mod ca;
mod drain;
mod event;
mod explain;
mod grant;
mod log;
mod problem;
mod route;
mod status;
mod uplink;
mod weight;

pub use agent::{Agent, AgentTunnel, RefusedCall, RefusedUplink};
pub use backend::{Backend, BackendEndpoint, Bound, BreakerStatus, Mirror, MirrorExample};
pub use ca::{BeginCaChange, Ca, CaChange, CaRoot, FinishCaChange};
pub use drain::{AgentCount, DrainVerdict};
pub use event::Event;
pub use explain::{Decision, ExplainConnection, ExplainRequest, Explanation};
pub use grant::{CreateGrant, CreatedGrant, Grant, Revoke, Revoked};
pub use log::{LogLevel, RaisedLevel, SetLogLevel};
pub use problem::Problem;
pub use route::{Route, Rule, RuleBackend, Tier};
pub use status::{CheckResult, ConfigStatus, ListenerStatus, Status};
pub use uplink::{Endpoint, Override, Uplink};
pub use weight::{ResetWeight, SetWeight, WeightChange};
