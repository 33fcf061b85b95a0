//! Bounds on what clients and workloads may do: each is reached through the programs, answered as documented, counted under
//! its name as often as it was reached, and leaves others alone.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use figspan_tests::bed::{Bed, http, rule};
use figspan_tests::frames::{CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, RST_STREAM, block};
use figspan_tests::process::eventually;
use figspan_tests::web::{Workload, ok};

const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;
const WHOLE: u8 = END_STREAM | END_HEADERS;

fn bed(limits: &str, workload: &Workload) -> Bed {
    let config = format!("[limits]\n{limits}\n\n{}", http(&rule("{ uplink = \"shop\" }")));
    Bed::start(&config).agent("vm-1", &workload.uplink("shop", "health = { type = \"none\" }")).ready("shop", 1)
}

fn shop(limits: &str) -> (Workload, Bed) {
    let shop = Workload::named("shop");
    let bed = bed(limits, &shop);
    (shop, bed)
}

/// Every bound's count.
fn hits(bed: &Bed) -> BTreeMap<String, u64> {
    let of = |line: &str| {
        let (limit, count) = line.strip_prefix("figspan_limit_hits_total{limit=\"")?.split_once("\"} ")?;
        Some((limit.to_owned(), count.parse().expect("a count")))
    };
    bed.metrics().lines().filter_map(of).collect()
}

/// Does something that reaches a bound so many times, and no other bound.
fn reaches<O>(bed: &Bed, limit: &str, times: u64, action: impl FnOnce() -> O) -> O {
    let mut wanted = hits(bed);
    *wanted.get_mut(limit).expect("every bound has a count") += times;
    let done = action();
    eventually(&format!("{limit} is reached {times} times"), Duration::from_secs(5), || hits(bed)[limit] >= wanted[limit]);
    assert_eq!(hits(bed), wanted, "{limit}");
    done
}

/// Whether the hub ends the connection, having said nothing more.
fn ends(mut tcp: TcpStream) -> bool {
    let mut rest = Vec::new();
    tcp.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    tcp.read_to_end(&mut rest).is_ok() && rest.is_empty()
}

#[test]
fn every_key_of_limits_has_a_count_from_the_start() {
    let (_shop, bed) = shop("");
    let reference = std::fs::read_to_string(figspan_tests::architecture::root().join("docs/reference/hub-toml.md")).unwrap();
    let section = reference.split("## `limits`").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("the reference has [limits]");
    let keys: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert!(keys.len() >= 13, "{keys:?}");
    let counted = hits(&bed);
    for key in keys {
        let limit = if key.starts_with("retry_") { "retries" } else { key };
        assert_eq!(counted.get(limit), Some(&0), "{key}: {counted:?}");
    }
}

#[test]
fn heads_above_the_files_limits_are_431() {
    let (shop, bed) = shop("header_bytes = \"4KiB\"\nheader_count = 10");
    let large = "y".repeat(5000);
    for (fields, limit) in [(format!("x: {large}\r\n"), "header_bytes"), ("x: y\r\n".repeat(11), "header_count")] {
        let answer = reaches(&bed, limit, 1, || {
            let mut client = bed.client();
            client.send(&format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n"));
            client.answer(true).unwrap()
        });
        assert_eq!(answer.status(), 431, "{limit}");
    }
    let mut client = Frames::open(bed.web());
    for (stream, fields, limit) in [(1, vec![("x", large.as_str())], "header_bytes"), (3, vec![("x", "y"); 11], "header_count")] {
        let answer = reaches(&bed, limit, 1, || {
            client.ask(stream, "GET", &fields, WHOLE);
            client.next(&[HEADERS, RST_STREAM, GOAWAY]).expect("an answer")
        });
        assert_eq!((answer.kind, answer.stream), (HEADERS, stream), "{limit}");
    }
    // The same connection goes on with what is within the limits.
    client.ask(5, "GET", &[("x", "y"); 5], WHOLE);
    assert_eq!(client.next(&[HEADERS]).map(|answer| (answer.stream, answer.status())), Some((5, 200)));
    let mut client = bed.client();
    client.send(&format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(9)));
    assert_eq!((client.answer(true).unwrap().status(), shop.seen()), (200, 2));
}

