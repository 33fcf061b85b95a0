//! Hop of the control path: registry -> *publish* -> snapshot. Turns what the registry decided into what the shards read.
//!
//! Only uplinks that changed are built anew; the others are shared with the snapshot before. What may get no new work in the
//! coming snapshot is marked `draining` before it is published, so that a retry on an older snapshot brings it none; the mark
//! is taken away before, too, where the older snapshot says no by itself.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use figspan_model::moment::Moment;
use figspan_model::routing::{Backend, HttpRule, Routing, Target};
use figspan_model::snapshot::{Caller, Callers, Endpoint, Publisher, Shares, TunnelAt, Uplink, Uplinks};
use figspan_model::state::{Book, CallerState, EndpointState};
use figspan_proto::name::{AgentName, NamePattern, UplinkName, Zone};

use tokio::time::Instant;

use crate::registry::{TunnelId, UplinkParts};

/// Control's end of the snapshot.
#[derive(Debug)]
pub(crate) struct Publication {
    publisher: Publisher,
    book: Arc<Book>,
    routing: Arc<Routing>,
    uplinks: Uplinks,
    /// Generation that carries an uplink as it is now.
    since: BTreeMap<UplinkName, u64>,
    generation: u64,
    /// Whose processes may call services, and whether the snapshot does not say so yet.
    callers: Callers,
    callers_due: bool,
}

impl Publication {
    /// Publishes a first snapshot, with the routing and no uplink.
    pub(crate) fn new(publisher: Publisher, book: Arc<Book>, routing: Arc<Routing>) -> Self {
        let uplinks = Uplinks::default();
        let generation = publisher.publish(Arc::clone(&routing), uplinks.clone());
        Self { publisher, book, routing, uplinks, since: BTreeMap::new(), generation, callers: Callers::default(), callers_due: false }
    }

    /// The newest generation.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// The generation since which an uplink is as it is; the newest one where that is not known.
    pub(crate) fn since(&self, uplink: &UplinkName) -> u64 {
        self.since.get(uplink).copied().unwrap_or(self.generation)
    }

    /// The uplinks in force.
    pub(crate) fn uplinks(&self) -> &Uplinks {
        &self.uplinks
    }

    /// Whether a route names the uplink.
    pub(crate) fn routed(&self, uplink: &UplinkName) -> bool {
        let http = self.routing.http_routes.iter().flat_map(|route| &route.rules).flat_map(|rule| &rule.backends);
        let stream = self.routing.stream_routes.iter().flat_map(|route| &route.backends);
        http.chain(stream).any(|backend| matches!(&backend.target, Target::Uplink(name) if name == uplink))
    }

    /// How long a session bound to the uplink may last without a request; `None` where no route keeps sessions there.
    pub(crate) fn session_ttl(&self, uplink: &UplinkName) -> Option<Duration> {
        let rules = self.routing.http_routes.iter().flat_map(|route| &route.rules);
        let names = |backend: &Backend| matches!(&backend.target, Target::Uplink(name) if name == uplink);
        let ttl = |rule: &Arc<HttpRule>| {
            let session = rule.policy.as_ref()?.session.as_ref()?;
            rule.backends.iter().any(names).then_some(session.ttl)
        };
        rules.filter_map(ttl).max()
    }

    /// Unix time in seconds since when all sessions are known.
    pub(crate) fn sessions_since(&self) -> u64 {
        self.book.sessions_since()
    }

    /// The counters of an endpoint.
    pub(crate) fn state(&self, uplink: &UplinkName, agent: &AgentName) -> Arc<EndpointState> {
        self.book.endpoint(&format!("uplink/{uplink}/{agent}"))
    }

    /// Publishes another routing with the uplinks in force.
    pub(crate) fn set_routing(&mut self, routing: Arc<Routing>) -> u64 {
        let moved = self.routing.zone != routing.zone;
        self.routing = routing;
        if moved {
            self.uplinks = self.uplinks.values().map(|uplink| Arc::new(self.moved(uplink))).collect();
        }
        self.generation = self.publisher.publish(Arc::clone(&self.routing), self.uplinks.clone());
        self.generation
    }

