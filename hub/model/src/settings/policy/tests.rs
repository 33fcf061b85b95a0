//! Mistakes in what a rule and a backend ask of requests: each finding says where, what, why and how to mend it.

use std::time::Duration;

use crate::routing::policy::{CompareBody, Per};
use crate::routing::{Backend, HttpRule};
use crate::settings::{Loaded, parse_with};
use crate::state::Book;

/// A configuration with these keys in its one rule, at line 8, and this behind it.
fn text(rule: &str, more: &str) -> String {
    format!(
        "[[service]]\nname = 's'\naddresses = ['127.0.0.1:1']\n[[http_route]]\nname = 'r'\n[[http_route.rules]]\nbackend_refs = [{{ uplink = 'u' }}, {{ service = 's' }}]\n{rule}\n{more}\n"
    )
}

fn parse(text: &str) -> Result<Loaded, Vec<String>> {
    parse_with(text, "hub.toml", &|_, _| Ok(vec![b'x'; 64])).map_err(|findings| findings.iter().map(ToString::to_string).collect())
}

fn rule(keys: &str) -> std::sync::Arc<HttpRule> {
    let loaded = parse(&text(keys, "")).unwrap_or_else(|findings| panic!("{keys}: {findings:#?}"));
    std::sync::Arc::clone(&loaded.routing.build(&Book::new(1)).http_routes[0].rules[0])
}

/// Each mistake alone, the line that it stands in, and what its finding says of place, fault and mend.
fn mistakes(cases: &[(&str, &str)], whole: impl Fn(&str) -> (String, usize)) {
    for (wrong, told) in cases {
        let (text, line) = whole(wrong);
        let findings = parse(&text).err().unwrap_or_else(|| panic!("{wrong} was taken"));
        assert_eq!(findings.len(), 1, "{wrong}: one mistake, one finding: {findings:#?}");
        assert!(findings[0].starts_with(&format!("hub.toml:{line}:")), "{wrong}: {}", findings[0]);
        for part in told.split(" | ") {
            assert!(findings[0].contains(part), "{wrong}: `{part}` is not in {}", findings[0]);
        }
    }
}

fn of_a_rule(wrong: &str) -> (String, usize) {
    (text(wrong, ""), 8)
}

#[test]
fn mistakes_in_timeouts_are_told() {
    mistakes(
        &[
            (
                "timeouts = { request = '1s', backend_request = '2s' }",
                "timeouts.backend_request | is longer than request, which would end each try first | make it shorter, or request longer",
            ),
            ("timeouts = { request = 'soon' }", "timeouts.request | `soon` is not a duration | 30s"),
            ("timeouts = { connect = '0s' }", "timeouts.connect"),
            ("timeouts = { request = 5 }", "timeouts.request"),
            ("timeouts = { backend_requests = '1s' }", "is not a key here; write backend_request"),
            ("timeouts = { idle = '400d' }", "timeouts.idle | longer than a year"),
        ],
        of_a_rule,
    );
    let rule = rule("timeouts = { request = '0s', backend_request = '5s' }");
    let read = &rule.timeouts;
    assert_eq!((read.request, read.backend_request), (None, Some(Duration::from_secs(5))), "off is not shorter");
}

#[test]
fn mistakes_in_retries_are_told() {
    mistakes(
        &[
            ("retry = { attempts = 8 }", "retry.attempts | 8 is out of range | use 0 to 7"),
            ("retry = { backoff = '-1s' }", "retry.backoff | is not a duration"),
            ("retry = { codes = [200] }", "retry.codes[0] | 200 is out of range | use 400 to 599"),
            ("retry = { codes = [503, 503] }", "retry.codes[1] | 503 is listed twice | remove one"),
            ("retry = { codes = ['503'] }", "retry.codes[0]"),
            ("retry = { grpc_codes = ['unavailable'] }", "retry.grpc_codes | has no effect: gRPC calls are POSTs | add idempotent ="),
            (
                "retry = { grpc_codes = ['unavailible'], idempotent = 'x' }",
                "retry.grpc_codes[0] | `unavailible` is unknown | write \"unavailable\"",
            ),
            ("retry = { hedge = '0s' }", "retry.hedge"),
            ("retry = { attemps = 1 }", "is not a key here; write attempts"),
            ("retry = 3", "retry"),
        ],
        of_a_rule,
    );
    let policy = rule("retry = { codes = [503, 500], grpc_codes = ['unavailable'], idempotent = 'ids', hedge = '1s', backoff = '0s' }")
        .policy
        .clone()
        .unwrap();
    let retry = policy.retry.as_ref().unwrap();
    assert_eq!(
        (retry.attempts, &retry.codes[..], retry.backoff, retry.hedge),
        (2, &[500, 503][..], Duration::ZERO, Some(Duration::from_secs(1)))
    );
    assert!(retry.grpc_codes.has(b"14") && retry.idempotent.as_deref() == Some("ids"));
}

