//! The retry table, with workloads that fail in each of its ways.

use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use figspan_tests::bed::{Bed, http, rule};
use figspan_tests::process::eventually;
use figspan_tests::web::{Connection, Message, Workload, ok};

/// A workload that reads a whole request, counts it, and dies without an answer.
fn dies_after_reading() -> (Workload, Arc<AtomicUsize>) {
    let read = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&read);
    let workload = Workload::raw(move |mut connection| {
        if let Ok(Some(_)) = connection.message() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    (workload, read)
}

fn proxy_status(answer: &Message) -> &str {
    let status = answer.field("proxy-status");
    assert!(status.starts_with("figspan") && status.contains("error="), "{answer:?}");
    status
}

#[test]
fn a_post_that_the_workload_may_have_seen_is_not_repeated() {
    let (bad, read) = dies_after_reading();
    let good = Workload::named("good");
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }")))
        .agent("vm-1", &bad.uplink("shop", "health = { type = \"none\" }"))
        .agent("vm-2", &good.uplink("shop", "health = { type = \"none\" }"))
        .ready("shop", 2);
    let mut failed = 0;
    for _ in 0..10 {
        let answer = bed.client().post("/order", b"one bicycle");
        if answer.status() == 502 {
            proxy_status(&answer);
            failed += 1;
        } else {
            assert_eq!(answer.text(), "good");
        }
    }
    assert_eq!((failed, read.load(Ordering::SeqCst), good.seen()), (5, 5, 5), "each POST went to exactly one workload");
}

#[test]
fn a_get_that_the_workload_may_have_seen_goes_elsewhere() {
    let (bad, read) = dies_after_reading();
    let good = Workload::named("good");
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }")))
        .agent("vm-1", &bad.uplink("shop", "health = { type = \"none\" }"))
        .agent("vm-2", &good.uplink("shop", "health = { type = \"none\" }"))
        .ready("shop", 2);
    for _ in 0..6 {
        assert_eq!(bed.get("/").text(), "good");
    }
    assert!(read.load(Ordering::SeqCst) >= 3);
}

#[test]
fn what_was_not_delivered_goes_elsewhere_whatever_its_method() {
    let gone = Workload::named("gone");
    let address = gone.uplink("shop", "health = { type = \"none\" }");
    drop(gone);
    let good = Workload::named("good");
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }")))
        .agent("vm-1", &address)
        .agent("vm-2", &good.uplink("shop", "health = { type = \"none\" }"))
        .ready("shop", 2);
    for _ in 0..10 {
        let answer = bed.client().post("/order", &[b'x'; 10_000]);
        assert_eq!((answer.status(), answer.text().as_str()), (200, "good"), "{answer:?}");
    }
    assert_eq!(good.seen(), 10);
}

#[test]
fn a_workload_that_refuses_connections_and_has_no_sibling_gives_a_502_or_503_with_a_reason() {
    let gone = Workload::named("gone");
    let address = gone.uplink("shop", "health = { type = \"none\" }");
    drop(gone);
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }"))).agent("vm-1", &address).ready("shop", 1);
    let answer = bed.client().post("/", b"x");
    assert!(matches!(answer.status(), 502 | 503), "{answer:?}");
    proxy_status(&answer);
    assert!(
        !answer.text().contains("127.0.0.1") && !format!("{:?}", answer.fields).contains("127.0.0.1"),
        "no address of the inside: {answer:?}"
    );
}

/// A workload that ends each connection right after its second answer without having said so; `end` does it.
fn rude(end: impl Fn(Connection) + Send + Sync + 'static) -> (Workload, Arc<AtomicUsize>) {
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    let workload = Workload::raw(move |mut connection| {
        for _ in 0..2 {
            let Ok(Some(request)) = connection.message() else { return };
            count.fetch_add(1, Ordering::SeqCst);
            connection.send(&ok(&request.text()));
        }
        end(connection);
    });
    (workload, requests)
}

