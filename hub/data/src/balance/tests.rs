mod failover;
mod policies;

use std::collections::HashMap;
use std::sync::OnceLock;

use figspan_model::routing::{Routing, Service, Target};
use figspan_model::snapshot::{Shares, TunnelAt};
use figspan_model::state::Book;
use figspan_proto::control::Protocol;
use figspan_proto::weight::Weight;
use figspan_tunnel::Tunnel;
use proptest::prelude::*;

use super::*;

/// A tunnel to stand in every endpoint: choosing asks whether there is one, not where it leads.
fn some_tunnel() -> TunnelAt {
    static TUNNEL: OnceLock<Tunnel> = OnceLock::new();
    let open = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(figspan_tunnel::testing::pair("vm-0")).0
    };
    TunnelAt { shard: 0, tunnel: TUNNEL.get_or_init(open).clone() }
}

fn weight(number: u32) -> Weight {
    Weight::try_from(number).unwrap()
}

/// A hub's world in small: uplinks with (weight, ready) per agent, services with a number of addresses.
struct World {
    book: Arc<Book>,
    snapshot: Snapshot,
    services: HashMap<ServiceName, Rc<[ServiceEndpoint]>>,
    /// How many of the last agents or addresses of what comes next are in the hub's own zone.
    near: usize,
}

impl ServiceEndpoints for World {
    fn endpoints(&self, service: &ServiceName) -> Rc<[ServiceEndpoint]> {
        self.services.get(service).cloned().unwrap_or_else(|| Rc::from([]))
    }
}

impl World {
    fn new() -> Self {
        Self { book: Book::new(1), snapshot: Snapshot::default(), services: HashMap::new(), near: 0 }
    }

    fn near(self, near: usize) -> Self {
        Self { near, ..self }
    }

    fn uplink(self, name: &str, effective: u32, agents: &[(u32, bool)]) -> Self {
        self.uplink_with(name, effective, false, agents)
    }

    fn uplink_with(mut self, name: &str, effective: u32, draining: bool, agents: &[(u32, bool)]) -> Self {
        let endpoint = |(index, &(share, ready)): (usize, &(u32, bool))| {
            Arc::new(Endpoint {
                zone: None,
                near: index + self.near >= agents.len(),
                agent: format!("vm-{index}").parse().unwrap(),
                weight: weight(share),
                ready,
                reason: String::new(),
                tunnels: vec![some_tunnel()],
                state: self.book.endpoint(&format!("uplink/{name}/vm-{index}")),
            })
        };
        let endpoints: Vec<_> = agents.iter().enumerate().map(endpoint).collect();
        let uplink = Uplink {
            shares: Shares::of(&endpoints, |_| true),
            name: name.parse().unwrap(),
            protocol: Protocol::Http1,
            weight: weight(effective),
            draining,
            endpoints,
            state: self.book.rule(&format!("uplink/{name}")),
        };
        self.snapshot.uplinks.insert(Arc::new(uplink));
        self
    }

    fn service(mut self, name: &str, effective: u32, addresses: u16) -> Self {
        let name: ServiceName = name.into();
        let endpoint = |port| {
            let near = usize::from(port) + self.near > usize::from(addresses);
            let state = self.book.endpoint(&format!("service/{name}/{port}"));
            ServiceEndpoint { near, ..ServiceEndpoint::new(([127, 0, 0, 1], port).into(), state) }
        };
        self.services.insert(name.clone(), ServiceEndpoint::ordered((1..=addresses).map(endpoint).collect()));
        let mut routing = Routing { services: self.snapshot.routing.services.clone(), ..Routing::default() };
        routing.service_states.clone_from(&self.snapshot.routing.service_states);
        routing.service_states.insert(name.clone(), self.book.rule(&format!("service/{name}")));
        let service = Service {
            name: name.clone(),
            protocol: Protocol::Http1,
            addresses: vec![],
            zones: vec![],
            weight: weight(effective),
            tls: None,
        };
        routing.services.insert(name, Arc::new(service));
        self.snapshot.routing = Arc::new(routing);
        self
    }

