//! What no client library sends: HTTP/2 frames by hand.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::admission::Reject;
use crate::inbound::PREFACE;
use crate::inbound::testing::{Fake, PATIENCE, echo, local};
use crate::metrics::Limit;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Literal fields without indexing and without Huffman codes (RFC 7541, section 6.2.2).
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    let text = |bytes: &[u8], out: &mut Vec<u8>| {
        match bytes.len() {
            length @ 0..127 => out.push(length as u8),
            length => {
                out.push(127);
                let mut rest = length - 127;
                while rest >= 128 {
                    out.push((rest % 128 + 128) as u8);
                    rest /= 128;
                }
                out.push(rest as u8);
            }
        }
        out.extend_from_slice(bytes);
    };
    for (name, value) in fields {
        out.push(0);
        text(name.as_bytes(), &mut out);
        text(value.as_bytes(), &mut out);
    }
    out
}

const PSEUDO: [(&str, &str); 4] = [(":method", "POST"), (":scheme", "http"), (":authority", "a.example"), (":path", "/")];

fn with(fields: &[(&'static str, &'static str)]) -> Vec<u8> {
    block(&[&PSEUDO[..], fields].concat())
}

struct Peer(TcpStream);

impl Peer {
    async fn connect(address: SocketAddr) -> Self {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(PREFACE).await.unwrap();
        tcp.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        Self(tcp)
    }

    async fn send(&mut self, bytes: &[u8]) {
        // The hub may have closed already; what it said is still to be read.
        let _ = self.0.write_all(bytes).await;
    }

    /// The next RST_STREAM or GOAWAY: its kind, stream and code. `None` at the end of the connection.
    async fn verdict(&mut self) -> Option<(u8, u32, u32)> {
        self.first(&[RST_STREAM, GOAWAY]).await
    }

    /// The next answer: its stream, and the first byte of its header block.
    async fn status(&mut self) -> Option<(u32, u8)> {
        let (_, stream, payload) = self.frame(&[HEADERS]).await?;
        Some((stream, payload[0]))
    }

    /// The next frame of one of these kinds, in the same way.
    async fn first(&mut self, kinds: &[u8]) -> Option<(u8, u32, u32)> {
        let (kind, stream, payload) = self.frame(kinds).await?;
        let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        Some(match kind {
            RST_STREAM => (RST_STREAM, stream, number(0)),
            GOAWAY => (GOAWAY, 0, number(4)),
            kind => (kind, stream, 0),
        })
    }

    /// The next frame of one of these kinds: kind, stream, payload.
    async fn frame(&mut self, kinds: &[u8]) -> Option<(u8, u32, Vec<u8>)> {
        loop {
            let mut head = [0; 9];
            tokio::time::timeout(PATIENCE, self.0.read_exact(&mut head)).await.expect("a frame in time").ok()?;
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            self.0.read_exact(&mut payload).await.ok()?;
            if kinds.contains(&head[3]) {
                return Some((head[3], u32::from_be_bytes(head[5..].try_into().unwrap()), payload));
            }
        }
    }
}

