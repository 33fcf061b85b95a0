use proptest::prelude::*;

use super::super::draft::{HttpRouteDraft, HttpRuleDraft, RoutingDraft, StreamRouteDraft};
use super::super::{HeaderMatch, Listener, PathMatch, RouteMatch, Timeouts, ValueMatch};
use super::*;
use crate::state::Book;

fn listener(name: &str, protocol: ListenerProtocol) -> Listener {
    Listener { name: name.into(), address: ([127, 0, 0, 1], 0).into(), protocol, accept_proxy_protocol: false }
}

fn regex(pattern: &str) -> regex::Regex {
    regex::Regex::new(&format!(r"\A(?:{pattern})\z")).unwrap()
}

fn route(name: &str, hostnames: &[&str], rules: Vec<Vec<RouteMatch>>) -> HttpRouteDraft {
    HttpRouteDraft {
        name: name.into(),
        listeners: Vec::new(),
        hostnames: hostnames.iter().map(ToString::to_string).collect(),
        rules: rules.into_iter().map(|matches| HttpRuleDraft { matches, ..HttpRuleDraft::default() }).collect(),
    }
}

fn path(path: PathMatch) -> RouteMatch {
    RouteMatch { path: Some(path), ..RouteMatch::default() }
}

fn prefix(text: &str) -> RouteMatch {
    path(PathMatch::Prefix(text.into()))
}

fn build(http_routes: Vec<HttpRouteDraft>) -> Arc<Routing> {
    let listeners = vec![listener("web", ListenerProtocol::Http)];
    RoutingDraft { listeners, http_routes, ..RoutingDraft::default() }.build(&Book::new(1))
}

fn find(routing: &Routing, host: &str, target: &str) -> Option<String> {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let found = routing.matcher().http("web", host, &Method::GET, path, query, &HeaderMap::new())?;
    Some(format!("{}/{}", found.route.name, found.rule_index))
}

#[test]
fn the_most_specific_host_wins_and_the_next_is_asked_where_it_has_no_rule() {
    let routing = build(vec![
        route("any", &[], vec![vec![]]),
        route("short", &["*.example"], vec![vec![prefix("/s")]]),
        route("long", &["*.shop.example"], vec![vec![prefix("/l")]]),
        route("exact", &["a.shop.example"], vec![vec![prefix("/e")]]),
    ]);
    let at = |host: &str, path: &str| find(&routing, host, path).unwrap();
    assert_eq!(at("a.shop.example", "/e"), "exact/0");
    assert_eq!(at("A.Shop.EXAMPLE.:8080", "/e"), "exact/0");
    assert_eq!(at("a.shop.example", "/l"), "long/0");
    assert_eq!(at("a.shop.example", "/s"), "short/0");
    assert_eq!(at("x.y.shop.example", "/l"), "long/0");
    assert_eq!(at("shop.example", "/l"), "any/0", "a wildcard covers one label or more, not none");
    assert_eq!(at("[::1]:80", "/"), "any/0");
    assert_eq!(at("", "/"), "any/0");
    assert_eq!(at(&format!("{}example", "a.".repeat(5000)), "/s"), "any/0", "longer than any name of DNS");
}

#[test]
fn exact_paths_go_before_expressions_and_those_before_prefixes() {
    let routing = build(vec![route(
        "r",
        &[],
        vec![
            vec![prefix("/")],
            vec![prefix("/shop")],
            vec![prefix("/shop/cart")],
            vec![path(PathMatch::Regex(regex("/shop/[0-9]+")))],
            vec![path(PathMatch::Regex(regex("/shop/[0-9]+/.*")))],
            vec![path(PathMatch::Exact("/shop/7".into()))],
        ],
    )]);
    let at = |path: &str| find(&routing, "x", path).unwrap();
    assert_eq!(at("/shop/7"), "r/5");
    assert_eq!(at("/shop/8"), "r/3");
    assert_eq!(at("/shop/8/x"), "r/4");
    assert_eq!(at("/shop/cart/x"), "r/2");
    assert_eq!(at("/shop/cart"), "r/2");
    assert_eq!(at("/shop/cart/"), "r/2");
    assert_eq!(at("/shop/cartoon"), "r/1");
    assert_eq!(at("/shopping"), "r/0");
    assert_eq!(at("*"), "r/0");
}

