//! What must never reach a workload, sent as raw bytes to a real socket: each line is refused with that status, nothing of it is
//! served, and the connection closes.

use crate::admission::Reject;
use crate::inbound::testing::{Fake, Raw, ask, echo, local};

const HOST: &str = "Host: a.example\r\n";

fn get(lines: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\n{HOST}{lines}\r\n").into_bytes()
}

fn post(lines: &str, body: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\n{HOST}{lines}\r\n{body}").into_bytes()
}

fn line(line: &str) -> Vec<u8> {
    format!("{line}\r\n{HOST}\r\n").into_bytes()
}

fn target(target: &str) -> Vec<u8> {
    line(&format!("GET {target} HTTP/1.1"))
}

fn chunked(body: &str) -> Vec<u8> {
    post("Transfer-Encoding: chunked\r\n", body)
}

fn raw(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn table() -> Vec<(&'static str, Vec<u8>, u16)> {
    let many: String = (0..101).map(|n| format!("x-{n}: 1\r\n")).collect();
    let ws = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    vec![
        // framing
        ("length and encoding", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400),
        ("encoding and length", post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"), 400),
        ("two lengths that differ", post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"), 400),
        ("two lengths that agree", post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), 400),
        ("length list", post("Content-Length: 5, 5\r\n", "hello"), 400),
        ("length with plus", post("Content-Length: +5\r\n", "hello"), 400),
        ("length with minus", post("Content-Length: -5\r\n", "hello"), 400),
        ("length in hex", post("Content-Length: 0x5\r\n", "hello"), 400),
        ("length empty", post("Content-Length:\r\n", ""), 400),
        ("length too large", post("Content-Length: 99999999999999999999\r\n", ""), 400),
        ("length with inner space", post("Content-Length: 1 0\r\n", "hello"), 400),
        ("chunked twice in one line", post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"), 400),
        ("chunked in two lines", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400),
        ("gzip then chunked", post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), 400),
        ("identity", post("Transfer-Encoding: identity\r\n", ""), 400),
        ("unknown encoding", post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), 400),
        ("encoding with parameter", post("Transfer-Encoding: chunked;x\r\n", "0\r\n\r\n"), 400),
        ("encoding with vertical tab", post("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"), 400),
        ("encoding in 1.0", raw("POST / HTTP/1.0\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400),
        ("encoding with space before colon", post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), 400),
        // chunks, seen with the head
        ("chunk size with sign", chunked("+5\r\nhello\r\n0\r\n\r\n"), 400),
        ("chunk size with prefix", chunked("0x5\r\nhello\r\n0\r\n\r\n"), 400),
        ("chunk size with space", chunked("5 \r\nhello\r\n0\r\n\r\n"), 400),
        ("chunk size with space before", chunked(" 5\r\nhello\r\n0\r\n\r\n"), 400),
        ("chunk size empty", chunked("\r\nhello\r\n0\r\n\r\n"), 400),
        ("chunk size too long", chunked("0000000000000005\r\nhello\r\n0\r\n\r\n"), 400),
        ("chunk size overflow", chunked("FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n"), 400),
        ("chunk size with bare LF", chunked("5\nhello\r\n0\r\n\r\n"), 400),
        ("chunk data too long", chunked("5\r\nhello!\r\n0\r\n\r\n"), 400),
        ("chunk data with bare LF", chunked("5\r\nhello\n0\r\n\r\n"), 400),
        ("chunk extension with bare CR", chunked("5;a\rb\r\nhello\r\n0\r\n\r\n"), 400),
        ("chunk extension with bare LF", chunked("5;a\nb\r\nhello\r\n0\r\n\r\n"), 400),
        ("chunk extension too long", chunked(&format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(300))), 400),
        ("trailer folded", chunked("0\r\nx: 1\r\n 2\r\n\r\n"), 400),
        ("trailer without colon", chunked("0\r\nGET / HTTP/1.1\r\n\r\n"), 400),
        ("trailer with bare LF", chunked("0\r\nx: 1\n\r\n"), 400),
        // lines
        ("bare LF after request line", raw("GET / HTTP/1.1\nHost: a.example\r\n\r\n"), 400),
        ("bare LF after field", raw("GET / HTTP/1.1\r\nHost: a.example\nx: y\r\n\r\n"), 400),
        ("bare LF everywhere", raw("GET / HTTP/1.1\nHost: a.example\n\n"), 400),
        ("bare CR in field", get("x: a\rb\r\n"), 400),
        ("bare CR in request line", raw("GET / HTTP/1.1\rx\r\nHost: a.example\r\n\r\n"), 400),
        ("CR CR LF", raw("GET / HTTP/1.1\r\r\nHost: a.example\r\n\r\n"), 400),
        ("NUL in value", get("x: a\0b\r\n"), 400),
        ("NUL in name", get("x\0: b\r\n"), 400),
        ("escape in value", get("x: \x1b[2J\r\n"), 400),
        ("folded field", get("x: a\r\n b\r\n"), 400),
        ("folded first field", raw("GET / HTTP/1.1\r\n Host: a.example\r\n\r\n"), 400),
        ("folded with tab", get("x: a\r\n\tb\r\n"), 400),
        ("space before colon", get("x : y\r\n"), 400),
        ("empty name", get(": y\r\n"), 400),
        ("no colon", get("xy\r\n"), 400),
        ("name with parenthesis", get("x(y): z\r\n"), 400),
        ("two empty lines first", raw("\r\n\r\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n"), 400),
        // request line
        ("two spaces", line("GET  / HTTP/1.1"), 400),
        ("tab for space", line("GET\t/ HTTP/1.1"), 400),
        ("space at the end", line("GET / HTTP/1.1 "), 400),
        ("space at the start", line(" GET / HTTP/1.1"), 400),
        ("no version", line("GET /"), 400),
        ("no target", line("GET  HTTP/1.1"), 400),
        ("bad method", line("G(T / HTTP/1.1"), 400),
        ("lower-case version", line("GET / http/1.1"), 400),
        ("version 2.0", line("GET / HTTP/2.0"), 505),
        ("version 1.2", line("GET / HTTP/1.2"), 505),
        ("version 0.9", line("GET / HTTP/0.9"), 505),
        ("version 1.10", line("GET / HTTP/1.10"), 400),
        ("TLS on a cleartext port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n".to_vec(), 400),
        // methods and upgrades
        ("CONNECT", raw("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n"), 501),
        ("h2c", get("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"), 400),
        ("h2c beside websocket", get("Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n"), 400),
        ("h2c without Connection", get("Upgrade: H2C\r\n"), 400),
        ("WebSocket without key", get(&format!("{ws}Sec-WebSocket-Version: 13\r\n")), 400),
        ("WebSocket without version", get(&format!("{ws}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n")), 400),
        (
            "WebSocket with POST",
            post(&format!("{ws}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), ""),
            400,
        ),
        (
            "WebSocket with a body",
            get(&format!("{ws}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: 5\r\n")),
            400,
        ),
        ("Connection names Host", get("Connection: host\r\n"), 400),
        ("Connection names Content-Length", post("Connection: close, content-length\r\nContent-Length: 2\r\n", "hi"), 400),
        ("Connection malformed", get("Connection: a b\r\n"), 400),
        ("unknown expectation", get("Expect: 200-ok\r\n"), 417),
        // host and target
        ("no host", raw("GET / HTTP/1.1\r\n\r\n"), 400),
        ("no host in 1.0", raw("GET / HTTP/1.0\r\n\r\n"), 400),
        ("two hosts", get("Host: b.example\r\n"), 400),
        ("two equal hosts", get(HOST), 400),
        ("host empty", raw("GET / HTTP/1.1\r\nHost:\r\n\r\n"), 400),
        ("host with path", raw("GET / HTTP/1.1\r\nHost: a.example/x\r\n\r\n"), 400),
        ("host with user", raw("GET / HTTP/1.1\r\nHost: u@a.example\r\n\r\n"), 400),
        ("host list", raw("GET / HTTP/1.1\r\nHost: a.example, b.example\r\n\r\n"), 400),
        ("host with bad port", raw("GET / HTTP/1.1\r\nHost: a.example:99999\r\n\r\n"), 400),
        ("absolute form without host", raw("GET http://a.example/ HTTP/1.1\r\n\r\n"), 400),
        ("absolute form with user", target("http://u:p@a.example/"), 400),
        ("absolute form of another scheme", target("ftp://a.example/"), 400),
        ("fragment", target("/a#b"), 400),
        ("relative target", target("a"), 400),
        ("asterisk with GET", target("*"), 400),
        ("above the root", target("/../etc/passwd"), 400),
        ("above the root, encoded", target("/%2e%2e/etc/passwd"), 400),
        ("encoded slash", target("/a%2f..%2fb"), 400),
        ("backslash", target("/a\\..\\b"), 400),
        ("encoded backslash", target("/a%5c..%5cb"), 400),
        ("encoded NUL", target("/a%00.txt"), 400),
        ("encoded CRLF", target("/a%0d%0aX:1"), 400),
        ("servlet parameter on dots", target("/a/..;/manager"), 400),
        ("bad escape", target("/%zz"), 400),
        ("raw UTF-8", target("/\u{e4}"), 400),
        // limits
        ("too many fields", get(&many), 431),
        ("head too large", get(&format!("x: {}\r\n", "a".repeat(70_000))), 431),
        ("target too long", target(&format!("/{}", "a".repeat(70_000))), 414),
    ]
}

#[tokio::test]
async fn hostile_requests_are_refused_and_nothing_is_served() {
    local(async {
        let (address, service) = Fake::new(echo).listen().await;
        let table = table();
        assert!(table.len() >= 60);
        for (name, bytes, status) in table {
            service.refused.borrow_mut().clear();
            let answer = ask(address, &bytes).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {answer:?}");
            assert!(answer.contains("connection: close\r\n") && answer.contains("figspan-reason: "), "{name}: {answer:?}");
            assert_eq!(service.seen.borrow().as_slice(), [""; 0], "{name}");
            assert_eq!(service.refused.borrow().len(), 1, "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn hostile_bytes_behind_a_good_request_are_refused_in_their_turn() {
    local(async {
        let (address, service) = Fake::new(echo).listen().await;
        for (name, bytes, status) in table() {
            let all = [b"GET /first HTTP/1.1\r\nHost: a.example\r\n\r\n", &bytes[..]].concat();
            let answer = ask(address, &all).await;
            let (first, second) = answer.split_once("GET http://a.example/first ").unwrap_or_else(|| panic!("{name}: {answer:?}"));
            assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "{name}: {answer:?}");
            // With a request before it, an empty line is not the one that is passed over twice.
            assert!(second.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {answer:?}");
        }
        assert!(service.seen.borrow().iter().all(|seen| seen == "GET http://a.example/first"));
    })
    .await;
}

#[tokio::test]
async fn bytes_behind_a_refusal_are_never_read_as_a_request() {
    local(async {
        let (address, service) = Fake::new(echo).listen().await;
        let smuggled = "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n5c\r\nGPOST /admin HTTP/1.1\r\nHost: a.example\r\n\r\n";
        let answer = ask(address, smuggled).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        assert!(service.seen.borrow().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_chunk_that_turns_bad_later_fails_the_body_and_closes() {
    local(async {
        let (address, service) = Fake::new(echo).listen().await;
        let mut raw = Raw::connect(address).await;
        raw.send(chunked("5\r\nhello\r\n")).await;
        while service.seen.borrow().is_empty() {
            tokio::task::yield_now().await;
        }
        raw.send("5\nhello").await;
        let (answer, _) = raw.rest().await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("figspan-reason: chunk\r\n"), "{answer}");
        assert_eq!(*service.refused.borrow(), [Reject::Chunk]);
    })
    .await;
}

#[tokio::test]
async fn a_request_for_another_host_than_the_handshake_named_is_misdirected() {
    local(async {
        let (address, service) = Fake::new(echo).with_server_name("b.example").listen().await;
        let answer = ask(address, get("")).await;
        assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
        assert!(service.seen.borrow().is_empty());
        let answer = ask(address, "GET / HTTP/1.1\r\nHost: B.example:8443\r\nConnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn a_head_that_never_ends_is_timed_out() {
    local(async {
        let fake = Fake::new(echo).with_routing(|routing| routing.limits.header_time = std::time::Duration::from_millis(100));
        let (address, service) = fake.listen().await;
        let answer = ask(address, "GET / HTTP/1.1\r\nHost: a.ex").await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        let mut silent = Raw::connect(address).await;
        assert_eq!(silent.rest().await, (String::new(), true));
        // One byte now and then does not help.
        let mut slow = Raw::connect(address).await;
        slow.send("GET / HTTP/1.1\r\n").await;
        let started = tokio::time::Instant::now();
        let mut answer = Vec::new();
        while answer.is_empty() {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            tokio::select! {
                read = slow.0.read_buf(&mut answer) => { read.unwrap(); }
                () = tokio::time::sleep(std::time::Duration::from_millis(10)) => slow.0.write_all(b"x").await.unwrap(),
            }
        }
        assert!(started.elapsed() < std::time::Duration::from_secs(5));
        assert!(answer.starts_with(b"HTTP/1.1 408 "));
        assert!(service.seen.borrow().is_empty());
    })
    .await;
}
