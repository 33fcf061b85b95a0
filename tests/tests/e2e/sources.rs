//! Limits on the sources of a rule's requests: so many in a time, so many under way.

use std::time::Duration;

use figspan_tests::bed::{Bed, http};
use figspan_tests::process::eventually;
use figspan_tests::web::{Connection, Message, Workload, accept_websocket, ok};

const NO_CHECK: &str = "health = { type = \"none\" }";

fn hits(bed: &Bed, limit: &str) -> u64 {
    let name = format!("figspan_limit_hits_total{{limit=\"{limit}\"}}");
    bed.metrics().lines().find_map(|line| line.strip_prefix(&name)?.trim().parse().ok()).unwrap_or(0)
}

fn ask(bed: &Bed, target: &str, fields: &str) -> Message {
    bed.client().ask("GET", target, fields, b"").unwrap()
}

/// Rates by client and by header; `more` is one more key of the first rule.
fn rates(more: &str) -> String {
    let rules = format!(
        "[[http_route.rules]]\nname = \"clients\"\nmatches = [{{ path = {{ value = \"/clients\" }} }}]\nbackend_refs = [{{ uplink = \"shop\" }}]\n\
         rate_limits = [{{ per = \"client\", requests = 2, period = \"4s\" }}]\n{more}\n\
         [[http_route.rules]]\nname = \"keys\"\nmatches = [{{ path = {{ value = \"/keys\" }} }}]\nbackend_refs = [{{ uplink = \"shop\" }}]\n\
         rate_limits = [{{ per = \"header:x-api-key\", requests = 1, period = \"1h\", burst = 3 }}]\n"
    );
    "[proxies]\ntrusted = [\"127.0.0.0/8\"]\n\n".to_owned() + &http(&rules)
}

#[test]
fn a_client_beyond_its_rate_is_told_when_to_come_back_and_then_passes_again() {
    let shop = Workload::named("shop");
    let bed = Bed::start(&rates("")).agent("vm-1", &shop.uplink("shop", NO_CHECK)).ready("shop", 1);
    let from = |address: &str| ask(&bed, "/clients", &format!("x-forwarded-for: {address}\r\n"));
    assert_eq!((from("10.0.0.1").status(), from("10.0.0.1").status()), (200, 200));
    let refused = from("10.0.0.1");
    assert_eq!((refused.status(), refused.field("figspan-reason")), (429, "rate-limited"));
    assert!(refused.field("proxy-status").contains("http_request_denied"), "{refused:?}");
    let wait: u64 = refused.field("retry-after").parse().unwrap();
    assert!((1..=2).contains(&wait), "one of two in four seconds comes back after two: {wait}");
    assert_eq!(refused.field("ratelimit-policy"), "\"client-4s\";q=2;w=4");
    assert_eq!(refused.field("ratelimit"), format!("\"client-4s\";r=0;t={wait}"));
    assert_eq!((shop.seen(), hits(&bed, "rate")), (2, 1), "what is refused reaches no workload, and is counted");
    assert_eq!(from("10.0.0.2").status(), 200, "another client has a rate of its own");
    // What a source owes outlives a reload, and comes back by time alone.
    let key = || ask(&bed, "/keys", "x-api-key: one\r\n").status();
    assert_eq!([key(), key(), key(), key()], [200, 200, 200, 429]);
    bed.hub.rewrite(&rates("timeouts = { connect = \"4s\" }\n"));
    eventually("the file is in force", Duration::from_secs(5), || {
        bed.hub.json(&["get", "route", "shop"]).to_string().contains("connect 4s")
    });
    assert_eq!(key(), 429, "the reload gave nobody a new start");
    eventually("the first client passes again", Duration::from_secs(5), || from("10.0.0.1").status() == 200);
}