    fn question<'p, 'c>(&'p self, backends: &'c [Backend], rule: &'c RuleState, tried: &'c Tried) -> Question<'p, 'c>
    where
        'p: 'c,
    {
        Question::new(&self.snapshot, backends, rule, tried, self)
    }

    fn choose(&self, backends: &[Backend], tried: &Tried) -> Result<Choice<'_>, NoChoice> {
        choose(self.question(backends, &self.book.rule("rule/r/0"), tried))
    }

    fn next(&self, backends: &[Backend]) -> Result<String, NoChoice> {
        self.choose(backends, &Tried::default()).map(|choice| label(&choice))
    }

    fn counts(&self, backends: &[Backend], requests: usize) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for _ in 0..requests {
            *counts.entry(self.next(backends).unwrap()).or_default() += 1;
        }
        counts
    }
}

fn label(choice: &Choice) -> String {
    match &choice.endpoint {
        Chosen::Uplink { uplink, endpoint } => format!("{}/{}", uplink.name, endpoint.agent),
        Chosen::Service { name, endpoint } => format!("{name}/{}", endpoint.address.port()),
    }
}

fn uplink(name: &str, share: Option<u32>) -> Backend {
    Backend::plain(Target::Uplink(name.parse().unwrap()), share.map(weight), &Book::new(1))
}

fn service(name: &str, share: Option<u32>) -> Backend {
    Backend::plain(Target::Service(name.into()), share.map(weight), &Book::new(1))
}

fn counted<const N: usize>(counts: [(&str, usize); N]) -> HashMap<String, usize> {
    counts.map(|(name, count)| (name.to_owned(), count)).into()
}

#[test]
fn shares_are_exact_on_both_levels() {
    let world = World::new().uplink("monolith", 100, &[(100, true), (300, true)]).service("orders", 100, 2);
    let backends = [uplink("monolith", Some(80)), service("orders", Some(20))];
    for _ in 0..3 {
        let expected = counted([("monolith/vm-0", 20), ("monolith/vm-1", 60), ("orders/1", 10), ("orders/2", 10)]);
        assert_eq!(world.counts(&backends, 100), expected);
    }
}

#[test]
fn a_backend_without_a_weight_takes_that_of_its_target() {
    let world = World::new().uplink("monolith", 25, &[(100, true)]).service("orders", 75, 1);
    let backends = [uplink("monolith", None), service("orders", None)];
    assert_eq!(world.counts(&backends, 100), counted([("monolith/vm-0", 25), ("orders/1", 75)]));
}

#[test]
fn a_ready_sibling_gets_the_traffic_of_one_that_is_not() {
    let world = World::new().uplink("a", 100, &[(100, false)]).uplink("b", 100, &[(100, false), (1, true)]);
    let backends = [uplink("a", Some(99)), uplink("b", Some(1))];
    assert_eq!(world.counts(&backends, 10), counted([("b/vm-1", 10)]));
}

#[test]
fn what_drains_gets_nothing_new_whatever_the_file_says() {
    let world = World::new().uplink_with("a", 100, true, &[(100, true)]).uplink("b", 100, &[(0, true), (7, true)]);
    let backends = [uplink("a", Some(99)), uplink("b", Some(1)), uplink("b", Some(0))];
    assert_eq!(world.counts(&backends, 10), counted([("b/vm-1", 10)]));
}

#[test]
fn a_request_with_an_old_snapshot_sees_the_drain() {
    let world = World::new().uplink("a", 100, &[(100, true), (100, true)]).service("s", 100, 1);
    world.book.endpoint("uplink/a/vm-0").draining.store(true, Ordering::Release);
    assert_eq!(world.counts(&[uplink("a", None)], 10), counted([("a/vm-1", 10)]));
    world.book.endpoint("service/s/1").draining.store(true, Ordering::Release);
    assert_eq!(world.next(&[service("s", None)]), Err(NoChoice::AllZero));
}

