//! Timeouts, retries, mirrors and limits of a rule, all at once: what streams is neither cut nor kept, what a dead backend may
//! have seen is not repeated, and a mirror that never answers costs a bounded amount of nothing.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use figspan_tests::bed::{Bed, http, rule};
use figspan_tests::process::eventually;
use figspan_tests::web::{Connection, Workload, accept_websocket, ok};

use crate::traffic::{grpc_echo, h2, runtime};

const NO_CHECK: &str = "health = { type = \"none\" }";

/// A rule with every policy that could get in a stream's way: clocks far below what the streams take, retries by status,
/// hedging, mirrors of everything with comparison, limits, and a backend to fail over to.
fn everything(mirror: std::net::SocketAddr) -> String {
    let rule = rule("{ uplink = \"shop\" }, { service = \"spare\", fallback = 1 }")
        + "timeouts = { request = \"400ms\", backend_request = \"300ms\" }\n"
        + "retry = { attempts = 3, backoff = \"10ms\", codes = [500, 502, 503], hedge = \"100ms\" }\n"
        + "in_flight = { per = \"client\", max = 100 }\n"
        + "filters = [{ type = \"RequestMirror\", backend = { service = \"copies\" }, unsafe_methods = \"a test\", max_body = \"256KiB\", timeout = \"2s\", compare = { body = \"hash\" } }]\n";
    let service = |name: &str| format!("\n[[service]]\nname = \"{name}\"\naddresses = [\"{mirror}\"]\n");
    let limits = "\n[[backend_policy]]\nuplink = \"shop\"\nlimits = { requests = 100, connections = 100 }\n";
    http(&rule) + &service("copies") + &service("spare") + limits
}

/// The bytes of a metric's line, 0 where there is none.
fn metric(bed: &Bed, name: &str) -> u64 {
    bed.metrics().lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0)
}

/// Watches the hub's memory; its largest value in MiB.
struct Memory(Arc<AtomicBool>, std::thread::JoinHandle<f64>);

impl Memory {
    fn watch(bed: &Bed) -> Self {
        let (ended, process) = (Arc::new(AtomicBool::new(false)), bed.hub.process.id());
        let end = Arc::clone(&ended);
        let watcher = std::thread::spawn(move || {
            let mut largest: f64 = 0.0;
            while !end.load(Ordering::SeqCst) {
                let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("the hub runs");
                let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel says VmRSS");
                largest = largest.max(line.trim().trim_end_matches(" kB").parse::<f64>().expect("kB") / 1024.0);
                std::thread::sleep(Duration::from_millis(20));
            }
            largest
        });
        Self(ended, watcher)
    }

    fn largest(self) -> f64 {
        self.0.store(true, Ordering::SeqCst);
        self.1.join().expect("the watcher ends")
    }
}

/// Reads the body of an upload without keeping it, and answers with its length; serves events and WebSockets too.
fn workload() -> Workload {
    Workload::raw(|mut connection| {
        let Ok(Some(head)) = connection.head() else { return };
        match head.target() {
            "/upload" => {
                let (length, mut read) = (head.field("content-length").parse::<u64>().unwrap(), 0);
                while read < length {
                    match connection.some(256 * 1024) {
                        Ok(bytes) if !bytes.is_empty() => read += bytes.len() as u64,
                        _ => return,
                    }
                }
                connection.send(&ok(&format!("{read} bytes")));
            }
            "/events" => {
                connection.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
                for _ in 0..8 {
                    std::thread::sleep(Duration::from_millis(120));
                    connection.send("6\r\ndata\n\n\r\n");
                }
                connection.send("0\r\n\r\n");
            }
            _ => {
                connection.send(&accept_websocket(&head));
                while let Ok(bytes) = connection.some(1024) {
                    if bytes.is_empty() || connection.write.write_all(&bytes).is_err() {
                        return;
                    }
                }
            }
        }
        let _ = connection.some(1);
    })
}

/// A mirror that takes whatever comes and says nothing.
fn mute() -> Workload {
    Workload::raw(|mut connection| while connection.some(65536).is_ok_and(|bytes| !bytes.is_empty()) {})
}

/// In MiB; `just streams` asks for 2048 of a release build.
fn upload_size() -> u64 {
    std::env::var("FIGSPAN_UPLOAD_MIB").map_or(64, |text| text.parse().expect("FIGSPAN_UPLOAD_MIB is a number of MiB"))
}

