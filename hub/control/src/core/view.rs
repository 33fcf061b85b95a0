//! What operators see of the registry.

use figspan_model::state::EndpointState;
use figspan_proto::admin;
use figspan_proto::name::{AgentName, ServiceName, UplinkName};
use figspan_proto::weight::Weight;
use figspan_tunnel::Transport;

use super::Core;
use crate::config::text;
use crate::registry::{AgentRecord, EndpointParts, RefusedCalls, UplinkRecord};

impl Core {
    /// All agents, ordered by name.
    pub(crate) fn agents_view(&self) -> Vec<admin::Agent> {
        self.registry.agents().iter().map(|(name, record)| self.agent_of(name, record)).collect()
    }

    /// One agent.
    pub(crate) fn agent_view(&self, name: &AgentName) -> Option<admin::Agent> {
        self.registry.agents().get(name).map(|record| self.agent_of(name, record))
    }

    /// All uplinks, ordered by name.
    pub(crate) fn uplinks_view(&self) -> Vec<admin::Uplink> {
        let mut names: Vec<&UplinkName> = self.registry.uplinks().keys().chain(self.registry.overrides().uplinks()).collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter().filter_map(|name| self.uplink_view(name)).collect()
    }

    /// One uplink; `None` when no agent that may advertise it ever did.
    pub(crate) fn uplink_view(&self, name: &UplinkName) -> Option<admin::Uplink> {
        let nothing = UplinkRecord::default();
        let record = self.registry.uplinks().get(name).unwrap_or(&nothing);
        let overrides = self.registry.overrides().of(name);
        let protocol = record.protocol.or(overrides.and_then(|overrides| overrides.protocol))?;
        let kept = record.parts.is_some() || !record.departed.is_empty() || overrides.is_some();
        let parts = record.parts.as_ref();
        let draining = self.registry.overrides().drains(name);
        let mut endpoints: Vec<admin::Endpoint> =
            parts.iter().flat_map(|parts| &parts.endpoints).map(|endpoint| self.endpoint_of(name, endpoint, draining)).collect();
        // Away, and perhaps not yet finished: shown until they are.
        for agent in record.departed.keys() {
            let state = self.publication.state(name, agent);
            let weight = self.registry.overrides().endpoint_weight(name, agent, Weight::DEFAULT);
            endpoints.push(self.endpoint_view(name, agent, weight, Weight::DEFAULT, "the agent is away", 0, &state));
        }
        let sum = |count: fn(&admin::Endpoint) -> u64| endpoints.iter().map(count).sum::<u64>();
        let (in_flight, picked, failed) =
            (sum(|endpoint| endpoint.in_flight), sum(|endpoint| endpoint.picked), sum(|endpoint| endpoint.failed));
        kept.then(|| admin::Uplink {
            name: name.clone(),
            protocol,
            weight: self.uplink_weight(name),
            weight_override: self.registry.overrides().find(name, None).cloned(),
            draining,
            in_flight,
            picked,
            failed,
            endpoints,
        })
    }

    /// The weight in force of an uplink; the default while nobody gives it any.
    pub(crate) fn uplink_weight(&self, name: &UplinkName) -> Weight {
        let parts = self.registry.uplinks().get(name).and_then(|record| record.parts.as_ref());
        let endpoints = parts.iter().flat_map(|parts| parts.endpoints.iter().map(|endpoint| endpoint.weight));
        self.registry.overrides().uplink_weight(name, endpoints).unwrap_or(Weight::DEFAULT)
    }

    /// The weight in force of one agent's side, and the agent's own word.
    pub(crate) fn endpoint_weight(&self, name: &UplinkName, agent: &AgentName) -> (Weight, Weight) {
        let parts = self.registry.uplinks().get(name).and_then(|record| record.parts.as_ref());
        let advertised = parts.and_then(|parts| parts.endpoint(agent)).map_or(Weight::DEFAULT, |endpoint| endpoint.advertised);
        (self.registry.overrides().endpoint_weight(name, agent, advertised), advertised)
    }

    fn endpoint_of(&self, name: &UplinkName, endpoint: &EndpointParts, draining: bool) -> admin::Endpoint {
        let state = self.publication.state(name, &endpoint.agent);
        let reason = match endpoint.reason.as_str() {
            "" if draining => "an operator drains the uplink",
            "" if endpoint.weight.is_zero() => "its weight is 0",
            reason => reason,
        };
        self.endpoint_view(name, &endpoint.agent, endpoint.weight, endpoint.advertised, reason, endpoint.tunnels.len(), &state)
    }