#[test]
fn a_retry_never_goes_back_and_ends_when_all_were_tried() {
    let world = World::new().uplink("a", 100, &[(100, true), (100, true)]).service("s", 100, 1);
    let backends = [uplink("a", Some(100)), service("s", Some(1))];
    let mut tried = Tried::default();
    let mut seen = Vec::new();
    while let Ok(choice) = world.choose(&backends, &tried) {
        tried.add(&choice);
        seen.push(label(&choice));
    }
    seen.sort();
    assert_eq!(seen, ["a/vm-0", "a/vm-1", "s/1"]);
    assert_eq!(world.choose(&backends, &tried).unwrap_err(), NoChoice::AllTried);
    assert_eq!((tried.len(), tried.is_empty()), (3, false));
}

#[test]
fn a_refusal_says_what_stands_in_the_way() {
    let world = World::new()
        .uplink("down", 100, &[(100, false)])
        .uplink("zero", 0, &[(0, true)])
        .uplink_with("drains", 100, true, &[(1, true)])
        .service("s", 100, 0);
    let why = |backends: &[Backend]| world.next(backends).unwrap_err();
    assert_eq!(why(&[uplink("down", None), uplink("zero", None)]), NoChoice::NobodyReady);
    assert_eq!(why(&[uplink("zero", None), uplink("drains", Some(5)), uplink("down", Some(0))]), NoChoice::AllZero);
    assert_eq!(why(&[uplink("zero", Some(5))]), NoChoice::AllZero, "its only agent drains");
    world.book.endpoint("uplink/down/vm-0").draining.store(true, Ordering::Release);
    assert_eq!(why(&[uplink("down", None)]), NoChoice::NobodyReady, "control marks an agent that is away, too; nobody set a weight of 0");
    assert_eq!(why(&[uplink("nobody", None)]), NoChoice::Unknown);
    assert_eq!(why(&[service("s", None), service("t", None)]), NoChoice::Unknown);
    assert_eq!(why(&[]), NoChoice::Unknown);
}

#[test]
fn who_stands_alone_moves_no_cursor() {
    let moved = |backends: &[Backend], agents: &[(u32, bool)]| {
        let world = World::new().uplink("a", 100, agents);
        let of = |state: &RuleState| (state.cursor.load(Ordering::Relaxed), state.again.load(Ordering::Relaxed));
        world.counts(backends, 3);
        (of(&world.book.rule("rule/r/0")), of(&world.book.rule("uplink/a")))
    };
    assert_eq!(moved(&[uplink("a", None)], &[(1, true)]), ((0, 0), (0, 0)));
    assert_eq!(moved(&[uplink("a", None)], &[(1, true), (1, true)]), ((0, 0), (3, 0)));
    assert_eq!(moved(&[uplink("a", None), uplink("b", Some(0))], &[(1, true)]), ((3, 0), (0, 0)));
}

#[test]
fn peeking_tells_the_next_choice_and_changes_nothing() {
    let world = World::new().uplink("a", 100, &[(2, true), (1, true)]).service("s", 100, 3);
    let backends = [uplink("a", Some(2)), service("s", Some(3))];
    for _ in 0..50 {
        let peeked = || peek(world.question(&backends, &world.book.rule("rule/r/0"), &Tried::default())).map(|choice| label(&choice));
        let told = peeked();
        assert_eq!((told.clone(), told.clone()), (peeked(), world.next(&backends)));
    }
}