    /// Says what an agent may call from now on, which counts with the next publication.
    pub(crate) fn set_caller(&mut self, agent: &AgentName, services: &[NamePattern]) {
        if self.callers.get(agent).map_or(&[][..], |caller| &caller.services) == services {
            return;
        }
        let caller = || Caller { services: services.to_vec(), state: self.book.caller(agent.as_str()) };
        let caller = (!services.is_empty()).then(caller);
        self.callers.set(agent, caller);
        self.callers_due = true;
    }

    /// Publishes who may call what, where that has changed.
    pub(crate) fn flush_callers(&mut self) {
        if std::mem::take(&mut self.callers_due) {
            self.generation = self.publisher.publish_callers(self.callers.clone());
        }
    }

    /// The counters of an agent's calls, where it may make any.
    pub(crate) fn calls(&self, agent: &AgentName) -> Option<Arc<CallerState>> {
        self.callers.get(agent).map(|caller| Arc::clone(&caller.state))
    }

    /// Publishes changed uplinks. `tunnel` finds a tunnel by its number; those that are gone are left out.
    pub(crate) fn publish(
        &mut self,
        changed: Vec<(UplinkName, Option<UplinkParts>)>,
        tunnel: impl Fn(TunnelId) -> Option<TunnelAt>,
    ) -> u64 {
        let coming = self.generation + 1;
        for (name, parts) in changed {
            let old = self.uplinks.get(&name).cloned();
            self.mark(&name, old.as_deref(), parts.as_ref());
            match parts {
                Some(parts) => self.uplinks.insert(Arc::new(self.uplink(parts, &tunnel))),
                None => self.uplinks.remove(&name),
            };
            self.since.insert(name, coming);
        }
        self.generation = self.publisher.publish(Arc::clone(&self.routing), self.uplinks.clone());
        debug_assert_eq!(self.generation, coming, "control is the only publisher");
        self.generation
    }

    fn is_near(&self, zone: Option<&Zone>) -> bool {
        zone.is_some() && zone == self.routing.zone.as_ref()
    }

    /// The uplink as it is for a hub in the zone that is in force now.
    fn moved(&self, uplink: &Uplink) -> Uplink {
        let endpoint = |endpoint: &Arc<Endpoint>| Arc::new(Endpoint { near: self.is_near(endpoint.zone.as_ref()), ..(**endpoint).clone() });
        let endpoints: Vec<_> = uplink.endpoints.iter().map(endpoint).collect();
        Uplink {
            shares: Shares::of(&endpoints, |_| true),
            endpoints,
            state: Arc::clone(&uplink.state),
            name: uplink.name.clone(),
            ..*uplink
        }
    }

    /// Notes where all shares stand.
    pub(crate) fn mark_shares(&self) {
        self.book.mark();
    }

    /// Forgets what is known of uplinks that are neither published nor kept by the registry.
    pub(crate) fn sweep(&mut self, known: impl Fn(&UplinkName) -> bool) {
        self.since.retain(|name, _| known(name));
        self.book.sweep();
    }

    fn uplink(&self, parts: UplinkParts, tunnel: impl Fn(TunnelId) -> Option<TunnelAt>) -> Uplink {
        let endpoints = parts.endpoints.into_iter().map(|endpoint| {
            Arc::new(Endpoint {
                state: self.state(&parts.name, &endpoint.agent),
                agent: endpoint.agent,
                weight: endpoint.weight,
                near: self.is_near(endpoint.zone.as_ref()),
                zone: endpoint.zone,
                ready: endpoint.ready,
                reason: endpoint.reason,
                tunnels: endpoint.tunnels.iter().filter_map(|&id| tunnel(id)).collect(),
            })
        });
        let endpoints: Vec<_> = endpoints.collect();
        Uplink {
            shares: Shares::of(&endpoints, |_| true),
            protocol: parts.protocol,
            weight: parts.weight,
            draining: parts.draining,
            endpoints,
            state: self.book.rule(&format!("uplink/{}", parts.name)),
            name: parts.name,
        }
    }

