use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::health::breaker::Scope;
use crate::health::gate::Why;
use crate::health::{Checked, Condition, End, Verdict};

fn breaker(scope: Scope) -> breaker::Terms {
    breaker::Terms {
        scope,
        condition: Condition::parse("ErrorRatio() >= 0.5").unwrap(),
        window: Duration::from_secs(10),
        min_requests: 4,
        open: Duration::from_secs(5),
        probes: 1,
    }
}

fn ejecting(max_percent: u32) -> Guard {
    let ejection = ejection::Terms {
        consecutive_5xx: 2,
        consecutive_gateway_errors: 0,
        latency: None,
        consecutive_slow: 0,
        interval: Duration::from_secs(10),
        base: Duration::from_secs(30),
        max: Duration::from_secs(300),
        max_percent,
    };
    Guard { ejection: Some(ejection), ..Guard::default() }
}

fn outcome(status: u16) -> Outcome {
    Outcome { end: End::Answered(status), latency: Duration::from_millis(1) }
}

fn at(millis: u64) -> Moment {
    Moment::from_millis(millis)
}

fn fail(guard: &Guard, backend: &BackendHealth, endpoints: &[EndpointHealth], which: usize, now: Moment) -> Changes {
    guard.record(0, (backend, &endpoints[which]), Permit::FREE, &outcome(500), now, |visit| {
        endpoints.iter().for_each(|endpoint| visit(endpoint, true));
    })
}

#[test]
fn a_breaker_of_an_endpoint_leaves_its_siblings_alone_and_one_of_the_backend_does_not() {
    for (scope, backend_open, endpoint_open) in [(Scope::Endpoint, false, true), (Scope::Backend, true, false), (Scope::Both, true, true)] {
        let guard = Guard { breaker: Some(breaker(scope)), ..Guard::default() };
        let (backend, endpoints) = (BackendHealth::new(1), [EndpointHealth::new(1), EndpointHealth::new(1)]);
        (0..4).for_each(|number| {
            fail(&guard, &backend, &endpoints, 0, at(1000 + 20 * number));
        });
        let now = at(1100);
        assert_eq!(matches!(guard.backend(&backend, now), Gate::Shut(_)), backend_open, "{scope:?}");
        assert_eq!(matches!(guard.endpoint(&endpoints[0], now), Gate::Shut(_)), endpoint_open, "{scope:?}");
        assert_eq!(guard.endpoint(&endpoints[1], now), Gate::Open, "{scope:?}");
    }
}

#[test]
fn a_probe_that_one_breaker_grants_and_the_other_does_not_is_given_back() {
    let guard = Guard { breaker: Some(breaker(Scope::Both)), ..Guard::default() };
    let (backend, endpoints) = (BackendHealth::new(1), [EndpointHealth::new(1), EndpointHealth::new(1)]);
    (0..4).for_each(|number| {
        fail(&guard, &backend, &endpoints, 0, at(1000 + 20 * number));
    });
    let later = at(6060);
    let permit = guard.enter(&backend, &endpoints[0], later).unwrap();
    assert!(permit.is_probe());
    assert_eq!(guard.enter(&backend, &endpoints[1], later), None, "the backend's only probe is under way");
    guard.forget(&backend, &endpoints[0], permit);
    assert!(guard.enter(&backend, &endpoints[1], later).is_some());
    assert_eq!(guard.enter(&backend, &endpoints[0], later), None);
}

#[test]
fn an_endpoint_that_fails_goes_and_the_last_one_stays() {
    let (guard, backend) = (ejecting(100), BackendHealth::new(1));
    let endpoints = [EndpointHealth::new(1), EndpointHealth::new(1)];
    for _ in 0..5 {
        fail(&guard, &backend, &endpoints, 0, at(1000));
        fail(&guard, &backend, &endpoints, 1, at(1000));
    }
    assert!(matches!(guard.endpoint(&endpoints[0], at(1000)), Gate::LastResort(Why::Ejected { .. })));
    assert_eq!(guard.endpoint(&endpoints[1], at(1000)), Gate::Open);
    assert_eq!(guard.endpoint(&endpoints[0], at(31_000)), Gate::Open);
}

#[test]
fn a_sibling_that_cannot_take_work_does_not_count_as_one_that_stays() {
    let (guard, backend) = (ejecting(100), BackendHealth::new(1));
    let endpoints = [EndpointHealth::new(1), EndpointHealth::new(1)];
    for _ in 0..5 {
        guard.record(0, (&backend, &endpoints[0]), Permit::FREE, &outcome(500), at(1000), |visit| {
            visit(&endpoints[0], true);
            visit(&endpoints[1], false);
        });
    }
    assert_eq!(guard.endpoint(&endpoints[0], at(1000)), Gate::Open);
}

#[test]
fn checks_shut_out_what_is_down_and_prefer_what_is_known() {
    let (guard, endpoint) = (Guard { checked: true, ..Guard::default() }, EndpointHealth::new(1));
    assert_eq!(guard.endpoint(&endpoint, at(1)), Gate::LastResort(Why::Unchecked));
    endpoint.check.set(Checked::Down, "answered 503".to_owned(), at(5));
    assert_eq!(guard.endpoint(&endpoint, at(5)), Gate::Shut(Why::Unready));
    let verdict = Verdict::of(Some(&guard), &endpoint, false, None, None, at(5));
    assert_eq!(verdict, Verdict::Unready { reason: "answered 503".to_owned() });
    endpoint.check.set(Checked::Ready, String::new(), at(9));
    assert_eq!((guard.endpoint(&endpoint, at(9)), endpoint.check.since()), (Gate::Open, at(9)));
    let growing = Verdict::of(Some(&guard), &endpoint, false, None, Some(50), at(59));
    assert_eq!(growing, Verdict::SlowStarting { percent: 50 });
}

#[test]
fn a_policy_that_asks_for_nothing_sees_nothing() {
    let (backend, endpoint) = (BackendHealth::new(1), EndpointHealth::new(1));
    endpoint.check.set(Checked::Down, String::new(), at(1));
    assert_eq!(Guard::default().endpoint(&endpoint, at(1)), Gate::Open);
    assert_eq!(Guard::default().enter(&backend, &endpoint, at(1)), Some(Permit::FREE));
    assert_eq!(Verdict::of(None, &endpoint, false, None, None, at(1)), Verdict::Ready);
    assert_eq!(Verdict::of(None, &endpoint, true, None, None, at(1)), Verdict::Draining);
}

proptest! {
    #[test]
    fn ejection_alone_never_takes_more_than_its_share_nor_everybody(
        count in 1usize..8,
        percent in 0u32..=100,
        steps in prop::collection::vec((0u64..20_000, any::<prop::sample::Index>()), 0..200),
    ) {
        let (guard, backend) = (ejecting(percent), BackendHealth::new(1));
        let endpoints: Vec<_> = (0..count).map(|_| EndpointHealth::new(1)).collect();
        let mut now = 1;
        for (step, which) in steps {
            now += step;
            fail(&guard, &backend, &endpoints, which.index(count), at(now));
            let out = endpoints.iter().filter(|endpoint| endpoint.ejection.is_out(at(now))).count();
            prop_assert!(out < count && out * 100 <= percent as usize * count);
        }
    }
}