#[test]
fn mistakes_in_mirrors_are_told() {
    let mirror = |keys: &str| (text(&format!("filters = [{{ type = 'RequestMirror', {keys} }}]"), ""), 8);
    let to = "backend = { service = 's' }";
    let compare = |keys: &str| format!("{to}, compare = {{ {keys} }}");
    let paths: Vec<String> = (0..65).map(|number| format!("'$.a{number}'")).collect();
    let cases = [
        ("percent = 10".to_owned(), "filters[0].backend | is missing"),
        ("backend = { service = 'nobody' }".to_owned(), "filters[0].backend.service | nobody"),
        (format!("{to}, percent = 0"), "filters[0].percent | 0 is out of range | use 1 to 100"),
        (format!("{to}, percent = 101"), "filters[0].percent | 101 is out of range"),
        (format!("{to}, max_body = '17MiB'"), "filters[0].max_body | out of range | use 0 to 16777216 bytes"),
        (format!("{to}, timeout = '0s'"), "filters[0].timeout"),
        (format!("{to}, unsafe_methods = true"), "filters[0].unsafe_methods"),
        (format!("{to}, statuses = '500'"), "statuses: does not go with RequestMirror"),
        (compare("sample_percent = 0"), "compare.sample_percent | 0 is out of range"),
        (compare("body = 'xml'"), "compare.body | `xml` is unknown | use one of"),
        (
            compare("body = 'json', ignore_paths = ['at']"),
            "compare.ignore_paths[0] | it does not begin with $ | write a path such as \"$.items[*].updated_at\"",
        ),
        (
            compare("body = 'hash', ignore_paths = ['$.at']"),
            "compare.ignore_paths | goes with body = \"json\" alone | add that, or remove it",
        ),
        (compare("max_json = '1KiB'"), "compare.max_json | goes with body = \"json\" alone"),
        (compare("body = 'json', max_json = '2MiB'"), "compare.max_json | out of range"),
        (
            compare(&format!("body = 'json', ignore_paths = [{}]", paths.join(", "))),
            "compare.ignore_paths | has 65 entries | use at most 64",
        ),
    ];
    mistakes(&cases.iter().map(|(wrong, told)| (wrong.as_str(), *told)).collect::<Vec<_>>(), mirror);
    let policy = rule(&format!("filters = [{{ type = 'RequestMirror', {} }}]", compare("body = 'json', ignore_paths = ['$.at']")))
        .policy
        .clone()
        .unwrap();
    let mirror = &policy.mirrors[0];
    assert_eq!((mirror.percent, mirror.max_body, mirror.timeout), (100, 1 << 20, Duration::from_secs(10)));
    let compare = mirror.compare.as_ref().unwrap();
    assert!(compare.sample_percent == 100 && matches!(&compare.body, CompareBody::Json { ignore, max_bytes: 65536 } if ignore.len() == 1));
}

#[test]
fn mistakes_in_limits_on_sources_are_told() {
    let rate = |keys: &str| format!("rate_limits = [{{ {keys} }}]");
    let nine: Vec<String> = (1..10).map(|seconds| format!("{{ per = 'client', requests = 1, period = '{seconds}s' }}")).collect();
    let cases = [
        (rate("requests = 1, period = '1s'"), "rate_limits[0].per | is missing"),
        (rate("per = 'client', period = '1s'"), "rate_limits[0].requests | is missing"),
        (rate("per = 'client', requests = 1"), "rate_limits[0].period | is missing"),
        (rate("per = 'client', requests = 0, period = '1s'"), "rate_limits[0].requests | 0 is out of range | use 1 to 10000000"),
        (rate("per = 'client', requests = 1, period = '1s', burst = 0"), "rate_limits[0].burst | 0 is out of range"),
        (rate("per = 'client', requests = 1, period = '0s'"), "rate_limits[0].period"),
        (rate("per = 'user', requests = 1, period = '1s'"), "rate_limits[0].per | `user` is unknown"),
        (rate("per = 'header:', requests = 1, period = '1s'"), "rate_limits[0].per | is not the name of a header | header:x-api-key"),
        (rate("per = 'header:a b', requests = 1, period = '1s'"), "rate_limits[0].per | `a b` is not the name of a header"),
        (
            rate("per = 'client', requests = 1, period = '1h', burst = 10000000"),
            "rate_limits[0] | a burst takes more than a year to come back | use a smaller burst, a shorter period, or more requests",
        ),
        (
            "rate_limits = [{ per = 'client', requests = 1, period = '1s' }, { per = 'client', requests = 9, period = '1000ms' }]"
                .to_owned(),
            "rate_limits[1] | is a second limit per client with that period | remove one, or give it another period",
        ),
        (format!("rate_limits = [{}]", nine.join(", ")), "rate_limits | has 9 entries | use at most 8"),
        ("in_flight = { per = 'client' }".to_owned(), "in_flight.max | is missing"),
        ("in_flight = { max = 1 }".to_owned(), "in_flight.per | is missing"),
        ("in_flight = { per = 'client', max = 0 }".to_owned(), "in_flight.max | 0 is out of range"),
        ("in_flight = { per = 'client', max = 1000001 }".to_owned(), "in_flight | max is above 1000000 | use a smaller number"),
        ("in_flight = { per = 'cookie:x', max = 1 }".to_owned(), "in_flight.per | is unknown"),
    ];
    mistakes(&cases.iter().map(|(wrong, told)| (wrong.as_str(), *told)).collect::<Vec<_>>(), of_a_rule);
    let policy = rule("rate_limits = [{ per = 'header:X-Key', requests = 5, period = '1s' }]\nin_flight = { per = 'client', max = 3 }")
        .policy
        .clone()
        .unwrap();
    let limit = &policy.rate_limits[0];
    assert_eq!(
        (&limit.per, limit.requests.get(), limit.burst.get()),
        (&Per::Header("x-key".parse().unwrap()), 5, 5),
        "a burst is what a period allows"
    );
    assert_eq!(policy.in_flight.as_ref().unwrap().max.get(), 3);
}

