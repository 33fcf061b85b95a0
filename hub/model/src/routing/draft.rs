//! Routing as a reader (of TOML today, of Kubernetes objects later) fills it: everything but the long-lived state.
//!
//! [`RoutingDraft::build`] joins it with the states of the same routes before it, so that cursors survive every reload, and
//! compiles the matcher. A draft has been checked: names are unique and every reference leads somewhere.

use std::collections::HashMap;
use std::sync::Arc;

use figspan_proto::name::{UplinkName, Zone};
use figspan_proto::weight::Weight;
use xxhash_rust::xxh3::xxh3_64;

use super::policy::{Mirror, Pin};
use super::{
    Backend, BackendPolicy, BackendTls, CallRoute, HttpRoute, HttpRule, Limits, Listener, ListenerName, MirrorTarget, Proxies, Reserved,
    RouteMatch, RouteName, Routing, RuleName, RulePolicy, Service, ServiceName, SessionPersistence, Sources, StreamRoute, Target, Timeouts,
};
use crate::health::Failover;
use crate::jwt::JwtProvider;
use crate::state::Book;

/// See [`Routing`]; the fields mean the same.
#[derive(Debug, Clone, Default)]
pub struct RoutingDraft {
    /// Where the hub is.
    pub zone: Option<Zone>,
    /// In the order of the file.
    pub listeners: Vec<Listener>,
    /// In the order of the file.
    pub http_routes: Vec<HttpRouteDraft>,
    /// TCP and TLS routes, in the order of the file.
    pub stream_routes: Vec<StreamRouteDraft>,
    /// In the order of the file.
    pub services: Vec<Service>,
    /// What uplinks and services ask for.
    pub backend_policies: HashMap<Target, Arc<BackendPolicy>>,
    /// TLS to uplinks' workloads.
    pub uplink_tls: HashMap<UplinkName, BackendTls>,
    /// Who signs tokens.
    pub jwt_providers: Vec<Arc<JwtProvider>>,
    /// Bounds.
    pub limits: Limits,
    /// Forwarded headers.
    pub proxies: Proxies,
}

/// See [`HttpRoute`].
#[derive(Debug, Clone)]
pub struct HttpRouteDraft {
    /// Its name.
    pub name: RouteName,
    /// Empty: all HTTP and HTTPS listeners.
    pub listeners: Vec<ListenerName>,
    /// Empty: all.
    pub hostnames: Vec<String>,
    /// In the order of the file.
    pub rules: Vec<HttpRuleDraft>,
}

/// See [`HttpRule`].
#[derive(Debug, Clone, Default)]
pub struct HttpRuleDraft {
    /// Its name, unique in its route.
    pub name: Option<RuleName>,
    /// Empty: all requests.
    pub matches: Vec<RouteMatch>,
    /// Where matching requests go.
    pub backends: Vec<BackendDraft>,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// What else is asked of its requests.
    pub policy: Option<Arc<RulePolicy>>,
}

/// See [`Backend`]: its policy and state come with [`RoutingDraft::build`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendDraft {
    /// Where requests go.
    pub target: Target,
    /// Its share; `None`: that of the target.
    pub weight: Option<Weight>,
    /// Its tier; see [`Backend::fallback`].
    pub fallback: u8,
}

/// See [`StreamRoute`].
#[derive(Debug, Clone)]
pub struct StreamRouteDraft {
    /// Its name.
    pub name: RouteName,
    /// Never empty.
    pub listeners: Vec<ListenerName>,
    /// Server names; empty: all.
    pub hostnames: Vec<String>,
    /// Where connections go.
    pub backends: Vec<BackendDraft>,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// When it leaves a tier of its backends.
    pub failover: Option<Arc<Failover>>,
}

