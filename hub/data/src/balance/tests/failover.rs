//! Choice under failover: tiers that fail, are held, and come back.

use std::cell::RefCell;
use std::time::Duration;

use figspan_model::health::{Cause, Standing};

use super::policies::{Held, at, count, fallback};
use super::*;

/// A rule with failover, as a request sees it.
struct Rule<'w> {
    world: &'w World,
    backends: Vec<Backend>,
    terms: Failover,
    state: Arc<RuleState>,
    gates: Held,
}

impl<'w> Rule<'w> {
    fn new(world: &'w World, backends: Vec<Backend>) -> Self {
        let state = world.book.rule("rule/r/0");
        Self { world, backends, terms: Failover::default(), state, gates: Held { last_resorts: true, ..Held::default() } }
    }

    fn question<'q>(&'q self, tried: &'q Tried, now: Moment) -> Question<'w, 'q> {
        let question = self.world.question(&self.backends, &self.state, tried);
        Question { failover: Some(&self.terms), gates: Some(&self.gates), now, ..question }
    }

    fn next(&self, now: Moment) -> String {
        choose(self.question(&Tried::default(), now)).map_or_else(|none| none.to_string(), |choice| label(&choice))
    }

    fn counts(&self, requests: usize, now: Moment) -> HashMap<String, usize> {
        count(requests, || self.next(now))
    }

    fn drain(&self, endpoint: &str, draining: bool) {
        self.world.endpoint(endpoint).draining.store(draining, Ordering::Release);
    }

    /// Opens or shuts a gate before one endpoint; it is a last resort.
    fn eject(&mut self, endpoint: &str, out: bool) {
        self.gates.endpoints.insert(self.world.endpoint(endpoint).id, if out { 0 } else { FULL });
    }

    fn standing(&self) -> Standing {
        self.state.tier(0).standing()
    }
}

fn two_tiers() -> World {
    World::new().uplink("a", 100, &[(100, true)]).uplink("b", 100, &[(100, true)])
}

fn a_then_b() -> Vec<Backend> {
    vec![uplink("a", None), fallback(1, uplink("b", None))]
}

#[test]
fn a_tier_whose_only_endpoint_is_ejected_is_left_held_and_taken_back_step_by_step() {
    let world = two_tiers();
    let mut rule = Rule::new(&world, a_then_b());
    assert_eq!(rule.counts(100, at(0)), counted([("a/vm-0", 100)]));
    rule.eject("a/vm-0", true);
    assert_eq!(rule.counts(100, at(1)), counted([("b/vm-0", 100)]), "an ejected endpoint is no better than a fallback");
    rule.eject("a/vm-0", false);
    assert_eq!(rule.counts(100, at(10)), counted([("b/vm-0", 100)]), "held");
    for (second, wanted, when) in [(11, 50, "5 % first"), (26, 524, "the middle between 5 % and all")] {
        assert!(rule.counts(1000, at(second))["a/vm-0"].abs_diff(wanted) <= 1, "{when}");
    }
    assert_eq!(rule.counts(100, at(41)), counted([("a/vm-0", 100)]));
}

#[test]
fn without_failover_an_ejected_endpoint_is_used_before_a_fallback_is() {
    let world = two_tiers();
    let mut rule = Rule::new(&world, a_then_b());
    rule.eject("a/vm-0", true);
    let choice = choose(Question { failover: None, ..rule.question(&Tried::default(), at(0)) });
    assert_eq!(label(&choice.unwrap()), "a/vm-0");
}

#[test]
fn shares_within_a_tier_are_exact_whatever_part_of_the_requests_it_gets() {
    let world = World::new().uplink("a", 100, &[(100, true)]).uplink("c", 100, &[(100, true)]).uplink("b", 100, &[(100, true)]);
    let mut rule = Rule::new(&world, vec![uplink("a", Some(75)), uplink("c", Some(25)), fallback(1, uplink("b", Some(1)))]);
    rule.next(at(0));
    rule.gates.backends = HashMap::from([("a", 0), ("c", 0)]);
    rule.next(at(0));
    rule.gates.backends.clear();
    rule.next(at(10));
    // A growing share that passes a half, where every second request is the tier's.
    let mut counts: HashMap<String, usize> = HashMap::new();
    for second in 11..40 {
        rule.counts(40, at(second)).into_iter().for_each(|(place, count)| *counts.entry(place).or_default() += count);
    }
    let (a, c) = (counts["a/vm-0"], counts["c/vm-0"]);
    assert!(a.abs_diff(3 * c) <= 4, "three to one: {counts:?}");
    let wanted: f64 = (11..40).map(|second| 40.0 * f64::from(51 + 973 * (second - 10) / 30) / 1024.0).sum();
    assert!(((a + c) as f64 - wanted).abs() <= 2.0, "{wanted}: {counts:?}");
}