#[test]
fn several_lines_of_a_header_are_one_value_and_the_first_query_parameter_counts() {
    let wants = |headers: Vec<HeaderMatch>, query: Vec<(String, ValueMatch)>| vec![RouteMatch { headers, query, ..RouteMatch::default() }];
    let name = http::HeaderName::from_static("x-v");
    let routing = build(vec![
        route("both", &[], vec![wants(vec![HeaderMatch { name: name.clone(), value: ValueMatch::Exact("1,2".into()) }], vec![])]),
        route("like", &[], vec![wants(vec![HeaderMatch { name: name.clone(), value: ValueMatch::Regex(regex("3,.*")) }], vec![])]),
        route("query", &[], vec![wants(vec![], vec![("a b".into(), ValueMatch::Exact("ü".into()))])]),
    ]);
    let ask = |lines: &[&str], query: Option<&str>| {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(&name, line.parse().unwrap());
        }
        routing.matcher().http("web", "h", &Method::GET, "/", query, &headers).map(|found| found.route.name.to_string())
    };
    assert_eq!(ask(&["1", "2"], None).as_deref(), Some("both"));
    assert_eq!(ask(&["1,2"], None).as_deref(), Some("both"));
    assert_eq!(ask(&["1"], None), None);
    assert_eq!(ask(&["3", "4"], None).as_deref(), Some("like"));
    assert_eq!(ask(&[], Some("x&a+b=%C3%bc&a+b=no")).as_deref(), Some("query"));
    assert_eq!(ask(&[], Some("a%20b=%C3%BC")).as_deref(), Some("query"));
    assert_eq!(ask(&[], Some("a+b=no&a+b=%C3%BC")), None);
    assert_eq!(ask(&[], Some("a+b=%C3%B")), None);
}

#[test]
fn a_route_serves_its_own_listeners_only() {
    let mut bound = route("bound", &[], vec![vec![]]);
    bound.listeners = vec!["other".into()];
    let listeners = vec![listener("web", ListenerProtocol::Http), listener("other", ListenerProtocol::Http)];
    let routing = RoutingDraft { listeners, http_routes: vec![bound], ..RoutingDraft::default() }.build(&Book::new(1));
    let ask = |listener| routing.matcher().http(listener, "h", &Method::GET, "/", None, &HeaderMap::new()).is_some();
    assert!(ask("other") && !ask("web") && !ask("nowhere"));
}

#[test]
fn streams_are_matched_by_listener_and_server_name() {
    let stream = |name: &str, listener: &str, hostnames: &[&str]| StreamRouteDraft {
        name: name.into(),
        listeners: vec![listener.into()],
        hostnames: hostnames.iter().map(ToString::to_string).collect(),
        backends: vec![],
        timeouts: Timeouts::default(),
        failover: None,
    };
    let routing = RoutingDraft {
        listeners: vec![listener("db", ListenerProtocol::Tcp), listener("tls", ListenerProtocol::TlsPassthrough)],
        stream_routes: vec![
            stream("db", "db", &[]),
            stream("rest", "tls", &[]),
            stream("wild", "tls", &["*.example"]),
            stream("one", "tls", &["one.example"]),
        ],
        ..RoutingDraft::default()
    }
    .build(&Book::new(1));
    let tls = |name| &*routing.matcher().tls("tls", name).unwrap().name;
    assert_eq!(&*routing.matcher().tcp("db").unwrap().name, "db");
    assert!(routing.matcher().tcp("tls").is_none() && routing.matcher().tls("db", None).is_none());
    assert_eq!((tls(Some("One.example")), tls(Some("two.example")), tls(Some("example")), tls(None)), ("one", "wild", "rest", "rest"));
}

#[test]
fn what_is_looked_at_does_not_grow_with_the_routes() {
    let mut routes: Vec<_> = (0..5000).map(|n| route(&format!("h{n}"), &[&format!("h{n}.example")], vec![vec![]])).collect();
    routes.extend((0..5000).map(|n| route(&format!("p{n}"), &[], vec![vec![prefix(&format!("/p{n}"))]])));
    routes.push(route("rest", &[], vec![vec![]]));
    let routing = build(routes);
    let explain = |host: &str, path: &str| routing.matcher().explain_http("web", host, &Method::GET, path, None, &HeaderMap::new());
    for (host, path, route) in [("h4999.example", "/", "h4999"), ("x", "/p4999/x", "p4999"), ("x", "/other", "rest")] {
        let (found, why) = explain(host, path);
        assert_eq!(&*found.unwrap().route.name, route);
        assert_eq!(why.len(), 2, "one host, one candidate: {why:?}");
    }
}

