use proptest::prelude::*;

use super::*;
use crate::health::End;

fn terms() -> Terms {
    Terms {
        scope: Scope::Endpoint,
        condition: Condition::parse("ErrorRatio() >= 0.5").unwrap(),
        window: Duration::from_secs(10),
        min_requests: 20,
        open: Duration::from_secs(5),
        probes: 3,
    }
}

fn outcome(status: u16) -> Outcome {
    Outcome { end: End::Answered(status), latency: Duration::from_millis(5) }
}

fn at(millis: u64) -> Moment {
    Moment::from_millis(millis)
}

/// A breaker that opened at 1,200 ms, until 6,200 ms.
fn opened(terms: &Terms) -> Breaker {
    let breaker = Breaker::new(2);
    for number in 0..20 {
        breaker.record(terms, number % 2, Permit::Free, &outcome(if number % 2 == 0 { 500 } else { 200 }), at(1010 + 10 * number as u64));
    }
    assert_eq!(breaker.state(), State::Open { until: at(6200) });
    breaker
}

#[test]
fn it_opens_at_half_errors_within_the_window_and_not_before_there_are_enough_requests() {
    let (breaker, terms) = (Breaker::new(1), terms());
    for number in 0..19 {
        breaker.record(&terms, 0, Permit::Free, &outcome(500), at(1000 + 20 * number));
        assert_eq!(breaker.gate(&terms, at(1000 + 20 * number)), Gate::Open);
    }
    breaker.record(&terms, 0, Permit::Free, &outcome(500), at(2000));
    assert_eq!(breaker.gate(&terms, at(2000)), Gate::Shut(Why::Breaker { until: at(7000) }));
    assert_eq!((breaker.enter(&terms, at(6999)), breaker.opened()), (None, 1));
}

#[test]
fn errors_that_are_older_than_the_window_do_not_count() {
    let (breaker, terms) = (Breaker::new(1), terms());
    for number in 0..100 {
        breaker.record(&terms, 0, Permit::Free, &outcome(500), at(1000 + number * 1000));
    }
    assert_eq!(breaker.state(), State::Closed { since: Moment::NEVER }, "ten in ten seconds are too few");
}

#[test]
fn after_its_time_it_lets_a_budget_of_probes_through_and_closes_after_the_last() {
    let terms = terms();
    let breaker = opened(&terms);
    assert_eq!(breaker.gate(&terms, at(6200)), Gate::Probe);
    let probes: Vec<_> = std::iter::from_fn(|| breaker.enter(&terms, at(6300))).collect();
    assert_eq!(probes.len(), 3);
    assert_eq!(breaker.gate(&terms, at(6301)), Gate::Shut(Why::Breaker { until: at(11_300) }));
    for probe in &probes {
        assert_ne!(breaker.gate(&terms, at(6400)), Gate::Open);
        breaker.record(&terms, 0, *probe, &outcome(200), at(6400));
    }
    assert_eq!(breaker.state(), State::Closed { since: at(6400) });
    breaker.record(&terms, 0, Permit::Free, &outcome(500), at(6500));
    assert_eq!(breaker.state(), State::Closed { since: at(6400) }, "what opened it is forgotten");
}

#[test]
fn a_probe_that_fails_opens_it_again_for_a_whole_time() {
    let terms = terms();
    let breaker = opened(&terms);
    let probe = breaker.enter(&terms, at(7000)).unwrap();
    breaker.record(&terms, 1, probe, &outcome(503), at(7100));
    assert_eq!((breaker.state(), breaker.opened()), (State::Open { until: at(12_100) }, 2));
}

#[test]
fn work_that_began_before_it_opened_neither_closes_nor_opens_it() {
    let terms = terms();
    let breaker = opened(&terms);
    let old = breaker.enter(&terms, at(6300)).unwrap();
    breaker.record(&terms, 0, old, &outcome(500), at(6400));
    let probe = breaker.enter(&terms, at(12_000)).unwrap();
    breaker.record(&terms, 0, Permit::Free, &outcome(500), at(12_001));
    breaker.record(&terms, 0, old, &outcome(500), at(12_001));
    assert_eq!(breaker.state(), State::HalfOpen { since: at(12_000), granted: 1, succeeded: 0 });
    breaker.forget(old);
    breaker.forget(probe);
    assert_eq!(breaker.state(), State::HalfOpen { since: at(12_000), granted: 0, succeeded: 0 });
}