#[test]
fn many_agents_and_backends_are_shared_like_few() {
    let agents = [(3, true); 100];
    let mut world = World::new();
    for index in 0..40 {
        world = world.uplink(&format!("u{index}"), 100, &agents[..if index == 0 { 100 } else { 1 }]);
    }
    let backends: Vec<Backend> = (0..40).map(|index| uplink(&format!("u{index}"), Some(1))).collect();
    let counts = world.counts(&backends, 40 * 100);
    assert_eq!(counts.len(), 100 + 39);
    assert!(counts.iter().all(|(name, count)| *count == if name.starts_with("u0/") { 1 } else { 100 }), "{counts:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn choosing_is_total_and_only_takes_who_accepts(
        uplinks in prop::collection::vec((0u32..3, any::<bool>(), prop::collection::vec((0u32..3, any::<bool>(), any::<bool>()), 0..4)), 0..4),
        services in prop::collection::vec((0u32..3, 0u16..3), 0..3),
        shares in prop::collection::vec(prop::option::of(0u32..3), 8),
        requests in 1usize..30,
    ) {
        let mut world = World::new();
        let mut backends = vec![uplink("unknown", shares[7])];
        for (index, (effective, draining, agents)) in uplinks.iter().enumerate() {
            let name = format!("u{index}");
            let known: Vec<(u32, bool)> = agents.iter().map(|(share, ready, _)| (*share, *ready)).collect();
            world = world.uplink_with(&name, *effective, *draining, &known);
            for (agent, (_, _, drains)) in agents.iter().enumerate() {
                world.book.endpoint(&format!("uplink/{name}/vm-{agent}")).draining.store(*drains, Ordering::Release);
            }
            backends.push(uplink(&name, shares[index]));
        }
        for (index, (effective, addresses)) in services.iter().enumerate() {
            world = world.service(&format!("s{index}"), *effective, *addresses);
            backends.push(service(&format!("s{index}"), shares[4 + index]));
        }
        let mut possible = Vec::new();
        for (index, (effective, draining, agents)) in uplinks.iter().enumerate() {
            for (agent, (share, ready, drains)) in agents.iter().enumerate() {
                if shares[index].unwrap_or(*effective) > 0 && !draining && *share > 0 && *ready && !drains {
                    possible.push(format!("u{index}/vm-{agent}"));
                }
            }
        }
        for (index, (effective, addresses)) in services.iter().enumerate() {
            possible.extend((1..=*addresses).filter(|_| shares[4 + index].unwrap_or(*effective) > 0).map(|port| format!("s{index}/{port}")));
        }
        for _ in 0..requests {
            match world.next(&backends) {
                Ok(chosen) => prop_assert!(possible.contains(&chosen), "{chosen} of {possible:?}"),
                Err(why) => prop_assert!(possible.is_empty(), "{why} in spite of {possible:?}"),
            }
        }
        // Retries reach everybody, and nobody twice.
        let (mut tried, mut seen) = (Tried::default(), Vec::new());
        while let Ok(choice) = world.choose(&backends, &tried) {
            tried.add(&choice);
            seen.push(label(&choice));
        }
        seen.sort();
        possible.sort();
        prop_assert_eq!(seen, possible);
    }
}

#[test]
fn a_try_after_a_failure_takes_nobodys_turn() {
    let world = World::new().uplink("shop", 1, &[(1, true), (1, true), (2, true)]);
    let backends = [uplink("shop", None)];
    let (mut first, mut second): (HashMap<String, usize>, HashMap<String, usize>) = Default::default();
    for _ in 0..80 {
        let mut tried = Tried::default();
        let choice = world.choose(&backends, &tried).unwrap();
        *first.entry(label(&choice)).or_default() += 1;
        if label(&choice) == "shop/vm-2" {
            tried.add(&choice);
            *second.entry(label(&world.choose(&backends, &tried).unwrap())).or_default() += 1;
        }
    }
    let counts = |list: &[(&str, usize)]| list.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect::<HashMap<_, _>>();
    assert_eq!(first, counts(&[("shop/vm-0", 20), ("shop/vm-1", 20), ("shop/vm-2", 40)]), "the one that fails gets its weight, not more");
    assert_eq!(second, counts(&[("shop/vm-0", 20), ("shop/vm-1", 20)]), "and the others share what it failed");
}
