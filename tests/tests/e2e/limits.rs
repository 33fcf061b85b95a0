//! Bounds on what clients may send: each is answered, counted, and changed by the file alone.

use std::time::Duration;

use figspan_tests::bed::{Bed, http, rule};
use figspan_tests::process::eventually;
use figspan_tests::web::Workload;

fn shop(limits: &str) -> (Workload, Bed) {
    let shop = Workload::named("shop");
    let config = format!("[limits]\n{limits}\n\n{}", http(&rule("{ uplink = \"shop\" }")));
    let bed = Bed::start(&config).agent("vm-1", &shop.uplink("shop", "health = { type = \"none\" }")).ready("shop", 1);
    (shop, bed)
}

fn counted(bed: &Bed, limit: &str) -> bool {
    let line = format!("figspan_limit_hits_total{{limit=\"{limit}\"}} ");
    bed.metrics().lines().any(|found| found.strip_prefix(&line).is_some_and(|count| count != "0"))
}

#[test]
fn heads_above_the_files_limits_are_431_and_counted() {
    let (shop, bed) = shop("header_bytes = \"4KiB\"\nheader_count = 10");
    for (fields, limit) in [(format!("x: {}\r\n", "y".repeat(5000)), "header_bytes"), ("x: y\r\n".repeat(11), "header_count")] {
        let mut client = bed.client();
        client.send(&format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n"));
        assert_eq!(client.answer(true).unwrap().status(), 431, "{limit}");
        assert!(counted(&bed, limit), "{limit}: {}", bed.metrics());
    }
    let mut client = bed.client();
    client.send(&format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(9)));
    assert_eq!((client.answer(true).unwrap().status(), shop.seen()), (200, 1));
}

#[test]
fn connections_above_the_limit_wait_and_are_served_when_there_is_room() {
    // One for each of two shards; the kernel chooses which one a connection comes to, so that some of five must wait.
    let (_shop, bed) = shop("connections = 1");
    let mut clients: Vec<_> = (0..5).map(|_| bed.client()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    }
    for mut client in clients {
        assert_eq!(client.answer(true).unwrap().status(), 200);
    }
    let idle: Vec<_> = (0..5).map(|_| bed.client()).collect();
    eventually("the limit is counted", Duration::from_secs(10), || counted(&bed, "connections"));
    drop(idle);
    assert_eq!(bed.get("/").status(), 200);
}
