//! What all words together mean: endpoints, weights, verdicts. The part of the registry that decides.
//!
//! An endpoint is an agent's side of an uplink. An agent may have two processes (an upgrade) with several tunnels each; the
//! state of a process is what it said last on any of its tunnels. Ready processes serve; one that has not yet checked its
//! workload never takes the place of one that has.

use std::collections::{BTreeMap, BTreeSet};

use figspan_proto::control::{Health, Protocol, State, Verdict};
use figspan_proto::name::{AgentName, UplinkName, Zone};
use figspan_proto::weight::Weight;

use super::{EndpointParts, Registry, TunnelId, TunnelRecord, UplinkParts};
use crate::events::Note;

/// What became different.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// Uplinks to publish; `None` are gone.
    pub(crate) changed: Vec<(UplinkName, Option<UplinkParts>)>,
    /// What to tell on which tunnel.
    pub(crate) verdicts: BTreeMap<TunnelId, Vec<Verdict>>,
    /// For people.
    pub(crate) notes: Vec<Note>,
}

impl Registry {
    /// Works out what changed since it was last asked.
    pub(crate) fn settle(&mut self) -> Settled {
        let mut settled = Settled { notes: std::mem::take(&mut self.notes), ..Settled::default() };
        for name in std::mem::take(&mut self.dirty) {
            self.settle_uplink(&name, &mut settled);
        }
        settled
    }

    fn settle_uplink(&mut self, name: &UplinkName, settled: &mut Settled) {
        let Some(advertised_by) = self.uplinks.get(name).map(|record| record.advertised_by.clone()) else { return };
        let (accepted, refused, protocol) = self.judge(name, &advertised_by);
        let parts = protocol.and_then(|protocol| self.parts(name, protocol, &accepted));

        let mut noted = self.refusals_told(name, &advertised_by);
        for &id in &advertised_by {
            let agent = self.tunnels.get(&id).map(|tunnel| tunnel.agent.clone());
            let weight =
                parts.as_ref().zip(agent.as_ref()).and_then(|(parts, agent)| parts.endpoint(agent).map(|endpoint| (parts, endpoint)));
            let weight = weight.map_or(Weight::ZERO, |(parts, endpoint)| if parts.draining { Weight::ZERO } else { endpoint.weight });
            let verdict = Verdict { uplink: name.clone(), refused: refused.get(&id).cloned(), weight };
            let Some(advert) = self.tunnels.get_mut(&id).and_then(|tunnel| tunnel.adverts.get_mut(name)) else { continue };
            if !std::mem::take(&mut advert.due) && advert.told.as_ref() == Some(&verdict) {
                continue;
            }
            // Said once for an agent, however many tunnels bring it.
            if let (Some(reason), Some(agent)) = (&verdict.refused, agent)
                && noted.insert((agent.clone(), reason.clone()))
            {
                settled.notes.push(Note::new("refused", name, &agent, format!("uplink {name} of agent {agent} is refused: {reason}")));
            }
            advert.told = Some(verdict.clone());
            settled.verdicts.entry(id).or_default().push(verdict);
        }

        let Some(record) = self.uplinks.get_mut(name) else { return };
        if let Some(parts) = &parts {
            // Who still has it on other tunnels has not departed.
            record.departed.retain(|agent, _| parts.endpoint(agent).is_none());
        }
        record.protocol = protocol.or(record.protocol);
        if record.parts != parts {
            describe(name, record.parts.as_ref(), parts.as_ref(), &mut settled.notes);
            record.parts.clone_from(&parts);
            settled.changed.push((name.clone(), parts));
        }
    }

    fn refusals_told(&self, name: &UplinkName, by: &BTreeSet<TunnelId>) -> BTreeSet<(AgentName, String)> {
        let told = by.iter().filter_map(|id| {
            let tunnel = self.tunnels.get(id)?;
            let reason = tunnel.adverts.get(name)?.told.as_ref()?.refused.clone()?;
            Some((tunnel.agent.clone(), reason))
        });
        told.collect()
    }

