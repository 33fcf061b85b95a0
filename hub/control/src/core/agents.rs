//! Who is an agent, what it may do, and whose identity counts for nothing any more.

use figspan_proto::name::{AgentName, ServiceName};
use figspan_proto::reset::{Close, Reason};

use super::Core;
use crate::events::Note;
use crate::ledger::Revocation;
use crate::registry::{Allowed, TunnelId};

impl Core {
    /// An agent joined, or joined again.
    pub(crate) fn joined(&mut self, agent: &AgentName, allowed: Allowed, revocation: Option<Revocation>) {
        self.learned(agent, allowed, revocation);
        self.publication.flush_callers();
        self.publish();
    }

    /// An agent joined another hub.
    pub(crate) fn learned(&mut self, agent: &AgentName, allowed: Allowed, revocation: Option<Revocation>) {
        match revocation {
            Some(revocation) => drop(self.revoked.insert(agent.clone(), revocation)),
            None => drop(self.revoked.remove(agent)),
        }
        self.publication.set_caller(agent, &allowed.services);
        self.registry.joined(agent, allowed);
    }

    /// An agent called a service and was refused.
    pub(crate) fn refused_call(&mut self, agent: &AgentName, service: ServiceName, reason: Reason) {
        let subject = service.to_string();
        if self.registry.refused_call(agent, service, reason.as_str(), self.shared.clock.stamp()) {
            let mend = match reason {
                Reason::ServiceDenied => "; a new grant with `--services` allows it",
                _ => "",
            };
            let message = format!("agent {agent} called service {subject} and was refused: {}{mend}", reason.as_str());
            self.note(Note::new("refused", &subject, agent, message));
        }
    }

    /// An identity was taken back: its tunnels are cut. How many they were.
    pub(crate) fn revoke(&mut self, agent: &AgentName, revocation: Revocation) -> usize {
        self.revoked.insert(agent.clone(), revocation);
        self.shared.arrived(agent);
        let tunnels: Vec<TunnelId> = self.tunnels_of(agent);
        for &id in &tunnels {
            self.close(id, Close::Revoked, "its identity was revoked");
        }
        self.publish();
        tunnels.len()
    }

    /// Open tunnels of an agent.
    pub(crate) fn tunnels_of(&self, agent: &AgentName) -> Vec<TunnelId> {
        self.registry.agents().get(agent).map(|record| record.tunnels.iter().copied().collect()).unwrap_or_default()
    }

    /// Whether the identity counts for nothing now.
    pub(crate) fn is_revoked(&self, agent: &AgentName) -> bool {
        self.revoked.get(agent).is_some_and(|revocation| revocation.lifted.is_none())
    }
}