#[test]
fn a_rate_by_header_tells_keys_apart_and_those_without_are_one() {
    let shop = Workload::named("shop");
    let bed = Bed::start(&rates("")).agent("vm-1", &shop.uplink("shop", NO_CHECK)).ready("shop", 1);
    let of = |key: &str| (0..5).map(|_| ask(&bed, "/keys", key).status()).collect::<Vec<_>>();
    assert_eq!(of("x-api-key: one\r\n"), [200, 200, 200, 429, 429]);
    assert_eq!(of("x-api-key: two\r\n"), [200, 200, 200, 429, 429]);
    assert_eq!(of(""), [200, 200, 200, 429, 429]);
    let refused = ask(&bed, "/keys", "x-api-key: one\r\n");
    assert_eq!(refused.field("ratelimit-policy"), "\"header:x-api-key-3600s\";q=1;w=3600");
    let wait: u64 = refused.field("retry-after").parse().unwrap();
    assert!((3590..=3600).contains(&wait), "{wait}");
    assert_eq!((shop.seen(), hits(&bed, "rate")), (9, 7));
}

#[test]
fn a_source_with_as_much_under_way_as_it_may_is_refused_until_something_ends() {
    let (end, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let shop = Workload::http(move |request| {
        if request.target() == "/slow" {
            let _ = wait.lock().unwrap().recv_timeout(Duration::from_secs(10));
        }
        ok("shop")
    });
    let rules = figspan_tests::bed::rule("{ uplink = \"shop\" }") + "in_flight = { per = \"client\", max = 1 }\n";
    let config = "[proxies]\ntrusted = [\"127.0.0.0/8\"]\n\n".to_owned() + &http(&rules);
    let bed = Bed::start(&config).agent("vm-1", &shop.uplink("shop", NO_CHECK)).ready("shop", 1);
    let mut slow: Connection = bed.client();
    slow.send("GET /slow HTTP/1.1\r\nhost: shop.example\r\nx-forwarded-for: 10.0.0.1\r\n\r\n");
    eventually("it is under way", Duration::from_secs(5), || shop.seen() == 1);
    let refused = ask(&bed, "/", "x-forwarded-for: 10.0.0.1\r\n");
    assert_eq!((refused.status(), refused.field("figspan-reason"), refused.field("retry-after")), (429, "too-many-in-flight", "1"));
    assert_eq!(ask(&bed, "/", "x-forwarded-for: 10.0.0.2\r\n").text(), "shop", "others are not concerned");
    assert_eq!((shop.seen(), hits(&bed, "in_flight")), (2, 1));
    end.send(()).unwrap();
    assert_eq!(slow.answer(true).unwrap().text(), "shop");
    eventually("the place is free", Duration::from_secs(5), || ask(&bed, "/", "x-forwarded-for: 10.0.0.1\r\n").status() == 200);
    // A client that goes away gives its place back too.
    let mut gone = bed.client();
    gone.send("GET /slow HTTP/1.1\r\nhost: shop.example\r\nx-forwarded-for: 10.0.0.1\r\n\r\n");
    eventually("it is under way", Duration::from_secs(5), || ask(&bed, "/", "x-forwarded-for: 10.0.0.1\r\n").status() == 429);
    drop(gone);
    eventually("the place is free", Duration::from_secs(5), || ask(&bed, "/", "x-forwarded-for: 10.0.0.1\r\n").status() == 200);
    drop(end);
}

#[test]
fn a_websocket_counts_for_its_source_until_it_ends() {
    let shop = Workload::raw(|mut connection| {
        while let Ok(Some(request)) = connection.message() {
            let upgrade = request.field("upgrade") == "websocket";
            connection.send(&if upgrade { accept_websocket(&request) } else { ok("shop") });
            if upgrade {
                while connection.some(1024).is_ok_and(|bytes| !bytes.is_empty()) {}
                return;
            }
        }
    });
    let rules = figspan_tests::bed::rule("{ uplink = \"shop\" }") + "in_flight = { per = \"header:x-api-key\", max = 1 }\n";
    let bed = Bed::start(&http(&rules)).agent("vm-1", &shop.uplink("shop", NO_CHECK)).ready("shop", 1);
    let mut chat = bed.client();
    chat.send(
        "GET /chat HTTP/1.1\r\nhost: shop.example\r\nx-api-key: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert_eq!(chat.head().unwrap().unwrap().status(), 101);
    let status = |key: &str| ask(&bed, "/", &format!("x-api-key: {key}\r\n")).status();
    assert_eq!((status("a"), status("b")), (429, 200));
    drop(chat);
    eventually("its place is free", Duration::from_secs(5), || status("a") == 200);
}