#[test]
fn what_is_held_is_better_than_a_refusal() {
    let world = two_tiers();
    let rule = Rule::new(&world, a_then_b());
    rule.next(at(0));
    rule.state.tier(0).look(&rule.terms, Err(Cause::Shut), at(0));
    assert_eq!(rule.next(at(1)), "b/vm-0");
    rule.drain("b/vm-0", true);
    assert_eq!(rule.counts(10, at(1)), counted([("a/vm-0", 10)]), "nobody else can");
    rule.drain("b/vm-0", false);
    assert_eq!(rule.next(at(1)), "b/vm-0");
}

#[test]
fn what_an_operator_takes_out_has_not_failed_and_comes_back_at_once() {
    let world = two_tiers();
    let rule = Rule::new(&world, a_then_b());
    rule.next(at(0));
    rule.drain("a/vm-0", true);
    assert_eq!(rule.next(at(1)), "b/vm-0");
    assert_eq!(rule.standing(), Standing::Up);
    rule.drain("a/vm-0", false);
    assert_eq!(rule.counts(10, at(2)), counted([("a/vm-0", 10)]));
}

#[test]
fn a_retry_goes_on_to_the_next_tier_and_judges_none() {
    let world = two_tiers();
    let rule = Rule::new(&world, a_then_b());
    let mut tried = Tried::default();
    let mut seen = Vec::new();
    while let Ok(choice) = choose(rule.question(&tried, at(0))) {
        tried.add(&choice);
        seen.push(label(&choice));
    }
    assert_eq!(seen, ["a/vm-0", "b/vm-0"]);
    assert_eq!(rule.standing(), Standing::Up, "that all of it was tried is no failure");
}

#[test]
fn a_session_leaves_a_tier_that_is_held_and_stays_where_it_went() {
    let world = two_tiers();
    let rule = Rule::new(&world, a_then_b());
    let bound = |backend: usize, endpoint: &str, now| {
        let bound = Some(Bound { backend: rule.backends[backend].state.id, endpoint: world.endpoint(endpoint).id });
        label(&choose(Question { bound, ..rule.question(&Tried::default(), now) }).unwrap())
    };
    rule.next(at(0));
    assert_eq!(bound(0, "a/vm-0", at(0)), "a/vm-0");
    rule.state.tier(0).look(&rule.terms, Err(Cause::Shut), at(0));
    assert_eq!(bound(0, "a/vm-0", at(1)), "b/vm-0");
    assert_eq!(bound(1, "b/vm-0", at(100)), "b/vm-0");
}

#[test]
fn keys_of_a_hash_come_back_one_after_the_other_and_stay_back() {
    let world = two_tiers();
    let rule = Rule::new(&world, a_then_b());
    let place = |key: u64, now| label(&choose(Question { hash: Some(mix(key)), ..rule.question(&Tried::default(), now) }).unwrap());
    place(0, at(0));
    rule.state.tier(0).look(&rule.terms, Err(Cause::Unready), at(0));
    place(0, at(10));
    let mut back: Vec<u64> = Vec::new();
    for second in [10, 15, 20, 30, 39] {
        let now: Vec<u64> = (0..500).filter(|key| place(*key, at(second)) == "a/vm-0").collect();
        assert!(back.iter().all(|key| now.contains(key)), "a key that was back has moved again");
        let wanted = 500.0 * f64::from(rule.state.tier(0).share(&rule.terms, at(second))) / 1024.0;
        assert!((now.len() as f64 - wanted).abs() < 45.0, "{} instead of {wanted}", now.len());
        back = now;
    }
}

