//! What choosing costs: nanoseconds for the match and for the choice, over numbers of routes and endpoints, and what one weight
//! change costs to publish. Prints a table; run it optimised, on a quiet machine:
//! `cargo run --release -p figspan-data --example choosing`.

#![allow(clippy::print_stdout, reason = "the table is its purpose")]

use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use figspan_data::balance::{Question, ServiceEndpoint, ServiceEndpoints, Tried, choose, mix};
use figspan_model::health::Failover;
use figspan_model::moment::Moment;
use figspan_model::routing::draft::{BackendDraft, HttpRouteDraft, HttpRuleDraft, RoutingDraft};
use figspan_model::routing::{
    Backend, BackendPolicy, Listener, ListenerProtocol, LoadBalancing, Method, PathMatch, RouteMatch, Routing, ServiceName, Target,
};
use figspan_model::snapshot::{Endpoint, Shares, Snapshot, TunnelAt, Uplink, Uplinks, publication};
use figspan_model::state::Book;
use figspan_proto::control::Protocol;
use figspan_proto::weight::Weight;
use figspan_tunnel::Tunnel;

/// Choices per figure; the best of five rounds counts, which is the least disturbed one.
const CHOICES: u64 = 20_000;
const ROUNDS: usize = 5;

struct NoServices;

impl ServiceEndpoints for NoServices {
    fn endpoints(&self, _: &ServiceName) -> Rc<[ServiceEndpoint]> {
        Rc::from([])
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let tunnel = runtime.block_on(figspan_tunnel::testing::pair("vm-0")).0;
    println!("ns each             {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}", "match", "weights", "zone", "load", "hash", "tiers");
    for routes in [10, 1_000, 10_000] {
        for endpoints in [1, 100, 1_000] {
            let world = World::new(routes, endpoints, &tunnel);
            let zone = LoadBalancing { prefer_zone: true, ..LoadBalancing::default() };
            let load = LoadBalancing { method: Method::LeastLoad, ..LoadBalancing::default() };
            let figures = [
                world.matching(),
                world.choosing(None, None),
                world.choosing(None, Some(zone)),
                world.choosing(None, Some(load)),
                world.choosing(Some(1), None),
                world.failing_over(),
            ];
            print!("{routes:>6} routes x {endpoints:>5}");
            figures.iter().for_each(|figure| print!(" {figure:>8.0}"));
            println!();
        }
    }
    println!();
    for uplinks in [10, 1_000, 10_000] {
        println!("one weight among {uplinks:>6} uplinks and as many routes: {:.1} us", one_weight(uplinks, &tunnel));
    }
}

struct World {
    book: Arc<Book>,
    snapshot: Snapshot,
    routes: usize,
}

impl World {
    fn new(routes: usize, endpoints: usize, tunnel: &Tunnel) -> Self {
        let book = Book::new(2);
        let uplinks = [uplink("shop", endpoints, tunnel, &book)].into_iter().collect();
        let snapshot = Snapshot { generation: 1, routing: routing(routes, &book), uplinks, callers: Default::default() };
        Self { book, snapshot, routes }
    }

    fn matching(&self) -> f64 {
        let headers = http::HeaderMap::new();
        let paths: Vec<String> = (0..self.routes).map(|route| format!("/r{route}/x")).collect();
        best(|number| {
            let path = &paths[number as usize % self.routes];
            let found = self.snapshot.routing.matcher().http("web", "shop.example", &http::Method::GET, path, None, &headers);
            assert!(black_box(found).is_some());
        })
    }

    fn choosing(&self, hash: Option<u64>, asked: Option<LoadBalancing>) -> f64 {
        let policy = asked.map(|asked| Arc::new(BackendPolicy { load_balancing: Some(asked), ..BackendPolicy::default() }));
        let target = Target::Uplink("shop".parse().expect("a name"));
        let backend = Backend::plain(target, None, &self.book);
        let backends = [Backend { policy, ..backend }];
        let (rule, tried) = (self.book.rule("rule/r/0"), Tried::default());
        best(|number| {
            let question = Question::new(&self.snapshot, &backends, &rule, &tried, &NoServices);
            let question = Question { hash: hash.map(|seed| mix(seed + number)), now: Moment::from_millis(1), ..question };
            assert!(black_box(choose(question)).is_ok());
        })
    }

