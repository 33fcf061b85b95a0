use proptest::prelude::*;

use super::*;
use crate::health::End;

fn terms() -> Terms {
    Terms {
        consecutive_5xx: 3,
        consecutive_gateway_errors: 2,
        latency: Some(Duration::from_secs(1)),
        consecutive_slow: 4,
        interval: Duration::from_secs(10),
        base: Duration::from_secs(30),
        max: Duration::from_secs(100),
        max_percent: 50,
    }
}

fn outcome(end: End, millis: u64) -> Outcome {
    Outcome { end, latency: Duration::from_millis(millis) }
}

fn at(seconds: u64) -> Moment {
    Moment::from_millis(seconds * 1000)
}

#[test]
fn runs_of_each_kind_count_apart_and_a_success_ends_them() {
    let (ejection, terms) = (Ejection::default(), terms());
    let record = |end, millis| ejection.record(&terms, &outcome(end, millis), at(1));
    let (error, gateway, good) = (End::Answered(500), End::Answered(503), End::Answered(200));
    assert_eq!([error, error, good, error, error].map(|end| record(end, 1)), [false; 5]);
    assert!(record(error, 1), "the third 5xx in a row");
    assert!(!record(good, 1) && !record(gateway, 1) && record(End::Failed, 1), "two gateway errors in a row");
    assert!(!record(End::Connected, 1));
    assert_eq!([2000; 4].map(|millis| record(good, millis)), [false, false, false, true], "the fourth slow one in a row");
}

#[test]
fn each_ejection_is_longer_up_to_a_bound_and_good_behaviour_shortens_the_next() {
    let (ejection, terms) = (Ejection::default(), terms());
    let mut now = at(1000);
    for seconds in [30, 60, 90, 100, 100] {
        ejection.eject(&terms, now);
        assert_eq!(ejection.until(), now + Duration::from_secs(seconds));
        assert_eq!(ejection.gate(now), Gate::LastResort(Why::Ejected { until: ejection.until() }));
        now = ejection.until();
        assert_eq!(ejection.gate(now), Gate::Open);
    }
    now = now + Duration::from_secs(40);
    ejection.eject(&terms, now);
    assert_eq!(ejection.until(), now + Duration::from_secs(60), "the sixth, less four intervals");
    assert_eq!(ejection.total(), 6);
}

#[test]
fn what_it_is_given_while_out_does_not_count() {
    let (ejection, terms) = (Ejection::default(), terms());
    ejection.eject(&terms, at(1));
    assert!((0..9).all(|_| !ejection.record(&terms, &outcome(End::Failed, 1), at(2))));
    assert!(!ejection.record(&terms, &outcome(End::Failed, 1), at(31)), "a fresh start");
}

proptest! {
    #[test]
    fn never_more_than_the_share_and_never_the_last(all in 1usize..50, out in 0usize..50, others in 0usize..50, percent in 0u32..=100) {
        prop_assume!(out <= all && others < all);
        if allowed(&Terms { max_percent: percent, ..terms() }, all, out, others) {
            prop_assert!(others > 0);
            prop_assert!((out + 1) as f64 / all as f64 <= f64::from(percent) / 100.0 + 1e-9);
        }
    }
}
