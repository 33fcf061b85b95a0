//! Weights mean what they say, and an operator's word is kept.

use figspan_tests::bed::{Bed, http, rule};
use figspan_tests::process::text;
use figspan_tests::web::Workload;

#[test]
fn five_percent_of_a_hundred_requests_are_five_over_any_connections() {
    let (old, new) = (Workload::named("old"), Workload::named("new"));
    let bed = Bed::start(&http(&rule("{ uplink = \"old\", weight = 95 }, { uplink = \"new\", weight = 5 }")))
        .agent("vm-1", &(old.uplink("old", "") + &new.uplink("new", "")))
        .ready("old", 1)
        .ready("new", 1);
    let mut clients: Vec<_> = (0..7).map(|_| bed.client()).collect();
    for round in 0..3 {
        let before = new.seen();
        for number in 0..100 {
            assert_eq!(clients[(number * number + round) % 7].get("/").status(), 200);
        }
        assert_eq!(new.seen() - before, 5, "window {round}");
    }
}

#[test]
fn a_backend_without_a_weight_takes_that_of_its_uplink() {
    let (old, new) = (Workload::named("old"), Workload::named("new"));
    let bed = Bed::start(&http(&rule("{ uplink = \"old\" }, { uplink = \"new\" }")))
        .agent("vm-1", &(old.uplink("old", "weight = 30") + &new.uplink("new", "weight = 10")))
        .ready("old", 1)
        .ready("new", 1);
    let mut client = bed.client();
    for _ in 0..40 {
        client.get("/");
    }
    assert_eq!((old.seen(), new.seen()), (30, 10));
    // An operator's override beats the agent's word.
    let set = bed.hub.json(&["uplink", "weight", "old", "90", "--reason", "test", "--wait"]);
    assert_eq!((set["old"].as_u64(), set["new"].as_u64()), (Some(30), Some(90)), "{set}");
    assert_eq!(set["confirmed"][0], "hub-0", "{set}");
    for _ in 0..100 {
        client.get("/");
    }
    assert_eq!((old.seen(), new.seen()), (120, 20));
}

#[test]
fn agents_of_one_uplink_share_by_their_own_weights() {
    let (one, two) = (Workload::named("one"), Workload::named("two"));
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }")))
        .agent("vm-1", &one.uplink("shop", "weight = 3"))
        .agent("vm-2", &two.uplink("shop", "weight = 1"))
        .ready("shop", 2);
    for _ in 0..40 {
        bed.get("/");
    }
    assert_eq!((one.seen(), two.seen()), (30, 10));
}

#[test]
fn overrides_are_audited_and_survive_a_restart_of_the_hub() {
    let shop = Workload::named("shop");
    let mut bed = Bed::start(&http(&rule("{ uplink = \"shop\" }"))).agent("vm-1", &shop.uplink("shop", "")).ready("shop", 1);
    let dry = bed.hub.json(&["uplink", "weight", "shop", "7", "--reason", "only looking", "--dry-run"]);
    assert_eq!(dry["dry_run"], true);
    assert_eq!(bed.hub.json(&["get", "uplinks"])[0]["weight"], 100, "a dry run changes nothing");
    bed.hub.json(&["uplink", "weight", "shop", "7", "--reason", "because"]);
    bed.hub.restart();
    bed.hub.accepts("shop", 1);
    let uplink = bed.hub.json(&["get", "uplinks"])[0].clone();
    assert_eq!((uplink["weight"].as_u64(), uplink["weight_override"]["reason"].as_str()), (Some(7), Some("because")), "{uplink}");
    let events = bed.hub.json(&["events"]);
    let change =
        events.as_array().unwrap().iter().find(|event| event["kind"] == "weight").unwrap_or_else(|| panic!("no audit in {events}"));
    assert_eq!((change["old"].as_str(), change["new"].as_str()), (Some("100"), Some("7")), "{change}");
    assert!(!change["who"].as_str().unwrap().is_empty() && change["message"].as_str().unwrap().contains("because"), "{change}");
}

#[test]
fn all_weights_zero_nobody_ready_and_no_route_are_answered_at_once() {
    let shop = Workload::named("shop");
    let rules = rule("{ uplink = \"shop\", weight = 0 }")
        + "[[http_route.rules]]\nmatches = [{ path = { type = \"Exact\", value = \"/absent\" } }]\nbackend_refs = [{ uplink = \"absent\" }]\n";
    let config = http(&rules).replace("name = \"shop\"\n", "name = \"shop\"\nhostnames = [\"shop.example\"]\n");
    let bed = Bed::start(&config).agent("vm-1", &shop.uplink("shop", "")).ready("shop", 1);
    for path in ["/", "/absent"] {
        let answer = bed.get(path);
        assert_eq!(answer.status(), 503, "{answer:?}");
        assert!(!answer.field("retry-after").is_empty() && answer.field("proxy-status").starts_with("figspan"), "{answer:?}");
    }
    let mut client = bed.client();
    client.send("GET / HTTP/1.1\r\nhost: elsewhere.example\r\n\r\n");
    let answer = client.answer(true).unwrap();
    assert_eq!(answer.status(), 404, "{answer:?}");
    assert_eq!(shop.seen(), 0);
}

#[test]
fn explain_says_which_rule_and_which_backend_without_counting_as_a_request() {
    let shop = Workload::named("shop");
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }"))).agent("vm-1", &shop.uplink("shop", "")).ready("shop", 1);
    let explained = bed.hub.json(&["explain", "GET", "http://shop.example/a/../b?x=1"]);
    assert_eq!((explained["route"].as_str(), explained["rule"].as_u64()), (Some("shop"), Some(0)), "{explained}");
    assert!(explained["next"].as_str().unwrap().contains("shop"), "{explained}");
    assert_eq!(shop.seen(), 0);
    let refused = bed.hub.ctl(&["uplink", "weight", "nothing-like-this", "5", "--reason", "test"]);
    assert!(!refused.status.success() && text(&refused).contains("nothing-like-this"), "{}", text(&refused));
}