#[test]
fn the_shares_that_are_told_are_those_that_choices_give() {
    let world = World::new().uplink("a", 100, &[(100, true)]).uplink("b", 100, &[(100, true)]).service("s", 100, 1);
    let rule = Rule::new(&world, vec![uplink("a", Some(30)), uplink("b", Some(10)), fallback(1, service("s", None))]);
    let told = |now| shares(rule.question(&Tried::default(), now));
    rule.next(at(0));
    assert_eq!(told(at(0)), [0.75, 0.25, 0.0]);
    rule.state.tier(0).look(&rule.terms, Err(Cause::Unready), at(0));
    assert_eq!(told(at(5)), [0.0, 0.0, 1.0]);
    rule.next(at(10));
    let (shares, counts) = (told(at(25)), rule.counts(1024, at(25)));
    let found = ["a/vm-0", "b/vm-0", "s/1"].map(|place| counts[place] as f64 / 1024.0);
    assert!(shares.iter().zip(found).all(|(told, found)| (told - found).abs() < 0.002), "{shares:?} {counts:?}");
    assert_eq!(shares.iter().sum::<f64>(), 1.0);
    world.book.endpoint("service/s/1").draining.store(true, Ordering::Release);
    assert_eq!(told(at(25)), [0.75, 0.25, 0.0], "without a fallback all of it");
}

#[test]
fn turns_are_told_once_each() {
    struct Told(RefCell<Vec<(String, u8, Turn)>>);
    impl Gates for Told {
        fn turned(&self, rule: &RuleState, tier: u8, turn: Turn) {
            self.0.borrow_mut().push((rule.key.to_string(), tier, turn));
        }
    }
    let world = two_tiers();
    let rule = Rule { terms: Failover { failback: Duration::from_secs(1), ..Failover::default() }, ..Rule::new(&world, a_then_b()) };
    let told = Told(RefCell::default());
    rule.next(at(0));
    rule.state.tier(0).look(&rule.terms, Err(Cause::Unready), at(0));
    let tried = Tried::default();
    for second in 0..20 {
        choose(Question { gates: Some(&told), ..rule.question(&tried, at(second)) }).unwrap();
    }
    let turn = |turn| ("rule/r/0".to_owned(), 0, turn);
    assert_eq!(told.0.take(), [turn(Turn::FailingBack), turn(Turn::Back)]);
}

/// What became of a tier before a choice.
fn past() -> impl Strategy<Value = Vec<(bool, u64)>> {
    prop::collection::vec((any::<bool>(), 0u64..25), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn choosing_is_total_whatever_became_of_the_tiers(
        members in prop::collection::vec((0u8..4, 0u32..3, prop::collection::vec((0u32..2, any::<bool>(), any::<bool>()), 0..3)), 1..5),
        pasts in prop::collection::vec(past(), 4),
        hash in prop::option::of(any::<u64>()),
        failback in 0u64..30,
    ) {
        let mut world = World::new();
        for (index, (_, _, agents)) in members.iter().enumerate() {
            let known: Vec<(u32, bool)> = agents.iter().map(|(weight, ready, _)| (*weight, *ready)).collect();
            world = world.uplink(&format!("u{index}"), 100, &known);
        }
        let backends = members.iter().enumerate().map(|(index, (tier, share, _))| fallback(*tier, uplink(&format!("u{index}"), Some(*share))));
        let mut rule = Rule::new(&world, backends.collect());
        rule.terms.failback = Duration::from_secs(failback);
        let mut possible = Vec::new();
        for (index, (_, share, agents)) in members.iter().enumerate() {
            for (agent, (weight, ready, ejected)) in agents.iter().enumerate() {
                rule.eject(&format!("u{index}/vm-{agent}"), *ejected);
                if *share > 0 && *weight > 0 && *ready {
                    possible.push(format!("u{index}/vm-{agent}"));
                }
            }
        }
        let mut now = 0;
        for (tier, past) in pasts.iter().enumerate() {
            for (able, after) in past {
                now += after;
                rule.state.tier(tier as u8).look(&rule.terms, able.then_some(()).ok_or(Cause::Shut), at(now));
            }
        }
        for second in now..now + 40 {
            let tried = Tried::default();
            let question = Question { hash, ..rule.question(&tried, at(second)) };
            let told: f64 = shares(question).iter().sum();
            prop_assert!((told - if possible.is_empty() { 0.0 } else { 1.0 }).abs() < 1e-9, "shares of {} in all", told);
            match choose(question).map(|choice| label(&choice)) {
                Ok(chosen) => prop_assert!(possible.contains(&chosen), "{} of {:?}", chosen, possible),
                Err(why) => prop_assert!(possible.is_empty(), "{} in spite of {:?}", why, possible),
            }
        }
        // Retries reach everybody, and nobody twice.
        let (mut tried, mut seen) = (Tried::default(), Vec::new());
        while let Ok(choice) = choose(Question { hash, ..rule.question(&tried, at(now)) }) {
            tried.add(&choice);
            seen.push(label(&choice));
        }
        seen.sort();
        possible.sort();
        prop_assert_eq!(seen, possible);
    }
}
