//! Hop of the control path: discovery -> *registry* -> publish. The hub's one record of agents, tunnels and uplinks.
//!
//! Pure and single-writer: what happened goes in (`opened`, `list`, `closed` ...), time comes with it, and `settle` says
//! what became different: uplinks to publish, verdicts for agents, notes for people. It promises that an endpoint exists
//! only while a live tunnel of an agent that may advertise it does, and it never holds a tunnel, a socket or a file.
//!
//! What an agent says is kept by tunnel, as it said it there: a slow tunnel can then never overwrite the news of a fast
//! one. What several tunnels and instances say together is worked out in `settle`.

mod parts;
mod record;
mod settle;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use figspan_proto::control::{self, MAX_UPLINKS};
use figspan_proto::name::{AgentName, ServiceName, UplinkName, Zone};
use figspan_proto::reset::Close;
use jiff::Timestamp;

pub(crate) use parts::{EndpointParts, UplinkParts};
pub(crate) use record::{Advert, AgentRecord, Allowed, MAX_REFUSED_CALLS, RefusedCalls, TunnelRecord, UplinkRecord};

use crate::events::Note;
use crate::weights::Overrides;

/// Most agents that may be connected at once.
pub(crate) const MAX_AGENTS: usize = 10_000;
/// Most tunnels of one agent: two instances, and room for 32 (replica, shard) pairs each.
pub(crate) const MAX_TUNNELS: usize = 64;
/// How long an agent that lost its last tunnel may still hold connections to its workload: the tunnel's idle time and a
/// margin for what it closes then. Until then a drain is not proven without its word.
pub(crate) const LINGER: Duration = Duration::from_secs(15);
/// How long after its certificate's end a tunnel may stay.
pub(crate) const EXPIRY_GRACE: Duration = Duration::from_secs(60);

/// Number of a tunnel; grows in the order of adoption and is never used twice.
pub(crate) type TunnelId = u64;

/// The record.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    agents: BTreeMap<AgentName, AgentRecord>,
    tunnels: HashMap<TunnelId, TunnelRecord>,
    uplinks: BTreeMap<UplinkName, UplinkRecord>,
    overrides: Overrides,
    dirty: BTreeSet<UplinkName>,
    notes: Vec<Note>,
    /// Agents with a tunnel.
    connected: usize,
    /// Numbers what arrives, to tell newer from older words.
    arrivals: u64,
    /// The time of the last tick.
    now: Timestamp,
}

/// Why a message broke the rules; the tunnel is closed for it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Violation(pub(crate) String);

/// Tunnels that have to be closed, and why.
pub(crate) type Closing = Vec<(TunnelId, Close)>;

impl Registry {
    /// A registry that knows these agents and overrides from before.
    pub(crate) fn new(overrides: Overrides, joined: impl Iterator<Item = (AgentName, Allowed)>) -> Self {
        let mut registry = Self { overrides, ..Self::default() };
        for (agent, allowed) in joined {
            registry.joined(&agent, allowed);
        }
        registry
    }

    /// An agent joined: this is what it may do. What it called in vain before says nothing any more.
    pub(crate) fn joined(&mut self, agent: &AgentName, allowed: Allowed) {
        let record = self.agents.entry(agent.clone()).or_default();
        record.joined = true;
        record.allowed = allowed;
        record.refused_calls.clear();
        self.touch_agent(agent);
    }

    /// An agent called a service and was refused. `true` for the first time.
    pub(crate) fn refused_call(&mut self, agent: &AgentName, service: ServiceName, reason: &'static str, now: Timestamp) -> bool {
        let Some(record) = self.agents.get_mut(agent) else { return false };
        let known = record.refused_calls.contains_key(&service);
        if !known && record.refused_calls.len() >= MAX_REFUSED_CALLS {
            return false;
        }
        let calls = record.refused_calls.entry(service).or_insert(RefusedCalls { reason, times: 0, at: now });
        *calls = RefusedCalls { reason, times: calls.times + 1, at: now };
        !known
    }