#[test]
fn heads_of_workloads_above_the_limits_are_502() {
    let workload = Workload::http(|request| match request.target() {
        "/large" => format!("HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 0\r\n\r\n", "y".repeat(5000)),
        "/many" => format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "x: y\r\n".repeat(11)),
        _ => ok("shop"),
    });
    let bed = bed("header_bytes = \"4KiB\"\nheader_count = 10", &workload);
    for (target, limit, reason) in
        [("/large", "header_bytes", "response-head-too-large"), ("/many", "header_count", "response-too-many-fields")]
    {
        let answer = reaches(&bed, limit, 1, || bed.get(target));
        assert_eq!((answer.status(), answer.field("figspan-reason")), (502, reason));
    }
    assert_eq!(bed.get("/").status(), 200);
}

#[test]
fn a_head_that_takes_too_long_is_408_and_idle_connections_close() {
    let (_shop, bed) = shop("header_time = \"300ms\"\nkeep_alive = \"400ms\"");
    let slow = reaches(&bed, "header_time", 1, || {
        let mut client = bed.client();
        client.send("GET / HTTP/1.1\r\nhost: a\r\nx: ");
        client.answer(true).unwrap()
    });
    assert_eq!(slow.status(), 408);
    assert!(reaches(&bed, "header_time", 1, || ends(TcpStream::connect(bed.web()).unwrap())));
    assert!(reaches(&bed, "keep_alive", 1, || {
        let mut client = bed.client();
        assert_eq!(client.get("/").status(), 200);
        ends(client.write.try_clone().unwrap())
    }));
    let goaway = reaches(&bed, "keep_alive", 1, || {
        let mut client = Frames::open(bed.web());
        client.ask(1, "GET", &[], WHOLE);
        client.next(&[GOAWAY])
    });
    assert_eq!(goaway.expect("a goodbye").reason(), 0);
    assert_eq!(bed.get("/").status(), 200);
}

#[test]
fn streams_beyond_the_limit_are_refused_one_by_one() {
    // Holds each request until three have come.
    let barrier = Arc::new(Barrier::new(3));
    let workload = Workload::http(move |request| {
        if request.method() == "PUT" {
            barrier.wait();
        }
        ok("shop")
    });
    let bed = bed("h2_streams = 3", &workload);
    let mut client = Frames::open(bed.web());
    reaches(&bed, "h2_streams", 2, || {
        // Two are under way, a third one waits for its body: all three count.
        client.ask(1, "PUT", &[], WHOLE);
        client.ask(3, "PUT", &[], WHOLE);
        client.ask(5, "PUT", &[], END_HEADERS);
        client.ask(7, "GET", &[], WHOLE);
        client.ask(9, "GET", &[], WHOLE);
        for stream in [7, 9] {
            let refused = client.next(&[RST_STREAM, GOAWAY, HEADERS]).expect("a verdict");
            assert_eq!((refused.kind, refused.stream, refused.reason()), (RST_STREAM, stream, REFUSED_STREAM));
        }
    });
    assert_eq!(bed.get("/").status(), 200);
    // What was within the limit is answered, and makes room.
    client.send(DATA, END_STREAM, 5, b"");
    let mut answered: Vec<_> =
        (0..3).map(|_| client.next(&[HEADERS]).expect("an answer")).map(|frame| (frame.stream, frame.status())).collect();
    answered.sort_unstable();
    assert_eq!(answered, [(1, 200), (3, 200), (5, 200)]);
    client.ask(11, "GET", &[], WHOLE);
    assert_eq!(client.next(&[HEADERS, RST_STREAM]).map(|frame| (frame.stream, frame.status())), Some((11, 200)));
}