/// Ends the sending side, and returns once the agent's kernel has acknowledged that. The end is a packet like any other: on a busy
/// machine `shutdown` and `close` return before it has arrived, and a request may still overtake it.
fn finish(connection: &Connection) {
    let _ = connection.write.shutdown(Shutdown::Write);
    let (Ok(local), Ok(peer)) = (connection.write.local_addr(), connection.write.peer_addr()) else { return };
    // As in proc_net_tcp(5): addresses in the machine's byte order, and FIN-WAIT-1 and CLOSING for what is not yet acknowledged.
    let hex = |address: SocketAddr| match address {
        SocketAddr::V4(v4) => format!("{:08X}:{:04X}", u32::from_ne_bytes(v4.ip().octets()), v4.port()),
        SocketAddr::V6(_) => unreachable!("workloads of tests listen on 127.0.0.1"),
    };
    let row = format!(" {} {} ", hex(local), hex(peer));
    eventually("the agent's machine knows that the connection has ended", Duration::from_secs(5), || {
        let sockets = std::fs::read_to_string("/proc/self/net/tcp").expect("Linux tells its sockets");
        let state = sockets.split(&row).nth(1).and_then(|rest| rest.get(..2));
        !matches!(state, Some("01" | "04" | "0B"))
    });
}

#[test]
fn the_keep_alive_race_of_a_workload_loses_no_post() {
    let closed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&closed);
    let (rude, requests) = rude(move |connection| {
        finish(&connection);
        drop(connection);
        count.fetch_add(1, Ordering::SeqCst);
    });
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }")))
        .agent("vm-1", &rude.uplink("shop", "health = { type = \"none\" }"))
        .ready("shop", 1);
    let mut client = bed.client();
    for number in 0..300 {
        // The end has arrived before the request is sent; whether agent and hub have looked is the race.
        eventually("the workload closes", Duration::from_secs(5), || closed.load(Ordering::SeqCst) == number / 2);
        let answer = client.post("/", format!("{number}").as_bytes());
        assert_eq!((answer.status(), answer.text()), (200, number.to_string()), "{answer:?}");
    }
    assert_eq!(requests.load(Ordering::SeqCst), 300, "each arrived once");
}

/// A workload that answers two requests of a connection, waits for the third, and ends without a look at it, as servers do that
/// close with patience. Counts what it answered, and what had arrived at such an end.
fn patient() -> (Workload, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let unread = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&unread);
    let (workload, requests) = rude(move |mut connection| {
        if connection.write.peek(&mut [0]).is_ok_and(|bytes| bytes > 0) {
            count.fetch_add(1, Ordering::SeqCst);
        }
        finish(&connection);
        while connection.some(1024).is_ok_and(|bytes| !bytes.is_empty()) {}
    });
    (workload, requests, unread)
}

#[test]
fn a_get_that_meets_the_end_of_a_kept_connection_is_asked_again_where_it_was() {
    let (patient, requests, unread) = patient();
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }")))
        .agent("vm-1", &patient.uplink("shop", "health = { type = \"none\" }"))
        .ready("shop", 1);
    let mut client = bed.client();
    for number in 0..21 {
        let answer = client.get(&format!("/{number}"));
        assert_eq!(answer.status(), 200, "{number}: {answer:?}");
    }
    assert_eq!((requests.load(Ordering::SeqCst), unread.load(Ordering::SeqCst)), (21, 10));
    let asked_again = "figspan_retries_total{reason=\"idempotent\"} 10";
    assert!(bed.metrics().contains(asked_again), "{asked_again}");
}