#[tokio::test]
async fn malformed_requests_are_reset_and_nothing_is_served() {
    local(async {
        let (address, service) = Fake::new(echo).listen().await;
        let pseudo_last = block(&[(":method", "GET"), (":scheme", "http"), ("x", "y"), (":path", "/")]);
        for (name, fields) in [
            ("connection", with(&[("connection", "close")])),
            ("keep-alive", with(&[("keep-alive", "5")])),
            ("proxy-connection", with(&[("proxy-connection", "close")])),
            ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
            ("upgrade", with(&[("upgrade", "websocket")])),
            ("te", with(&[("te", "gzip")])),
            ("upper-case name", with(&[("X-Upper", "1")])),
            ("two paths", with(&[(":path", "/admin")])),
            ("unknown pseudo field", with(&[(":extra", "1")])),
            ("status in a request", with(&[(":status", "200")])),
            ("pseudo field last", pseudo_last),
            ("no method", block(&PSEUDO[1..])),
            ("no path", block(&PSEUDO[..3])),
            ("empty path", block(&[&PSEUDO[..3], &[(":path", "")]].concat())),
            ("CR LF in value", with(&[("x", "a\r\nb: c")])),
            ("NUL in value", with(&[("x", "a\0b")])),
            ("space in name", with(&[("x y", "1")])),
            ("length with sign", with(&[("content-length", "+0")])),
            ("two lengths", with(&[("content-length", "1"), ("content-length", "2")])),
            ("protocol without CONNECT", with(&[(":protocol", "websocket")])),
        ] {
            let mut peer = Peer::connect(address).await;
            peer.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields)).await;
            let (_, _, code) = peer.verdict().await.unwrap_or_else(|| panic!("{name}: no verdict"));
            assert_eq!(code, PROTOCOL_ERROR, "{name}");
            assert_eq!(service.seen.borrow().as_slice(), [""; 0], "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_path_with_a_fragment_is_refused_and_the_next_request_served() {
    local(async {
        let (address, service) = Fake::new(echo).listen().await;
        let mut peer = Peer::connect(address).await;
        let request = |path: &'static str| block(&[&PSEUDO[..3], &[(":path", path)]].concat());
        // The second names the path by the entry that the first left in the table.
        let kept = [&block(&PSEUDO[..3])[..], &[0x44, 3], b"/#a"].concat();
        let indexed = [&block(&PSEUDO[..3])[..], &[0xbe]].concat();
        for (stream, fields, status) in [
            (1, request("/a#b"), 0x8c),
            (3, request("/a"), 0x88),
            (5, kept, 0x8c),
            (7, indexed, 0x8c),
            (9, request("/?q#"), 0x8c),
            (11, request("/%23"), 0x88),
        ] {
            peer.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields)).await;
            // 200 and 400 by their indexes in the static table.
            assert_eq!(peer.status().await, Some((stream, status)));
        }
        assert_eq!(service.seen.borrow().as_slice(), ["POST http://a.example/a", "POST http://a.example/%23"]);
        assert_eq!(service.refused.borrow().as_slice(), [Reject::Target; 4]);
    })
    .await;
}

#[tokio::test]
async fn bodies_that_belie_their_length_are_errors() {
    local(async {
        let (address, service) = Fake::new(echo).listen().await;
        for body in ["abc", "abcdefgh"] {
            let mut peer = Peer::connect(address).await;
            peer.send(&frame(HEADERS, END_HEADERS, 1, &with(&[("content-length", "5")]))).await;
            peer.send(&frame(0, END_STREAM, 1, body.as_bytes())).await;
            let (kind, _, code) = peer.verdict().await.unwrap();
            assert_eq!((kind, code), (RST_STREAM, PROTOCOL_ERROR), "{body}");
        }
        // Whatever was begun was never answered as if it were whole.
        assert!(service.seen.borrow().len() <= 2);
    })
    .await;
}

#[tokio::test]
async fn rapid_resets_close_the_connection() {
    local(async {
        let fake = Fake::new(|_| std::future::pending()).with_routing(|routing| routing.limits.h2_resets = 50);
        let (address, service) = fake.listen().await;
        let mut peer = Peer::connect(address).await;
        let head = with(&[]);
        for stream in (1..2001).step_by(2) {
            peer.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &head)).await;
            peer.send(&frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())).await;
            tokio::task::yield_now().await;
        }
        let mut code = None;
        while let Some((kind, _, seen)) = peer.verdict().await {
            if kind == GOAWAY {
                code = Some(seen);
                break;
            }
        }
        assert_eq!(code, Some(ENHANCE_YOUR_CALM));
        assert_eq!(service.limited.borrow().as_slice(), [Limit::H2Resets]);
        assert!(service.seen.borrow().len() < 200, "{}", service.seen.borrow().len());
    })
    .await;
}

#[tokio::test]
async fn resets_of_requests_that_were_begun_count_too() {
    local(async {
        let fake = Fake::new(|_| std::future::pending()).with_routing(|routing| routing.limits.h2_resets = 5);
        let (address, service) = fake.listen().await;
        let mut peer = Peer::connect(address).await;
        // One after the other, each begun before it is reset: h2's own bound, on those that nobody has looked at, sees none.
        for stream in (1..13).step_by(2) {
            let before = service.seen.borrow().len();
            peer.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &with(&[]))).await;
            let begun = async {
                while service.seen.borrow().len() == before {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
            };
            tokio::time::timeout(PATIENCE, begun).await.expect("the request is begun");
            peer.send(&frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())).await;
        }
        assert_eq!(peer.verdict().await, Some((GOAWAY, 0, ENHANCE_YOUR_CALM)));
        assert_eq!((service.limited.borrow().as_slice(), service.seen.borrow().len()), (&[Limit::H2Resets][..], 6));
    })
    .await;
}