#[test]
fn a_flood_of_resets_or_of_empty_frames_ends_its_own_connection_only() {
    let (_shop, bed) = shop("h2_resets = 20");
    let mut bystander = Frames::open(bed.web());
    for limit in ["h2_resets", "h2_frames"] {
        let mut client = Frames::open(bed.web());
        let goaway = reaches(&bed, limit, 1, || {
            if limit == "h2_resets" {
                for stream in (1..2001).step_by(2) {
                    client.ask(stream, "POST", &[], END_HEADERS);
                    client.send(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
                }
            } else {
                client.ask(1, "GET", &[], END_STREAM);
                (0..1000).for_each(|_| client.send(CONTINUATION, 0, 1, &block(&[("x", "y")])));
            }
            client.next(&[GOAWAY])
        });
        // With so much on its way in, the last words may be lost to a reset of the connection.
        assert!(goaway.is_none_or(|goaway| goaway.reason() == ENHANCE_YOUR_CALM), "{limit}");
    }
    bystander.ask(1, "GET", &[], WHOLE);
    assert_eq!(bystander.next(&[HEADERS, RST_STREAM, GOAWAY]).map(|frame| frame.status()), Some(200));
}

#[test]
fn connections_above_the_limit_wait_and_are_served_when_there_is_room() {
    // One for each of two shards; the kernel chooses which one a connection comes to, so that some of five must wait.
    let (_shop, bed) = shop("connections = 1");
    let before = hits(&bed);
    let mut clients: Vec<_> = (0..5).map(|_| bed.client()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    }
    for mut client in clients {
        assert_eq!(client.answer(true).unwrap().status(), 200);
    }
    let idle: Vec<_> = (0..5).map(|_| bed.client()).collect();
    eventually("the limit is counted", Duration::from_secs(10), || hits(&bed)["connections"] > before["connections"]);
    drop(idle);
    assert_eq!(bed.get("/").status(), 200);
    let changed: Vec<_> = hits(&bed).into_iter().filter(|(limit, count)| before[limit] != *count).map(|(limit, _)| limit).collect();
    assert_eq!(changed, ["connections"]);
}

/// A listener that takes no connection more: the kernel drops what asks.
fn deaf() -> (socket2::Socket, Vec<TcpStream>, SocketAddr) {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let held: Vec<_> = (0..10).map_while(|_| TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok()).collect();
    assert!(held.len() < 10, "the backlog is full");
    (listener, held, address)
}

#[test]
fn requests_beyond_those_that_may_wait_for_an_endpoint_are_503() {
    let (_listener, _held, address) = deaf();
    let shop = Workload::named("shop");
    let config = format!(
        "[limits]\npending = 1\n\n[[service]]\nname = \"deaf\"\nprotocol = \"http1\"\naddresses = [\"{address}\"]\n\n{}",
        http(&format!(
            "[[http_route.rules]]\nmatches = [{{ path = {{ type = \"PathPrefix\", value = \"/deaf\" }} }}]\ntimeouts = {{ connect = \"1s\" }}\n\
             backend_refs = [{{ service = \"deaf\" }}]\n\n{}",
            rule("{ uplink = \"shop\" }")
        ))
    );
    let bed = Bed::start(&config).agent("vm-1", &shop.uplink("shop", "health = { type = \"none\" }")).ready("shop", 1);
    // All on one connection, and so on one shard.
    let mut client = Frames::open(bed.web());
    let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "shop.example"), (":path", "/deaf")];
    let (start, mut full) = (Instant::now(), 0);
    let statuses: Vec<bool> = reaches(&bed, "pending", 3, || {
        for stream in [1, 3, 5, 7] {
            client.send(HEADERS, WHOLE, stream, &block(&fields));
        }
        (0..4)
            .map(|_| {
                client.next(&[HEADERS]).expect("an answer");
                let at_once = start.elapsed() < Duration::from_millis(900);
                full += usize::from(at_once);
                at_once
            })
            .collect()
    });
    // Three hear at once that there is no room; the one that waited has had its second.
    assert_eq!((statuses, full), (vec![true, true, true, false], 3));
    assert_eq!(bed.get("/").status(), 200);
}

