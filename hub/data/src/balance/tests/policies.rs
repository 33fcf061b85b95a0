//! Choice under policies: tiers, gates, hashes, load, slow start, and many endpoints. The hub's own zone: `zones`.

mod zones;

use std::cell::Cell;
use std::time::Duration;

use figspan_model::routing::{BackendPolicy, LoadBalancing, Method};

use super::*;

fn with(backend: Backend, asked: LoadBalancing) -> Backend {
    Backend { policy: Some(Arc::new(BackendPolicy { load_balancing: Some(asked), ..BackendPolicy::default() })), ..backend }
}

fn least_load(name: &str) -> Backend {
    with(uplink(name, None), LoadBalancing { method: Method::LeastLoad, ..LoadBalancing::default() })
}

pub(super) fn fallback(tier: u8, backend: Backend) -> Backend {
    Backend { fallback: tier, ..backend }
}

pub(super) fn at(seconds: u64) -> Moment {
    Moment::from_millis(1 + seconds * 1000)
}

/// Gates by name of the backend, and by identity of an endpoint.
#[derive(Default)]
pub(super) struct Held {
    pub(super) backends: HashMap<&'static str, u32>,
    pub(super) endpoints: HashMap<u64, u32>,
    pub(super) last_resorts: bool,
    pub(super) asked: Cell<usize>,
}

impl Gates for Held {
    fn backend(&self, backend: &Backend) -> u32 {
        self.backends.get(backend.target.name()).copied().unwrap_or(FULL)
    }

    fn endpoint(&self, _: &Backend, endpoint: &EndpointState, resort: Resort) -> u32 {
        self.asked.set(self.asked.get() + 1);
        if self.last_resorts && resort == Resort::Last { FULL } else { self.endpoints.get(&endpoint.id).copied().unwrap_or(FULL) }
    }
}

impl World {
    fn ask<'w>(
        &'w self,
        backends: &[Backend],
        change: impl FnOnce(Question<'w, '_>) -> Option<Result<Choice<'w>, NoChoice>>,
    ) -> Result<String, NoChoice> {
        let (rule, tried) = (self.book.rule("rule/r/0"), Tried::default());
        change(self.question(backends, &rule, &tried)).unwrap().map(|choice| label(&choice))
    }

    fn gated(&self, backends: &[Backend], gates: &Held) -> Result<String, NoChoice> {
        self.ask(backends, |question| Some(choose(Question { gates: Some(gates), ..question })))
    }

    fn hashed(&self, backends: &[Backend], hash: u64) -> Result<String, NoChoice> {
        self.ask(backends, |question| Some(choose(Question { hash: Some(hash), ..question })))
    }

    fn bound(&self, backends: &[Backend], backend: usize, endpoint: &EndpointState) -> String {
        let bound = Some(Bound { backend: backends[backend].state.id, endpoint: endpoint.id });
        self.ask(backends, |question| Some(choose(Question { bound, ..question }))).unwrap()
    }

    fn at(&self, backends: &[Backend], now: Moment) -> String {
        self.ask(backends, |question| Some(choose(Question { now, ..question }))).unwrap()
    }

    pub(super) fn endpoint(&self, name: &str) -> Arc<EndpointState> {
        self.book.endpoint(&format!("uplink/{name}"))
    }
}

pub(super) fn count(requests: usize, mut next: impl FnMut() -> String) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    (0..requests).for_each(|_| *counts.entry(next()).or_default() += 1);
    counts
}

#[test]
fn a_fallback_gets_requests_only_while_the_tiers_above_cannot() {
    let world = World::new().uplink("a", 100, &[(100, true)]).uplink("b", 100, &[(100, true)]).service("static", 100, 1);
    let backends = [uplink("a", Some(1)), fallback(1, uplink("b", Some(1))), fallback(2, service("static", None))];
    assert_eq!(world.counts(&backends, 10), counted([("a/vm-0", 10)]));
    world.endpoint("a/vm-0").draining.store(true, Ordering::Release);
    assert_eq!(world.counts(&backends, 10), counted([("b/vm-0", 10)]));
    world.endpoint("b/vm-0").draining.store(true, Ordering::Release);
    assert_eq!(world.counts(&backends, 10), counted([("static/1", 10)]));
    world.endpoint("a/vm-0").draining.store(false, Ordering::Release);
    assert_eq!(world.counts(&backends, 10), counted([("a/vm-0", 10)]));
}