#[tokio::test]
async fn resets_that_are_paid_for_by_answers_cost_nothing() {
    local(async {
        let fake = Fake::new(|inbound: crate::exchange::Inbound| async move {
            if inbound.request.uri().path() == "/stay" {
                std::future::pending::<()>().await;
            }
            echo(inbound).await
        });
        let (address, service) = fake.with_routing(|routing| routing.limits.h2_resets = 5).listen().await;
        let tcp = TcpStream::connect(address).await.unwrap();
        let (mut send, connection) = h2::client::handshake(tcp).await.unwrap();
        tokio::task::spawn_local(async move { drop(connection.await) });
        for _ in 0..50 {
            let uri = |path: &str| http::Request::get(format!("http://a.example{path}")).body(()).unwrap();
            let (_answer, mut stream) = send.send_request(uri("/stay"), true).unwrap();
            let before = service.seen.borrow().len();
            while service.seen.borrow().len() == before {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            stream.send_reset(h2::Reason::CANCEL);
            send = send.ready().await.unwrap();
            let (answer, _) = send.send_request(uri("/go"), true).unwrap();
            assert_eq!(answer.await.unwrap().status(), 200);
        }
        assert_eq!(service.limited.borrow().as_slice(), []);
    })
    .await;
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused() {
    local(async {
        let fake = Fake::new(|_| std::future::pending()).with_routing(|routing| routing.limits.h2_streams = 10);
        let (address, service) = fake.listen().await;
        let mut peer = Peer::connect(address).await;
        for stream in (1..23).step_by(2) {
            peer.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &with(&[]))).await;
        }
        assert_eq!(peer.verdict().await, Some((RST_STREAM, 21, REFUSED_STREAM)));
        assert_eq!(service.limited.borrow().as_slice(), [Limit::H2Streams]);
        assert_eq!(service.seen.borrow().len(), 10);
    })
    .await;
}

#[tokio::test]
async fn heads_beyond_the_limit_are_refused_and_floods_of_them_close() {
    local(async {
        let (address, service) = Fake::new(echo).with_routing(|routing| routing.limits.header_bytes = 8 * 1024).listen().await;
        let large = "a".repeat(12 * 1024);
        let mut peer = Peer::connect(address).await;
        let fields = block(&[&PSEUDO[..], &[("x", large.as_str())]].concat());
        peer.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields)).await;
        // The framing layer answers 431 by itself.
        assert_eq!(peer.first(&[HEADERS, RST_STREAM, GOAWAY]).await, Some((HEADERS, 1, 0)));
        assert_eq!(service.limited.borrow().as_slice(), [Limit::HeaderBytes]);
        // With more to come the stream is reset behind its answer, which counts once.
        peer.send(&frame(HEADERS, END_HEADERS, 3, &fields)).await;
        assert_eq!(peer.first(&[HEADERS, RST_STREAM, GOAWAY]).await, Some((HEADERS, 3, 0)));
        assert!(matches!(peer.verdict().await, Some((RST_STREAM, 3, _))));
        assert_eq!(service.limited.borrow().as_slice(), [Limit::HeaderBytes; 2]);
        let mut peer = Peer::connect(address).await;
        peer.send(&frame(HEADERS, END_STREAM, 1, &with(&[]))).await;
        for _ in 0..10_000 {
            peer.send(&frame(CONTINUATION, 0, 1, &block(&[("x", "y")]))).await;
        }
        let verdict = peer.verdict().await;
        assert!(verdict.is_none_or(|(kind, _, _)| kind == GOAWAY), "{verdict:?}");
        assert_eq!(service.limited.borrow().as_slice(), [Limit::HeaderBytes, Limit::HeaderBytes, Limit::H2Frames]);
        assert!(service.seen.borrow().is_empty());
    })
    .await;
}

#[tokio::test]
async fn an_idle_connection_is_told_to_go() {
    local(async {
        let fake = Fake::new(echo).with_routing(|routing| routing.limits.header_time = std::time::Duration::from_millis(50));
        let (address, service) = fake.listen().await;
        let mut peer = Peer::connect(address).await;
        assert_eq!(peer.verdict().await, Some((GOAWAY, 0, 0)));
        assert_eq!(service.limited.borrow().as_slice(), [Limit::HeaderTime]);
        // A preface that never ends is no connection at all.
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(&PREFACE[..10]).await.unwrap();
        let mut end = Vec::new();
        tokio::time::timeout(PATIENCE, slow.read_to_end(&mut end)).await.unwrap().unwrap();
        assert!(end.is_empty());
        assert_eq!(service.limited.borrow().as_slice(), [Limit::HeaderTime; 2]);
    })
    .await;
}
