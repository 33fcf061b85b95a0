//! The clocks of a rule, where they end something: a whole request, one try, and neither for what streams.

use std::time::{Duration, Instant};

use figspan_tests::bed::{Bed, http, rule};
use figspan_tests::web::{Message, Workload, ok};

const NO_CHECK: &str = "health = { type = \"none\" }";

/// Takes longer than any clock of these tests, unless it is asked for `/quick`.
fn slow() -> Workload {
    Workload::http(|request| {
        if request.target() != "/quick" {
            std::thread::sleep(Duration::from_secs(2));
        }
        ok("slow")
    })
}

fn bed(timeouts: &str, one: &Workload, two: &Workload) -> Bed {
    let rules = rule("{ uplink = \"shop\" }") + &format!("timeouts = {{ {timeouts} }}\n");
    Bed::start(&http(&rules)).agent("vm-1", &one.uplink("shop", NO_CHECK)).agent("vm-2", &two.uplink("shop", NO_CHECK)).ready("shop", 2)
}

fn timed(bed: &Bed, method: &str, target: &str) -> (Message, Duration) {
    let begun = Instant::now();
    let answer = bed.client().ask(method, target, "", if method == "POST" { b"order" } else { b"" }).unwrap();
    (answer, begun.elapsed())
}

#[test]
fn a_request_ends_when_its_time_is_over_whatever_is_being_tried() {
    let (one, two) = (slow(), slow());
    let bed = bed("request = \"300ms\"", &one, &two);
    for method in ["GET", "POST"] {
        let (answer, took) = timed(&bed, method, "/");
        assert_eq!((answer.status(), answer.field("figspan-reason")), (504, "request-timeout"), "{method}");
        assert_eq!(answer.field("proxy-status"), "figspan; error=http_response_timeout; details=\"request-timeout\"");
        assert!(took >= Duration::from_millis(300) && took < Duration::from_millis(1900), "{method}: {took:?}");
    }
    assert_eq!((timed(&bed, "GET", "/quick").0.text(), one.seen() + two.seen()), ("slow".to_owned(), 3), "none was tried twice");
}

#[test]
fn a_try_that_takes_too_long_goes_elsewhere_if_it_may_be_repeated() {
    let (late, good) = (slow(), Workload::named("good"));
    let bed = bed("backend_request = \"250ms\", request = \"5s\"", &late, &good);
    for _ in 0..4 {
        let (answer, took) = timed(&bed, "GET", "/");
        assert!(answer.text() == "good" && took < Duration::from_millis(1900), "{took:?}: {answer:?}");
    }
    assert_eq!((late.seen(), good.seen()), (2, 4));
    let mut refused = 0;
    for _ in 0..2 {
        let (answer, took) = timed(&bed, "POST", "/");
        if answer.status() == 504 {
            assert_eq!(answer.field("figspan-reason"), "backend-request-timeout");
            assert!(took < Duration::from_millis(1900), "{took:?}");
            refused += 1;
        }
    }
    assert_eq!((refused, late.seen(), good.seen()), (1, 3, 5), "an order that a workload may have seen is not sent again");
}
