//! Drain: nothing new, running work finishes, and `drained` is proven.

use std::time::Duration;

use figspan_tests::bed::{Bed, http, rule};
use figspan_tests::process::text;
use figspan_tests::web::{Connection, Message, Workload, accept_websocket, ok};

/// Answers at once, but `/slow/MS` after that many milliseconds.
fn patient(request: &Message) -> String {
    if let Some(wait) = request.target().strip_prefix("/slow/").and_then(|text| text.parse().ok()) {
        std::thread::sleep(Duration::from_millis(wait));
    }
    ok("done")
}

#[test]
fn a_drained_uplink_gets_nothing_new_and_running_work_finishes_first() {
    let shop = Workload::http(patient);
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }"))).agent("vm-1", &shop.uplink("shop", "")).ready("shop", 1);
    let web = bed.web();
    for _ in 0..10 {
        bed.get("/");
    }
    let slow = std::thread::spawn(move || Connection::open(web).get("/slow/2000"));
    figspan_tests::process::eventually("the slow request is under way", Duration::from_secs(5), || shop.seen() == 11);
    let early = bed.hub.ctl(&["drain", "uplink", "shop", "--reason", "test", "--wait", "--timeout", "500ms"]);
    assert_eq!(early.status.code(), Some(3), "a request is under way: {}", text(&early));
    assert_eq!(bed.get("/").status(), 503, "nothing new");
    let drained = bed.hub.ctl(&["drain", "uplink", "shop", "--reason", "test", "--wait", "--timeout", "15s"]);
    assert!(drained.status.success(), "{}", text(&drained));
    assert_eq!(slow.join().unwrap().status(), 200, "running work finishes");
    let uplink = bed.hub.json(&["get", "uplinks"])[0].clone();
    let endpoint = &uplink["endpoints"][0];
    assert_eq!(
        (endpoint["in_flight"].as_u64(), endpoint["pooled"].as_u64(), endpoint["open_connections"].as_u64()),
        (Some(0), Some(0), Some(0)),
        "{uplink}"
    );
    assert_eq!(shop.seen(), 11);
    let back = bed.hub.ctl(&["undrain", "uplink", "shop", "--reason", "test"]);
    assert!(back.status.success(), "{}", text(&back));
    assert_eq!(bed.get("/").status(), 200);
}

#[test]
fn one_agent_drains_while_the_other_serves() {
    let (one, two) = (Workload::named("one"), Workload::named("two"));
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }")))
        .agent("vm-1", &one.uplink("shop", ""))
        .agent("vm-2", &two.uplink("shop", ""))
        .ready("shop", 2);
    for _ in 0..10 {
        bed.get("/");
    }
    let drained = bed.hub.ctl(&["drain", "uplink", "shop", "--agent", "vm-1", "--reason", "reboot", "--wait", "--timeout", "10s"]);
    assert!(drained.status.success(), "{}", text(&drained));
    let before = one.seen();
    let mut client = bed.client();
    for _ in 0..20 {
        assert_eq!(client.get("/").text(), "two");
    }
    assert_eq!(one.seen(), before);
}

#[test]
fn an_open_websocket_keeps_an_uplink_from_being_drained() {
    let chat = Workload::raw(|mut connection| {
        while let Ok(Some(request)) = connection.message() {
            if request.field("upgrade") != "websocket" {
                connection.send(&ok("plain"));
                continue;
            }
            connection.send(&accept_websocket(&request));
            while let Ok(bytes) = connection.some(1024) {
                if bytes.is_empty() {
                    return;
                }
                connection.send(&String::from_utf8_lossy(&bytes));
            }
        }
    });
    let bed = Bed::start(&http(&rule("{ uplink = \"chat\" }"))).agent("vm-1", &chat.uplink("chat", "")).ready("chat", 1);
    let mut socket = bed.client();
    socket.send(
        "GET /chat HTTP/1.1\r\nhost: shop.example\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert_eq!(socket.answer(false).unwrap().status(), 101);
    socket.send("hello");
    assert_eq!(socket.exactly(5).unwrap(), b"hello");
    let early = bed.hub.ctl(&["drain", "uplink", "chat", "--reason", "test", "--wait", "--timeout", "1s"]);
    assert_eq!(early.status.code(), Some(3), "{}", text(&early));
    socket.send("still here");
    assert_eq!(socket.exactly(10).unwrap(), b"still here", "a session stays until it ends");
    drop(socket);
    let drained = bed.hub.ctl(&["drain", "uplink", "chat", "--reason", "test", "--wait", "--timeout", "10s"]);
    assert!(drained.status.success(), "{}", text(&drained));
}
