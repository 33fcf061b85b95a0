//! The way of calls that agents make: every service is a destination of its own, without any route that names it.
//!
//! Such a call goes by a rule that stands in no file: the service alone, with its policy. To the matcher it came through a
//! listener of the rule's name, which no listener of a file can have, so that all of the data path serves it as it serves a
//! client. What an agent may call is asked elsewhere: see [`crate::snapshot::Callers`].

use std::collections::HashMap;
use std::sync::Arc;

use figspan_proto::control::Protocol;

use super::backend::{Backend, Service};
use super::limits::Timeouts;
use super::route::{HttpRoute, HttpRule, RouteName, Sources, StreamRoute};
use super::target::{ServiceName, Target};
use super::{BackendPolicy, ListenerName};
use crate::state::Book;

/// By which route calls of a service go.
#[derive(Debug, Clone)]
pub enum CallRoute {
    /// The service speaks HTTP, of either version.
    Http(Arc<HttpRoute>),
    /// It speaks anything.
    Stream(Arc<StreamRoute>),
}

impl CallRoute {
    /// The route to a service, with the states that the book holds for it.
    pub(super) fn of(service: &Service, policies: &HashMap<Target, Arc<BackendPolicy>>, book: &Book) -> Self {
        let target = Target::Service(ServiceName::clone(&service.name));
        let name: RouteName = target.key().into();
        let key = format!("call/{}", service.name);
        let (policy, share) = (policies.get(&target).cloned(), book.share(&key));
        // The weight is the service's own, so that one that is drained (0) is so for calls too.
        let backends = vec![Backend { policy, share, ..Backend::plain(target, None, book) }];
        let (listeners, hostnames, timeouts, state) = (vec![ListenerName::clone(&name)], vec![], Timeouts::default(), book.rule(&key));
        match service.protocol {
            Protocol::Tcp => Self::Stream(Arc::new(StreamRoute { name, listeners, hostnames, backends, timeouts, failover: None, state })),
            Protocol::Http1 | Protocol::H2c => {
                let rule = HttpRule {
                    name: None,
                    matches: Vec::new(),
                    backends,
                    timeouts,
                    policy: None,
                    state,
                    sources: Sources::default(),
                    mirrors: Vec::new(),
                    pinned: Vec::new(),
                };
                Self::Http(Arc::new(HttpRoute { name, listeners, hostnames, rules: vec![Arc::new(rule)] }))
            }
        }
    }

    /// Its name, which is also that of the listener through which the matcher takes calls to come: `service/<name>`.
    pub fn name(&self) -> &RouteName {
        match self {
            Self::Http(route) => &route.name,
            Self::Stream(route) => &route.name,
        }
    }

    /// Its one backend.
    pub fn backend(&self) -> Option<&Backend> {
        match self {
            Self::Http(route) => route.rules.first().and_then(|rule| rule.backends.first()),
            Self::Stream(route) => route.backends.first(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::Routing;
    use crate::routing::draft::RoutingDraft;
    use crate::routing::{HttpRoute, ServiceAddress};
    use figspan_proto::weight::Weight;
    use http::{HeaderMap, Method};

    fn service(name: &str, protocol: Protocol) -> Service {
        let addresses = vec![ServiceAddress::Socket(([127, 0, 0, 1], 1).into())];
        Service { name: name.into(), protocol, addresses, zones: Default::default(), weight: Weight::DEFAULT, tls: None }
    }

    fn routing(book: &Book) -> Arc<Routing> {
        let services = vec![service("orders", Protocol::H2c), service("db", Protocol::Tcp)];
        RoutingDraft { services, ..RoutingDraft::default() }.build(book)
    }

    #[test]
    fn every_service_is_reached_by_a_listener_that_no_file_can_name() {
        let routing = routing(&Book::new(1));
        let find = |listener: &str| {
            let matched = routing.matcher().http(listener, "any.host", &Method::POST, "/any", None, &HeaderMap::new());
            matched.map(|matched| (Arc::clone(matched.route), matched.rule.backends[0].target.clone()))
        };
        let (route, target): (Arc<HttpRoute>, Target) = find("service/orders").unwrap();
        assert_eq!((&*route.name, target), ("service/orders", Target::Service("orders".into())));
        assert!(find("service/db").is_none() && find("orders").is_none());
        assert_eq!(&*routing.matcher().tcp("service/db").unwrap().name, "service/db");
        assert!(routing.matcher().tcp("service/orders").is_none());
        assert!(routing.http_routes.is_empty() && routing.stream_routes.is_empty(), "nothing that operators would see as a route");
    }

    #[test]
    fn the_state_of_calls_outlives_a_reload() {
        let book = Book::new(1);
        let (before, after) = (routing(&book), routing(&book));
        let share = |routing: &Routing, name: &str| Arc::clone(&routing.calls[name].backend().unwrap().share);
        for name in ["orders", "db"] {
            assert!(Arc::ptr_eq(&share(&before, name), &share(&after, name)), "{name}");
        }
    }
}