    /// A rule with failover whose first tier is up.
    fn failing_over(&self) -> f64 {
        let backend = |tier| {
            let target = Target::Uplink("shop".parse().expect("a name"));
            Backend { fallback: tier, ..Backend::plain(target, None, &self.book) }
        };
        let (backends, terms) = ([backend(0), backend(1)], Failover::default());
        let (rule, tried) = (self.book.rule("rule/r/1"), Tried::default());
        best(|_| {
            let question = Question::new(&self.snapshot, &backends, &rule, &tried, &NoServices);
            let question = Question { failover: Some(&terms), now: Moment::from_millis(1), ..question };
            assert!(black_box(choose(question)).is_ok());
        })
    }
}

/// Nanoseconds of one step, in the best round.
fn best(mut step: impl FnMut(u64)) -> f64 {
    let mut round = || {
        let began = Instant::now();
        (0..CHOICES).for_each(&mut step);
        began.elapsed().as_nanos() as f64 / CHOICES as f64
    };
    (0..ROUNDS).map(|_| round()).fold(f64::INFINITY, f64::min)
}

/// Microseconds to publish one changed uplink, as control does.
fn one_weight(number: usize, tunnel: &Tunnel) -> f64 {
    let book = Book::new(2);
    let (publisher, _reader) = publication();
    let routing = routing(number, &book);
    let name = |index: usize| format!("uplink-{index}");
    let mut uplinks: Uplinks = (0..number).map(|index| uplink(&name(index), 1, tunnel, &book)).collect();
    let mut change = || {
        let began = Instant::now();
        uplinks.insert(uplink(&name(0), 1, tunnel, &book));
        publisher.publish(Arc::clone(&routing), uplinks.clone());
        began.elapsed().as_secs_f64() * 1e6
    };
    (0..50).map(|_| change()).fold(f64::INFINITY, f64::min)
}

fn uplink(name: &str, endpoints: usize, tunnel: &Tunnel, book: &Book) -> Arc<Uplink> {
    let endpoint = |index: usize| {
        Arc::new(Endpoint {
            zone: None,
            // Every second one is in the hub's own zone.
            near: index % 2 == 1,
            agent: format!("vm-{index}").parse().expect("a name"),
            weight: Weight::try_from(100 + index as u32 % 3).expect("a weight"),
            ready: true,
            reason: String::new(),
            tunnels: vec![TunnelAt { shard: 0, tunnel: tunnel.clone() }],
            state: book.endpoint(&format!("uplink/{name}/vm-{index}")),
        })
    };
    let endpoints: Vec<_> = (0..endpoints).map(endpoint).collect();
    Arc::new(Uplink {
        name: name.parse().expect("a name"),
        protocol: Protocol::Http1,
        weight: Weight::DEFAULT,
        draining: false,
        shares: Shares::of(&endpoints, |_| true),
        endpoints,
        state: book.rule(&format!("uplink/{name}")),
    })
}

fn routing(routes: usize, book: &Book) -> Arc<Routing> {
    let backend = || BackendDraft { target: Target::Uplink("shop".parse().expect("a name")), weight: None, fallback: 0 };
    let route = |index: usize| HttpRouteDraft {
        name: format!("route-{index}").into(),
        listeners: vec![],
        hostnames: vec!["shop.example".into()],
        rules: vec![HttpRuleDraft {
            matches: vec![RouteMatch { path: Some(PathMatch::Prefix(format!("/r{index}"))), ..RouteMatch::default() }],
            backends: vec![backend()],
            ..HttpRuleDraft::default()
        }],
    };
    let address = ([127, 0, 0, 1], 80).into();
    let listener = Listener { name: "web".into(), address, protocol: ListenerProtocol::Http, accept_proxy_protocol: false };
    RoutingDraft { listeners: vec![listener], http_routes: (0..routes).map(route).collect(), ..RoutingDraft::default() }.build(book)
}