#[test]
fn a_retry_goes_on_to_the_next_tier() {
    let world = World::new().uplink("a", 100, &[(100, true)]).service("static", 100, 1);
    let backends = [uplink("a", Some(1)), fallback(1, service("static", None))];
    let mut tried = Tried::default();
    tried.add(&world.choose(&backends, &tried).unwrap());
    assert_eq!(label(&world.choose(&backends, &tried).unwrap()), "static/1");
}

#[test]
fn gates_shut_backends_and_endpoints_and_say_so() {
    let world = World::new().uplink("a", 100, &[(100, true), (100, true)]).uplink("b", 100, &[(100, true)]);
    let backends = [uplink("a", Some(1)), uplink("b", Some(1))];
    let mut gates = Held { endpoints: HashMap::from([(world.endpoint("a/vm-0").id, 0)]), ..Held::default() };
    assert_eq!(count(10, || world.gated(&backends, &gates).unwrap()), counted([("a/vm-1", 5), ("b/vm-0", 5)]));
    gates.backends.insert("a", 0);
    assert_eq!(count(10, || world.gated(&backends, &gates).unwrap()), counted([("b/vm-0", 10)]));
    gates.backends.insert("b", 0);
    assert_eq!(world.gated(&backends, &gates), Err(NoChoice::Shut));
}

#[test]
fn a_last_resort_is_taken_only_where_nothing_is_better() {
    let world = World::new().uplink("a", 100, &[(100, true), (100, true)]);
    let backends = [uplink("a", Some(1))];
    let (one, two) = (world.endpoint("a/vm-0").id, world.endpoint("a/vm-1").id);
    let some = Held { endpoints: HashMap::from([(one, 0)]), last_resorts: true, ..Held::default() };
    assert_eq!(count(10, || world.gated(&backends, &some).unwrap()), counted([("a/vm-1", 10)]));
    let all = Held { endpoints: HashMap::from([(one, 0), (two, 0)]), last_resorts: true, ..Held::default() };
    assert_eq!(count(10, || world.gated(&backends, &all).unwrap()), counted([("a/vm-0", 5), ("a/vm-1", 5)]));
}

#[test]
fn a_hash_holds_a_key_to_one_place_while_it_takes_part() {
    let world = World::new().uplink("a", 100, &[(100, true); 5]).service("s", 100, 3);
    let backends = [uplink("a", Some(60)), service("s", Some(40))];
    let mut counts = HashMap::new();
    for key in 0..2000 {
        let place = world.hashed(&backends, mix(key)).unwrap();
        assert_eq!(world.hashed(&backends, mix(key)).unwrap(), place);
        *counts.entry(place[..1].to_owned()).or_insert(0) += 1;
    }
    assert!((1100..1300).contains(&counts["a"]), "{counts:?}");
    let key = (0..).map(mix).find(|key| world.hashed(&backends, *key).unwrap() == "a/vm-3").unwrap();
    world.endpoint("a/vm-3").draining.store(true, Ordering::Release);
    let other = world.hashed(&backends, key).unwrap();
    assert!(other.starts_with("a/") && other != "a/vm-3", "{other}: it stays with its backend");
}

#[test]
fn equal_load_leaves_shares_to_the_weights() {
    let world = World::new().uplink("a", 100, &[(30, true), (10, true)]);
    let backends = [least_load("a")];
    assert_eq!(count(40, || world.at(&backends, at(0))), counted([("a/vm-0", 30), ("a/vm-1", 10)]));
}

#[test]
fn the_less_loaded_of_two_gets_the_request() {
    let world = World::new().uplink("a", 100, &[(10, true), (10, true), (10, true)]);
    let backends = [least_load("a")];
    world.endpoint("a/vm-0").in_flight.add(0, 20);
    let counts = count(300, || world.at(&backends, at(0)));
    assert!(!counts.contains_key("a/vm-0") && counts["a/vm-1"] > 100, "it loses every comparison: {counts:?}");
    for name in ["a/vm-0", "a/vm-1", "a/vm-2"] {
        world.endpoint(name).latency.answered(Duration::from_millis(10), at(0));
    }
    world.endpoint("a/vm-0").in_flight.sub(0, 20);
    world.endpoint("a/vm-1").latency.failed(Duration::from_millis(1), at(0));
    let counts = count(300, || world.at(&backends, at(1)));
    assert!(!counts.contains_key("a/vm-1"), "its failure counts as a slow answer: {counts:?}");
    let counts = count(300, || world.at(&backends, at(120)));
    assert!(counts["a/vm-1"] >= 90, "and is forgotten: {counts:?}");
}

