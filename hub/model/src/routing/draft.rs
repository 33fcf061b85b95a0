//! Routing as a reader (of TOML today, of Kubernetes objects later) fills it: everything but the long-lived state.
//!
//! [`RoutingDraft::build`] joins it with the states of the same routes before it, so that cursors survive every reload, and
//! compiles the matcher. A draft has been checked: names are unique and every reference leads somewhere.

use std::collections::HashMap;
use std::sync::Arc;

use figspan_proto::name::UplinkName;
use figspan_proto::weight::Weight;

use super::{
    Backend, BackendPolicy, BackendTls, HttpRoute, HttpRule, Limits, Listener, ListenerName, Proxies, RouteMatch, RouteName, Routing,
    RulePolicy, Service, ServiceName, StreamRoute, Target, Timeouts,
};
use crate::state::Book;

/// See [`Routing`]; the fields mean the same.
#[derive(Debug, Clone, Default)]
pub struct RoutingDraft {
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
}

impl RoutingDraft {
    /// Routing with the states that the book holds for its rules, and with its matcher compiled.
    pub fn build(self, book: &Book) -> Arc<Routing> {
        let policies = self.backend_policies;
        let backend = |BackendDraft { target, weight }: BackendDraft| {
            let (policy, state) = (policies.get(&target).cloned(), book.backend(&target.key()));
            Backend { target, weight, policy, state }
        };
        let joined = |backends: Vec<BackendDraft>| backends.into_iter().map(backend).collect();
        let http_route = |draft: HttpRouteDraft| {
            let HttpRouteDraft { name, listeners, hostnames, rules } = draft;
            let rule = |(index, rule): (usize, HttpRuleDraft)| {
                let HttpRuleDraft { matches, backends, timeouts, policy } = rule;
                let backends = joined(backends);
                Arc::new(HttpRule { matches, backends, timeouts, policy, state: book.rule(&format!("rule/{name}/{index}")) })
            };
            let rules = rules.into_iter().enumerate().map(rule).collect();
            Arc::new(HttpRoute { name, listeners, hostnames, rules })
        };
        let stream_route = |draft: StreamRouteDraft| {
            let StreamRouteDraft { name, listeners, hostnames, backends, timeouts } = draft;
            let (backends, state) = (joined(backends), book.rule(&format!("rule/{name}/0")));
            Arc::new(StreamRoute { name, listeners, hostnames, backends, timeouts, state })
        };
        let routing = Routing {
            listeners: self.listeners.into_iter().map(Arc::new).collect(),
            http_routes: self.http_routes.into_iter().map(http_route).collect(),
            stream_routes: self.stream_routes.into_iter().map(stream_route).collect(),
            service_states: self
                .services
                .iter()
                .map(|service| (service.name.clone(), book.rule(&format!("service/{}", service.name))))
                .collect(),
            services: self.services.into_iter().map(|service| (ServiceName::clone(&service.name), Arc::new(service))).collect(),
            uplink_tls: self.uplink_tls.into_iter().map(|(uplink, tls)| (uplink, Arc::new(tls))).collect(),
            limits: self.limits,
            proxies: self.proxies,
            ..Routing::default()
        };
        routing.matcher();
        Arc::new(routing)
    }
}
