use std::sync::Arc;

use super::*;
use figspan_model::routing::RulePolicy;
use figspan_model::routing::draft::{BackendDraft, HttpRouteDraft, HttpRuleDraft, RoutingDraft};
use figspan_model::state::Book;
use figspan_proto::weight::Weight;
use figspan_tunnel::pin::PinKey;
use http::HeaderValue;

fn target(name: &str) -> Target {
    Target::Uplink(name.parse().unwrap())
}

/// `new` may be chosen by a key, `old` from 10.1.0.0/16 by name, `lab` from 10.2.0.0/16 always.
fn made() -> Arc<HttpRule> {
    let trusted = |net: &str, always| PinnedBy::Trusted { addresses: vec![net.parse().unwrap()], always };
    let pins = vec![
        Pin { target: target("new"), by: PinnedBy::Key(PinKey::read(&[b'k'; 32]).unwrap()) },
        Pin { target: target("old"), by: trusted("10.1.0.0/16", false) },
        Pin { target: target("lab"), by: trusted("10.2.0.0/16", true) },
    ];
    let backend = |name: &str| BackendDraft { target: target(name), weight: Some(Weight::try_from(0).unwrap()), fallback: 0 };
    let rule = HttpRuleDraft {
        backends: ["old", "new", "lab"].map(backend).to_vec(),
        policy: Some(Arc::new(RulePolicy { pins, ..RulePolicy::default() })),
        ..HttpRuleDraft::default()
    };
    let route = HttpRouteDraft { name: "r".into(), listeners: vec![], hostnames: vec![], rules: vec![rule] };
    let routing = RoutingDraft { http_routes: vec![route], ..RoutingDraft::default() }.build(&Book::new(1));
    Arc::clone(&routing.http_routes[0].rules[0])
}

/// Where a client's request goes: the one backend, or how many.
fn goes(rule_: &HttpRule, address: &str, pin: Option<&str>, metrics: &Metrics) -> String {
    let address = address.parse().unwrap();
    let client =
        Client { pin: pin.map(|pin| HeaderValue::from_str(pin).unwrap()), ..Client::connected("web".into(), address, address, None) };
    match &rule(rule_, &client, || 1000, metrics).backends[..] {
        [one] => one.target.name().to_owned(),
        all => all.len().to_string(),
    }
}

#[test]
fn whoever_may_choose_does_and_others_are_counted_and_ignored() {
    let (rule, metrics) = (made(), Metrics::new());
    let key = PinKey::read(&[b'k'; 32]).unwrap();
    let (good, late) = (key.sign("uplink/new", 1001), key.sign("uplink/new", 1000));
    let forged = PinKey::read(&[b'x'; 32]).unwrap().sign("uplink/new", 1001);
    let go = |address: &str, pin: Option<&str>| goes(&rule, address, pin, &metrics);
    assert_eq!(go("192.0.2.1:1", Some(&good)), "new");
    assert_eq!(go("192.0.2.1:1", None), "3");
    for bad in [&late, &forged, "uplink/new", "uplink/old", "nonsense", &key.sign("uplink/old", 1001)] {
        assert_eq!(go("192.0.2.1:1", Some(bad)), "3", "{bad}");
    }
    assert_eq!(go("10.1.2.3:1", Some("uplink/old")), "old");
    assert_eq!(go("[::ffff:10.1.2.3]:1", Some("uplink/old")), "old");
    assert_eq!(go("10.1.2.3:1", Some("uplink/older")), "3");
    assert_eq!(go("10.1.2.3:1", None), "3");
    assert_eq!(go("10.2.0.1:1", None), "lab");
    let counts = PinEvent::ALL.iter().map(|event| metrics.pins(*event)).collect::<Vec<_>>();
    assert_eq!(counts, [4, 1, 4, 1, 1], "used, elsewhere, malformed, forged, expired");
}

#[test]
fn a_pinned_rule_ignores_the_weight_of_the_rule_and_not_that_of_the_backend() {
    let rule = made();
    assert!(rule.pinned.iter().all(|pinned| pinned.backends[0].weight.is_none() && pinned.backends.len() == 1));
}