#[test]
fn the_explanation_says_what_was_passed_over_and_why() {
    let method = RouteMatch { method: Some(Method::POST), ..prefix("/a") };
    let header = HeaderMatch { name: http::HeaderName::from_static("x-v"), value: ValueMatch::Regex(regex("[0-9]+")) };
    let header = RouteMatch { headers: vec![header], ..prefix("/a") };
    let routing = build(vec![route("r", &["h.example"], vec![vec![method], vec![header], vec![prefix("/a")]])]);
    let (found, why) = routing.matcher().explain_http("web", "h.example:80", &Method::GET, "/a/b", None, &HeaderMap::new());
    assert_eq!(found.unwrap().rule_index, 2);
    assert_eq!(
        why,
        [
            "host h.example: exact",
            "route r rule 0 (path below /a, method POST): path matches, the method does not",
            "route r rule 1 (path below /a, header x-v ~ [0-9]+): path matches, a header does not",
            "route r rule 2 (path below /a): matches, and nothing more specific does",
        ]
    );
    let (found, why) = routing.matcher().explain_http("web", "other", &Method::GET, "/a", None, &HeaderMap::new());
    assert!(found.is_none());
    assert_eq!(why, ["host other: routes for any host", "no route of listener web matches host other and path /a"]);
    assert_eq!(routing.matcher().explain_http("db", "h", &Method::GET, "/", None, &HeaderMap::new()).1.len(), 1);
}

/// What a request is, for the reference.
#[derive(Debug, Clone)]
struct Ask {
    host: String,
    method: Method,
    path: String,
    query: Option<String>,
    header: Option<String>,
}

/// The reference: all matches of all routes, sorted by precedence, one after the other.
fn naive(routing: &Routing, ask: &Ask) -> Option<(usize, usize)> {
    let mut all = Vec::new();
    for (r, route) in routing.http_routes.iter().enumerate() {
        let hosts: Vec<Option<&str>> =
            if route.hostnames.is_empty() { vec![None] } else { route.hostnames.iter().map(|host| Some(host.as_str())).collect() };
        for host in hosts {
            for (index, rule) in route.rules.iter().enumerate() {
                let everything = [RouteMatch::default()];
                for parts in if rule.matches.is_empty() { &everything[..] } else { &rule.matches } {
                    let host_rank = match host {
                        Some(host) if !host.starts_with("*.") => (0, 0),
                        Some(host) => (1, usize::MAX - host.len()),
                        None => (2, 0),
                    };
                    let path_rank = match &parts.path {
                        Some(PathMatch::Exact(_)) => (0, 0),
                        Some(PathMatch::Regex(regex)) => (1, usize::MAX - regex.as_str().len()),
                        Some(PathMatch::Prefix(prefix)) => (2, usize::MAX - prefix.trim_end_matches('/').len()),
                        None => (2, usize::MAX),
                    };
                    let rank =
                        (host_rank, path_rank, parts.method.is_none(), usize::MAX - parts.headers.len(), usize::MAX - parts.query.len());
                    all.push((rank, (r, index), host, parts.clone()));
                }
            }
        }
    }
    all.sort_by_key(|(rank, ..)| *rank);
    let value = |wanted: &ValueMatch, value: &str| match wanted {
        ValueMatch::Exact(exact) => exact == value,
        ValueMatch::Regex(regex) => regex.is_match(value),
    };
    let fits = |host: &Option<&str>, parts: &RouteMatch| {
        let host = match host.map(|host| (host, host.strip_prefix('*'))) {
            None => true,
            Some((_, Some(suffix))) => ask.host.len() > suffix.len() && ask.host.ends_with(suffix),
            Some((host, None)) => ask.host == host,
        };
        let path = match &parts.path {
            None => true,
            Some(PathMatch::Exact(path)) => ask.path == *path,
            Some(PathMatch::Regex(regex)) => regex.is_match(&ask.path),
            Some(PathMatch::Prefix(prefix)) => {
                let prefix = prefix.trim_end_matches('/');
                ask.path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
        };
        let first = |name: &str| {
            let query = ask.query.as_deref()?;
            query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        host && path
            && parts.method.as_ref().is_none_or(|method| *method == ask.method)
            && parts.headers.iter().all(|header| ask.header.as_deref().is_some_and(|line| value(&header.value, line)))
            && parts.query.iter().all(|(name, wanted)| first(name).is_some_and(|found| value(wanted, found)))
    };
    all.iter().find(|(_, _, host, parts)| fits(host, parts)).map(|(_, at, ..)| *at)
}

fn some_path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "ab"]), 0..4).prop_map(|elements| format!("/{}", elements.join("/")))
}

