//! The hub's own zone first. The last agents of each uplink here are near.

use super::*;

fn near_first(backend: Backend) -> Backend {
    with(backend, LoadBalancing { prefer_zone: true, ..LoadBalancing::default() })
}

const SLOWLY: Duration = Duration::from_secs(10);

fn near_first_and_slowly(name: &str) -> Backend {
    with(uplink(name, None), LoadBalancing { prefer_zone: true, slow_start: Some(SLOWLY), ..LoadBalancing::default() })
}

fn drain(world: &World, name: &str, drains: bool) {
    world.endpoint(name).draining.store(drains, Ordering::Release);
}

#[test]
fn endpoints_of_the_own_zone_get_all_while_one_of_them_takes_part() {
    let world = World::new().near(2).uplink("a", 100, &[(500, true), (30, true), (10, true)]);
    let backends = [near_first(uplink("a", None))];
    assert_eq!(world.counts(&backends, 40), counted([("a/vm-1", 30), ("a/vm-2", 10)]), "by their weights, however heavy others are");
    drain(&world, "a/vm-1", true);
    assert_eq!(world.counts(&backends, 10), counted([("a/vm-2", 10)]));
    drain(&world, "a/vm-2", true);
    assert_eq!(world.counts(&backends, 10), counted([("a/vm-0", 10)]));
    drain(&world, "a/vm-1", false);
    assert_eq!(world.counts(&backends, 10), counted([("a/vm-1", 10)]), "and back at once");
    assert_eq!(world.counts(&[uplink("a", None)], 106), counted([("a/vm-0", 100), ("a/vm-1", 6)]), "who did not ask is not asked");
}

#[test]
fn addresses_of_services_have_zones_too() {
    let world = World::new().near(1).service("s", 100, 3);
    assert_eq!(world.counts(&[near_first(service("s", None))], 10), counted([("s/3", 10)]));
    assert_eq!(world.counts(&[service("s", None)], 9), counted([("s/1", 3), ("s/2", 3), ("s/3", 3)]));
}

#[test]
fn shares_among_backends_stay_exact_wherever_their_endpoints_are() {
    let world = World::new().near(1).uplink("a", 100, &[(1, true), (1, true)]).near(0).uplink("b", 100, &[(1, true)]);
    let backends = [near_first(uplink("a", Some(30))), near_first(uplink("b", Some(70)))];
    assert_eq!(world.counts(&backends, 100), counted([("a/vm-1", 30), ("b/vm-0", 70)]));
}

#[test]
fn a_retry_leaves_the_zone_when_all_of_it_was_tried() {
    let world = World::new().near(1).uplink("a", 100, &[(1, true), (1, true)]);
    let backends = [near_first(uplink("a", None))];
    let mut tried = Tried::default();
    let near = world.choose(&backends, &tried).unwrap();
    tried.add(&near);
    let far = world.choose(&backends, &tried).unwrap();
    assert_eq!((label(&near), near.near), ("a/vm-1".to_owned(), Some(true)));
    assert_eq!((label(&far), far.near), ("a/vm-0".to_owned(), Some(false)));
    assert_eq!(world.choose(&[uplink("a", None)], &Tried::default()).unwrap().near, None);
}

#[test]
fn who_is_only_a_last_resort_goes_after_good_ones_of_other_zones() {
    let world = World::new().near(1).uplink("a", 100, &[(1, true), (1, true)]);
    let backends = [near_first(uplink("a", None))];
    let (far, near) = (world.endpoint("a/vm-0").id, world.endpoint("a/vm-1").id);
    let ejected = Held { endpoints: HashMap::from([(near, 0)]), last_resorts: true, ..Held::default() };
    assert_eq!(count(10, || world.gated(&backends, &ejected).unwrap()), counted([("a/vm-0", 10)]));
    let both = Held { endpoints: HashMap::from([(near, 0), (far, 0)]), last_resorts: true, ..Held::default() };
    assert_eq!(count(10, || world.gated(&backends, &both).unwrap()), counted([("a/vm-1", 10)]), "of last resorts the near one");
}

