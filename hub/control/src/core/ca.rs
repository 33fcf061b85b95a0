//! What the writer knows of agents' certificates: who was told which roots, and whose leaf is of a root that issues no more.

use std::sync::Arc;
use std::time::Duration;

use figspan_proto::control::FromHub;
use figspan_proto::join::Pin;
use figspan_proto::name::AgentName;
use figspan_tunnel::identity::Leaf;
use jiff::Timestamp;
use tokio::time::Instant;

use super::Core;
use crate::config::stamp;
use crate::registry::TunnelId;

/// How long after being told, on a tunnel that still lives, an agent counts as knowing: the words have been read by then.
const HEARD: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 2000 });

/// An agent's newest leaf, as far as this process has seen it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    ends: Timestamp,
    root: Option<Pin>,
}

/// Roots that were told on a tunnel.
#[derive(Debug, Clone)]
pub(super) struct Told {
    /// Their pins, in order.
    roots: Arc<[Pin]>,
    at: Instant,
}

impl Core {
    /// The agent renewed its certificate over a tunnel.
    pub(crate) fn renewed(&mut self, id: TunnelId, leaf: &Leaf) {
        self.registry.renewed(id, stamp(leaf.not_after));
        if let Some(agent) = self.registry.tunnel(id).map(|tunnel| tunnel.agent.clone()) {
            self.showed(&agent, leaf);
        }
    }

    /// An agent has this leaf.
    pub(super) fn showed(&mut self, agent: &AgentName, leaf: &Leaf) {
        let seen = Seen { ends: stamp(leaf.not_after), root: leaf.root(&self.shared.trust.credentials().roots()) };
        let newest = self.leafs.entry(agent.clone()).or_insert(seen);
        if newest.ends <= seen.ends {
            *newest = seen;
        }
    }

    /// Agents whose newest leaf, as far as was seen, is of another root than the one that issues, and has not ended.
    pub(crate) fn on_old_root(&self) -> Vec<AgentName> {
        let (issuing, now) = (self.shared.trust.pin(), self.shared.clock.stamp());
        let old = |name: &AgentName| self.leafs.get(name).is_some_and(|seen| seen.root != Some(issuing) && seen.ends > now);
        self.registry.agents().keys().filter(|name| !self.is_revoked(name) && old(name)).cloned().collect()
    }

    /// Agents whose identity still counts and which may not know all roots: they have no tunnel on which they were told, and
    /// their certificates have not ended for certain.
    pub(crate) fn without_roots(&self) -> Vec<AgentName> {
        let roots = self.roots();
        let heard = |told: &Told| told.roots == roots && told.at.elapsed() >= HEARD;
        let told = |id: &TunnelId| self.links.get(id).is_some_and(|link| !link.tunnel.suspect() && link.told.as_ref().is_some_and(heard));
        let started = self.shared.clock.stamp().checked_sub(self.shared.started.elapsed()).unwrap_or(Timestamp::MIN);
        let ended = |seen: Option<Timestamp>| self.shared.trust.all_ended(seen.unwrap_or(started));
        let agents = self.registry.agents().iter().filter(|(name, _)| !self.is_revoked(name));
        let untold =
            agents.filter(|(_, record)| !(record.tunnels.iter().any(told) || record.tunnels.is_empty() && ended(record.last_seen)));
        untold.map(|(name, _)| name.clone()).collect()
    }

    /// Tells all agents the roots as they are now.
    pub(crate) fn tell_roots_to_all(&mut self) {
        for id in self.links.keys().copied().collect::<Vec<_>>() {
            self.tell_roots(id);
        }
    }

    pub(super) fn tell_roots(&mut self, id: TunnelId) {
        let roots = self.roots();
        self.say(id, FromHub::Trust(self.shared.trust.roots_der()));
        // Told again in another order, an agent knows no less than before.
        if let Some(link) = self.links.get_mut(&id)
            && link.told.as_ref().is_none_or(|told| told.roots != roots)
        {
            link.told = Some(Told { roots, at: Instant::now() });
        }
    }

    /// Pins of the roots as they are now, in order.
    fn roots(&self) -> Arc<[Pin]> {
        let mut pins = self.shared.trust.credentials().roots().pins();
        pins.sort_unstable_by_key(|pin| pin.0);
        pins.into()
    }
}