#[test]
fn a_get_that_meets_the_end_of_a_kept_connection_is_not_asked_again_where_the_rule_says_never() {
    let (patient, requests, unread) = patient();
    let bed = Bed::start(&http(&format!("{}retry = {{ attempts = 0 }}\n", rule("{ uplink = \"shop\" }"))))
        .agent("vm-1", &patient.uplink("shop", "health = { type = \"none\" }"))
        .ready("shop", 1);
    let mut client = bed.client();
    let statuses: Vec<_> = (0..6).map(|number| client.get(&format!("/{number}")).status()).collect();
    assert_eq!(statuses, [200, 200, 502, 200, 200, 502]);
    assert_eq!((requests.load(Ordering::SeqCst), unread.load(Ordering::SeqCst)), (4, 2));
}

#[test]
fn a_copy_that_meets_the_end_of_a_kept_connection_takes_no_place_of_a_request_to_be_asked_again() {
    let (shop, (patient, requests, _)) = (Workload::named("shop"), patient());
    let copies = format!(
        "filters = [{{ type = \"RequestMirror\", backend = {{ service = \"copies\" }} }}]\n\n[[service]]\nname = \"copies\"\naddresses = [\"{}\"]\n",
        patient.address
    );
    let bed = Bed::start(&http(&(rule("{ uplink = \"shop\" }") + &copies)))
        .agent("vm-1", &shop.uplink("shop", "health = { type = \"none\" }"))
        .ready("shop", 1);
    let mut client = bed.client();
    let has =
        |outcome: &str, count: usize| bed.metrics().contains(&format!("figspan_mirror_copies_total{{outcome=\"{outcome}\"}} {count}\n"));
    for answered in 1..=2 {
        assert_eq!(client.get("/").text(), "shop");
        eventually("the copy is answered", Duration::from_secs(5), || has("answered", answered));
    }
    assert_eq!(client.get("/").text(), "shop");
    eventually("the copy that met the end has failed", Duration::from_secs(5), || has("failed", 1));
    assert_eq!(requests.load(Ordering::SeqCst), 2);
}

/// The one part of the race that nobody can decide: a request that is at the workload when it closes, between its answer and
/// its end. Whether it was read is the workload's secret, so the answer is 502. It must never be given for any other request.
#[test]
fn a_post_fails_in_the_keep_alive_race_only_where_it_had_arrived_before_the_end() {
    let (arrived, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (unread, count) = (Arc::clone(&arrived), Arc::clone(&ended));
    let (rude, requests) = rude(move |mut connection| {
        // Until the agent's machine knows of the end, whatever it sends is kept and can be counted; what comes later is refused.
        finish(&connection);
        let _ = connection.write.shutdown(Shutdown::Read);
        unread.fetch_add(usize::from(connection.some(1).is_ok_and(|bytes| !bytes.is_empty())), Ordering::SeqCst);
        count.fetch_add(1, Ordering::SeqCst);
    });
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }")))
        .agent("vm-1", &rude.uplink("shop", "health = { type = \"none\" }"))
        .ready("shop", 1);
    let mut client = bed.client();
    let mut answered = 0;
    for number in 0..300 {
        let answer = client.post("/", format!("{number}").as_bytes());
        if answer.status() == 502 {
            proxy_status(&answer);
        } else {
            assert_eq!((answer.status(), answer.text()), (200, number.to_string()), "{answer:?}");
            answered += 1;
        }
    }
    eventually("every connection has ended", Duration::from_secs(5), || ended.load(Ordering::SeqCst) == answered / 2);
    assert_eq!(requests.load(Ordering::SeqCst), answered, "what was answered arrived once, and nothing else was read");
    assert_eq!(arrived.load(Ordering::SeqCst), 300 - answered, "what failed was at the workload as it closed, and nothing else");
}