#[test]
fn under_load_work_settles_by_weight() {
    // Every request takes as long as the next hundred take to arrive: in flight is what each was given lately.
    let world = World::new().uplink("a", 100, &[(100, true), (200, true), (300, true), (400, true)]);
    let backends = [least_load("a")];
    let mut under_way = std::collections::VecDeque::new();
    for _ in 0..2000 {
        let place = world.at(&backends, at(0));
        world.endpoint(&place).in_flight.add(0, 1);
        under_way.push_back(place);
        if under_way.len() > 100 {
            world.endpoint(&under_way.pop_front().unwrap()).in_flight.sub(0, 1);
        }
    }
    for (name, wanted) in [("a/vm-0", 10), ("a/vm-1", 20), ("a/vm-2", 30), ("a/vm-3", 40)] {
        let found = world.endpoint(name).in_flight.sum();
        assert!(found.abs_diff(wanted) <= 6, "{name}: {found} and not about {wanted}");
    }
}

#[test]
fn a_cold_endpoint_comes_to_its_share_step_by_step() {
    let world = World::new().uplink("a", 100, &[(100, true), (100, true)]);
    let backends = [with(uplink("a", None), LoadBalancing { slow_start: Some(Duration::from_secs(10)), ..LoadBalancing::default() })];
    let shares = |second: u64| count(1000, || world.at(&backends, at(second))).get("a/vm-0").copied().unwrap_or_default();
    assert_eq!(shares(0), 500, "nobody is known to be new");
    world.endpoint("a/vm-0").warmth.begin(at(100));
    let grown: Vec<usize> = [100, 102, 105, 110].map(shares).into();
    assert!((80..100).contains(&grown[0]) && (320..350).contains(&grown[2]) && grown[3] == 500 && grown.is_sorted(), "{grown:?}");
}

#[test]
fn many_endpoints_keep_exact_shares_and_few_are_looked_at() {
    let agents: Vec<(u32, bool)> = (0..1000).map(|index| (1 + index % 3, index % 5 != 0)).collect();
    let world = World::new().uplink("a", 100, &agents);
    let backends = [uplink("a", None)];
    let total: u32 = agents.iter().filter(|(_, ready)| *ready).map(|(weight, _)| weight).sum();
    let counts = world.counts(&backends, total as usize);
    for (index, (weight, ready)) in agents.iter().enumerate() {
        let found = counts.get(&format!("a/vm-{index}")).copied().unwrap_or_default();
        assert_eq!(found, if *ready { *weight as usize } else { 0 }, "vm-{index}");
    }
    let gates = Held::default();
    (0..100).for_each(|_| drop(world.gated(&backends, &gates).unwrap()));
    assert!(gates.asked.get() <= 300, "{} looks for 100 choices", gates.asked.get());
}

#[test]
fn where_half_of_many_are_held_back_the_others_share_by_weight() {
    let world = World::new().uplink("a", 100, &[(10, true); 200]);
    let backends = [uplink("a", None)];
    let shut: Vec<u64> = (0..100).map(|index| world.endpoint(&format!("a/vm-{index}")).id).collect();
    let gates = Held { endpoints: shut.iter().map(|id| (*id, 0)).collect(), ..Held::default() };
    let counts = count(10_000, || world.gated(&backends, &gates).unwrap());
    assert_eq!(counts.len(), 100, "all that are open get some");
    assert!(counts.iter().all(|(name, count)| name[5..].parse::<u32>().unwrap() >= 100 && (40..180).contains(count)), "{counts:?}");
}

#[test]
fn a_session_stays_at_weight_zero_until_control_says_that_it_is_over() {
    let world = World::new().uplink_with("a", 100, true, &[(100, true), (0, true)]).service("s", 100, 1);
    let backends = [uplink("a", Some(10)), service("s", Some(90))];
    for agent in ["a/vm-0", "a/vm-1"] {
        let endpoint = world.endpoint(agent);
        endpoint.draining.store(true, Ordering::Release);
        assert_eq!(world.bound(&backends, 0, &endpoint), agent);
        endpoint.sessions_over.store(true, Ordering::Release);
        assert_eq!(world.bound(&backends, 0, &endpoint), "s/1");
    }
    assert_eq!(world.counts(&backends, 10), counted([("s/1", 10)]), "new ones never go there");
}

