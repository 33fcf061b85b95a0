//! What two parsers could read differently never reaches a workload.

use figspan_tests::bed::{Bed, http, rule};
use figspan_tests::web::Workload;

/// Each is refused with that status, and nothing is forwarded.
const HOSTILE: &[(&str, u16)] = &[
    ("GET / HTTP/1.1\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost: a, b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: identity\r\n\r\n", 400),
    ("POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx", 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\nx", 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1, 1\r\n\r\nx", 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n", 400),
    ("GET / HTTP/1.1\nhost: a\n\n", 400),
    ("GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\n 2\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost : a\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost: a\r\nx: \0\r\n\r\n", 400),
    ("GET /a#b HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    ("GET http://u:p@a/ HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    (
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n",
        400,
    ),
];

#[test]
fn hostile_requests_are_refused_and_nothing_reaches_the_workload() {
    let shop = Workload::named("shop");
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }")))
        .agent("vm-1", &shop.uplink("shop", "health = { type = \"none\" }"))
        .ready("shop", 1);
    for (request, status) in HOSTILE {
        let mut client = bed.client();
        client.send(request);
        let answer = client.answer(true).unwrap_or_else(|error| panic!("{request:?}: {error}"));
        assert_eq!(answer.status(), *status, "{request:?}: {answer:?}");
        assert!(client.some(1).map_or(true, |rest| rest.is_empty()), "{request:?}: the connection is closed");
    }
    for (method, wanted) in [("CONNECT", [400, 405, 501]), ("TRACE", [400, 405, 200])] {
        let mut client = bed.client();
        client.send(&format!("{method} a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n"));
        let status = client.answer(true).map_or(400, |answer| answer.status());
        assert!(wanted.contains(&status), "{method}: {status}");
    }
    let mut client = bed.client();
    client.send(&format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(70_000)));
    assert_eq!(client.answer(true).unwrap().status(), 431);
    assert_eq!(shop.seen(), 0, "nothing was forwarded");
}

#[test]
fn the_workload_learns_of_the_client_from_the_hub_alone() {
    let echo = Workload::http(|request| figspan_tests::web::ok(&format!("{} {:?}", request.first, request.fields)));
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }")))
        .agent("vm-1", &echo.uplink("shop", "health = { type = \"none\" }"))
        .ready("shop", 1);
    let mut client = bed.client();
    client.send(
        "GET http://Shop.example/a/./b/../c?q HTTP/1.1\r\nhost: other\r\nx-forwarded-for: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\nforwarded: for=6.6.6.6\r\n\
         x-forwarded-proto: https\r\nconnection: x-secret\r\nx-secret: 1\r\nte: trailers\r\nkeep-alive: 5\r\n\r\n",
    );
    let said = client.answer(true).unwrap().text();
    assert!(said.starts_with("GET /a/c?q HTTP/1.1"), "{said}");
    assert!(said.contains(r#""x-forwarded-for": "127.0.0.1""#) && said.contains(r#""x-forwarded-proto": "http""#), "{said}");
    assert!(said.to_ascii_lowercase().contains(r#""host": "shop.example""#), "{said}");
    for absent in ["6.6.6.6", "x-secret", "keep-alive", "other"] {
        assert!(!said.contains(absent), "{absent} passed: {said}");
    }
}

#[test]
fn a_slow_head_is_cut_off() {
    let shop = Workload::named("shop");
    let config = "[limits]\nheader_time = \"300ms\"\n\n".to_owned() + &http(&rule("{ uplink = \"shop\" }"));
    let bed = Bed::start(&config).agent("vm-1", &shop.uplink("shop", "")).ready("shop", 1);
    let mut slow = bed.client();
    slow.send("GET / HTTP/1.1\r\nhost: a\r\n");
    let start = std::time::Instant::now();
    let answer = slow.answer(true);
    assert!(answer.as_ref().map_or(true, |answer| answer.status() == 408), "{answer:?}");
    assert!(start.elapsed() < std::time::Duration::from_secs(3));
}
