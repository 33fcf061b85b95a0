//! Control-plane times: from an advertisement to the first request served, and from a weight to every shard.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use figspan_tests::process::HubProcess;
use figspan_tests::simulated::{Simulated, join};

use super::{median, p99};

/// Both times over that many changes.
pub(super) fn measure(hub: &HubProcess, changes: usize, say: &mut dyn FnMut(&str, String)) {
    let web = hub.listener(0);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let agent = runtime.block_on(async {
        let credentials = join(hub, "sim", "flip").await;
        Simulated::connect(hub, &credentials, 0).await
    });
    let (mut advertised, mut withdrawn) = (Vec::new(), Vec::new());
    for _ in 0..changes {
        let start = Instant::now();
        agent.advertise("flip");
        until(web, 200);
        advertised.push(start.elapsed().as_secs_f64() * 1e3);
        let start = Instant::now();
        agent.withdraw("flip");
        until(web, 503);
        withdrawn.push(start.elapsed().as_secs_f64() * 1e3);
        std::thread::sleep(Duration::from_millis(100));
    }
    say(
        "advertised to first request served",
        format!("median {:.1} ms, p99 {:.1} ms of {changes}", median(advertised.clone()), p99(advertised)),
    );
    say("withdrawn to refused", format!("median {:.1} ms, p99 {:.1} ms of {changes}", median(withdrawn.clone()), p99(withdrawn)));
    let effective: Vec<f64> = (0..changes).map(|number| set_weight(hub, 1 + number as u32 % 100)).collect();
    say(
        "weight set to effective on every shard",
        format!("median {:.1} ms, p99 {:.1} ms of {changes}", median(effective.clone()), p99(effective)),
    );
}

/// Asks again and again on one connection until the status is that.
fn until(web: SocketAddr, status: u16) {
    let wanted = format!("HTTP/1.1 {status} ");
    let start = Instant::now();
    loop {
        let mut tcp = TcpStream::connect(web).expect("connect");
        tcp.write_all(b"GET /flip HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n").expect("a request");
        let mut answer = String::new();
        let _ = tcp.read_to_string(&mut answer);
        if answer.starts_with(&wanted) {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "no {status} in 10 s: {answer}");
    }
}

/// Over the admin API, as figspanctl does: the answer comes when every shard works with the weight.
fn set_weight(hub: &HubProcess, weight: u32) -> f64 {
    let body = format!("{{\"weight\":{weight},\"reason\":\"bench\"}}");
    let mut socket = std::os::unix::net::UnixStream::connect(hub.folder.join("admin.sock")).expect("the admin socket");
    let start = Instant::now();
    write!(
        socket,
        "PUT /v1/uplinks/w/weight HTTP/1.1\r\nhost: hub\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .expect("a request");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    let took = start.elapsed().as_secs_f64() * 1e3;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"confirmed\":[\"hub-0\"]"), "{answer}");
    took
}
