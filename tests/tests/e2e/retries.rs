//! A rule's retries: by status, by gRPC code, and beside a slow answer; never of what may not be repeated, never beyond the budget.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use figspan_tests::bed::{Bed, http, rule};
use figspan_tests::h2::{self, H2Workload, Said};
use figspan_tests::process::eventually;
use figspan_tests::web::{Workload, ok};
use http::{HeaderMap, HeaderValue, Request, Response};

const NO_CHECK: &str = "health = { type = \"none\" }";

/// Two agents of one uplink under a rule with that `retry`.
fn bed(retry: &str, one: &str, two: &str) -> Bed {
    bed_with("", retry, one, two)
}

fn bed_with(limits: &str, retry: &str, one: &str, two: &str) -> Bed {
    let rules = rule("{ uplink = \"shop\" }") + &format!("retry = {{ {retry} }}\n");
    Bed::start(&(limits.to_owned() + &http(&rules))).agent("vm-1", one).agent("vm-2", two).ready("shop", 2)
}

/// How often a request was tried again for that reason.
fn retried(bed: &Bed, reason: &str) -> u64 {
    let name = format!("figspan_retries_total{{reason=\"{reason}\"}}");
    bed.metrics().lines().find_map(|line| line.strip_prefix(&name)?.trim().parse().ok()).unwrap_or(0)
}

/// A workload that answers 503 whatever it is asked.
fn failing() -> Workload {
    Workload::http(|_| "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nsick".to_owned())
}

#[test]
fn a_status_that_the_rule_names_goes_to_another_agent_after_a_pause_and_a_post_does_not() {
    let (good, sick) = (Workload::named("good"), failing());
    let bed = bed("attempts = 1, backoff = \"40ms\", codes = [503]", &good.uplink("shop", NO_CHECK), &sick.uplink("shop", NO_CHECK));
    let mut client = bed.client();
    let begun = Instant::now();
    for number in 0..10 {
        // A body that the hub still has is sent anew.
        let (method, body) = if number % 2 == 0 { ("GET", "") } else { ("PUT", "again") };
        assert_eq!(client.ask(method, "/", "", body.as_bytes()).unwrap().text(), "good", "{method} {number}");
    }
    let waited = begun.elapsed();
    assert_eq!((sick.seen(), retried(&bed, "status")), (5, 5), "weights choose the first one as before");
    assert!(waited >= Duration::from_millis(5 * 40), "each of five retries waits for its backoff: {waited:?}");
    let statuses: Vec<u16> = (0..10).map(|_| client.post("/", b"order").status()).collect();
    assert_eq!((statuses.iter().filter(|&&status| status == 503).count(), sick.seen()), (5, 10), "{statuses:?}");
    assert_eq!(retried(&bed, "status"), 5, "no POST was sent twice");
}

#[test]
fn an_answer_that_no_other_agent_betters_is_passed_on_as_it_came() {
    let (one, two) = (failing(), failing());
    let bed = bed("attempts = 3, backoff = \"5ms\", codes = [500, 503]", &one.uplink("shop", NO_CHECK), &two.uplink("shop", NO_CHECK));
    let answer = bed.get("/");
    assert_eq!((answer.status(), answer.text().as_str(), answer.field("figspan-reason")), (503, "sick", ""), "{answer:?}");
    assert_eq!((one.seen(), two.seen(), retried(&bed, "status")), (1, 1, 1), "each endpoint is asked once");
}

