//! Sessions: one cookie decides on backend and endpoint, and a drain waits for it or ends it.

use std::time::Duration;

use figspan_tests::bed::{Bed, http, rule};
use figspan_tests::process::{eventually, text};
use figspan_tests::web::{Message, Workload};

/// A rule that keeps sessions, with those backends.
fn sticky(backends: &str) -> String {
    http(&(rule(backends) + "session_persistence = { name = \"stay\", ttl = \"1h\" }\n"))
}

/// What a browser would send back.
fn cookie(answer: &Message) -> String {
    let set = answer.field("set-cookie");
    set.split(';').next().expect("a first part").to_owned()
}

fn with(bed: &Bed, cookie: &str) -> Message {
    bed.client().ask("GET", "/", &format!("cookie: {cookie}\r\n"), b"").expect("an answer")
}

#[test]
fn a_session_stays_while_weights_move_and_a_forged_cookie_is_worth_nothing() {
    let (one, two) = (Workload::named("one"), Workload::named("two"));
    let bed = Bed::start(&sticky("{ uplink = \"old\", weight = 50 }, { uplink = \"new\", weight = 50 }"))
        .agent("vm-1", &(one.uplink("old", "") + &two.uplink("new", "")))
        .ready("old", 1)
        .ready("new", 1);
    let firsts: Vec<Message> = (0..4).map(|_| bed.get("/")).collect();
    let on = |name: &str| firsts.iter().find(|answer| answer.text() == name).map(cookie).expect("both got some");
    let (old, new) = (on("one"), on("two"));
    assert!(!old.contains("old") && firsts[0].field("set-cookie").contains("; HttpOnly"), "{:?}", firsts[0]);
    for _ in 0..10 {
        let (a, b) = (with(&bed, &old), with(&bed, &new));
        assert_eq!((a.text(), b.text()), ("one".to_owned(), "two".to_owned()));
        assert_eq!((a.field("set-cookie"), b.field("set-cookie")), ("", ""), "it has a good one");
    }
    bed.hub.rewrite(&sticky("{ uplink = \"old\", weight = 0 }, { uplink = \"new\", weight = 50 }"));
    eventually("new clients go to the new one alone", Duration::from_secs(5), || (0..4).all(|_| bed.get("/").text() == "two"));
    assert_eq!(with(&bed, &old).text(), "one", "its session stays at weight 0, over the reload");
    let mut forged = old.into_bytes();
    let last = forged.len() - 10;
    forged[last] = if forged[last] == b'A' { b'B' } else { b'A' };
    let answer = with(&bed, &String::from_utf8(forged).expect("text"));
    assert!(answer.text() == "two" && answer.field("set-cookie").starts_with("stay="), "{answer:?}");
    let metrics = bed.metrics();
    assert!(metrics.contains("figspan_sessions_total{event=\"forged\"} 1"), "{metrics}");
}

#[test]
fn a_drain_counts_the_sessions_left_and_its_deadline_ends_them() {
    let (one, two) = (Workload::named("one"), Workload::named("two"));
    let bed = Bed::start(&sticky("{ uplink = \"old\" }, { uplink = \"new\" }"))
        .agent("vm-1", &(one.uplink("old", "") + &two.uplink("new", "")))
        .ready("old", 1)
        .ready("new", 1);
    let firsts: Vec<Message> = (0..10).map(|_| bed.get("/")).collect();
    let old = firsts.iter().find(|answer| answer.text() == "one").map(cookie).expect("some went there");
    let early = bed.hub.ctl(&["drain", "uplink", "old", "--reason", "test", "--wait", "--timeout", "1s"]);
    assert!(early.status.code() == Some(3) && text(&early).contains("5 sessions"), "{}", text(&early));
    let left = || bed.hub.json(&["get", "backends"])[1]["endpoints"][0]["sessions"].as_u64();
    assert_eq!(left(), Some(5), "and `get` says so too");
    assert_eq!(with(&bed, &old).text(), "one", "its session stays");
    assert_eq!(bed.get("/").text(), "two", "new ones go elsewhere");
    let drained = bed.hub.ctl(&["drain", "uplink", "old", "--sessions-until", "0s", "--reason", "enough", "--wait", "--timeout", "15s"]);
    assert!(drained.status.success(), "{}", text(&drained));
    assert_eq!(left(), Some(0), "its deadline ended them");
    let moved = with(&bed, &old);
    assert!(moved.text() == "two" && moved.field("set-cookie").starts_with("stay="), "{moved:?}");
    let seen = one.seen();
    assert_eq!(with(&bed, &cookie(&moved)).text(), "two");
    assert_eq!(one.seen(), seen);
}

#[test]
fn an_endpoint_that_goes_loses_its_sessions_and_a_restarted_hub_finds_the_others() {
    let (one, two) = (Workload::named("one"), Workload::named("two"));
    let mut bed = Bed::start(&sticky("{ uplink = \"shop\" }"))
        .agent("vm-1", &one.uplink("shop", ""))
        .agent("vm-2", &two.uplink("shop", ""))
        .ready("shop", 2);
    let firsts: Vec<Message> = (0..4).map(|_| bed.get("/")).collect();
    let on = |name: &str| firsts.iter().find(|answer| answer.text() == name).map(cookie).expect("both got some");
    let (first, second) = (on("one"), on("two"));
    bed.hub.restart();
    bed.hub.accepts("shop", 2);
    assert_eq!((with(&bed, &first).text(), with(&bed, &second).text()), ("one".to_owned(), "two".to_owned()));
    let unknown = bed.hub.ctl(&["drain", "uplink", "shop", "--agent", "vm-1", "--reason", "test", "--wait", "--timeout", "300ms"]);
    assert!(text(&unknown).contains("session"), "{}", text(&unknown));
    bed.hub.json(&["undrain", "uplink", "shop", "--agent", "vm-1", "--reason", "test", "--wait"]);
    bed.agents.remove("vm-2");
    eventually("its sessions go on elsewhere", Duration::from_secs(10), || with(&bed, &second).text() == "one");
}