#[test]
fn an_answer_that_ends_early_never_looks_whole() {
    let cut = Workload::raw(|mut connection| {
        if let Ok(Some(request)) = connection.message() {
            match request.target() {
                "/length" => connection.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nten bytes."),
                "/chunked" => connection.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na\r\nten bytes.\r\n"),
                _ => connection.send("HTTP/1.1 2\r\n\r\n"),
            }
        }
    });
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }")))
        .agent("vm-1", &cut.uplink("shop", "health = { type = \"none\" }"))
        .ready("shop", 1);
    for target in ["/length", "/chunked"] {
        let mut client = bed.client();
        client.send(&format!("GET {target} HTTP/1.1\r\nhost: shop.example\r\n\r\n"));
        let answer = client.answer(true);
        assert!(answer.is_err(), "{target} looked whole: {answer:?}");
    }
    let garbage = bed.get("/garbage");
    assert_eq!(garbage.status(), 502, "{garbage:?}");
    proxy_status(&garbage);
}

#[test]
fn a_slow_answer_is_a_504_and_a_slow_body_that_moves_is_fine() {
    let slow = Workload::raw(|mut connection| {
        while let Ok(Some(request)) = connection.message() {
            if request.target() == "/never" {
                std::thread::sleep(Duration::from_secs(8));
                return;
            }
            connection.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n");
            for _ in 0..10 {
                std::thread::sleep(Duration::from_millis(200));
                connection.send("x");
            }
        }
    });
    let rules = rule("{ uplink = \"shop\" }") + "timeouts = { first_byte = \"500ms\", idle = \"1s\" }\n";
    let bed = Bed::start(&http(&rules)).agent("vm-1", &slow.uplink("shop", "health = { type = \"none\" }")).ready("shop", 1);
    let late = bed.client().post("/never", b"x");
    assert_eq!(late.status(), 504, "{late:?}");
    proxy_status(&late);
    assert_eq!(bed.get("/moves").text(), "xxxxxxxxxx", "two seconds of body under an idle limit of one");
}

#[test]
fn a_workload_that_is_down_is_not_picked_until_it_is_up() {
    let healthy = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let state = Arc::clone(&healthy);
    let moody = Workload::http(move |request| {
        if request.target() == "/healthz" && !state.load(Ordering::SeqCst) {
            return "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".to_owned();
        }
        ok("moody")
    });
    let steady = Workload::named("steady");
    let check = "health = { type = \"http\", path = \"/healthz\", interval = \"100ms\", rise = 1, fall = 1 }";
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }")))
        .agent("vm-1", &moody.uplink("shop", check))
        .agent("vm-2", &steady.uplink("shop", check))
        .ready("shop", 2);
    healthy.store(false, Ordering::SeqCst);
    let accepts = |wanted: usize| {
        let uplinks = bed.hub.json(&["get", "uplinks"]);
        uplinks[0]["endpoints"].as_array().unwrap().iter().filter(|endpoint| endpoint["accepts"] == true).count() == wanted
    };
    eventually("the sick workload is left out", Duration::from_secs(5), || accepts(1));
    let before = moody.seen();
    for _ in 0..10 {
        assert_eq!(bed.get("/").text(), "steady");
    }
    assert_eq!(moody.seen(), before);
    healthy.store(true, Ordering::SeqCst);
    eventually("it is back", Duration::from_secs(5), || accepts(2));
    assert!((0..4).any(|_| bed.get("/").text() == "moody"));
}

#[test]
fn a_client_that_goes_away_ends_its_request_at_the_workload() {
    let ended = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ended);
    let shop = Workload::raw(move |mut connection| {
        if let Ok(Some(_)) = connection.message() {
            // Nothing more will come but the end.
            let _ = connection.some(1);
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }")))
        .agent("vm-1", &shop.uplink("shop", "health = { type = \"none\" }"))
        .ready("shop", 1);
    let mut client: Connection = bed.client();
    client.send("GET / HTTP/1.1\r\nhost: shop.example\r\n\r\n");
    eventually("the workload has the request", Duration::from_secs(5), || shop.connections.load(Ordering::SeqCst) == 1);
    drop(client);
    eventually("the workload's connection ends", Duration::from_secs(5), || ended.load(Ordering::SeqCst) == 1);
    eventually("nothing is in flight", Duration::from_secs(5), || bed.hub.json(&["get", "uplinks"])[0]["in_flight"] == 0);
}
