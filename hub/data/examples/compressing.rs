//! What compression costs: microseconds of the shard's thread for one answer, bytes per second, what is left of the body, and the
//! memory of an encoder, for each coding and for bodies of three sizes. By the filter itself, in pieces as workloads send them.
//! Prints a table; run it optimised, on a quiet machine: `cargo run --release -p figspan-data --example compressing`.

#![allow(clippy::print_stdout, reason = "the table is its purpose")]

use std::hint::black_box;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use figspan_data::filters::{Coded, Encoder, Filtered, Frames, Verdict, before};
use figspan_data::metrics::Metrics;
use figspan_data::reply::Failure;
use figspan_model::routing::Routing;
use figspan_model::settings::parse;
use figspan_model::state::Book;
use http::{Response, request};
use http_body::Frame;

/// Bytes that come from a workload at once.
const PIECE: usize = 16 * 1024;
/// Time spent on one figure in each round; the best of the rounds counts, which is the least disturbed one.
const ROUND: Duration = Duration::from_millis(200);
const ROUNDS: usize = 5;
/// Encoders alive at once for the figure of their memory; fewer than a shard allows itself.
const TOGETHER: usize = 128;

const CONFIG: &str = "[[listener]]\nname = 'web'\naddress = '127.0.0.1:0'\nprotocol = 'HTTP'\n\n\
    [[http_route]]\nname = 'shop'\n[[http_route.rules]]\nbackend_refs = [{ uplink = 'shop' }]\nfilters = [{ type = 'Compression' }]\n";

fn main() {
    let routing = parse(CONFIG, "hub.toml").unwrap_or_else(|findings| panic!("{findings:?}")).routing.build(&Book::new(1));
    let metrics = Metrics::new();
    let bodies = [("JSON, 2 KiB", orders(2 << 10)), ("page, 64 KiB", page(64 << 10)), ("JSON, 1 MiB", orders(1 << 20))];
    println!("{:<6} {:<14} {:>10} {:>10} {:>8}", "coding", "body", "us each", "MB/s", "left");
    for coding in ["zstd", "br", "gzip"] {
        for (name, body) in &bodies {
            let (time, length) = best(&routing, &metrics, coding, body);
            let rate = body.len() as f64 / time / 1e6;
            println!("{coding:<6} {name:<14} {:>10.1} {rate:>10.0} {:>6.1} %", time * 1e6, 100.0 * length as f64 / body.len() as f64);
        }
        println!("{coding:<6} {:<14} {:>10.0} KiB", "an encoder", memory(&routing, &metrics, coding, &bodies[1].1));
    }
}

/// Seconds for one answer, and the length of what is sent.
fn best(routing: &Routing, metrics: &Arc<Metrics>, coding: &'static str, body: &Bytes) -> (f64, usize) {
    let (mut best, mut length) = (f64::INFINITY, 0);
    for _ in 0..ROUNDS {
        let (begun, mut answers) = (Instant::now(), 0);
        while begun.elapsed() < ROUND {
            length = sent(&mut coded(routing, metrics, coding, body), usize::MAX);
            answers += 1;
        }
        best = best.min(begun.elapsed().as_secs_f64() / f64::from(answers));
    }
    (best, length)
}

/// KiB of resident memory for each encoder in the middle of a body.
fn memory(routing: &Routing, metrics: &Arc<Metrics>, coding: &'static str, body: &Bytes) -> f64 {
    let before = resident();
    let alive: Vec<_> = (0..TOGETHER)
        .map(|_| {
            let mut coded = coded(routing, metrics, coding, body);
            black_box(sent(&mut coded, 1));
            coded
        })
        .collect();
    let grown = resident() - before;
    drop(alive);
    grown / TOGETHER as f64
}

fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux says what a process holds");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel says VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number of kB")
}

/// An answer on its way to a client that accepts that coding alone.
fn coded(routing: &Routing, metrics: &Arc<Metrics>, coding: &'static str, body: &Bytes) -> Coded<Pieces> {
    let asked = http::Request::get("http://shop.example/").header("accept-encoding", coding).body(()).expect("a request");
    let mut parts: request::Parts = asked.into_parts().0;
    let matched = routing.matcher().http("web", "shop.example", &parts.method, "/", None, &parts.headers).expect("a route for all");
    let Verdict::Forward(Some(filtered)) = before(&matched, &mut parts) else { panic!("the rule has a filter and a backend") };
    Coded::new(Pieces(body.clone()), encoder(&filtered, metrics))
}

fn encoder(filtered: &Filtered<'_>, metrics: &Arc<Metrics>) -> Encoder {
    let mut head = Response::builder().header("content-type", "application/json").body(()).expect("an answer");
    filtered.coder(&mut head, None, metrics).expect("an answer of that type is coded")
}

/// Bytes of the frames that come, up to so many frames.
fn sent(coded: &mut Coded<Pieces>, frames: usize) -> usize {
    let mut cx = Context::from_waker(Waker::noop());
    let mut length = 0;
    for _ in 0..frames {
        match coded.poll_next(&mut cx) {
            Poll::Ready(Some(Ok(frame))) => length += frame.data_ref().map_or(0, |data| black_box(data).len()),
            Poll::Ready(Some(Err(failure))) => panic!("{failure:?}"),
            Poll::Ready(None) => break,
            // Others would have a turn now.
            Poll::Pending => {}
        }
    }
    length
}

/// A body as it comes from a workload.
struct Pieces(Bytes);

impl Frames for Pieces {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let piece = self.0.split_to(self.0.len().min(PIECE));
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece))))
    }
}

/// Numbers that look drawn and are the same in every run (SplitMix64).
fn numbers() -> impl FnMut(u64) -> u64 {
    let mut at = 0_u64;
    move |below| {
        at = at.wrapping_add(0x9e37_79b9_7f4a_7c15);
        figspan_data::balance::mix(at) % below
    }
}

/// A list of orders, cut to that length: it is not parsed here.
fn orders(length: usize) -> Bytes {
    let mut draw = numbers();
    let mut text = String::from("[");
    while text.len() < length {
        let (id, user, cents, state) = (draw(1 << 40), draw(5000), draw(100_000), ["open", "paid", "sent", "returned"][draw(4) as usize]);
        text += &format!(
            "{{\"id\":\"{id:010x}\",\"customer\":\"customer-{user}\",\"state\":\"{state}\",\"total\":{}.{:02},\"items\":[{{\"sku\":\"SKU-{}\",\"count\":{}}}]}},\n",
            cents / 100,
            cents % 100,
            draw(20_000),
            1 + draw(9)
        );
    }
    text.truncate(length);
    text.into()
}

/// A page with a table, cut to that length.
fn page(length: usize) -> Bytes {
    let mut draw = numbers();
    let mut text = String::from("<!doctype html>\n<html lang=\"en\">\n<body>\n<table class=\"orders\">\n");
    while text.len() < length {
        let (id, price) = (draw(1 << 24), draw(9000));
        text += &format!(
            "  <tr class=\"row\">\n    <td><a href=\"/orders/{id}\">Order {id}</a></td>\n    <td class=\"price\">{price},00</td>\n    <td class=\"state\">{}</td>\n  </tr>\n",
            ["open", "paid", "sent", "returned"][draw(4) as usize]
        );
    }
    text.truncate(length);
    text.into()
}