/// A gRPC server that ends each call with that code in its head, or answers it.
fn grpc(code: Option<&'static str>) -> H2Workload {
    let grpc = || Response::builder().header("content-type", "application/grpc");
    H2Workload::start(move |_| match code {
        Some(code) => Said { head: grpc().header("grpc-status", code).body(()).unwrap(), rest: None },
        None => {
            let trailers = [("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))].into_iter().collect();
            Said { head: grpc().body(()).unwrap(), rest: Some((Bytes::from_static(b"\0\0\0\0\x01x"), trailers)) }
        }
    })
}

/// The gRPC status of a call, wherever it stands.
fn call(bed: &Bed) -> String {
    let request = Request::post("http://shop.example/shop.Shop/Buy").header("content-type", "application/grpc").header("te", "trailers");
    let answer = h2::ask(bed.web(), request.body(Bytes::from_static(b"\0\0\0\0\x01y")).unwrap(), HeaderMap::new());
    assert_eq!(answer.head.status, 200);
    let code = answer.head.headers.get("grpc-status").or_else(|| answer.trailers.get("grpc-status"));
    code.expect("a status").to_str().unwrap().to_owned()
}

#[test]
fn a_grpc_code_that_the_rule_names_goes_to_another_agent_and_others_are_passed_on() {
    let (good, away) = (grpc(None), grpc(Some("14")));
    let retry = "backoff = \"5ms\", grpc_codes = [\"unavailable\"], idempotent = \"calls carry an id\"";
    let bed = bed(retry, &good.uplink("shop"), &away.uplink("shop"));
    for _ in 0..6 {
        assert_eq!(call(&bed), "0");
    }
    assert_eq!((good.seen(), away.seen(), retried(&bed, "status")), (6, 3, 3));
    let (one, denied) = (grpc(None), grpc(Some("7")));
    let bed = self::bed(retry, &one.uplink("shop"), &denied.uplink("shop"));
    let mut codes: Vec<String> = (0..4).map(|_| call(&bed)).collect();
    codes.sort();
    assert_eq!((codes.join(" ").as_str(), retried(&bed, "status")), ("0 0 7 7", 0), "permission-denied is an answer");
}

/// A workload that takes requests and never answers; counts them, and those whose connection then ended under it.
fn mute() -> (Workload, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let (asked, left) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (ask, leave) = (Arc::clone(&asked), Arc::clone(&left));
    let workload = Workload::raw(move |mut connection| {
        if let Ok(Some(_)) = connection.message() {
            ask.fetch_add(1, Ordering::SeqCst);
            let silent = connection.some(1);
            if silent.map_or_else(|error| error.kind() != std::io::ErrorKind::WouldBlock, |bytes| bytes.is_empty()) {
                leave.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    (workload, asked, left)
}

#[test]
fn a_slow_agent_is_hedged_by_another_and_hears_that_it_lost() {
    let ((slow, asked, left), good) = (mute(), Workload::named("good"));
    let bed = bed("hedge = \"400ms\"", &slow.uplink("shop", NO_CHECK), &good.uplink("shop", NO_CHECK));
    let mut client = bed.client();
    for number in 0..6 {
        let (begun, method) = (Instant::now(), if number < 3 { "GET" } else { "PUT" });
        let body = if method == "PUT" { "a whole body" } else { "" };
        assert_eq!(client.ask(method, "/", "", body.as_bytes()).unwrap().text(), "good");
        assert!(begun.elapsed() < Duration::from_secs(8), "{method} waited for the slow one: {:?}", begun.elapsed());
    }
    assert_eq!((asked.load(Ordering::SeqCst), retried(&bed, "hedge")), (3, 3), "half of them began at the slow one");
    eventually("the losers were reset", Duration::from_secs(5), || left.load(Ordering::SeqCst) == 3);
}

#[test]
fn a_post_and_what_is_beyond_the_budget_are_not_hedged() {
    // Answers late, and counts what it answered.
    let late = || {
        Workload::http(|_| {
            std::thread::sleep(Duration::from_millis(300));
            ok("late")
        })
    };
    let (one, two) = (late(), late());
    let uplinks = (one.uplink("shop", NO_CHECK), two.uplink("shop", NO_CHECK));
    let hedging = bed("hedge = \"50ms\"", &uplinks.0, &uplinks.1);
    assert_eq!(hedging.client().post("/", b"order").text(), "late");
    assert_eq!((one.seen() + two.seen(), retried(&hedging, "hedge")), (1, 0), "one order, one row");
    drop(hedging);
    let none = "[limits]\nretry_percent = 0\nretry_floor = 0\n\n";
    let bed = bed_with(none, "hedge = \"50ms\"", &uplinks.0, &uplinks.1);
    assert_eq!(bed.get("/").text(), "late");
    assert_eq!((one.seen() + two.seen(), retried(&bed, "hedge")), (2, 0));
    assert!(bed.metrics().contains("figspan_limit_hits_total{limit=\"retries\"} 1"), "what the budget refused is counted");
}

#[test]
fn a_body_that_broke_off_is_neither_retried_nor_taken_for_whole() {
    let broken = Workload::raw(|mut connection| {
        if let Ok(Some(_)) = connection.message() {
            let _ = connection.write.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf of it");
        }
    });
    let other = Workload::named("other");
    let retry = "attempts = 3, backoff = \"5ms\", codes = [500, 502, 503]";
    let bed = bed(retry, &broken.uplink("shop", NO_CHECK), &other.uplink("shop", NO_CHECK));
    let ends: Vec<bool> = (0..4).map(|_| bed.client().ask("GET", "/", "", b"").is_ok()).collect();
    assert_eq!((ends.iter().filter(|whole| **whole).count(), retried(&bed, "status")), (2, 0), "{ends:?}");
}