#[test]
fn no_more_idle_streams_are_kept_than_the_file_allows_and_none_for_longer() {
    let barrier = Arc::new(Barrier::new(3));
    let workload = Workload::http(move |request| {
        if request.method() == "PUT" {
            barrier.wait();
        }
        ok("shop")
    });
    let bed = bed("idle_streams = 1\nidle_stream_time = \"1s\"", &workload);
    let mut client = Frames::open(bed.web());
    let pooled = || bed.hub.json(&["get", "uplinks"])[0]["endpoints"][0]["pooled"].as_u64().expect("a count");
    let time = hits(&bed)["idle_stream_time"];
    reaches(&bed, "idle_streams", 2, || {
        for stream in [1, 3, 5] {
            client.ask(stream, "PUT", &[], WHOLE);
        }
        (0..3).for_each(|_| assert_eq!(client.next(&[HEADERS]).map(|frame| frame.status()), Some(200)));
        eventually("one is kept", Duration::from_secs(2), || pooled() == 1);
    });
    eventually("it has idled for long enough", Duration::from_secs(5), || hits(&bed)["idle_stream_time"] == time + 1);
    assert_eq!(pooled(), 0);
    assert_eq!(bed.get("/").status(), 200);
}

#[test]
fn a_body_beyond_the_replay_buffer_gets_one_try() {
    // Takes half of a body and hangs up.
    let workload = Workload::raw(|mut connection| {
        let Ok(Some(head)) = connection.head() else { return };
        if head.method() == "PUT" {
            let _ = connection.exactly(100_000);
            return;
        }
        let _ = std::io::Write::write_all(&mut connection.write, ok("shop").as_bytes());
    });
    let bed = bed("replay_bytes = \"1KiB\"", &workload);
    let put = |length: usize| {
        let mut client = bed.client();
        client.send(&format!("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{}", "x".repeat(length)));
        client.answer(true).unwrap()
    };
    let large = reaches(&bed, "replay_bytes", 1, || put(200_000));
    assert_eq!((large.status(), large.field("proxy-status").is_empty()), (502, false));
    assert_eq!(bed.get("/").status(), 200);
}

#[test]
fn retries_beyond_the_budget_are_not_made() {
    let dies = Workload::raw(|mut connection| drop(connection.head()));
    let shop = Workload::named("shop");
    let config = |floor: u32| {
        format!("[limits]\nretry_percent = 0\nretry_floor = {floor}\n\n{}", http(&rule("{ uplink = \"dies\" }, { uplink = \"shop\" }")))
    };
    let uplinks = dies.uplink("dies", "health = { type = \"none\" }") + &shop.uplink("shop", "health = { type = \"none\" }");
    let bed = Bed::start(&config(0)).agent("vm-1", &uplinks).ready("shop", 1).ready("dies", 1);
    let mut client = bed.client();
    let mut statuses = reaches(&bed, "retries", 1, || [client.get("/").status(), client.get("/").status()]);
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 502]);
    // Within the budget the same failure goes elsewhere.
    bed.hub.rewrite(&config(1));
    eventually("the file is in force", Duration::from_secs(10), || {
        let mut client = bed.client();
        [client.get("/").status(), client.get("/").status()] == [200, 200]
    });
    reaches(&bed, "retries", 0, || assert_eq!([client.get("/").status(), client.get("/").status()], [200, 200]));
}

#[test]
fn a_client_costs_no_more_memory_than_its_window() {
    const CLIENTS: usize = 30;
    // Reads a head and then nothing more.
    let workload = Workload::raw(|mut connection| {
        let head = connection.head();
        if head.is_ok_and(|head| head.is_some_and(|head| head.method() == "GET")) {
            let _ = std::io::Write::write_all(&mut connection.write, ok("shop").as_bytes());
            return;
        }
        std::thread::sleep(Duration::from_secs(20));
    });
    let bed = bed("", &workload);
    let before = bed.hub.process.rss();
    // All that four windows of 256 KiB, and one of 1 MiB around them, let a client send.
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = Frames::open(bed.web()).settled();
            for stream in [1, 3, 5, 7] {
                client.ask(stream, "POST", &[], END_HEADERS);
                (0..15).for_each(|_| client.send(DATA, 0, stream, &[b'x'; 16_384]));
            }
            client
        })
        .collect();
    eventually("all have come", Duration::from_secs(10), || workload.connections.load(Ordering::SeqCst) >= CLIENTS * 4);
    let grown = bed.hub.process.rss() - before;
    assert!(grown < CLIENTS as f64 * 2.0, "{grown} MiB for {CLIENTS} clients");
    assert_eq!(bed.get("/").status(), 200);
    drop(clients);
}
