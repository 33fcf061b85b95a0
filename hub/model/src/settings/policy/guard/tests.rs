use std::time::Duration;

use super::*;
use crate::routing::Target;
use crate::settings::parse;

fn text(policy: &str) -> String {
    format!("[[backend_policy]]\nuplink = 'shop'\n{policy}\n")
}

fn read(policy: &str) -> Option<Guard> {
    let loaded = parse(&text(policy), "hub.toml").unwrap_or_else(|findings| panic!("{policy}: {findings:?}"));
    loaded.routing.backend_policies[&Target::Uplink("shop".parse().unwrap())].guard.clone()
}

#[test]
fn what_is_left_out_has_a_good_default() {
    assert_eq!(read(""), None);
    let guard = read("circuit_breaker = {}\noutlier_ejection = {}").unwrap();
    let (breaker, ejection) = (guard.breaker.unwrap(), guard.ejection.unwrap());
    assert_eq!((breaker.condition.to_string().as_str(), breaker.scope), ("ErrorRatio() >= 0.5", Scope::Endpoint));
    assert_eq!(
        (breaker.window, breaker.open, breaker.min_requests, breaker.probes),
        (Duration::from_secs(10), Duration::from_secs(10), 20, 3)
    );
    assert_eq!((ejection.consecutive_5xx, ejection.consecutive_gateway_errors, ejection.latency, ejection.max_percent), (3, 3, None, 50));
    assert_eq!(
        (ejection.interval, ejection.base, ejection.max),
        (Duration::from_secs(10), Duration::from_secs(30), Duration::from_secs(300))
    );
}

#[test]
fn each_part_of_a_breaker_opens_it_alone() {
    let breaker = "circuit_breaker = { error_ratio = 0.25, latency = { above = '1s' }, expression = 'NetworkErrorRatio() > 0.3 && ErrorRatio() > 0.1' }";
    let condition = read(breaker).unwrap().breaker.unwrap().condition.to_string();
    assert_eq!(condition, "ErrorRatio() >= 0.25 || LatencyAtQuantileMS(99) > 1000 || (NetworkErrorRatio() > 0.3 && ErrorRatio() > 0.1)");
}

#[test]
fn mistakes_are_told_with_their_place_and_a_mend() {
    for (policy, told) in [
        ("circuit_breaker = { expression = 'ErrorRatio() >' }", "character 15: expected a number"),
        ("circuit_breaker = { expression = 'ErrorRate() > 0.5' }", "character 1: expected NetworkErrorRatio()"),
        ("circuit_breaker = { error_ratio = 1.5 }", "use a fraction above 0, up to 1"),
        ("circuit_breaker = { error_ratio = '50%' }", "write a fraction such as 0.5"),
        ("circuit_breaker = { latency = { quantile = 0.5 } }", "above: is missing"),
        ("circuit_breaker = { scope = 'endpoints' }", "write \"endpoint\""),
        ("circuit_breaker = { probes = 0 }", "use 1 to 1000"),
        ("circuit_breaker = { eror_ratio = 0.5 }", "is not a key here; write error_ratio"),
        ("outlier_ejection = { consecutive_5xx = 0, consecutive_gateway_errors = 0 }", "ejects nobody"),
        ("outlier_ejection = { consecutive_slow = 3 }", "says nothing without latency"),
        ("outlier_ejection = { base = '10m' }", "is longer than max"),
        ("outlier_ejection = { max_percent = 101 }", "use 1 to 100"),
    ] {
        let findings = parse(&text(policy), "hub.toml").expect_err(policy);
        let first = findings[0].to_string();
        assert!(first.contains(told) && first.starts_with("hub.toml:3:"), "{policy}: {first}");
    }
}
