//! WebSockets to HTTP/1.1 workloads behind a tunnel.

use crate::harness::{Agent, Hub, eventually, get, proxy_status, run, text};
use figspan_data::exchange::WebSocket;
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn handshake() -> (Request<figspan_data::body::Body>, WebSocket, DuplexStream) {
    let (client, browser) = tokio::io::duplex(1024);
    let websocket = WebSocket { client_io: Box::pin(async move { Ok(Box::new(client) as Box<_>) }) };
    let mut request = get();
    request.headers_mut().insert("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==".parse().unwrap());
    request.headers_mut().insert("sec-websocket-version", "13".parse().unwrap());
    (request, websocket, browser)
}

#[test]
fn bytes_flow_after_101_and_count_as_in_flight_until_the_end() {
    run(|| async {
        let hub = Hub::new();
        let agent = Agent::join("vm-1", &hub.book).await;
        agent.script(|mut taken| async move {
            let request = taken.request().await.unwrap();
            assert!(request.contains("connection: Upgrade\r\nupgrade: websocket\r\n"), "{request}");
            // The first frame comes in one flight with the 101.
            let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
            taken.say(&format!("{head}Sec-WebSocket-Accept: {ACCEPT}\r\n\r\nhello")).await;
            while let Ok(Some(data)) = taken.stream.read_chunk(1024).await {
                taken.stream.write_chunk(data).await.unwrap();
            }
            taken.stream.finish();
        });
        hub.publish(&[&agent]);
        let (request, websocket, mut browser) = handshake();
        let response = hub.upgrade(request, websocket).await;
        assert_eq!((response.status().as_u16(), &response.headers()["sec-websocket-accept"]), (101, &ACCEPT.parse().unwrap()));
        browser.write_all(b" world").await.unwrap();
        let mut text = [0; 11];
        browser.read_exact(&mut text).await.unwrap();
        assert_eq!((&text, agent.state.in_flight.sum()), (b"hello world", 1));
        browser.shutdown().await.unwrap();
        assert_eq!(browser.read(&mut text).await.unwrap(), 0);
        eventually("the WebSocket is over", || agent.state.in_flight.sum() == 0).await;
        assert_eq!(agent.state.pooled.sum(), 0);
    });
}

#[test]
fn a_refused_handshake_is_an_ordinary_answer() {
    run(|| async {
        let hub = Hub::new();
        let agent = Agent::join("vm-1", &hub.book).await;
        agent.answer();
        hub.publish(&[&agent]);
        let (request, websocket, _browser) = handshake();
        assert_eq!(text(hub.upgrade(request, websocket)).await, (200, "vm-1".to_owned()));
    });
}

#[test]
fn a_101_that_nobody_asked_for_or_without_proof_is_a_502() {
    run(|| async {
        let hub = Hub::new();
        let agent = Agent::join("vm-1", &hub.book).await;
        agent.script(|mut taken| async move {
            taken.request().await;
            let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
            taken.say(&format!("{head}Sec-WebSocket-Accept: guess\r\n\r\n")).await;
            let _ = taken.request().await;
        });
        hub.publish(&[&agent]);
        let (request, websocket, _browser) = handshake();
        let asked = hub.upgrade(request, websocket).await;
        assert_eq!(
            (asked.status().as_u16(), proxy_status(&asked).as_str()),
            (502, "figspan; error=http_upgrade_failed; details=\"upgrade-failed\"")
        );
        let unasked = hub.send(get()).await;
        assert_eq!(
            (unasked.status().as_u16(), proxy_status(&unasked).as_str()),
            (502, "figspan; error=http_protocol_error; details=\"malformed-response\"")
        );
        assert_eq!((agent.state.in_flight.sum(), agent.state.pooled.sum()), (0, 0));
    });
}