#[test]
fn mistakes_in_limits_of_a_backend_are_told() {
    let limits = |keys: &str| (text("", &format!("[[backend_policy]]\nuplink = 'u'\nlimits = {{ {keys} }}")), 11);
    mistakes(
        &[
            ("pending = 5", "limits | limits nothing | add connections = ... or requests = ..., or remove it"),
            ("requests = 0", "limits.requests | 0 is out of range | use 1 to 10000000"),
            ("connections = 10000001", "limits.connections | 10000001 is out of range"),
            ("requests = 1, pending = -1", "limits.pending"),
            ("requests = 1, wait = 'long'", "limits.wait | `long` is not a duration"),
            ("requests = 1, conections = 1", "is not a key here; write connections"),
        ],
        limits,
    );
    let loaded = parse(&limits("requests = 7, wait = '2s'").0).unwrap();
    let routing = loaded.routing.build(&Book::new(1));
    let backend: &Backend = &routing.http_routes[0].rules[0].backends[0];
    let limits = backend.policy.as_ref().unwrap().limits.as_ref().unwrap();
    assert_eq!((limits.requests.unwrap().get(), limits.connections, limits.pending, limits.wait), (7, None, 50, Duration::from_secs(2)));
}

#[test]
fn mistakes_in_pins_are_told() {
    let pin = |keys: &str| format!("pins = [{{ {keys} }}]");
    let many: Vec<String> = (0..33).map(|_| "{ backend = { uplink = 'u' }, key_file = 'k' }".to_owned()).collect();
    let nets: Vec<String> = (0..33).map(|net| format!("'10.{net}.0.0/16'")).collect();
    let cases = [
        (pin("key_file = 'k'"), "pins[0].backend | is missing"),
        (
            pin("backend = { uplink = 'other' }, key_file = 'k'"),
            "pins[0] | uplink/other is no backend of this rule | add it to backend_refs, with weight = 0 if need be",
        ),
        (pin("backend = { uplink = 'u' }"), "pins[0] | says of nobody that they may | give it key_file or trusted"),
        (
            pin("backend = { uplink = 'u' }, key_file = 'k', trusted = ['10.0.0.0/8']"),
            "pins[0].trusted | stands beside key_file | write two pins",
        ),
        (pin("backend = { uplink = 'u' }, key_file = 'k', always = true"), "pins[0].always | goes with trusted alone | remove it"),
        (pin("backend = { uplink = 'u' }, trusted = []"), "pins[0].trusted | has 0 entries | write 1 to 32"),
        (pin(&format!("backend = {{ uplink = 'u' }}, trusted = [{}]", nets.join(", "))), "pins[0].trusted | has 33 entries"),
        (pin("backend = { uplink = 'u' }, trusted = ['10.0.0.1/33']"), "pins[0].trusted[0] | write a network such as \"10.1.0.0/16\""),
        (format!("pins = [{}]", many.join(", ")), "pins | has 33 entries | use at most 32"),
    ];
    mistakes(&cases.iter().map(|(wrong, told)| (wrong.as_str(), *told)).collect::<Vec<_>>(), of_a_rule);
    let short = parse_with(&of_a_rule(&pin("backend = { uplink = 'u' }, key_file = 'k'")).0, "hub.toml", &|_, _| Ok(vec![b'x'; 31]));
    let findings = short.err().map(|findings| findings[0].to_string()).unwrap();
    assert!(
        findings.contains("pins[0].key_file") && findings.contains("holds less than 32 bytes") && findings.contains("openssl rand -hex 32"),
        "{findings}"
    );
}