    /// A tunnel was opened by an agent. Refused beyond the limits.
    pub(crate) fn opened(
        &mut self,
        id: TunnelId,
        agent: &AgentName,
        shard: usize,
        ends: Timestamp,
        now: Timestamp,
    ) -> Result<(), Violation> {
        let connected = self.agents.get(agent).map_or(0, |record| record.tunnels.len());
        if connected == 0 && self.connected >= MAX_AGENTS {
            return Err(Violation(format!("{MAX_AGENTS} agents are connected, which is the limit")));
        }
        if connected >= MAX_TUNNELS {
            return Err(Violation(format!("agent {agent} has {MAX_TUNNELS} tunnels, which is the limit")));
        }
        let record = self.agents.entry(agent.clone()).or_default();
        self.connected += usize::from(record.tunnels.is_empty());
        record.tunnels.insert(id);
        record.last_seen = Some(now);
        self.tunnels.insert(id, TunnelRecord::new(agent.clone(), shard, ends));
        Ok(())
    }

    /// The agent said hello on a tunnel.
    pub(crate) fn hello(&mut self, id: TunnelId, instance: String, software: String, skew_ms: i64, zone: Option<Zone>) {
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        (tunnel.instance, tunnel.zone) = (instance, zone);
        let agent = &tunnel.agent;
        if let Some(agent) = self.agents.get_mut(agent) {
            agent.software = software;
            agent.skew_ms = Some(skew_ms);
        }
    }