#[test]
fn a_large_slow_upload_is_neither_cut_nor_kept_under_every_policy() {
    let (shop, copies) = (workload(), mute());
    let bed = Bed::start(&everything(copies.address)).agent("vm-1", &shop.uplink("shop", NO_CHECK)).ready("shop", 1);
    let before = bed.hub.process.rss();
    let memory = Memory::watch(&bed);
    let size = upload_size() << 20;
    let mut client = bed.client();
    client.send(&format!("POST /upload HTTP/1.1\r\nhost: shop.example\r\ncontent-length: {size}\r\n\r\n"));
    let (piece, begun) = (vec![b'x'; 1 << 20], Instant::now());
    for number in 0..size >> 20 {
        // Slower than any clock of the rule allows for a request that does not stream.
        if number < 5 {
            std::thread::sleep(Duration::from_millis(150));
        }
        client.write.write_all(&piece).unwrap();
    }
    let answer = client.answer(true).unwrap();
    assert_eq!((answer.status(), answer.text()), (200, format!("{size} bytes")));
    assert!(begun.elapsed() > Duration::from_millis(700));
    let grown = memory.largest() - before;
    assert!(grown < 32.0, "the hub grew by {grown:.1} MiB under an upload of {} MiB", size >> 20);
    eventually("the copy was broken off and counted", Duration::from_secs(5), || {
        metric(&bed, "figspan_mirror_copies_total{outcome=\"dropped_body\"}") == 1
    });
}

