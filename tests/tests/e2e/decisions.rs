//! What operators are told: every decision about a request, the share wanted and observed, and how each backend is.

use std::time::Duration;

use figspan_tests::bed::{Bed, http};
use figspan_tests::process::{eventually, text};
use figspan_tests::web::Workload;

const RULES: &str = r#"
[[http_route.rules]]
name = "orders"
matches = [{ path = { value = "/orders" } }]
filters = [{ type = "RequestHeaderModifier", set = [{ name = "x-env", value = "prod" }] }]
retry = { attempts = 1, codes = [503], hedge = "1s" }
backend_refs = [{ uplink = "old", weight = 90 }, { uplink = "new", weight = 10 }]
"#;

const BEFORE: &str = "[[http_route.rules]]\nmatches = [{ path = { value = \"/health\" } }]\nbackend_refs = [{ uplink = \"old\" }]\n";

const POLICY: &str = "[[backend_policy]]\nuplink = \"old\"\ncircuit_breaker = { error_ratio = 0.5, window = \"10s\", min_requests = 20, open = \"5s\", probes = 3 }\n";

#[test]
fn shares_and_state_stay_with_a_rule_that_has_a_name() {
    let (old, new) = (Workload::named("old"), Workload::named("new"));
    let bed = Bed::start(&http(RULES)).agent("vm-1", &(old.uplink("old", "") + &new.uplink("new", ""))).ready("old", 1).ready("new", 1);
    let mut client = bed.client();
    for _ in 0..50 {
        client.get("/orders");
    }
    let rule = |at: usize| bed.hub.json(&["get", "route", "shop"])["rules"][at].clone();
    let told = rule(0);
    assert_eq!((told["name"].as_str(), told["backends"][0]["picked"].as_u64()), (Some("orders"), Some(45)), "{told}");
    let shares = |told: &serde_json::Value| (told["share_wanted"].as_f64().unwrap(), told["share_observed"].as_f64().unwrap());
    assert_eq!(shares(&told["backends"][0]), (0.9, 0.9), "{told}");
    // Another rule comes before it: the cursor goes on in the middle of its window, and so do the counts.
    bed.hub.rewrite(&http(&format!("{BEFORE}{RULES}")));
    eventually("the new rule is in force", Duration::from_secs(5), || rule(1)["name"] == "orders");
    for _ in 0..50 {
        client.get("/orders");
    }
    assert_eq!((old.seen(), new.seen()), (90, 10), "exact over the reload");
    assert_eq!(rule(1)["backends"][1]["picked"], 10);
    assert_eq!(rule(0)["name"], serde_json::Value::Null);
    assert!(rule(0)["backends"][0]["share_observed"].is_null(), "nobody asked for the new rule");
}

#[test]
fn explain_and_describe_tell_rule_policies_attempts_and_how_each_backend_is() {
    let (old, new) = (Workload::named("old"), Workload::named("new"));
    let bed = Bed::start(&(http(RULES) + POLICY))
        .agent("vm-1", &(old.uplink("old", "") + &new.uplink("new", "")))
        .agent("vm-2", &old.uplink("old", ""))
        .ready("old", 2)
        .ready("new", 1);
    let asked = |method: &str| bed.hub.json(&["explain", method, "http://shop.example/orders/1"]);
    let told = asked("GET");
    assert_eq!((told["route"].as_str(), told["rule_name"].as_str()), (Some("shop"), Some("orders")), "{told}");
    let list = |name: &str| told[name].as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let (policies, attempts, retried) = (list("policies"), list("attempts"), list("retried"));
    assert!(policies.iter().any(|line| line == "RequestHeaderModifier: set x-env"), "{policies:?}");
    assert!(policies.iter().any(|line| line.starts_with("retries: 1 more") && line.ends_with("hedged after 1s")), "{policies:?}");
    assert_eq!(attempts.len(), 3, "every endpoint once: {attempts:?}");
    assert_eq!(Some(attempts[0].as_str()), told["next"].as_str());
    assert!(retried.iter().any(|line| line.contains("answered 503")), "{retried:?}");
    assert!(asked("POST")["retried"].to_string().contains("never, POST must not be repeated"));
    assert_eq!(old.seen() + new.seen(), 0, "explaining is not asking");
    let page = text(&bed.hub.ctl(&["explain", "GET", "http://shop.example/orders/1", "-H", "x-env: test", "--client", "10.1.2.3"]));
    for line in [
        "filters: the request's x-env is written",
        "backends: uplink old: circuit breaker of each endpoint",
        "timeouts: 5s to reach the workload",
    ] {
        assert!(page.contains(line), "{line} is not in {page}");
    }
    bed.get("/orders");
    let backends = bed.hub.json(&["get", "backends"]);
    let of = |name: &str| backends.as_array().unwrap().iter().find(|backend| backend["name"] == name).unwrap().clone();
    let endpoints = of("old")["endpoints"].as_array().unwrap().clone();
    assert_eq!(endpoints.len(), 2, "{backends}");
    assert!(endpoints.iter().all(|endpoint| endpoint["verdict"] == "ready" && endpoint["breaker"]["state"] == "closed"), "{backends}");
    assert_eq!((of("old")["rules"][0].as_str(), of("new")["policies"].as_array().map(Vec::len)), (Some("shop/orders"), Some(0)));
    let described = text(&bed.hub.ctl(&["describe", "backend", "old"]));
    assert!(described.contains("circuit breaker of each endpoint: over 10s, from 20 requests"), "{described}");
    let missing = bed.hub.ctl(&["describe", "backend", "nobody"]);
    assert!(!missing.status.success() && text(&missing).contains("no rule names `nobody`"));
}

#[test]
fn what_metrics_show_is_in_the_reference_with_its_kind() {
    let shop = Workload::named("old");
    let bed = Bed::start(&(http(&RULES.replace(", { uplink = \"new\", weight = 10 }", "")) + POLICY))
        .agent("vm-1", &shop.uplink("old", ""))
        .ready("old", 1);
    bed.get("/orders");
    let page = figspan_tests::architecture::read(&figspan_tests::architecture::root().join("docs/reference/metrics.md"));
    let shown = bed.metrics();
    let kinds: Vec<(&str, &str)> = shown.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    assert!(kinds.len() >= 40, "only {} metrics are shown", kinds.len());
    let missing = kinds.into_iter().filter_map(|(name, kind)| {
        // The format names a counter without the ending that its samples have.
        let ending = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let row = format!("| `{name}{ending}` | {kind} |");
        (!page.contains(&row)).then_some(row)
    });
    let missing: Vec<String> = missing.collect();
    assert!(missing.is_empty(), "docs/reference/metrics.md lacks {missing:#?}");
}
