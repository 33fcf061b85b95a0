//! The route hop, compiled: which rule a request or connection belongs to. Pure; no allocation per match.
//!
//! Precedence over all routes of a listener, as in Gateway API v1, the first difference decides:
//! 1. host: exact, then the longest wildcard, then routes without hosts;
//! 2. path: exact, then the longest regular expression, then the longest prefix. Gateway API leaves expressions to the
//!    implementation; before prefixes they are of use beside a catch-all `/`, which is what taking a monolith apart looks like;
//! 3. a method; 4. more headers; 5. more query parameters; 6. order in the file.
//!
//! The first match in that order wins: where the most specific host has no rule that fits, the next one is asked. Cost does
//! not grow with the number of routes (maps by host, a tree by path elements), but with expressions of the same host.
//! Hosts are compared without case, port and final dot.

mod candidate;
mod host;
mod paths;

use std::sync::{Arc, OnceLock};

use http::{HeaderMap, Method};

use self::candidate::Candidate;
pub use self::candidate::query_value;
use self::host::Hosts;
use self::paths::Paths;
use super::Routing;
use super::call::CallRoute;
use super::listener::{ListenerName, ListenerProtocol};
use super::route::{HttpRoute, HttpRule, PathMatch, StreamRoute};
use crate::Map;

/// A routing's matcher, once it is compiled.
#[derive(Debug, Default)]
pub struct Compiled(OnceLock<Matcher>);

impl Compiled {
    pub(super) fn matcher_of(&self, routing: &Routing) -> &Matcher {
        self.0.get_or_init(|| Matcher::compile(routing))
    }
}

/// The rule that a request belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Matched<'m> {
    /// The route.
    pub route: &'m Arc<HttpRoute>,
    /// Its rule.
    pub rule: &'m Arc<HttpRule>,
    /// The rule's index in the route.
    pub rule_index: usize,
    /// The index of the match in the rule; `None`: the rule has none and takes everything.
    pub match_index: Option<usize>,
}

impl<'m> Matched<'m> {
    /// The prefix that matched, without a final slash: empty where the whole path was free.
    pub fn prefix(&self) -> &'m str {
        let parts = self.match_index.and_then(|index| self.rule.matches.get(index));
        match parts.and_then(|parts| parts.path.as_ref()) {
            Some(PathMatch::Prefix(prefix)) if prefix != "/" => prefix,
            _ => "",
        }
    }
}

/// What a request looks like to routes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'r> {
    method: &'r Method,
    path: &'r str,
    query: Option<&'r str>,
    headers: &'r HeaderMap,
}

/// All routes, by listener.
#[derive(Debug, Default)]
pub struct Matcher {
    http: Map<ListenerName, Hosts<Paths>>,
    tcp: Map<ListenerName, Arc<StreamRoute>>,
    tls: Map<ListenerName, Hosts<Option<Arc<StreamRoute>>>>,
}

impl Matcher {
    /// Compiles the routes. Listeners that no route names are there too, and match nothing.
    pub fn compile(routing: &Routing) -> Self {
        let mut matcher = Self::default();
        for listener in &routing.listeners {
            match listener.protocol {
                ListenerProtocol::Http | ListenerProtocol::Https { .. } => {
                    matcher.http.insert(listener.name.clone(), http_hosts(routing, &listener.name));
                }
                ListenerProtocol::Tcp => {
                    let route = routing.stream_routes.iter().find(|route| route.listeners.contains(&listener.name));
                    matcher.tcp.extend(route.map(|route| (listener.name.clone(), Arc::clone(route))));
                }
                ListenerProtocol::TlsPassthrough => {
                    matcher.tls.insert(listener.name.clone(), tls_hosts(routing, &listener.name));
                }
            }
        }
        for call in routing.calls.values() {
            match call {
                CallRoute::Http(route) => drop(matcher.http.insert(ListenerName::clone(&route.name), whole(route))),
                CallRoute::Stream(route) => drop(matcher.tcp.insert(ListenerName::clone(&route.name), Arc::clone(route))),
            }
        }
        matcher
    }