    #[allow(clippy::too_many_arguments, reason = "one row of a table, filled in from two places")]
    fn endpoint_view(
        &self,
        name: &UplinkName,
        agent: &AgentName,
        weight: Weight,
        advertised_weight: Weight,
        reason: &str,
        tunnels: usize,
        state: &EndpointState,
    ) -> admin::Endpoint {
        admin::Endpoint {
            agent: agent.clone(),
            zone: self.registry.zone(agent).cloned(),
            weight,
            advertised_weight,
            weight_override: self.registry.overrides().find(name, Some(agent)).cloned(),
            accepts: reason.is_empty(),
            reason: reason.to_owned(),
            tunnels,
            in_flight: state.in_flight.sum(),
            pooled: state.pooled.sum(),
            open_connections: self.registry.open_connections(name, agent),
            picked: state.picked.sum(),
            failed: state.failed.sum(),
        }
    }

    fn agent_of(&self, name: &AgentName, record: &AgentRecord) -> admin::Agent {
        let tunnels: Vec<_> = record.tunnels.iter().filter_map(|&id| Some((id, self.registry.tunnel(id)?))).collect();
        let mut instances: Vec<String> =
            tunnels.iter().map(|(_, tunnel)| tunnel.instance.clone()).filter(|name| !name.is_empty()).collect();
        instances.sort_unstable();
        instances.dedup();
        let (mut uplinks, mut refused) = (Vec::new(), Vec::new());
        for (uplink, advert) in tunnels.iter().flat_map(|(_, tunnel)| &tunnel.adverts) {
            match advert.told.as_ref().map(|told| &told.refused) {
                Some(Some(reason)) => refused.push(admin::RefusedUplink { uplink: uplink.clone(), reason: reason.clone() }),
                Some(None) => uplinks.push(uplink.clone()),
                None => {}
            }
        }
        uplinks.sort_unstable();
        uplinks.dedup();
        refused.sort_unstable_by(|a, b| a.uplink.cmp(&b.uplink));
        refused.dedup_by(|a, b| a.uplink == b.uplink);
        let calls = self.publication.calls(name);
        admin::Agent {
            name: name.clone(),
            zone: self.registry.zone(name).cloned(),
            connected: !tunnels.is_empty(),
            draining: !tunnels.is_empty() && tunnels.iter().all(|(_, tunnel)| tunnel.draining),
            revoked: self.is_revoked(name),
            version: record.software.clone(),
            instances,
            certificate_ends: tunnels.iter().map(|(_, tunnel)| tunnel.ends).max().map(text),
            tunnels: tunnels.iter().filter_map(|(id, _)| self.tunnel_of(*id)).collect(),
            allowed: record.allowed.uplinks.clone(),
            uplinks,
            refused,
            services: record.allowed.services.clone(),
            refused_calls: record.refused_calls.iter().map(refused_call).collect(),
            calls_open: calls.as_ref().map_or(0, |calls| calls.open.sum()),
            calls: calls.as_ref().map_or(0, |calls| calls.taken.sum()),
            clock_skew_ms: record.skew_ms,
            last_seen: record.last_seen.map(text),
        }
    }

    /// Tunnels that TCP carries.
    pub(crate) fn tunnels_over_tcp(&self) -> usize {
        self.links.values().filter(|link| link.tunnel.carried().transport == Transport::Tcp).count()
    }

    fn tunnel_of(&self, id: u64) -> Option<admin::AgentTunnel> {
        let link = self.links.get(&id)?;
        Some(admin::AgentTunnel {
            shard: link.shard,
            remote: link.tunnel.remote_address().to_string(),
            transport: link.tunnel.carried().transport.word().to_owned(),
            rtt_ms: link.tunnel.rtt().as_secs_f64() * 1000.0,
            mtu: link.tunnel.mtu(),
            since: text(link.since),
        })
    }
}

fn refused_call((service, calls): (&ServiceName, &RefusedCalls)) -> admin::RefusedCall {
    admin::RefusedCall { service: service.clone(), reason: calls.reason.to_owned(), times: calls.times, at: text(calls.at) }
}
