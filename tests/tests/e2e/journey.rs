//! The worked examples of docs/09-journey.md, as they stand in the page, through a real hub and agent.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use figspan_tests::architecture::{read, root};
use figspan_tests::bed::Bed;
use figspan_tests::process::eventually;
use figspan_tests::web::{Message, Workload, ok};

/// The example of that name, with the service at that address.
fn example(name: &str, service: &Workload) -> String {
    let page = read(&root().join("docs/09-journey.md"));
    let begin = format!("```toml\n# hub.toml: {name}\n");
    let example = page.split(&begin).nth(1).and_then(|rest| rest.split("```").next());
    let example = example.unwrap_or_else(|| panic!("docs/09-journey.md has no example {name}"));
    example.replace("0.0.0.0:8080", "127.0.0.1:0").replace("orders.shop.svc.cluster.local:80", &service.address.to_string())
}

/// Every move, in the order of the page; each is run by a test of this file.
const MOVES: [&str; 8] = ["pass-through", "strangler", "mirror", "canary", "sticky", "failover", "breaker", "header-pin"];

#[test]
fn every_move_of_the_page_has_a_test_here() {
    let page = read(&root().join("docs/09-journey.md"));
    let shown: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("# hub.toml: ")).collect();
    assert_eq!(shown, MOVES);
    let own = read(&root().join("tests/tests/e2e/journey.rs"));
    for name in MOVES {
        let run = own.contains(&format!("bed(\"{name}\"")) || own.contains(&format!("example(\"{name}\""));
        assert!(run, "no test runs the example {name}");
    }
}

/// An example with a monolith behind an agent.
fn bed(name: &str, monolith: &Workload, service: &Workload) -> Bed {
    Bed::start(&example(name, service)).agent("vm-1", &monolith.uplink("monolith", "")).ready("monolith", 1)
}

fn both() -> (Workload, Workload) {
    (Workload::named("monolith"), Workload::named("orders"))
}

#[test]
fn pass_through_and_strangler_do_what_the_page_says() {
    let (monolith, orders) = both();
    let bed = bed("pass-through", &monolith, &orders);
    assert_eq!((bed.get("/orders").text(), bed.get("/").text()), ("monolith".to_owned(), "monolith".to_owned()));
    bed.hub.rewrite(&example("strangler", &orders));
    eventually("the path has moved", Duration::from_secs(5), || bed.get("/orders/7").text() == "orders");
    assert_eq!(bed.get("/").text(), "monolith", "the rest stays");
}

#[test]
fn a_mirror_reports_how_many_answers_were_alike() {
    let (monolith, orders) = both();
    let bed = bed("mirror", &monolith, &orders);
    for _ in 0..10 {
        assert_eq!(bed.get("/orders").text(), "monolith");
    }
    let mirror = || bed.hub.json(&["get", "mirrors"])[0]["rules"][0]["mirrors"][0].clone();
    eventually("all copies are compared", Duration::from_secs(5), || mirror()["compared"] == 10);
    assert_eq!((mirror()["matched"].as_u64(), mirror()["other_body"].as_u64()), (Some(0), Some(10)), "{}", mirror());
    let examples = mirror()["examples"].as_array().cloned().unwrap_or_default();
    assert!(examples.iter().any(|example| example["path"] == "/orders"), "{examples:?}");
    assert_eq!(orders.seen(), 10);
}

#[test]
fn a_canary_by_hand_gets_five_of_a_hundred() {
    let (monolith, orders) = both();
    let bed = bed("canary", &monolith, &orders);
    let mut client = bed.client();
    for _ in 0..100 {
        client.get("/");
    }
    assert_eq!((monolith.seen(), orders.seen()), (95, 5));
}

#[test]
fn a_session_stays_on_its_side() {
    let (monolith, orders) = both();
    let bed = bed("sticky", &monolith, &orders);
    let mut sides = Vec::new();
    for _ in 0..2 {
        let mut client = bed.client();
        let first = client.get("/");
        let cookie = first.field("set-cookie").split(';').next().unwrap_or_default().to_owned();
        assert!(cookie.starts_with("shop-side="), "{first:?}");
        for _ in 0..10 {
            client.send(&format!("GET / HTTP/1.1\r\nhost: shop.example\r\ncookie: {cookie}\r\n\r\n"));
            assert_eq!(client.answer(true).unwrap().text(), first.text(), "a session moved");
        }
        sides.push(first.text());
    }
    sides.sort();
    assert_eq!(sides, ["monolith", "orders"], "new clients are still split");
}