    fn mark(&self, name: &UplinkName, old: Option<&Uplink>, new: Option<&UplinkParts>) {
        let (mut present, now) = (HashSet::new(), Moment::of(Instant::now().into_std()));
        for (uplink, endpoint) in new.iter().flat_map(|new| new.endpoints.iter().map(move |endpoint| (new, endpoint))) {
            present.insert(&endpoint.agent);
            let draining = uplink.draining || endpoint.weight.is_zero() || endpoint.tunnels.is_empty();
            let state = self.state(name, &endpoint.agent);
            state.draining.store(draining, Ordering::Release);
            state.sessions_over.store(endpoint.sessions_over, Ordering::Release);
            let accepted = old
                .filter(|old| !old.draining)
                .is_some_and(|old| old.endpoints.iter().any(|before| before.agent == endpoint.agent && before.accepts()));
            if !draining && endpoint.ready && !accepted {
                state.warmth.begin(now);
            }
        }
        for gone in old.iter().flat_map(|old| &old.endpoints).filter(|endpoint| !present.contains(&endpoint.agent)) {
            gone.state.draining.store(true, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::EndpointParts;
    use figspan_model::snapshot::publication;
    use figspan_proto::control::Protocol;
    use figspan_proto::weight::Weight;

    fn parts(name: &str, draining: bool, weight: Weight) -> UplinkParts {
        let endpoint = EndpointParts {
            agent: "vm".parse().unwrap(),
            weight,
            advertised: weight,
            zone: None,
            ready: true,
            reason: String::new(),
            sessions_over: false,
            tunnels: vec![],
        };
        UplinkParts { name: name.parse().unwrap(), protocol: Protocol::Http1, weight, draining, endpoints: vec![endpoint] }
    }

    #[test]
    fn only_what_changed_is_built_anew() {
        let (publisher, reader) = publication();
        let mut publication = Publication::new(publisher, Book::new(1), Arc::default());
        let (a, b): (UplinkName, UplinkName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let none = |_| None;
        publication
            .publish(vec![(a.clone(), Some(parts("a", false, Weight::DEFAULT))), (b.clone(), Some(parts("b", false, Weight::MAX)))], none);
        let before = reader.load();
        let generation = publication.publish(vec![(a.clone(), Some(parts("a", true, Weight::ZERO)))], none);
        let after = reader.load();
        assert!(Arc::ptr_eq(&before.uplinks[&b], &after.uplinks[&b]));
        assert!(after.uplinks[&a].draining && !before.uplinks[&a].draining);
        assert_eq!((publication.since(&a), publication.since(&b)), (generation, generation - 1));
    }

    #[test]
    fn endpoints_of_the_hubs_own_zone_stand_first_also_after_the_hub_has_moved() {
        let (publisher, reader) = publication();
        let routing = |zone: &str| Arc::new(Routing { zone: Some(zone.parse().unwrap()), ..Routing::default() });
        let mut publication = Publication::new(publisher, Book::new(1), routing("b"));
        let a: UplinkName = "a".parse().unwrap();
        let mut two = parts("a", false, Weight::DEFAULT);
        two.endpoints[0].zone = Some("a".parse().unwrap());
        two.endpoints.push(EndpointParts { agent: "vm-2".parse().unwrap(), zone: Some("b".parse().unwrap()), ..two.endpoints[0].clone() });
        publication.publish(vec![(a.clone(), Some(two))], |_| None);
        let near = || reader.load().uplinks[&a].endpoints.iter().map(|endpoint| endpoint.near).collect::<Vec<_>>();
        assert_eq!(near(), [false, true]);
        publication.set_routing(routing("a"));
        assert_eq!(near(), [true, false]);
        publication.set_routing(Arc::default());
        assert_eq!(near(), [false, false]);
    }

    #[test]
    fn an_endpoint_that_goes_is_marked_and_its_counters_stay() {
        let (publisher, _reader) = publication();
        let mut publication = Publication::new(publisher, Book::new(1), Arc::default());
        let a: UplinkName = "a".parse().unwrap();
        let state = publication.state(&a, &"vm".parse().unwrap());
        publication.publish(vec![(a.clone(), Some(parts("a", false, Weight::DEFAULT)))], |_| None);
        state.picked.add(0, 3);
        publication.publish(vec![(a.clone(), None)], |_| None);
        assert!(state.draining.load(Ordering::Acquire));
        publication.sweep(|_| false);
        assert_eq!(publication.state(&a, &"vm".parse().unwrap()).picked.sum(), 3);
    }
}