    /// All uplinks of a tunnel, instead of what it said before. With its first list a tunnel takes the place of older ones of
    /// the same instance and shard: they are returned, to be closed. Not before: there shall be no moment with neither.
    pub(crate) fn list(&mut self, id: TunnelId, uplinks: Vec<control::Uplink>, now: Timestamp) -> Closing {
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return Vec::new() };
        let first = !std::mem::replace(&mut tunnel.listed, true);
        let mut gone: BTreeSet<UplinkName> = tunnel.adverts.keys().cloned().collect();
        let (agent, instance, shard) = (tunnel.agent.clone(), tunnel.instance.clone(), tunnel.shard);
        for uplink in uplinks {
            gone.remove(&uplink.name);
            self.put(id, uplink);
        }
        for name in gone {
            self.take(id, &name, now);
        }
        self.seen(&agent, now);
        if !first {
            return Vec::new();
        }
        let twins = self.agents.get(&agent).map(|record| record.tunnels.clone()).unwrap_or_default();
        let twins = twins.into_iter().filter(|&other| {
            let same = |tunnel: &TunnelRecord| tunnel.listed && tunnel.instance == instance && tunnel.shard == shard;
            other != id && self.tunnels.get(&other).is_some_and(same)
        });
        // Ids grow in the order of adoption. A list that comes late from an older tunnel ends that one, not the newer.
        let closing: BTreeSet<TunnelId> = twins.map(|other| other.min(id)).collect();
        closing.into_iter().map(|id| (id, Close::Replaced)).collect()
    }

    /// One uplink of a tunnel is new or changed.
    pub(crate) fn upsert(&mut self, id: TunnelId, uplink: control::Uplink, now: Timestamp) -> Result<(), Violation> {
        let Some(tunnel) = self.tunnels.get(&id) else { return Ok(()) };
        if !tunnel.adverts.contains_key(&uplink.name) && tunnel.adverts.len() >= MAX_UPLINKS {
            return Err(Violation(format!("more than {MAX_UPLINKS} uplinks")));
        }
        let agent = tunnel.agent.clone();
        self.put(id, uplink);
        self.seen(&agent, now);
        Ok(())
    }

    /// One uplink of a tunnel is gone.
    pub(crate) fn withdraw(&mut self, id: TunnelId, uplink: &UplinkName, now: Timestamp) {
        let Some(tunnel) = self.tunnels.get(&id) else { return };
        let agent = tunnel.agent.clone();
        self.take(id, uplink, now);
        self.seen(&agent, now);
    }

    /// How some uplinks of a tunnel are. Names that it did not list are passed over: they may have crossed a withdrawal.
    pub(crate) fn states(&mut self, id: TunnelId, states: Vec<control::State>, now: Timestamp) {
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        for state in states {
            let Some(advert) = tunnel.adverts.get_mut(&state.name) else { continue };
            self.arrivals += 1;
            advert.heard = self.arrivals;
            self.dirty.insert(state.name.clone());
            advert.uplink.state = state;
        }
        let agent = tunnel.agent.clone();
        self.seen(&agent, now);
    }

    /// The agent wants no new streams on a tunnel.
    pub(crate) fn draining(&mut self, id: TunnelId) {
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        if !std::mem::replace(&mut tunnel.draining, true) {
            self.notes.push(Note::new(
                "drain",
                &tunnel.agent,
                &tunnel.agent,
                format!("agent {} drains a tunnel: it takes nothing new there", tunnel.agent),
            ));
        }
        self.touch_tunnel(id);
    }

    /// Nothing was heard on a tunnel for a while, or something was heard again.
    pub(crate) fn silent(&mut self, id: TunnelId, silent: bool) {
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        if std::mem::replace(&mut tunnel.silent, silent) != silent {
            self.touch_tunnel(id);
        }
    }

    /// The agent renewed its certificate over a tunnel: all tunnels of that process may stay until then.
    pub(crate) fn renewed(&mut self, id: TunnelId, ends: Timestamp) {
        let Some(tunnel) = self.tunnels.get(&id) else { return };
        let (agent, instance) = (tunnel.agent.clone(), tunnel.instance.clone());
        for tunnel in self.tunnels.values_mut().filter(|tunnel| tunnel.agent == agent && tunnel.instance == instance) {
            tunnel.ends = tunnel.ends.max(ends);
        }
    }

    /// A tunnel is gone: what it advertised is withdrawn at once. `false` when it was not known.
    pub(crate) fn closed(&mut self, id: TunnelId, now: Timestamp) -> bool {
        let Some(tunnel) = self.tunnels.get(&id) else { return false };
        let agent = tunnel.agent.clone();
        let names: Vec<UplinkName> = tunnel.adverts.keys().cloned().collect();
        for name in &names {
            self.take(id, name, now);
        }
        self.tunnels.remove(&id);
        self.seen(&agent, now);
        if let Some(record) = self.agents.get_mut(&agent) {
            record.tunnels.remove(&id);
            self.connected -= usize::from(record.tunnels.is_empty());
            if record.tunnels.is_empty() && !record.joined {
                self.agents.remove(&agent);
            }
        }
        true
    }

    /// Operators' overrides are these from now on; `uplink` is the one that changed.
    pub(crate) fn set_overrides(&mut self, overrides: Overrides, uplink: &UplinkName) {
        self.overrides = overrides;
        self.uplinks.entry(uplink.clone()).or_default();
        self.dirty.insert(uplink.clone());
    }

    /// What time alone changes: tunnels whose certificate ended are returned, to be closed; agents long gone are forgotten
    /// where `busy` says that nothing of theirs is under way any more.
    pub(crate) fn tick(&mut self, now: Timestamp, busy: impl Fn(&UplinkName, &AgentName) -> bool) -> Closing {
        self.now = now;
        // Settled anew while a deadline stands: what did not change is not published.
        self.dirty.extend(self.overrides.with_deadlines().filter(|name| self.uplinks.contains_key(*name)).cloned());
        for (name, uplink) in &mut self.uplinks {
            uplink.departed.retain(|agent, at| older(now, *at) < LINGER || busy(name, agent));
        }
        let overrides = &self.overrides;
        self.uplinks.retain(|name, uplink| {
            !uplink.advertised_by.is_empty() || !uplink.departed.is_empty() || uplink.parts.is_some() || overrides.of(name).is_some()
        });
        let ended = self.tunnels.iter().filter(|(_, tunnel)| now > tunnel.ends && older(now, tunnel.ends) > EXPIRY_GRACE);
        ended.map(|(&id, _)| (id, Close::Identity)).collect()
    }

    /// Whether something changed since the last `settle`.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty() || !self.notes.is_empty()
    }

    /// Agents with a tunnel.
    pub(crate) fn connected(&self) -> usize {
        self.connected
    }

    /// Agents by name: joined, or connected.
    pub(crate) fn agents(&self) -> &BTreeMap<AgentName, AgentRecord> {
        &self.agents
    }

    /// Uplinks by name, with those that are refused or away.
    pub(crate) fn uplinks(&self) -> &BTreeMap<UplinkName, UplinkRecord> {
        &self.uplinks
    }

    /// Where an agent is, as its newest tunnel says.
    pub(crate) fn zone(&self, agent: &AgentName) -> Option<&Zone> {
        let newest = self.agents.get(agent)?.tunnels.last()?;
        self.tunnels.get(newest)?.zone.as_ref()
    }

    /// A tunnel's record.
    pub(crate) fn tunnel(&self, id: TunnelId) -> Option<&TunnelRecord> {
        self.tunnels.get(&id)
    }

    /// Operators' overrides.
    pub(crate) fn overrides(&self) -> &Overrides {
        &self.overrides
    }

    /// Whom to ask for a count: for each agent that has or lately had the uplink, one tunnel of each of its processes. An empty
    /// list is an agent that cannot be asked.
    pub(crate) fn askable(&self, uplink: &UplinkName) -> BTreeMap<AgentName, Vec<TunnelId>> {
        let mut out = BTreeMap::new();
        let Some(record) = self.uplinks.get(uplink) else { return out };
        let endpoints = record.parts.iter().flat_map(|parts| parts.endpoints.iter().map(|endpoint| &endpoint.agent));
        for agent in endpoints.chain(record.departed.keys()) {
            let mut by_instance: BTreeMap<&str, (bool, TunnelId)> = BTreeMap::new();
            for &id in self.agents.get(agent).map(|record| &record.tunnels).into_iter().flatten() {
                let Some(tunnel) = self.tunnels.get(&id) else { continue };
                let concerned = record.departed.contains_key(agent) || tunnel.adverts.contains_key(uplink);
                if tunnel.listed && concerned {
                    // The newest tunnel that speaks, else the newest.
                    let best = by_instance.entry(&tunnel.instance).or_insert((!tunnel.silent, id));
                    *best = (*best).max((!tunnel.silent, id));
                }
            }
            out.insert(agent.clone(), by_instance.into_values().map(|(_, id)| id).collect());
        }
        out
    }

    fn put(&mut self, id: TunnelId, uplink: control::Uplink) {
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        let name = uplink.name.clone();
        self.arrivals += 1;
        let heard = self.arrivals;
        let known = tunnel.adverts.remove(&name);
        let (since, told) = known.map_or((heard, None), |known| (known.since, known.told));
        tunnel.adverts.insert(name.clone(), Advert { uplink, since, said: heard, heard, told, due: true });
        self.uplinks.entry(name.clone()).or_default().advertised_by.insert(id);
        self.dirty.insert(name);
    }

    fn take(&mut self, id: TunnelId, name: &UplinkName, now: Timestamp) {
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        if tunnel.adverts.remove(name).is_none() {
            return;
        }
        if let Some(uplink) = self.uplinks.get_mut(name) {
            uplink.advertised_by.remove(&id);
            // Whoever was an endpoint may still have connections; `settle` takes the note back while others of its tunnels serve.
            if uplink.parts.as_ref().is_some_and(|parts| parts.endpoint(&tunnel.agent).is_some()) {
                uplink.departed.insert(tunnel.agent.clone(), now);
            }
        }
        self.dirty.insert(name.clone());
    }

    fn seen(&mut self, agent: &AgentName, now: Timestamp) {
        if let Some(record) = self.agents.get_mut(agent) {
            record.last_seen = Some(now);
        }
    }

    fn touch_tunnel(&mut self, id: TunnelId) {
        if let Some(tunnel) = self.tunnels.get(&id) {
            self.dirty.extend(tunnel.adverts.keys().cloned());
        }
    }

    fn touch_agent(&mut self, agent: &AgentName) {
        let ids: Vec<TunnelId> = self.agents.get(agent).map(|record| record.tunnels.iter().copied().collect()).unwrap_or_default();
        for id in ids {
            self.touch_tunnel(id);
        }
    }
}

/// How much older `then` is than `now`; zero when the clock went back.
pub(crate) fn older(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