    /// Who may advertise it and who may not, with the reason; and the protocol that counts.
    fn judge(&self, name: &UplinkName, by: &BTreeSet<TunnelId>) -> (BTreeSet<TunnelId>, BTreeMap<TunnelId, String>, Option<Protocol>) {
        let mut refused = BTreeMap::new();
        let mut allowed: Vec<(u64, Protocol, TunnelId)> = Vec::new();
        for &id in by {
            let Some((tunnel, advert)) = self.tunnels.get(&id).and_then(|tunnel| Some((tunnel, tunnel.adverts.get(name)?))) else {
                continue;
            };
            match self.agents.get(&tunnel.agent) {
                Some(agent) if agent.may_advertise(name) => allowed.push((advert.since, advert.uplink.protocol, id)),
                Some(agent) if agent.joined => {
                    let patterns: Vec<String> = agent.allowed.uplinks.iter().map(ToString::to_string).collect();
                    let patterns = patterns.join(", ");
                    refused.insert(id, format!("the agent's grant allows {patterns}; join again with a grant for {name}"));
                }
                _ => drop(refused.insert(id, "this hub knows no grant of the agent; join again".to_owned())),
            }
        }
        // The protocol in force stays while anybody speaks it; else the earliest word counts.
        let current = self.uplinks.get(name).and_then(|record| record.parts.as_ref()).map(|parts| parts.protocol);
        let kept = current.filter(|current| allowed.iter().any(|(_, protocol, _)| protocol == current));
        let protocol = kept.or_else(|| allowed.iter().min_by_key(|(since, ..)| *since).map(|(_, protocol, _)| *protocol));
        let mut accepted = BTreeSet::new();
        for (_, spoken, id) in allowed {
            if Some(spoken) == protocol {
                accepted.insert(id);
            } else if let Some(protocol) = protocol {
                let (ours, theirs) = (spoken.as_str(), protocol.as_str());
                refused.insert(id, format!("it is declared as {ours}, and other agents have it as {theirs}; correct uplink.protocol"));
            }
        }
        (accepted, refused, protocol)
    }

    fn parts(&self, name: &UplinkName, protocol: Protocol, accepted: &BTreeSet<TunnelId>) -> Option<UplinkParts> {
        let mut by_agent: BTreeMap<&AgentName, Vec<(TunnelId, &TunnelRecord)>> = BTreeMap::new();
        for &id in accepted {
            let tunnel = self.tunnels.get(&id)?;
            by_agent.entry(&tunnel.agent).or_default().push((id, tunnel));
        }
        let endpoints: Vec<_> = by_agent.into_iter().map(|(agent, tunnels)| self.endpoint(name, agent, &tunnels)).collect();
        let weight = self.overrides.uplink_weight(name, endpoints.iter().map(|endpoint| endpoint.weight))?;
        if endpoints.is_empty() {
            return None;
        }
        Some(UplinkParts { name: name.clone(), protocol, weight, draining: self.overrides.drains(name), endpoints })
    }

    fn endpoint(&self, name: &UplinkName, agent: &AgentName, tunnels: &[(TunnelId, &TunnelRecord)]) -> EndpointParts {
        let processes = processes(name, tunnels);
        // The newest process that is not on its way out speaks for the weight.
        let newest = processes.iter().max_by_key(|process| (!process.draining, process.newest));
        let advertised = newest.map_or(Weight::DEFAULT, |process| process.weight);
        let ready = |process: &&Process<'_>| process.state.health == Health::Ready && !process.active.is_empty();
        let serving: Vec<&Process<'_>> = processes.iter().filter(ready).collect();
        let chosen = if serving.is_empty() { processes.iter().collect() } else { serving };
        let mut active: Vec<TunnelId> = chosen.iter().flat_map(|process| process.active.iter().copied()).collect();
        active.sort_unstable();
        let reason = if chosen.iter().any(ready) { String::new() } else { newest.map_or_else(String::new, Process::why_not) };
        EndpointParts {
            agent: agent.clone(),
            weight: self.overrides.endpoint_weight(name, agent, advertised),
            advertised,
            zone: newest.and_then(|process| process.zone.cloned()),
            ready: reason.is_empty(),
            reason,
            sessions_over: [None, Some(agent)].into_iter().any(|of| self.overrides.sessions_over(name, of, self.now)),
            tunnels: active,
        }
    }