#[test]
fn event_streams_websockets_and_grpc_outlive_every_clock_but_idle() {
    let (shop, copies) = (workload(), mute());
    let echo = grpc_echo();
    let calls = format!("[[uplink]]\nname = \"calls\"\naddress = \"{echo}\"\nprotocol = \"h2c\"\n{NO_CHECK}\n");
    let matched = everything(copies.address).replace(
        "[[http_route.rules]]\n",
        "[[http_route.rules]]\nmatches = [{ path = { value = \"/echo.Echo\" } }]\nbackend_refs = [{ uplink = \"calls\" }]\n\
         timeouts = { request = \"400ms\", backend_request = \"300ms\" }\nretry = { codes = [503], grpc_codes = [\"unavailable\"], idempotent = \"a test\", hedge = \"100ms\" }\n\
         filters = [{ type = \"RequestMirror\", backend = { service = \"copies\" }, unsafe_methods = \"a test\", timeout = \"2s\" }]\n\n[[http_route.rules]]\n",
    );
    let bed = Bed::start(&matched).agent("vm-1", &(shop.uplink("shop", NO_CHECK) + &calls)).ready("shop", 1).ready("calls", 1);
    let events = std::thread::spawn({
        let mut client = bed.client();
        move || client.get("/events").text()
    });
    let chat = std::thread::spawn({
        let mut client: Connection = bed.client();
        move || {
            client.send(
                "GET /chat HTTP/1.1\r\nhost: shop.example\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            );
            assert_eq!(client.head().unwrap().unwrap().status(), 101);
            for _ in 0..5 {
                std::thread::sleep(Duration::from_millis(200));
                client.send("hello");
                assert_eq!(client.exactly(5).unwrap(), b"hello");
            }
        }
    });
    runtime().block_on(async {
        let (client, _driver) = h2(&bed).await;
        let mut client = client.ready().await.unwrap();
        let request =
            hyper::Request::post("http://shop.example/echo.Echo/Chat").header("content-type", "application/grpc").body(()).unwrap();
        let (answer, mut say) = client.send_request(request, false).unwrap();
        let mut answer = answer.await.unwrap();
        for number in 0..6_u8 {
            tokio::time::sleep(Duration::from_millis(150)).await;
            say.send_data(Bytes::copy_from_slice(&[0, 0, 0, 0, 1, number]), false).unwrap();
            let mut got = Vec::new();
            while got.len() < 6 {
                got.extend(answer.body_mut().data().await.unwrap().unwrap());
            }
            assert_eq!(got, [0, 0, 0, 0, 1, number], "each message comes at once, nothing is held back");
        }
        say.send_data(Bytes::new(), true).unwrap();
        assert!(answer.body_mut().data().await.is_none());
        assert_eq!(answer.body_mut().trailers().await.unwrap().unwrap()["grpc-status"], "0");
    });
    assert_eq!(events.join().unwrap(), "data\n\n".repeat(8));
    chat.join().unwrap();
    assert_eq!(metric(&bed, "figspan_failures_total{side=\"hub\",reason=\"request-timeout\"}"), 0);
}

#[test]
fn a_mirror_that_never_answers_leaves_requests_tasks_and_memory_alone() {
    let (shop, copies) = (Workload::named("shop"), mute());
    let config = everything(copies.address).replace("timeout = \"2s\"", "timeout = \"60s\"");
    let bed = Bed::start(&config).agent("vm-1", &shop.uplink("shop", NO_CHECK)).ready("shop", 1);
    let mut client = bed.client();
    for _ in 0..300 {
        assert_eq!(client.post("/", b"order").text(), "shop");
    }
    let before = bed.hub.process.rss();
    for _ in 0..1000 {
        assert_eq!(client.post("/", b"order").text(), "shop");
    }
    let grown = bed.hub.process.rss() - before;
    assert!(grown < 8.0, "the hub grew by {grown:.1} MiB");
    let outcome = |word: &str| metric(&bed, &format!("figspan_mirror_copies_total{{outcome=\"{word}\"}}"));
    // One client is on one shard, which has 64 copies under way and not one more.
    assert_eq!((outcome("begun"), outcome("dropped_full"), outcome("answered")), (64, 1236, 0));
    assert_eq!(shop.seen(), 1300);
}

/// Alternating rounds with and without the mirror, so that what else the machine does meets both alike. Says the ratio always;
/// holds it to the percent that `FIGSPAN_P99` names, where it is worth that: with release builds (`just streams`).
#[test]
fn a_mirror_that_never_answers_leaves_the_slowest_percent_where_it_was() {
    let bound: Option<f64> = std::env::var("FIGSPAN_P99").ok().map(|text| text.parse().expect("FIGSPAN_P99 is a number of percent"));
    let (rounds, requests) = if bound.is_some() { (15, 4000) } else { (3, 200) };
    let (shop, copies) = (Workload::named("shop"), mute());
    let plain = "[[http_route.rules]]\nmatches = [{ path = { value = \"/plain\" } }]\nbackend_refs = [{ uplink = \"shop\" }]\n\n[[http_route.rules]]\n";
    let mirror = format!(
        "filters = [{{ type = \"RequestMirror\", backend = {{ service = \"copies\" }} }}]\n\n[[service]]\nname = \"copies\"\naddresses = [\"{}\"]\n",
        copies.address
    );
    let config = http(&(rule("{ uplink = \"shop\" }").replace("[[http_route.rules]]\n", plain) + &mirror));
    let bed = Bed::start(&config).agent("vm-1", &shop.uplink("shop", NO_CHECK)).ready("shop", 1);
    let mut client = bed.client();
    let mut slowest = |target: &str| {
        let mut times: Vec<Duration> = (0..requests)
            .map(|_| {
                let begun = Instant::now();
                assert_eq!(client.get(target).text(), "shop");
                begun.elapsed()
            })
            .collect();
        times.sort_unstable();
        times[times.len() * 99 / 100].as_secs_f64()
    };
    slowest("/plain");
    let mut ratios: Vec<f64> = (0..rounds).map(|_| slowest("/mirrored") / slowest("/plain")).collect();
    ratios.sort_unstable_by(f64::total_cmp);
    let ratio = ratios[rounds / 2];
    println!("p99 with a mirror that never answers: {ratio:.3} of that without");
    assert!(bound.is_none_or(|percent| ratio <= 1.0 + percent / 100.0), "p99 is {ratio:.3} of that without a mirror: {ratios:?}");
    assert!(metric(&bed, "figspan_mirror_copies_total{outcome=\"dropped_full\"}") > 0);
}

#[test]
fn a_post_whose_backend_died_while_its_body_came_is_never_sent_again() {
    let rows = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&rows);
    let dies = Workload::raw(move |mut connection| {
        if let Ok(Some(_)) = connection.head() {
            // A row is written with the first bytes, as careless workloads do.
            let _ = connection.exactly(10);
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let good = Workload::named("good");
    let rules = rule("{ uplink = \"shop\" }")
        + "retry = { attempts = 5, backoff = \"5ms\", codes = [500, 502, 503, 504], hedge = \"20ms\" }\ntimeouts = { request = \"10s\", backend_request = \"5s\" }\n";
    let bed = Bed::start(&http(&rules))
        .agent("vm-1", &dies.uplink("shop", NO_CHECK))
        .agent("vm-2", &good.uplink("shop", NO_CHECK))
        .ready("shop", 2);
    let mut failed = 0;
    for _ in 0..8 {
        let mut client = bed.client();
        client.send("POST /order HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 30000\r\n\r\n");
        let before = rows.load(Ordering::SeqCst);
        let _ = client.write.write_all(&[b'x'; 15_000]);
        // The other half comes after the backend has died, where it is the one that dies.
        let until = Instant::now() + Duration::from_millis(150);
        while rows.load(Ordering::SeqCst) == before && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = client.write.write_all(&[b'x'; 15_000]);
        let answer = client.answer(true).unwrap();
        if answer.status() == 200 {
            assert_eq!(answer.text(), "good");
        } else {
            assert_eq!(answer.status(), 502, "{answer:?}");
            assert!(answer.field("proxy-status").starts_with("figspan; error="), "{answer:?}");
            failed += 1;
        }
    }
    assert_eq!((failed, rows.load(Ordering::SeqCst), good.seen()), (4, 4, 4), "each order has one row, in one place");
}