#[test]
fn a_service_that_fails_is_left_held_away_and_taken_back_while_no_order_is_lost_or_doubled() {
    let monolith = Workload::named("monolith");
    let broken = Arc::new(AtomicBool::new(false));
    let state = Arc::clone(&broken);
    let orders = Workload::http(move |_| {
        let answer = ok("orders");
        if state.load(Ordering::SeqCst) { answer.replace("200 OK", "500 Internal Server Error") } else { answer }
    });
    let bed = bed("failover", &monolith, &orders);
    let mut client = bed.client();
    let mut order = || client.post("/", b"an order");
    assert_eq!(order().text(), "orders");
    broken.store(true, Ordering::SeqCst);
    let statuses: Vec<u16> = (0..20).map(|_| order().status()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 500).count(), 5, "then the monolith has them: {statuses:?}");
    assert_eq!((orders.seen(), monolith.seen()), (6, 15), "each order once");
    let state = || bed.hub.json(&["get", "routes"])[0]["rules"][0]["tiers"][0]["state"].as_str().unwrap().to_owned();
    assert_eq!(state(), "held");
    broken.store(false, Ordering::SeqCst);
    eventually("it is taken back", Duration::from_secs(5), || order().text() == "orders");
    assert_eq!(state(), "failing-back");
    eventually("step by step, to all", Duration::from_secs(10), || order().text() == "orders" && state() == "up");
    assert!((0..10).all(|_| order().text() == "orders"));
}

#[test]
fn a_service_that_is_gone_is_replaced_by_the_monolith_within_the_request() {
    let (monolith, orders) = both();
    let bed = bed("failover", &monolith, &orders);
    let told = bed.hub.json(&["explain", "POST", "http://shop.example/"]);
    assert!(told["attempts"][0].as_str().unwrap().starts_with("service orders"), "{told}");
    assert_eq!(told["attempts"][1], "uplink monolith on agent vm-1");
    drop(orders);
    for _ in 0..5 {
        let mut client = bed.client();
        let answer = client.post("/", b"an order");
        assert_eq!((answer.status(), answer.text().as_str()), (200, "monolith"), "{answer:?}");
    }
}

#[test]
fn a_breaker_opens_for_a_failing_service_and_the_monolith_takes_over() {
    let monolith = Workload::named("monolith");
    let failing = |_: &Message| ok("").replace("200 OK", "500 Internal Server Error");
    let orders = Workload::http(failing);
    let bed = bed("breaker", &monolith, &orders);
    let mut client = bed.client();
    eventually("the breaker opens", Duration::from_secs(10), || client.get("/").text() == "monolith");
    let before = orders.seen();
    for _ in 0..20 {
        assert_eq!(client.get("/").text(), "monolith");
    }
    assert_eq!(orders.seen(), before, "an open breaker lets nothing pass");
    let backends = bed.hub.json(&["get", "backends"]);
    let orders = backends.as_array().unwrap().iter().find(|backend| backend["name"] == "orders").unwrap();
    assert_eq!(orders["endpoints"][0]["breaker"]["state"], "open", "{orders}");
}

#[test]
fn a_tester_with_a_pin_reaches_the_service_that_nobody_else_does() {
    let (monolith, orders) = both();
    let files = tempfile::tempdir().unwrap();
    let key = files.path().join("pin.key").display().to_string();
    std::fs::write(&key, "5".repeat(64)).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let config = example("header-pin", &orders).replace("/etc/figspan-hub/pin.key", &key);
    let bed = Bed::start(&config).agent("vm-1", &monolith.uplink("monolith", "")).ready("monolith", 1);
    let made = bed.hub.ctl(&["pin", "--key-file", &key, "--service", "orders", "--ttl", "8h"]);
    let pin = String::from_utf8(made.stdout).unwrap().trim_end().to_owned();
    assert_eq!(bed.client().ask("GET", "/orders", &format!("{pin}\r\n"), b"").unwrap().text(), "orders");
    for _ in 0..5 {
        assert_eq!(bed.get("/orders").text(), "monolith");
    }
    assert_eq!(orders.seen(), 1);
    let told = bed.hub.json(&["explain", "GET", "http://shop.example/orders", "-H", &pin]);
    assert!(told["decisions"][0]["says"][0].as_str().unwrap().ends_with("holds: the request goes there and nowhere else"), "{told}");
    let of_a_tester =
        bed.hub.json(&["explain", "GET", "http://shop.example/", "-H", "x-figspan-pin: uplink/monolith", "--client", "10.1.7.7"]);
    assert_eq!(of_a_tester["next"], "uplink monolith on agent vm-1");
    assert!(of_a_tester["decisions"].to_string().contains("from 10.1.0.0/16: holds"), "{of_a_tester}");
}