impl RoutingDraft {
    /// Routing with the states that the book holds for its rules, and with its matcher compiled.
    pub fn build(self, book: &Book) -> Arc<Routing> {
        let policies = self.backend_policies;
        let checked = |(target, policy): (&Target, &Arc<BackendPolicy>)| match target {
            Target::Service(name) => policy.health_check.clone().map(|check| (ServiceName::clone(name), check)),
            Target::Uplink(_) => None,
        };
        let health_checks = policies.iter().filter_map(checked).collect();
        let joined = |rule: &str, drafts: Vec<BackendDraft>| {
            let mut backends: Vec<Backend> = Vec::with_capacity(drafts.len());
            for BackendDraft { target, weight, fallback } in drafts {
                let key = target.key();
                // A target may stand twice in a rule; each entry has a share of its own.
                let share = match backends.iter().filter(|before| before.target == target).count() {
                    0 => book.share(&format!("{rule}/{key}")),
                    before => book.share(&format!("{rule}/{key}/{before}")),
                };
                let (policy, state) = (policies.get(&target).cloned(), book.backend(&key));
                backends.push(Backend { target, weight, fallback, policy, state, share });
            }
            backends
        };
        let http_route = |draft: HttpRouteDraft| {
            let HttpRouteDraft { name, listeners, hostnames, rules } = draft;
            let rule = |(index, rule): (usize, HttpRuleDraft)| {
                let HttpRuleDraft { name: rule_name, matches, backends, timeouts, policy } = rule;
                let key = HttpRule::key(&name, rule_name.as_deref(), index);
                let (backends, state) = (joined(&key, backends), book.rule(&key));
                let policy = policy.map(|policy| with_cookie(policy, &key));
                let sources = policy.as_deref().map(|policy| Sources::of(policy, &key, book)).unwrap_or_default();
                let asked = policy.as_deref().map(|policy| &*policy.mirrors).unwrap_or_default();
                let mirror = |mirror: &Mirror| MirrorTarget::of(mirror, &key, policies.get(&mirror.target).cloned(), book);
                let mirrors = asked.iter().map(mirror).collect();
                let pins = policy.as_deref().map(|policy| &*policy.pins).unwrap_or_default();
                let pinned = pins.iter().map(|pin| pinned(pin, &key, policy.as_deref(), &timeouts, &policies, book)).collect();
                Arc::new(HttpRule { name: rule_name, matches, backends, timeouts, policy, state, sources, mirrors, pinned })
            };
            let rules = rules.into_iter().enumerate().map(rule).collect();
            Arc::new(HttpRoute { name, listeners, hostnames, rules })
        };
        let stream_route = |draft: StreamRouteDraft| {
            let StreamRouteDraft { name, listeners, hostnames, backends, timeouts, failover } = draft;
            let key = HttpRule::key(&name, None, 0);
            let (backends, state) = (joined(&key, backends), book.rule(&key));
            Arc::new(StreamRoute { name, listeners, hostnames, backends, timeouts, failover, state })
        };
        let rules = self.http_routes.iter().flat_map(|route| &route.rules);
        let reserved = Reserved::of(rules.filter_map(|rule| rule.policy.as_deref()?.jwt.as_ref()));
        let routing = Routing {
            zone: self.zone,
            jwt_providers: self.jwt_providers,
            reserved,
            listeners: self.listeners.into_iter().map(Arc::new).collect(),
            http_routes: self.http_routes.into_iter().map(http_route).collect(),
            stream_routes: self.stream_routes.into_iter().map(stream_route).collect(),
            service_states: self
                .services
                .iter()
                .map(|service| (service.name.clone(), book.rule(&format!("service/{}", service.name))))
                .collect(),
            calls: self
                .services
                .iter()
                .map(|service| (ServiceName::clone(&service.name), CallRoute::of(service, &policies, book)))
                .collect(),
            services: self.services.into_iter().map(|service| (ServiceName::clone(&service.name), Arc::new(service))).collect(),
            health_checks,
            uplink_tls: self.uplink_tls.into_iter().map(|(uplink, tls)| (uplink, Arc::new(tls))).collect(),
            limits: self.limits,
            proxies: self.proxies,
            ..Routing::default()
        };
        routing.matcher();
        Arc::new(routing)
    }
}