    /// The rule of a request. `host` may carry a port; `path` is canonical; `query` stands without its `?`.
    pub fn http(
        &self,
        listener: &str,
        host: &str,
        method: &Method,
        path: &str,
        query: Option<&str>,
        headers: &HeaderMap,
    ) -> Option<Matched<'_>> {
        let asked = Asked { method, path, query, headers };
        let found = self.http.get(listener)?.find(host, |paths| paths.find(&asked, &mut |_, _| ()))?;
        Some(found.matched())
    }

    /// [`Matcher::http`] with the story of the search, for people: what was looked at and why it was passed over. Bounded.
    pub fn explain_http(
        &self,
        listener: &str,
        host: &str,
        method: &Method,
        path: &str,
        query: Option<&str>,
        headers: &HeaderMap,
    ) -> (Option<Matched<'_>>, Vec<String>) {
        /// Lines of a story; 10,000 routes must not make it unreadable.
        const MAX_LINES: usize = 50;
        let Some(hosts) = self.http.get(listener) else {
            return (None, vec![format!("listener {listener} does not exist or does not speak HTTP")]);
        };
        let asked = Asked { method, path, query, headers };
        let mut why = Vec::new();
        let mut say = |line: String| {
            if why.len() < MAX_LINES {
                why.push(line);
            }
        };
        let found = hosts.find_saying(host, |host_says, paths| {
            say(host_says);
            paths.find(&asked, &mut |candidate, missing| match missing {
                None => say(format!("{candidate}: matches, and nothing more specific does")),
                Some(part) => say(format!("{candidate}: path matches, {part} does not")),
            })
        });
        if found.is_none() {
            say(format!("no route of listener {listener} matches host {host} and path {path}"));
        }
        (found.map(Candidate::matched), why)
    }

    /// The route of a TCP listener's connections.
    pub fn tcp(&self, listener: &str) -> Option<&Arc<StreamRoute>> {
        self.tcp.get(listener)
    }

    /// The route of a TLS connection by its server name; without one only routes without hosts match.
    pub fn tls(&self, listener: &str, server_name: Option<&str>) -> Option<&Arc<StreamRoute>> {
        self.tls.get(listener)?.find(server_name.unwrap_or_default(), Option::as_ref)
    }

    /// [`Matcher::tls`] with the story of the search, for people.
    pub fn explain_tls(&self, listener: &str, server_name: Option<&str>) -> (Option<&Arc<StreamRoute>>, Vec<String>) {
        let mut why = Vec::new();
        let found = self.tls.get(listener).and_then(|hosts| {
            hosts.find_saying(server_name.unwrap_or_default(), |says, route| {
                why.push(if server_name.is_some() { says } else { "no server name: routes for any".to_owned() });
                route.as_ref()
            })
        });
        (found, why)
    }
}

fn http_hosts(routing: &Routing, listener: &ListenerName) -> Hosts<Paths> {
    of_routes(routing.http_routes.iter().filter(|route| route.listeners.is_empty() || route.listeners.contains(listener)))
}

/// A route that has its listener to itself.
fn whole(route: &Arc<HttpRoute>) -> Hosts<Paths> {
    of_routes(std::iter::once(route))
}

fn of_routes<'r>(routes: impl Iterator<Item = &'r Arc<HttpRoute>>) -> Hosts<Paths> {
    let mut hosts = Hosts::<Paths>::default();
    for route in routes {
        for (rule_index, rule) in route.rules.iter().enumerate() {
            let alternatives: Vec<Option<usize>> =
                if rule.matches.is_empty() { vec![None] } else { (0..rule.matches.len()).map(Some).collect() };
            for match_index in alternatives {
                let candidate = Candidate { route: Arc::clone(route), rule: Arc::clone(rule), rule_index, match_index };
                hosts.places(&route.hostnames, |paths| paths.add(candidate.clone()));
            }
        }
    }
    hosts.each(Paths::sort);
    hosts
}

fn tls_hosts(routing: &Routing, listener: &ListenerName) -> Hosts<Option<Arc<StreamRoute>>> {
    let mut hosts = Hosts::<Option<Arc<StreamRoute>>>::default();
    for route in routing.stream_routes.iter().filter(|route| route.listeners.contains(listener)) {
        // The first of the file wins; readers refuse a second one.
        hosts.places(&route.hostnames, |place| {
            place.get_or_insert_with(|| Arc::clone(route));
        });
    }
    hosts
}

#[cfg(test)]
mod tests;