#[test]
fn a_hash_looks_at_the_own_zone_and_keeps_its_keys_when_others_change() {
    let world = World::new().near(3).uplink("a", 100, &[(1, true); 6]);
    let backends = [near_first(uplink("a", None))];
    let places = || (0..500).map(|key| world.hashed(&backends, mix(key)).unwrap()).collect::<Vec<_>>();
    let before = places();
    assert!(["a/vm-3", "a/vm-4", "a/vm-5"].iter().all(|place| before.iter().any(|found| found == place)));
    drain(&world, "a/vm-0", true);
    assert_eq!(places(), before);
    drain(&world, "a/vm-4", true);
    let moved = places().into_iter().zip(&before).filter(|(now, was)| now != *was).collect::<Vec<_>>();
    assert!(moved.iter().all(|(now, was)| *was == "a/vm-4" && ["a/vm-3", "a/vm-5"].contains(&now.as_str())), "{moved:?}");
}

#[test]
fn the_less_loaded_is_looked_for_in_the_own_zone() {
    let world = World::new().near(2).uplink("a", 100, &[(1, true); 3]);
    let backends = [with(uplink("a", None), LoadBalancing { method: Method::LeastLoad, prefer_zone: true, ..LoadBalancing::default() })];
    world.endpoint("a/vm-1").in_flight.add(0, 20);
    assert_eq!(count(100, || world.at(&backends, at(0))), counted([("a/vm-2", 100)]));
}

#[test]
fn what_slow_start_holds_back_in_the_own_zone_goes_to_all() {
    let world = World::new().near(1).uplink("a", 100, &[(100, true), (100, true), (100, true)]);
    let backends = [near_first_and_slowly("a")];
    let shares = |second: u64| count(3000, || world.at(&backends, at(second)));
    assert_eq!(shares(0), counted([("a/vm-2", 3000)]), "nobody is new");
    world.endpoint("a/vm-2").warmth.begin(at(100));
    let grown: Vec<usize> = [100, 102, 105, 110].map(|second| shares(second)["a/vm-2"]).into();
    assert!((300..600).contains(&grown[0]) && grown[3] == 3000 && grown.is_sorted(), "{grown:?}");
    let cold = shares(100);
    assert!(cold["a/vm-0"].abs_diff(cold["a/vm-1"]) <= 1, "the others share the rest evenly: {cold:?}");
    for vm in ["a/vm-0", "a/vm-1"] {
        world.endpoint(vm).warmth.begin(at(100));
    }
    assert_eq!(shares(100), counted([("a/vm-2", 3000)]), "where all are as new, nothing is gained elsewhere");
}

#[test]
fn many_endpoints_of_the_own_zone_keep_exact_shares() {
    let world = World::new().near(200).uplink("a", 100, &[(2, true); 500]);
    let counts = world.counts(&[near_first(uplink("a", None))], 400);
    assert!(
        counts.len() == 200 && counts.iter().all(|(name, count)| *count == 2 && name[5..].parse::<u32>().unwrap() >= 300),
        "{counts:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_zone_decides_who_and_never_whether(
        agents in prop::collection::vec((0u32..3, any::<bool>(), any::<bool>()), 1..50), near in 0usize..50,
        least_loaded: bool, slow: bool, hash in prop::option::of(any::<u64>()), second in 0u64..20,
    ) {
        let known: Vec<(u32, bool)> = agents.iter().map(|(weight, ready, _)| (*weight, *ready)).collect();
        let world = World::new().near(near).uplink("a", 100, &known);
        let method = if least_loaded { Method::LeastLoad } else { Method::RoundRobin };
        let asked = LoadBalancing { method, slow_start: slow.then_some(SLOWLY), prefer_zone: true };
        let backends = [with(uplink("a", None), asked)];
        let takes = |index: usize| agents[index].0 > 0 && agents[index].1 && !agents[index].2;
        for (index, (_, _, drains)) in agents.iter().enumerate() {
            let state = world.endpoint(&format!("a/vm-{index}"));
            state.draining.store(*drains, Ordering::Release);
            if slow {
                state.warmth.begin(at(index as u64 % 20));
            }
        }
        let (rule, tried) = (world.book.rule("rule/r/0"), Tried::default());
        let is_near = |index: usize| index + near >= agents.len();
        for _ in 0..20 {
            match choose(Question { hash, now: at(second), ..world.question(&backends, &rule, &tried) }) {
                Err(why) => prop_assert!(!(0..agents.len()).any(takes), "{why}"),
                Ok(choice) => {
                    let index = label(&choice)[5..].parse::<usize>().unwrap();
                    prop_assert!(takes(index));
                    prop_assert_eq!(choice.near, Some(is_near(index)));
                    // Slow start alone leads out of a zone where somebody takes part.
                    let somebody = (0..agents.len()).any(|index| takes(index) && is_near(index));
                    prop_assert!(is_near(index) || !somebody || (slow && hash.is_none()), "vm-{index} is far");
                }
            }
        }
    }
}