#[test]
fn sessions_on_a_service_stay_too() {
    let world = World::new().service("s", 100, 2).service("t", 100, 1);
    let backends = [service("s", Some(0)), service("t", Some(1))];
    let endpoint = world.book.endpoint("service/s/2");
    assert_eq!(world.bound(&backends, 0, &endpoint), "s/2");
    let gates = Held { backends: HashMap::from([("s", 0)]), ..Held::default() };
    let bound = Bound { backend: backends[0].state.id, endpoint: endpoint.id };
    let held_back = world.ask(&backends, |question| Some(choose(Question { bound: Some(bound), gates: Some(&gates), ..question })));
    assert_eq!(held_back.unwrap(), "t/1");
}

#[test]
fn a_backend_that_is_not_ready_loses_its_sessions_at_once() {
    let world = World::new().uplink("a", 100, &[(100, false), (100, true)]).uplink("b", 100, &[(100, false)]).service("s", 100, 1);
    let backends = [uplink("a", Some(1)), uplink("b", Some(98)), service("s", Some(1))];
    assert_eq!(world.bound(&backends, 0, &world.endpoint("a/vm-0")), "a/vm-1", "another endpoint of the backend goes first");
    assert!(["a/vm-1", "s/1"].contains(&&*world.bound(&backends, 1, &world.endpoint("b/vm-0"))));
    let stranger = Bound { backend: 1, endpoint: 2 };
    let any = world.ask(&backends, |question| Some(choose(Question { bound: Some(stranger), ..question }))).unwrap();
    assert!(["a/vm-1", "s/1"].contains(&&*any));
}

#[test]
fn a_retry_leaves_the_endpoint_of_its_session() {
    let world = World::new().uplink("a", 100, &[(100, true), (100, true)]);
    let backends = [uplink("a", None)];
    let bound = Some(Bound { backend: backends[0].state.id, endpoint: world.endpoint("a/vm-1").id });
    let (rule, mut tried) = (world.book.rule("rule/r/0"), Tried::default());
    let first = choose(Question { bound, ..world.question(&backends, &rule, &tried) }).unwrap();
    tried.add(&first);
    let second = choose(Question { bound, ..world.question(&backends, &rule, &tried) }).unwrap();
    assert_eq!((label(&first), label(&second)), ("a/vm-1".to_owned(), "a/vm-0".to_owned()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn choosing_is_total_under_every_policy(
        agents in prop::collection::vec((0u32..3, any::<bool>(), 0u32..3), 0..60),
        least_loaded: bool, slow: bool, prefer_zone: bool, near in 0usize..60, hash in prop::option::of(any::<u64>()), fallback_ready: bool, second in 0u64..20,
    ) {
        let known: Vec<(u32, bool)> = agents.iter().map(|(weight, ready, _)| (*weight, *ready)).collect();
        let world = World::new().near(near).uplink("a", 100, &known).near(0).uplink("b", 100, &[(1, fallback_ready)]);
        let method = if least_loaded { Method::LeastLoad } else { Method::RoundRobin };
        let asked = LoadBalancing { method, slow_start: slow.then_some(Duration::from_secs(10)), prefer_zone };
        let backends = [with(uplink("a", None), asked), fallback(3, uplink("b", None))];
        let mut gates = Held::default();
        let mut open = Vec::new();
        for (index, (weight, ready, gate)) in agents.iter().enumerate() {
            let state = world.endpoint(&format!("a/vm-{index}"));
            state.warmth.begin(at(index as u64 % 20));
            gates.endpoints.insert(state.id, gate * FULL / 2);
            if *weight > 0 && *ready && *gate > 0 {
                open.push(format!("a/vm-{index}"));
            }
        }
        let (rule, mut tried, mut seen) = (world.book.rule("rule/r/0"), Tried::default(), Vec::new());
        while let Ok(choice) = choose(Question { gates: Some(&gates), hash, now: at(second), ..world.question(&backends, &rule, &tried) }) {
            tried.add(&choice);
            seen.push(label(&choice));
        }
        // Retries reach everybody once, the fallback last.
        prop_assert_eq!(seen.pop_if(|last| last == "b/vm-0").is_some(), fallback_ready);
        seen.sort();
        open.sort();
        prop_assert_eq!(seen, open);
    }
}
