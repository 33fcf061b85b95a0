//! The handle to the control path: what the hub binary, its shards and its admin API hold.

mod ca;
mod start;

use std::sync::Arc;
use std::time::Duration;

use figspan_model::routing::Routing;
use figspan_model::state::Shard;
use figspan_proto::admin::{self, Problem};
use figspan_proto::control::plain;
use figspan_proto::name::{AgentName, ServiceName, UplinkName};
use figspan_proto::reset::{Close, Reason};
use figspan_tunnel::drain::Drain;
use figspan_tunnel::hub::Established;
use figspan_tunnel::{Credentials, Stream, Tunnel};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::config::{ControlConfig, text};
use crate::context::Context;
use crate::core::Core;
use crate::enrol::Enrolment;
use crate::limiter::Pace;
use crate::operate::{Change, Operators, wait_effective};
use crate::shared::Ready;
use crate::{drain_proof, problem};

/// How long tasks have to end once all tunnels are closed.
const END: Duration = Duration::from_secs(2);
/// How often a leaving replica looks whether anything is under way.
const LOOK: Duration = Duration::from_millis(20);

/// Handle to the control path; clones share it. `Send + Sync`: usable from any thread with a tokio runtime.
///
/// `who` is an operator as the audit shall name them (`ann@laptop`); times in answers are RFC 3339.
#[derive(Debug, Clone)]
pub struct Control(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    context: Arc<Context>,
    enrolment: Arc<Enrolment>,
    operators: Arc<Operators>,
    intake: mpsc::Sender<(Shard, Established)>,
    questions: mpsc::Sender<(Tunnel, Stream)>,
    reset_key: [u8; 64],
    /// Tasks that outlive the tunnels: the writer, the audit, the keeper of the CA.
    service: Drain,
}

/// Why control could not start. The text names the file and the mend.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub(crate) String);

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
    /// Of these, carried by TCP.
    pub tunnels_over_tcp: usize,
    /// Uplinks known.
    pub uplinks: usize,
    /// Requests and connections under way through tunnels.
    pub in_flight: u64,
    /// SHA-256 pins of the roots in force (`sha256:...`).
    pub roots: Vec<String>,
    /// When the hub's own certificate ends.
    pub certificate_ends: String,
}

impl Control {
    /// Opens the state directory, loads or makes the CA and the hub's own certificate, publishes a first snapshot with the
    /// configured routing, and starts control's tasks on the current runtime (the control thread's).
    pub fn start(config: ControlConfig) -> Result<Self, StartError> {
        Self::start_with(config, Pace::default())
    }

    /// What the hub's endpoints present and trust; kept up to date here.
    pub fn credentials(&self) -> Arc<Credentials> {
        Arc::clone(self.0.context.trust.credentials())
    }

    /// The stateless-reset key, kept over restarts.
    pub fn reset_key(&self) -> [u8; 64] {
        self.0.reset_key
    }

    /// Takes over a connection that a shard has established. Waits while the queue is full; after the end of control the
    /// connection is dropped.
    pub async fn adopt(&self, shard: Shard, established: Established) {
        // An error is the end of control; the connection closes as it is dropped.
        let _ = self.0.intake.send((shard, established)).await;
    }

    /// Answers a question about an identity that came over a tunnel and of which two bytes are read. Waits while the queue is
    /// full; after the end of control the stream is reset.
    pub async fn question(&self, tunnel: &Tunnel, stream: Stream) {
        // An error is the end of control; the stream is reset as it is dropped.
        let _ = self.0.questions.send((tunnel.clone(), stream)).await;
    }

    /// Hears that a shard refused an agent's call, for operators. Never waits: where control is busy, the next one is heard.
    pub fn refused_call(&self, agent: &AgentName, service: &ServiceName, reason: Reason) {
        let (agent, service) = (agent.clone(), service.clone());
        self.0.context.writer.hint(move |core| core.refused_call(&agent, service, reason));
    }

    /// Publishes another routing; returns the generation that carries it.
    pub async fn set_routing(&self, routing: Arc<Routing>) -> Result<u64, Problem> {
        self.ask(move |core| core.set_routing(routing)).await
    }