    /// Connections to the uplink's workload on an agent, as its processes last said.
    pub(crate) fn open_connections(&self, name: &UplinkName, agent: &AgentName) -> u64 {
        let ids = self.agents.get(agent).map(|record| record.tunnels.iter()).into_iter().flatten();
        let tunnels: Vec<_> = ids.filter_map(|id| self.tunnels.get(id).map(|tunnel| (*id, tunnel))).collect();
        processes(name, &tunnels).iter().map(|process| process.state.open_connections).fold(0, u64::saturating_add)
    }
}

/// One process of an agent, as far as one uplink goes.
struct Process<'a> {
    /// Its newest tunnel.
    newest: TunnelId,
    /// Arrival numbers of its last words on weight and on state.
    said: u64,
    heard: u64,
    state: &'a State,
    weight: Weight,
    zone: Option<&'a Zone>,
    /// Tunnels that take new streams.
    active: Vec<TunnelId>,
    /// All its tunnels drain.
    draining: bool,
}

impl Process<'_> {
    fn why_not(&self) -> String {
        match self.state.health {
            _ if self.draining => "the agent drains".to_owned(),
            _ if self.active.is_empty() => "the agent is silent".to_owned(),
            Health::Down if self.state.reason.is_empty() => "the workload is down".to_owned(),
            Health::Down => format!("the workload is down: {}", self.state.reason),
            Health::Unknown | Health::Ready => "the agent has not yet checked the workload".to_owned(),
        }
    }
}

fn processes<'a>(name: &UplinkName, tunnels: &[(TunnelId, &'a TunnelRecord)]) -> Vec<Process<'a>> {
    let mut by_instance: BTreeMap<&str, Process<'a>> = BTreeMap::new();
    for &(id, tunnel) in tunnels {
        let Some(advert) = tunnel.adverts.get(name) else { continue };
        let process = by_instance.entry(&tunnel.instance).or_insert_with(|| Process {
            newest: id,
            said: 0,
            heard: 0,
            state: &advert.uplink.state,
            weight: advert.uplink.weight,
            zone: tunnel.zone.as_ref(),
            active: Vec::new(),
            draining: true,
        });
        process.newest = process.newest.max(id);
        process.draining &= tunnel.draining;
        if tunnel.takes_new() {
            process.active.push(id);
        }
        if advert.said > process.said {
            (process.said, process.weight) = (advert.said, advert.uplink.weight);
        }
        if advert.heard > process.heard {
            (process.heard, process.state) = (advert.heard, &advert.uplink.state);
        }
    }
    by_instance.into_values().collect()
}

/// One note for each endpoint that came, went, or began or ceased to accept.
fn describe(name: &UplinkName, old: Option<&UplinkParts>, new: Option<&UplinkParts>, notes: &mut Vec<Note>) {
    let side = |parts: Option<&UplinkParts>, agent: &AgentName| match parts.and_then(|parts| parts.endpoint(agent).map(|e| (parts, e))) {
        None => "absent",
        Some((parts, _)) if parts.draining => "draining",
        Some((_, endpoint)) if endpoint.weight.is_zero() => "draining",
        Some((_, endpoint)) if endpoint.accepts() => "ready",
        Some(_) => "not ready",
    };
    let agents: BTreeSet<&AgentName> = old.into_iter().chain(new).flat_map(|parts| parts.endpoints.iter().map(|e| &e.agent)).collect();
    for agent in agents {
        let (before, after) = (side(old, agent), side(new, agent));
        if before != after {
            let reason = new.and_then(|parts| parts.endpoint(agent)).map_or("", |endpoint| endpoint.reason.as_str());
            let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            let note = Note::new("uplink", name, agent, format!("uplink {name} on agent {agent} is {after}{why}"));
            notes.push(note.change(before, after));
        }
    }
}