fn some_host() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b"]), 1..4).prop_map(|labels| format!("{}.test", labels.join(".")))
}

fn some_value() -> impl Strategy<Value = ValueMatch> {
    prop_oneof![Just(ValueMatch::Exact("1".into())), Just(ValueMatch::Exact("2".into())), Just(ValueMatch::Regex(regex("[12]")))]
}

fn some_match() -> impl Strategy<Value = RouteMatch> {
    let path = prop_oneof![
        3 => some_path().prop_map(PathMatch::Prefix),
        2 => some_path().prop_map(PathMatch::Exact),
        1 => prop::sample::select(vec!["/a.*", "/.*b", "/a/[ab]", "/(a|b)/.*"]).prop_map(|pattern| PathMatch::Regex(regex(pattern))),
    ];
    let method = prop::sample::select(vec![Method::GET, Method::POST]);
    let header = some_value().prop_map(|value| HeaderMatch { name: http::HeaderName::from_static("x-v"), value });
    let query = (prop::sample::select(vec!["q", "p"]), some_value()).prop_map(|(name, value)| (name.to_owned(), value));
    let parts = (prop::option::of(path), prop::option::of(method), prop::collection::vec(header, 0..3), prop::collection::vec(query, 0..3));
    parts.prop_map(|(path, method, headers, query)| RouteMatch { path, method, headers, query })
}

fn some_routes() -> impl Strategy<Value = Vec<HttpRouteDraft>> {
    let host = (some_host(), any::<bool>()).prop_map(|(host, wild)| if wild { format!("*.{host}") } else { host });
    let rules = prop::collection::vec(prop::collection::vec(some_match(), 0..3), 1..4);
    let route = (prop::collection::vec(host, 0..3), rules);
    prop::collection::vec(route, 0..8).prop_map(|routes| {
        let draft = |(index, (hostnames, rules)): (usize, (Vec<String>, Vec<Vec<RouteMatch>>))| {
            let hostnames: Vec<&str> = hostnames.iter().map(String::as_str).collect();
            route_of(index, &hostnames, rules)
        };
        routes.into_iter().enumerate().map(draft).collect()
    })
}

fn route_of(index: usize, hostnames: &[&str], rules: Vec<Vec<RouteMatch>>) -> HttpRouteDraft {
    route(&index.to_string(), hostnames, rules)
}

fn some_ask() -> impl Strategy<Value = Ask> {
    let value = || prop::option::of(prop::sample::select(vec!["1", "2", "3"]));
    let query = prop::collection::vec((prop::sample::select(vec!["q", "p"]), prop::sample::select(vec!["1", "2", "3"])), 0..3);
    (some_host(), some_path(), any::<bool>(), query, value()).prop_map(|(host, path, post, query, header)| Ask {
        host,
        path,
        method: if post { Method::POST } else { Method::GET },
        query: (!query.is_empty()).then(|| query.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join("&")),
        header: header.map(str::to_owned),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_matcher_agrees_with_a_linear_search_by_precedence(routes in some_routes(), asks in prop::collection::vec(some_ask(), 20)) {
        let routing = build(routes);
        for ask in &asks {
            let mut headers = HeaderMap::new();
            if let Some(value) = &ask.header {
                headers.insert("x-v", value.parse().unwrap());
            }
            let found = routing.matcher().http("web", &ask.host, &ask.method, &ask.path, ask.query.as_deref(), &headers);
            let found = found.map(|found| (found.route.name.parse::<usize>().unwrap(), found.rule_index));
            prop_assert_eq!(found, naive(&routing, ask), "{:?}", ask);
            let (explained, _) = routing.matcher().explain_http("web", &ask.host, &ask.method, &ask.path, ask.query.as_deref(), &headers);
            prop_assert_eq!(explained.map(|found| (found.route.name.parse::<usize>().unwrap(), found.rule_index)), found);
        }
    }

    #[test]
    fn no_request_makes_the_matcher_panic(routes in some_routes(), host in "\\PC{0,40}", path in "\\PC{0,40}", query in "[%+&=a-f0-9]{0,20}") {
        let routing = build(routes);
        let _ = routing.matcher().http("web", &host, &Method::GET, &path, Some(&query), &HeaderMap::new());
    }
}