/// A rule that names no cookie has one of its own, so that two rules of a host do not undo each other's sessions.
fn with_cookie(policy: Arc<RulePolicy>, rule: &str) -> Arc<RulePolicy> {
    match &policy.session {
        Some(session) if session.name.is_none() => {
            let name = Some(format!("figspan-{:08x}", xxh3_64(rule.as_bytes()) >> 32));
            let session = Some(SessionPersistence { name, ..session.clone() });
            Arc::new(RulePolicy { session, ..RulePolicy::clone(&policy) })
        }
        _ => policy,
    }
}

/// The rule of pinned requests. The weight of its one backend is the target's own, so that what is drained stays drained.
fn pinned(
    pin: &Pin,
    key: &str,
    policy: Option<&RulePolicy>,
    timeouts: &Timeouts,
    policies: &HashMap<Target, Arc<BackendPolicy>>,
    book: &Book,
) -> Arc<HttpRule> {
    let key = format!("{key}/pin/{}", pin.target.key());
    let backend = Backend { policy: policies.get(&pin.target).cloned(), ..Backend::plain(pin.target.clone(), None, book) };
    let policy = policy
        .map(|policy| Arc::new(RulePolicy { session: None, mirrors: Vec::new(), pins: Vec::new(), failover: None, ..policy.clone() }));
    Arc::new(HttpRule {
        name: None,
        matches: Vec::new(),
        backends: vec![backend],
        timeouts: timeouts.clone(),
        policy,
        state: book.rule(&key),
        sources: Sources::default(),
        mirrors: Vec::new(),
        pinned: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: Option<&str>, backends: &[(&str, u32)]) -> HttpRuleDraft {
        let backend = |(uplink, weight): &(&str, u32)| BackendDraft {
            target: Target::Uplink(uplink.parse().unwrap()),
            weight: Some(Weight::try_from(*weight).unwrap()),
            fallback: 0,
        };
        HttpRuleDraft { name: name.map(Into::into), backends: backends.iter().map(backend).collect(), ..HttpRuleDraft::default() }
    }

    fn built(book: &Book, rules: Vec<HttpRuleDraft>) -> Vec<Arc<HttpRule>> {
        let route = HttpRouteDraft { name: "shop".into(), listeners: vec![], hostnames: vec![], rules };
        let routing = RoutingDraft { http_routes: vec![route], ..RoutingDraft::default() }.build(book);
        routing.http_routes[0].rules.clone()
    }

    #[test]
    fn a_rule_with_a_name_keeps_its_state_when_others_come_before_it() {
        let book = Book::new(1);
        let before = built(&book, vec![rule(Some("orders"), &[("old", 90), ("new", 10)]), rule(None, &[("old", 1)])]);
        let after = built(
            &book,
            vec![
                rule(None, &[("old", 1)]),
                rule(Some("health"), &[("old", 1)]),
                rule(None, &[("old", 1)]),
                rule(Some("orders"), &[("new", 20), ("old", 80)]),
            ],
        );
        assert!(Arc::ptr_eq(&before[0].state, &after[3].state), "found by its name");
        assert!(Arc::ptr_eq(&before[0].backends[0].share, &after[3].backends[1].share), "and its backends by theirs");
        assert!(!Arc::ptr_eq(&before[0].state, &after[0].state), "the first place is another rule now");
        assert!(!Arc::ptr_eq(&before[1].state, &after[1].state), "a rule with a name has no place");
        assert!(!Arc::ptr_eq(&before[1].state, &after[2].state), "without a name, the place is the rule");
    }

    #[test]
    fn a_name_is_never_the_place_of_another_rule() {
        let book = Book::new(1);
        let rules = built(&book, vec![rule(None, &[("old", 1)]), rule(Some("0"), &[("old", 1)])]);
        assert!(!Arc::ptr_eq(&rules[0].state, &rules[1].state));
    }

    #[test]
    fn a_target_that_stands_twice_has_two_shares_and_one_state() {
        let book = Book::new(1);
        let rules = built(&book, vec![rule(None, &[("old", 1), ("new", 1), ("old", 2)])]);
        let [first, _, second] = &rules[0].backends[..] else { panic!("three backends") };
        assert!(Arc::ptr_eq(&first.state, &second.state) && !Arc::ptr_eq(&first.share, &second.share));
    }
}