    /// Control's part of the status.
    pub async fn status_parts(&self) -> Result<StatusParts, Problem> {
        let context = &self.0.context;
        let oldest_generation = context.board.oldest();
        let roots = context.trust.pins();
        let certificate_ends = text(crate::config::stamp(context.trust.credentials().identity().not_after()));
        self.ask(move |core| StatusParts {
            generation: core.publication.generation(),
            oldest_generation,
            agents: core.registry.connected(),
            tunnels: core.registry.agents().values().map(|agent| agent.tunnels.len()).sum(),
            tunnels_over_tcp: core.tunnels_over_tcp(),
            uplinks: core.publication.uplinks().len(),
            in_flight: core.in_flight(),
            roots,
            certificate_ends,
        })
        .await
    }

    /// All agents that joined or are connected, ordered by name.
    pub async fn agents(&self) -> Result<Vec<admin::Agent>, Problem> {
        self.ask(|core| core.agents_view()).await
    }

    /// One agent; 404 when nobody of that name joined.
    pub async fn agent(&self, name: &AgentName) -> Result<admin::Agent, Problem> {
        let wanted = name.clone();
        let missing = || problem::unknown("no such agent", format!("no agent {name} joined; see `figspanctl get agents`"));
        self.ask(move |core| core.agent_view(&wanted)).await?.ok_or_else(missing)
    }

    /// All uplinks that an agent may have and has, or that an operator gave a weight, ordered by name.
    pub async fn uplinks(&self) -> Result<Vec<admin::Uplink>, Problem> {
        self.ask(|core| core.uplinks_view()).await
    }

    /// One uplink; 404 when unknown.
    pub async fn uplink(&self, name: &UplinkName) -> Result<admin::Uplink, Problem> {
        let wanted = name.clone();
        let missing = || problem::unknown("no such uplink", format!("no agent advertises {name}; see `figspanctl get uplinks`"));
        self.ask(move |core| core.uplink_view(&wanted)).await?.ok_or_else(missing)
    }

    /// Overrides a weight: stored, audited, published, and confirmed by the shards (at most 2 s are waited for that; see
    /// `confirmed` in the answer). The uplink must be known, or named by a route.
    pub async fn set_weight(&self, uplink: &UplinkName, change: admin::SetWeight, who: &str) -> Result<admin::WeightChange, Problem> {
        let admin::SetWeight { weight, sessions_seconds, agent, reason, dry_run } = change;
        self.change(Change {
            uplink: uplink.clone(),
            agent,
            weight: Some(weight),
            sessions: sessions_seconds.map(Duration::from_secs),
            reason,
            dry_run,
            who: who.to_owned(),
        })
        .await
    }

    /// Takes an override back: the agents' own weights count again.
    pub async fn reset_weight(&self, uplink: &UplinkName, change: admin::ResetWeight, who: &str) -> Result<admin::WeightChange, Problem> {
        let admin::ResetWeight { agent, reason, dry_run } = change;
        self.change(Change { uplink: uplink.clone(), agent, weight: None, sessions: None, reason, dry_run, who: who.to_owned() }).await
    }

    /// Waits until every shard works with that generation or a later one; the replicas that confirmed (empty: deadline passed).
    pub async fn wait_effective(&self, generation: u64, deadline: Duration) -> Vec<String> {
        wait_effective(&self.0.context, generation, deadline).await
    }

    /// The drain proof. Asks the agents for their counts when the hub's own sums are 0, which takes at most about a second.
    pub async fn drain_verdict(&self, uplink: &UplinkName, agent: Option<&AgentName>) -> Result<admin::DrainVerdict, Problem> {
        drain_proof::verdict(&self.0.context, uplink, agent).await
    }

    /// Makes a grant; the answer holds the line to paste, which is not kept.
    pub async fn create_grant(&self, grant: admin::CreateGrant, who: &str) -> Result<admin::CreatedGrant, Problem> {
        let (enrolment, context, who) = self.parts(who);
        self.0.context.to_the_end(async move { enrolment.create(&context, grant, &who).await }).await?
    }

    /// All grants that are kept, newest first. Ended ones are kept for a week.
    pub async fn grants(&self) -> Result<Vec<admin::Grant>, Problem> {
        Ok(self.0.enrolment.grants(&self.0.context).await)
    }

