//! The handle to the control path: what the hub binary, its shards and its admin API hold.

use std::sync::Arc;
use std::time::Duration;

use figspan_model::routing::Routing;
use figspan_model::state::Shard;
use figspan_proto::admin::{self, Problem};
use figspan_proto::name::{AgentName, UplinkName};
use figspan_tunnel::Credentials;
use figspan_tunnel::hub::Established;

use crate::config::ControlConfig;

/// Handle to the control path; clones share it. `Send + Sync`: usable from any thread with a tokio runtime.
///
/// `who` is an operator as the audit shall name them (`ann@laptop`); times in answers are RFC 3339.
#[derive(Debug, Clone)]
pub struct Control {}

/// Why control could not start. The text names the file and the mend.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(String);

/// Control's part of `GET /v1/status`.
#[derive(Debug, Clone)]
pub struct StatusParts {
    /// Generation of the snapshot in force.
    pub generation: u64,
    /// The oldest that a shard still works with.
    pub oldest_generation: u64,
    /// Agents connected.
    pub agents: usize,
    /// Tunnels open.
    pub tunnels: usize,
    /// Uplinks known.
    pub uplinks: usize,
    /// Requests and connections under way through tunnels.
    pub in_flight: u64,
    /// SHA-256 pins of the roots in force (`sha256:...`).
    pub roots: Vec<String>,
    /// When the hub's own certificate ends.
    pub certificate_ends: String,
}

/// Whether control is ready for the hub to take traffic, and what it waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// Whether it is.
    pub ready: bool,
    /// What it waits for, for people; empty when ready.
    pub waiting_for: Vec<String>,
}

#[allow(clippy::todo, unused_variables)]
impl Control {
    /// Opens the state directory, loads or makes the CA and the hub's own certificate, publishes a first snapshot with the
    /// configured routing, and starts control's tasks on the current runtime (the control thread's).
    pub fn start(config: ControlConfig) -> Result<Self, StartError> {
        todo!()
    }

    /// What the hub's endpoints present and trust; kept up to date here.
    pub fn credentials(&self) -> Arc<Credentials> {
        todo!()
    }

    /// The stateless-reset key, kept over restarts.
    pub fn reset_key(&self) -> [u8; 64] {
        todo!()
    }

    /// Takes over a connection that a shard has established. Waits while the queue is full; after the end of control the
    /// connection is dropped.
    pub async fn adopt(&self, shard: Shard, established: Established) {
        todo!()
    }

    /// Publishes another routing; returns the generation that carries it.
    pub async fn set_routing(&self, routing: Arc<Routing>) -> Result<u64, Problem> {
        todo!()
    }

    /// Control's part of the status.
    pub async fn status_parts(&self) -> Result<StatusParts, Problem> {
        todo!()
    }

    /// All agents that joined or are connected, ordered by name.
    pub async fn agents(&self) -> Result<Vec<admin::Agent>, Problem> {
        todo!()
    }

    /// One agent; 404 when nobody of that name joined.
    pub async fn agent(&self, name: &AgentName) -> Result<admin::Agent, Problem> {
        todo!()
    }

    /// All uplinks known, ordered by name.
    pub async fn uplinks(&self) -> Result<Vec<admin::Uplink>, Problem> {
        todo!()
    }

    /// One uplink; 404 when unknown.
    pub async fn uplink(&self, name: &UplinkName) -> Result<admin::Uplink, Problem> {
        todo!()
    }

    /// Overrides a weight: stored, audited, published, and confirmed by the shards (at most 2 s are waited for that; see
    /// `confirmed` in the answer).
    pub async fn set_weight(&self, uplink: &UplinkName, change: admin::SetWeight, who: &str) -> Result<admin::WeightChange, Problem> {
        todo!()
    }

    /// Takes an override back: the agents' own weights count again.
    pub async fn reset_weight(&self, uplink: &UplinkName, change: admin::ResetWeight, who: &str) -> Result<admin::WeightChange, Problem> {
        todo!()
    }

    /// Waits until every shard works with that generation or a later one; the replicas that confirmed (empty: deadline passed).
    pub async fn wait_effective(&self, generation: u64, deadline: Duration) -> Vec<String> {
        todo!()
    }

    /// The drain proof. Asks the agents for their counts when the hub's own sums are 0, which takes at most about a second.
    pub async fn drain_verdict(&self, uplink: &UplinkName, agent: Option<&AgentName>) -> Result<admin::DrainVerdict, Problem> {
        todo!()
    }

    /// Makes a grant; the answer holds the line to paste, which is not kept.
    pub async fn create_grant(&self, grant: admin::CreateGrant, who: &str) -> Result<admin::CreatedGrant, Problem> {
        todo!()
    }

    /// All grants that are kept, newest first.
    pub async fn grants(&self) -> Result<Vec<admin::Grant>, Problem> {
        todo!()
    }

    /// Takes a grant back. Agents that redeemed it stay.
    pub async fn revoke_grant(&self, id: &str, revoke: admin::Revoke, who: &str) -> Result<admin::Revoked, Problem> {
        todo!()
    }

    /// Revokes an agent's identity: its tunnels are cut at once, and neither its certificates nor renewals count any more.
    /// Lifted by redeeming a grant made afterwards that names the agent.
    pub async fn revoke_agent(&self, name: &AgentName, revoke: admin::Revoke, who: &str) -> Result<admin::Revoked, Problem> {
        todo!()
    }

    /// Events with a number above `since`, oldest first, at most `limit` (and at most 1000): the newest ones if there are more.
    pub fn events(&self, since: u64, limit: usize) -> Vec<admin::Event> {
        todo!()
    }

    /// Waits until there is an event with a number above `since`.
    pub async fn event_after(&self, since: u64) {
        todo!()
    }

    /// Records what somebody else did (`kind`: see `admin::Event`); `number` and `at` are given here. Changes are audited.
    pub fn record_event(&self, event: admin::Event) {
        todo!()
    }

    /// Starts a change of the CA: a second root is made, pushed to all agents and trusted from now on. Returns both pins.
    pub async fn begin_ca_change(&self, who: &str) -> Result<Vec<String>, Problem> {
        todo!()
    }

    /// Issues from the new CA from now on; the old root stays trusted until its last leaf has ended. Refused while agents have
    /// not yet been told the new root, unless forced.
    pub async fn finish_ca_change(&self, force: bool, who: &str) -> Result<Vec<String>, Problem> {
        todo!()
    }

    /// Whether control is ready for traffic: the agents that joined are back, or 10 s have passed.
    pub fn ready(&self) -> Ready {
        todo!()
    }

    /// Says to all agents that this replica ends, takes no new tunnel, and waits until nothing is under way through tunnels.
    /// `false` when the deadline passed first. Tunnels stay open until [`Control::stop`].
    pub async fn leave(&self, deadline: Duration) -> bool {
        todo!()
    }

    /// Closes all tunnels and ends control's tasks.
    pub async fn stop(&self) {
        todo!()
    }
}