#[test]
fn probes_that_never_come_back_do_not_keep_it_shut() {
    let terms = terms();
    let breaker = opened(&terms);
    while breaker.enter(&terms, at(6200)).is_some() {}
    assert_eq!(breaker.enter(&terms, at(11_199)), None);
    assert_eq!(breaker.gate(&terms, at(11_200)), Gate::Probe);
    assert_eq!(breaker.enter(&terms, at(11_200)), Some(Permit::Probe(at(11_200))));
}

#[test]
fn a_slow_probe_fails_where_latency_is_the_condition() {
    let terms = Terms { condition: Condition::parse("LatencyAtQuantileMS(90) > 100").unwrap(), ..terms() };
    let breaker = Breaker::new(1);
    let slow = Outcome { end: End::Answered(200), latency: Duration::from_millis(200) };
    let turns: Vec<_> = (0..20).map(|number| breaker.record(&terms, 0, Permit::Free, &slow, at(1000 + 10 * number))).collect();
    assert_eq!(turns.iter().filter(|turn| **turn == Some(Turn::Opened)).count(), 1);
    assert!(matches!(breaker.state(), State::Open { .. }));
    let probe = breaker.enter(&terms, at(9000)).unwrap();
    breaker.record(&terms, 0, probe, &slow, at(9200));
    assert_eq!(breaker.opened(), 2);
}

#[test]
fn other_terms_change_what_it_does_from_now_on_and_not_what_it_is() {
    let terms = terms();
    let breaker = opened(&terms);
    let other = Terms { condition: Condition::parse("ResponseCodeRatio(500, 600, 0, 600) > 0.9").unwrap(), probes: 1, ..terms.clone() };
    assert_eq!(breaker.gate(&other, at(6199)), Gate::Shut(Why::Breaker { until: at(6200) }));
    let probe = breaker.enter(&other, at(6200)).unwrap();
    breaker.record(&other, 0, probe, &outcome(404), at(6201));
    assert_eq!(breaker.state(), State::Closed { since: at(6201) });
}

proptest! {
    #[test]
    fn a_state_survives_packing(kind in 0..3, moment in 0u64..1 << 42, granted in 0u32..1024, succeeded in 0u32..1024) {
        let state = match kind {
            0 => State::Closed { since: at(moment) },
            1 => State::Open { until: at(moment) },
            _ => State::HalfOpen { since: at(moment), granted, succeeded },
        };
        prop_assert_eq!(State::unpack(state.pack()), state);
    }

    /// Any order of attempts, outcomes and time.
    #[test]
    fn it_never_lets_more_probes_run_than_its_budget_and_never_stays_shut(
        steps in prop::collection::vec((0u64..4000, 0u8..4, any::<prop::sample::Index>()), 1..300),
    ) {
        let (terms, mut now) = (Terms { min_requests: 3, ..terms() }, 1u64);
        let breaker = Breaker::new(1);
        let mut running: Vec<(Permit, u64)> = Vec::new();
        for (step, what, which) in steps {
            now += step;
            match what {
                0 | 1 => {
                    let gate = breaker.gate(&terms, at(now));
                    let entered = breaker.enter(&terms, at(now));
                    // Nobody else is there, so that the gate tells the truth.
                    prop_assert_eq!(gate.is_free(), entered.is_some());
                    prop_assert_eq!(gate == Gate::Open, entered == Some(Permit::Free));
                    running.extend(entered.map(|permit| (permit, now)));
                }
                _ if running.is_empty() => {}
                _ => {
                    let (permit, began) = running.swap_remove(which.index(running.len()));
                    let status = if now - began < 2500 { 200 } else { 500 };
                    let turn = match now - began {
                        0..300 => {
                            breaker.forget(permit);
                            None
                        }
                        _ => breaker.record(&terms, 0, permit, &outcome(status), at(now)),
                    };
                    match turn {
                        Some(Turn::Opened) => prop_assert_eq!(breaker.state(), State::Open { until: at(now) + terms.open }),
                        Some(Turn::Closed) => prop_assert_eq!(breaker.state(), State::Closed { since: at(now) }),
                        None => {}
                    }
                }
            }
            if let State::HalfOpen { since, granted, succeeded } = breaker.state() {
                prop_assert!(granted <= terms.probes && succeeded < terms.probes && succeeded <= granted);
                let live = running.iter().filter(|(permit, _)| *permit == Permit::Probe(since)).count();
                prop_assert!(live as u32 <= terms.probes);
            }
        }
        let idle = at(now) + terms.open;
        prop_assert!(breaker.enter(&terms, idle).is_some(), "after its time somebody may try: {:?}", breaker.state());
    }
}
