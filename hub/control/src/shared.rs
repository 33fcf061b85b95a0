//! Facts and services that all of control's parts share: who this replica is, its clock, its events, its CA, its disk.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use figspan_model::state::Board;
use figspan_proto::name::{AgentName, ReplicaId, TrustDomain};
use tokio::time::Instant;

use crate::config::Clock;
use crate::events::Events;
use crate::store::Store;
use crate::trust::Trust;

/// How long readiness waits for agents that joined before.
const AGENTS_BACK: Duration = Duration::from_secs(10);

/// Whether control is ready for the hub to take traffic, and what it waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// Whether it is.
    pub ready: bool,
    /// What it waits for, for people; empty when ready.
    pub waiting_for: Vec<String>,
}

/// What all parts share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) replica: ReplicaId,
    pub(crate) shards: u8,
    pub(crate) software: String,
    pub(crate) advertise: Vec<String>,
    pub(crate) direct: Vec<SocketAddr>,
    pub(crate) clock: Clock,
    pub(crate) events: Events,
    pub(crate) trust: Trust,
    pub(crate) store: Arc<Store>,
    pub(crate) board: Arc<Board>,
    /// Agents that joined and have not been back since the start.
    pub(crate) awaited: Mutex<BTreeSet<AgentName>>,
    pub(crate) started: Instant,
}

impl Shared {
    /// Whether the replica may take traffic, as far as control goes.
    pub(crate) fn ready(&self) -> Ready {
        let mut waiting_for = Vec::new();
        if self.clock.now() > self.trust.credentials().identity().not_after() {
            waiting_for.push("the hub's own certificate has ended; look for errors of the CA in the log".to_owned());
        }
        let awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        let left = AGENTS_BACK.saturating_sub(self.started.elapsed());
        if !awaited.is_empty() && !left.is_zero() {
            let names: Vec<&str> = awaited.iter().take(5).map(AgentName::as_str).collect();
            let more = awaited.len().saturating_sub(names.len());
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            waiting_for.push(format!("agents {}{more} to come back, for {} s more", names.join(", "), left.as_secs() + 1));
        }
        Ready { ready: waiting_for.is_empty(), waiting_for }
    }

    /// An agent is back, or need not be waited for.
    pub(crate) fn arrived(&self, agent: &AgentName) {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner).remove(agent);
    }
}
