//! What heads cost: nanoseconds to read one head of HTTP/1 to what the next hop works with, and to write one. Prints a table; run
//! it optimised, on a quiet machine: `cargo run --release -p figspan-data --example heads`. Instructions are steadier than time:
//! `valgrind --tool=callgrind target/release/examples/heads answer 10000`, and again with 20000; their difference is what
//! 10000 heads cost.

#![allow(clippy::print_stdout, reason = "the table is its purpose")]

use std::hint::black_box;
use std::rc::Rc;
use std::time::Instant;

use bytes::BytesMut;
use figspan_data::admission::framing;
use figspan_data::admission::head::{self, HeadLimits, HeadScan, Side};
use figspan_data::admission::host::LastAsked;
use figspan_data::admission::request::{Admitted, Asked, admit, asks_for_websocket, expects_continue};
use figspan_data::client::Client;
use figspan_data::dial::h1::{encode, head as answers};
use figspan_model::routing::{Proxies, Reserved};
use http::{Method, Request, request};

const LIMITS: HeadLimits = HeadLimits { bytes: 64 * 1024, count: 100 };
/// Heads per figure; the best of five rounds counts, which is the least disturbed one.
const HEADS: u64 = 100_000;
const ROUNDS: usize = 5;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx/1.26.3\r\nDate: Sat, 21 Nov 2026 17:27:57 GMT\r\n\
    Content-Type: application/octet-stream\r\nContent-Length: 200\r\nConnection: keep-alive\r\n\r\n";
const PAGE: &[u8] = b"HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 17:27:57 GMT\r\nContent-Type: text/html; charset=utf-8\r\n\
    Transfer-Encoding: chunked\r\nConnection: keep-alive\r\nVary: Accept-Encoding\r\nCache-Control: private, max-age=0\r\n\
    ETag: W/\"5a7-19a8f2c1b40\"\r\nX-Request-Id: 0c9c1c9e-5d3f-4f5b-9a67-2b1e0a6a5d11\r\nX-Frame-Options: SAMEORIGIN\r\n\
    Strict-Transport-Security: max-age=31536000; includeSubDomains\r\nSet-Cookie: session=0c9c1c9e5d3f; Path=/; HttpOnly\r\n\
    Set-Cookie: theme=dark; Path=/\r\n\r\n";
const TOOL: &[u8] = b"GET /200 HTTP/1.1\r\nHost: shop.example:8080\r\nUser-Agent: curl/8.14.1\r\nAccept: */*\r\n\r\n";
const BROWSER: &[u8] = b"GET /orders/17?from=mail&lang=en HTTP/1.1\r\nHost: shop.example\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-GB,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\nReferer: https://shop.example/orders\r\nConnection: keep-alive\r\n\
    Cookie: session=0c9c1c9e5d3f4f5b9a672b1e0a6a5d11; theme=dark; seen=1763745600\r\nUpgrade-Insecure-Requests: 1\r\n\
    Sec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-User: ?1\r\nPriority: u=0, i\r\n\r\n";

/// Nothing but the buffer that a head comes in: what the other figures hold of it.
const CASES: [&str; 7] = ["buffer", "answer", "page", "tool", "browser", "write-tool", "write-browser"];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [case, count] = &arguments[..] {
        return run(case, count.parse().expect("a number of heads"));
    }
    println!("{:<14} {:>8}", "head", "ns each");
    for case in CASES {
        let round = || {
            let began = Instant::now();
            run(case, HEADS);
            began.elapsed().as_nanos() as f64 / HEADS as f64
        };
        println!("{case:<14} {:>8.0}", (0..ROUNDS).map(|_| round()).fold(f64::INFINITY, f64::min));
    }
}

fn run(case: &str, count: u64) {
    let local = ([127, 0, 0, 1], 8080).into();
    let client = Rc::new(Client::connected("web".into(), ([192, 0, 2, 9], 40000).into(), local, None));
    match case {
        "buffer" => (0..count).for_each(|_| drop(black_box(BytesMut::from(ANSWER)))),
        "answer" => (0..count).for_each(|_| answer(ANSWER)),
        "page" => (0..count).for_each(|_| answer(PAGE)),
        "tool" => (0..count).for_each(|_| drop(black_box(ask(TOOL, &client)))),
        "browser" => (0..count).for_each(|_| drop(black_box(ask(BROWSER, &client)))),
        "write-tool" => write(&ask(TOOL, &client), count),
        "write-browser" => write(&ask(BROWSER, &client), count),
        _ => panic!("one of {CASES:?}"),
    }
}

/// A workload's head, read as `dial` does.
fn answer(bytes: &[u8]) {
    let mut input = BytesMut::from(bytes);
    let head = answers::take(&mut input, &mut answers::scan(), &Method::GET, false, LIMITS);
    assert!(matches!(black_box(head), Ok(Some(_))));
}

/// A client's head, read as `inbound` does.
fn ask(bytes: &[u8], client: &Rc<Client>) -> request::Parts {
    let mut held = BytesMut::from(bytes);
    let mut scan = HeadScan::new(Side::Request);
    let mut head = head::take_request(&mut held, &mut scan, LIMITS).expect("a good head").expect("a whole one");
    let marks = head.marks;
    let framing = framing::of_request(head.version, &head.headers, marks).expect("one framing");
    assert!(!asks_for_websocket(&head.method, head.version, &head.headers, marks, framing).expect("no bad upgrade"));
    assert!(!expects_continue(&head.headers, marks).expect("no bad expectation"));
    let asked = Asked {
        method: &head.method,
        target: &head.target,
        authority: None,
        headers: &mut head.headers,
        marks,
        last: &LastAsked::default(),
    };
    let admitted = admit(asked, client, &Proxies::default(), &Reserved::default()).expect("an admissible request");
    let Admitted::Forward { uri, .. } = admitted else { panic!("a request for the hub itself") };
    let mut request = Request::new(());
    *request.method_mut() = head.method;
    *request.uri_mut() = uri;
    *request.headers_mut() = head.headers;
    request.into_parts().0
}

/// A request's head, written as `dial` does.
fn write(parts: &request::Parts, count: u64) {
    let mut out = BytesMut::new();
    for _ in 0..count {
        out.clear();
        black_box(encode::head(&mut out, parts, Some(0), false));
    }
}