    /// Takes a grant back. Agents that redeemed it stay.
    pub async fn revoke_grant(&self, id: &str, revoke: admin::Revoke, who: &str) -> Result<admin::Revoked, Problem> {
        let ((enrolment, context, who), id) = (self.parts(who), id.to_owned());
        self.0.context.to_the_end(async move { enrolment.revoke_grant(&context, &id, revoke, &who).await }).await?
    }

    /// Revokes an agent's identity: its tunnels are cut at once, and neither its certificates nor renewals count any more.
    /// Lifted by redeeming a grant made afterwards that names the agent.
    pub async fn revoke_agent(&self, name: &AgentName, revoke: admin::Revoke, who: &str) -> Result<admin::Revoked, Problem> {
        let ((enrolment, context, who), name) = (self.parts(who), name.clone());
        self.0.context.to_the_end(async move { enrolment.revoke_agent(&context, &name, revoke, &who).await }).await?
    }

    /// Events with a number above `since`, oldest first, at most `limit` (and at most 1000): the newest ones if there are more.
    pub fn events(&self, since: u64, limit: usize) -> Vec<admin::Event> {
        self.0.context.events.since(since, limit)
    }

    /// Waits until there is an event with a number above `since`.
    pub async fn event_after(&self, since: u64) {
        self.0.context.events.after(since).await;
    }

    /// Records what somebody else did (`kind`: see `admin::Event`); `number` and `at` are given here. Changes are audited.
    pub fn record_event(&self, event: admin::Event) {
        self.0.context.events.record(event);
    }

    /// Whether control is ready for traffic: the agents that joined are back, or 10 s have passed.
    pub fn ready(&self) -> Ready {
        self.0.context.ready()
    }

    /// Says to all agents that this replica ends within that time, and takes no new tunnel. Nothing else changes yet.
    pub async fn say_leaving(&self, deadline: Duration) {
        // An error means that the writer has ended: nobody is left to tell.
        let _ = self.ask(move |core| core.leave(deadline)).await;
    }

    /// Says to all agents that this replica ends, takes no new tunnel, and waits until nothing is under way through tunnels.
    /// `false` when the deadline passed first. Tunnels stay open until [`Control::stop`].
    pub async fn leave(&self, deadline: Duration) -> bool {
        let end = Instant::now() + deadline;
        if self.ask(move |core| core.leave(deadline)).await.is_err() {
            return true;
        }
        loop {
            match self.ask(|core| core.in_flight()).await {
                Ok(0) | Err(_) => return true,
                Ok(_) if Instant::now() >= end => return false,
                Ok(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Closes all tunnels, ends control's tasks, and lets go of the state directory.
    pub async fn stop(&self) {
        let inner = &self.0;
        // An error means that the writer has ended before: nothing is open then.
        let _ = self.ask(|core| core.close_everything(Close::Leaving)).await;
        if !inner.context.work.run(END).await {
            tracing::warn!("some of control's tasks did not end in time");
        }
        inner.service.run(END).await;
        inner.context.store.release();
    }

    async fn ask<R: Send + 'static>(&self, job: impl FnOnce(&mut Core) -> R + Send + 'static) -> Result<R, Problem> {
        self.0.context.writer.ask(job).await
    }

    async fn change(&self, mut change: Change) -> Result<admin::WeightChange, Problem> {
        change.who = plain(&change.who);
        let (operators, context) = (Arc::clone(&self.0.operators), Arc::clone(&self.0.context));
        self.0.context.to_the_end(async move { operators.change(&context, change).await }).await?
    }

    /// Redeems a grant as a VM would, without a connection.
    #[cfg(test)]
    pub(crate) async fn redeem(
        &self,
        grant: &str,
        secret: &figspan_proto::join::Secret,
        wanted: Option<&str>,
        csr: &[u8],
        time_ms: u64,
    ) -> Result<figspan_proto::join::Issued, figspan_proto::join::Refused> {
        let remote = std::net::Ipv4Addr::LOCALHOST.into();
        self.0.enrolment.join(&self.0.context, remote, grant, secret, wanted, csr, time_ms).await
    }

    fn parts(&self, who: &str) -> (Arc<Enrolment>, Arc<Context>, String) {
        (Arc::clone(&self.0.enrolment), Arc::clone(&self.0.context), plain(who))
    }
}

#[cfg(test)]
mod tests;
