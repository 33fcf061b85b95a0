//! From a client's socket through a listener to a scripted agent, and back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::harness::{Agent, Hub, eventually, run};
use figspan_data::listen;
use figspan_data::metrics::Limit;
use figspan_data::reply::Failure;
use figspan_model::routing::draft::{BackendDraft, HttpRouteDraft, HttpRuleDraft, RoutingDraft, StreamRouteDraft};
use figspan_model::routing::{Listener, ListenerProtocol, Target, Timeouts};
use figspan_model::snapshot::{Endpoint, Shares, TunnelAt, Uplink};
use figspan_proto::control::Protocol;
use figspan_proto::preamble::Kind;
use figspan_proto::reset::Reason;
use figspan_proto::weight::Weight;
use figspan_tunnel::backend_tls::BackendTlsClient;
use figspan_tunnel::drain::Drain;
use figspan_tunnel::front_tls::{FrontTls, PemPair};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

const WAIT: Duration = Duration::from_secs(10);

/// A hub with one listener.
struct Door {
    hub: Hub,
    listener: Arc<Listener>,
    address: SocketAddr,
    drain: Drain,
}

impl Door {
    fn open(
        protocol: ListenerProtocol,
        change: impl FnOnce(&mut RoutingDraft, &mut Listener),
        agents: &[&Agent],
        hub: Hub,
        tls: Option<Arc<FrontTls>>,
    ) -> Self {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let workload =
            if matches!(protocol, ListenerProtocol::Http | ListenerProtocol::Https { .. }) { Protocol::Http1 } else { Protocol::Tcp };
        let mut listener = Listener { name: "web".into(), address, protocol, accept_proxy_protocol: false };
        let backends = vec![BackendDraft { target: Target::Uplink("monolith".parse().unwrap()), weight: None, fallback: 0 }];
        let rule = HttpRuleDraft { backends: backends.clone(), ..HttpRuleDraft::default() };
        let http = HttpRouteDraft { name: "shop".into(), listeners: vec![], hostnames: vec![], rules: vec![rule] };
        let stream = StreamRouteDraft {
            name: "db".into(),
            listeners: vec!["web".into()],
            hostnames: vec![],
            backends,
            timeouts: Timeouts::default(),
            failover: None,
        };
        let mut draft = RoutingDraft { http_routes: vec![http], stream_routes: vec![stream], ..RoutingDraft::default() };
        change(&mut draft, &mut listener);
        draft.listeners = vec![listener.clone()];
        let endpoint = |agent: &&Agent| {
            Arc::new(Endpoint {
                zone: None,
                near: false,
                agent: agent.name.parse().unwrap(),
                weight: Weight::DEFAULT,
                ready: true,
                reason: String::new(),
                tunnels: vec![TunnelAt { shard: 0, tunnel: agent.hub.clone() }],
                state: Arc::clone(&agent.state),
            })
        };
        let name: figspan_proto::name::UplinkName = "monolith".parse().unwrap();
        let endpoints: Vec<_> = agents.iter().map(endpoint).collect();
        let uplink = Uplink {
            shares: Shares::of(&endpoints, |_| true),
            name,
            protocol: workload,
            weight: Weight::DEFAULT,
            draining: false,
            endpoints,
            state: hub.book.rule("uplink/monolith"),
        };
        hub.publisher.publish(draft.build(&hub.book), [Arc::new(uplink)].into_iter().collect());
        hub.shard.catch_up();
        let (listener, drain) = (Arc::new(listener), Drain::new());
        listen::serve(hub.shard.clone(), Arc::clone(&listener), socket, tls, drain.clone());
        Self { hub, listener, address, drain }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

fn nothing(_: &mut RoutingDraft, _: &mut Listener) {}

async fn ask(io: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str) -> String {
    io.write_all(request.as_bytes()).await.unwrap();
    to_end(io).await.unwrap()
}

async fn to_end(io: &mut (impl AsyncRead + Unpin)) -> std::io::Result<String> {
    let mut text = Vec::new();
    tokio::time::timeout(WAIT, io.read_to_end(&mut text)).await.expect("an end in time")?;
    Ok(String::from_utf8(text).unwrap())
}

async fn exactly(io: &mut (impl AsyncRead + Unpin), length: usize) -> String {
    let mut text = vec![0; length];
    tokio::time::timeout(WAIT, io.read_exact(&mut text)).await.expect("bytes in time").unwrap();
    String::from_utf8(text).unwrap()
}

const GET: &str = "GET /a/../b HTTP/1.1\r\nHost: Shop.example\r\nConnection: close\r\n\r\n";

#[test]
fn a_request_goes_from_a_socket_to_the_workload_and_back() {
    run(|| async {
        let hub = Hub::new();
        let agent = Agent::join("vm-1", &hub.book).await;
        let door = Door::open(ListenerProtocol::Http, nothing, &[&agent], hub, None);
        let workload = async {
            let mut taken = agent.take().await;
            let request = taken.request().await.unwrap();
            assert!(request.starts_with("GET /b HTTP/1.1\r\nhost: shop.example\r\n"), "{request}");
            for line in ["x-forwarded-for: 127.0.0.1\r\n", "x-forwarded-proto: http\r\n", "x-forwarded-host: shop.example\r\n"] {
                assert!(request.contains(line), "{request}");
            }
            taken.say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
            taken
        };
        let mut tcp = door.connect().await;
        let (answer, _taken) = tokio::join!(ask(&mut tcp, GET), workload);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("connection: close\r\n\r\nhello"), "{answer}");
        drop(tcp);
        let metrics = door.hub.metrics();
        eventually("no connection is left", || metrics.connections.value() == 0).await;
        assert_eq!(metrics.connections_total.value(), 1);
    });
}

#[test]
fn an_answer_that_breaks_off_resets_the_client() {
    run(|| async {
        let hub = Hub::new();
        let agent = Agent::join("vm-1", &hub.book).await;
        let door = Door::open(ListenerProtocol::Http, nothing, &[&agent], hub, None);
        // A reset overtakes what waits to be sent, so it comes when the client has read the beginning.
        let begun = std::rc::Rc::new(tokio::sync::Notify::new());
        let read = std::rc::Rc::clone(&begun);
        agent.script(move |mut taken| {
            let read = std::rc::Rc::clone(&read);
            async move {
                taken.request().await;
                taken.say("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello").await;
                read.notified().await;
                taken.reset(Reason::WorkloadReset, 1);
            }
        });
        let mut tcp = door.connect().await;
        tcp.write_all(GET.as_bytes()).await.unwrap();
        assert_eq!(exactly(&mut tcp, 15).await, "HTTP/1.1 200 OK");
        begun.notify_one();
        assert!(to_end(&mut tcp).await.is_err());
    });
}

#[test]
fn a_websocket_goes_through_a_listener() {
    run(|| async {
        let hub = Hub::new();
        let agent = Agent::join("vm-1", &hub.book).await;
        let door = Door::open(ListenerProtocol::Http, nothing, &[&agent], hub, None);
        agent.script(|mut taken| async move {
            let request = taken.request().await.unwrap();
            assert!(request.contains("upgrade: websocket\r\n") && request.contains("sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), "{request}");
            taken.say("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n").await;
            while let Ok(Some(chunk)) = taken.stream.read_chunk(1024).await {
                taken.stream.write_chunk(chunk).await.unwrap();
            }
            taken.stream.finish();
        });
        let mut tcp = door.connect().await;
        let handshake = "GET /chat HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        tcp.write_all(handshake.as_bytes()).await.unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head += &exactly(&mut tcp, 1).await;
        }
        assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
        tcp.write_all(b"hello").await.unwrap();
        assert_eq!(exactly(&mut tcp, 5).await, "hello");
        assert_eq!(agent.state.in_flight.sum(), 1);
        tcp.shutdown().await.unwrap();
        assert_eq!(to_end(&mut tcp).await.unwrap(), "");
        eventually("the WebSocket counts no more", || agent.state.in_flight.sum() == 0).await;
    });
}

fn certificate() -> (Arc<FrontTls>, String) {
    let pair = rcgen::generate_simple_self_signed(vec!["shop.example".to_owned()]).unwrap();
    let pem = pair.cert.pem();
    let tls = FrontTls::new(&[PemPair { source: "test".into(), certificate: pem.clone(), key: pair.signing_key.serialize_pem() }]).unwrap();
    (tls, pem)
}

#[test]
fn https_speaks_both_versions_and_holds_to_the_server_name() {
    run(|| async {
        let hub = Hub::new();
        let agent = Agent::join("vm-1", &hub.book).await;
        let (tls, root) = certificate();
        let door = Door::open(ListenerProtocol::Https { certificates: vec![] }, nothing, &[&agent], hub, Some(tls));
        agent.script(|mut taken| async move {
            while let Some(request) = taken.request().await {
                assert!(request.contains("x-forwarded-proto: https\r\n") && request.contains("x-forwarded-port: 443\r\n"), "{request}");
                taken.say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
            }
        });
        let h1 = BackendTlsClient::new("shop.example", Some(&root), Some(false)).unwrap();
        let mut io = h1.connect(door.connect().await).await.unwrap();
        assert!(ask(&mut io, GET).await.ends_with("hello"));
        let mut io = h1.connect(door.connect().await).await.unwrap();
        let answer = ask(&mut io, &GET.replace("Shop", "other")).await;
        assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
        let h2 = BackendTlsClient::new("shop.example", Some(&root), Some(true)).unwrap();
        let io = h2.connect(door.connect().await).await.unwrap();
        let (mut send, connection) = h2::client::handshake(io).await.unwrap();
        tokio::task::spawn_local(async move { drop(connection.await) });
        let request = |host: &str| http::Request::get(format!("https://{host}/")).body(()).unwrap();
        let (answer, _) = send.send_request(request("shop.example"), true).unwrap();
        assert_eq!(answer.await.unwrap().into_body().data().await.unwrap().unwrap(), "hello");
        let (answer, _) = send.send_request(request("other.example"), true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 421);
    });
}

#[test]
fn the_proxy_protocol_is_believed_from_trusted_peers_only() {
    run(|| async {
        for trusted in [true, false] {
            let hub = Hub::new();
            let agent = Agent::join("vm-1", &hub.book).await;
            let change = |draft: &mut RoutingDraft, listener: &mut Listener| {
                listener.accept_proxy_protocol = true;
                draft.proxies.trusted = if trusted { vec!["127.0.0.0/8".parse().unwrap()] } else { vec![] };
            };
            let door = Door::open(ListenerProtocol::Http, change, &[&agent], hub, None);
            let mut tcp = door.connect().await;
            if !trusted {
                let _ = tcp.write_all(b"PROXY TCP4 192.0.2.7 192.0.2.8 1000 80\r\n").await;
                assert!(to_end(&mut tcp).await.is_err());
                continue;
            }
            let workload = async {
                let mut taken = agent.take().await;
                assert_eq!(
                    (taken.preamble.client, taken.preamble.server),
                    (Some("192.0.2.7:1000".parse().unwrap()), Some("192.0.2.8:80".parse().unwrap()))
                );
                assert!(taken.request().await.unwrap().contains("x-forwarded-for: 192.0.2.7\r\n"));
                taken.say("HTTP/1.1 204 No Content\r\n\r\n").await;
                taken
            };
            let request = format!("PROXY TCP4 192.0.2.7 192.0.2.8 1000 80\r\n{GET}");
            let (answer, _taken) = tokio::join!(ask(&mut tcp, &request), workload);
            assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
            let mut tcp = door.connect().await;
            let _ = tcp.write_all(GET.as_bytes()).await;
            assert!(to_end(&mut tcp).await.is_err(), "a connection without the header is reset");
        }
    });
}

#[test]
fn tcp_connections_are_spliced_with_half_close() {
    run(|| async {
        let hub = Hub::new();
        let agent = Agent::join("vm-1", &hub.book).await;
        let door = Door::open(ListenerProtocol::Tcp, nothing, &[&agent], hub, None);
        agent.script(|mut taken| async move {
            assert_eq!(taken.preamble.kind, Kind::Tcp);
            // The server speaks first.
            taken.say("ready ").await;
            let mut read = Vec::new();
            while let Some(chunk) = taken.stream.read_chunk(1024).await.unwrap() {
                read.extend_from_slice(&chunk);
            }
            taken.say(&format!("got {}", read.len())).await;
            taken.stream.finish();
        });
        let mut tcp = door.connect().await;
        assert_eq!(exactly(&mut tcp, 6).await, "ready ");
        tcp.write_all(&[b'x'; 100_000]).await.unwrap();
        tcp.shutdown().await.unwrap();
        assert_eq!(to_end(&mut tcp).await.unwrap(), "got 100000");
        eventually("the connection counts no more", || agent.state.in_flight.sum() == 0).await;
        assert_eq!((door.hub.metrics().streams.value(), door.hub.metrics().bytes_in.value()), (1, 100_000));
    });
}

#[test]
fn a_tcp_connection_that_was_not_delivered_goes_elsewhere_with_all_its_bytes() {
    run(|| async {
        let hub = Hub::new();
        let (first, second) = (Agent::join("vm-1", &hub.book).await, Agent::join("vm-2", &hub.book).await);
        let refused = first.script(|mut taken| async move {
            let _ = taken.stream.read_chunk(1024).await;
            taken.reset(Reason::ConnectRefused, 0);
        });
        second.script(|mut taken| async move {
            let chunk = taken.stream.read_chunk(1024).await.unwrap().unwrap();
            taken.stream.write_chunk(chunk).await.unwrap();
            taken.stream.finish();
            while let Ok(Some(_)) = taken.stream.read_chunk(1024).await {}
        });
        let door = Door::open(ListenerProtocol::Tcp, nothing, &[&first, &second], hub, None);
        for _ in 0..4 {
            let mut tcp = door.connect().await;
            tcp.write_all(b"hello").await.unwrap();
            assert_eq!(exactly(&mut tcp, 5).await, "hello");
            tcp.shutdown().await.unwrap();
            assert_eq!(to_end(&mut tcp).await.unwrap(), "");
        }
        assert!(refused.get() >= 1);
    });
}

#[test]
fn a_tcp_connection_that_fails_is_reset() {
    run(|| async {
        let hub = Hub::new();
        let agent = Agent::join("vm-1", &hub.book).await;
        let begun = std::rc::Rc::new(tokio::sync::Notify::new());
        let read = std::rc::Rc::clone(&begun);
        agent.script(move |mut taken| {
            let read = std::rc::Rc::clone(&read);
            async move {
                let _ = taken.stream.read_chunk(1024).await;
                taken.say("part").await;
                read.notified().await;
                taken.reset(Reason::WorkloadReset, 5);
            }
        });
        let door = Door::open(ListenerProtocol::Tcp, nothing, &[&agent], hub, None);
        let mut tcp = door.connect().await;
        tcp.write_all(b"hello").await.unwrap();
        assert_eq!(exactly(&mut tcp, 4).await, "part");
        begun.notify_one();
        assert!(to_end(&mut tcp).await.is_err());
        agent.state.draining.store(true, std::sync::atomic::Ordering::Release);
        let mut tcp = door.connect().await;
        let _ = tcp.write_all(b"hello").await;
        assert!(to_end(&mut tcp).await.is_err(), "nobody takes it");
    });
}

#[test]
fn passed_through_tls_is_routed_by_its_server_name_and_ends_at_the_workload() {
    run(|| async {
        let hub = Hub::new();
        let agent = Agent::join("vm-1", &hub.book).await;
        let change = |draft: &mut RoutingDraft, _: &mut Listener| draft.stream_routes[0].hostnames = vec!["shop.example".to_owned()];
        let door = Door::open(ListenerProtocol::TlsPassthrough, change, &[&agent], hub, None);
        let (tls, root) = certificate();
        // The workload: a TLS server on loopback, with the agent between.
        let workload = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = workload.local_addr().unwrap();
        tokio::task::spawn_local(async move {
            let (tcp, _) = workload.accept().await.unwrap();
            let mut stream = tls.accept(tcp).await.unwrap();
            assert_eq!(stream.server_name.as_deref(), Some("shop.example"));
            stream.io.write_all(b"secret").await.unwrap();
            stream.io.shutdown().await.unwrap();
            let _ = stream.io.read_to_end(&mut Vec::new()).await;
        });
        agent.script(move |taken| async move {
            let tcp = TcpStream::connect(address).await.unwrap();
            let settings = figspan_tunnel::splice::SpliceSettings { idle: None, kind: Kind::Tcp };
            figspan_tunnel::splice::splice_workload(tcp, taken.stream, &settings).await;
        });
        let client = BackendTlsClient::new("shop.example", Some(&root), None).unwrap();
        let mut io = client.connect(door.connect().await).await.unwrap();
        assert_eq!(exactly(&mut io, 6).await, "secret");
        let other = BackendTlsClient::new("other.example", Some(&root), None).unwrap();
        let error = other.connect(door.connect().await).await.unwrap_err();
        assert!(error.to_string().contains("UnrecognisedName") || error.to_string().contains("unrecognized"), "{error}");
        assert_eq!(door.hub.metrics().failed(Failure::NoRoute), 1);
        let mut plain = door.connect().await;
        plain.write_all(GET.as_bytes()).await.unwrap();
        assert!(to_end(&mut plain).await.is_err(), "no TLS is reset");
    });
}

#[test]
fn connections_beyond_the_limit_wait() {
    run(|| async {
        let hub = Hub::new();
        let agent = Agent::join("vm-1", &hub.book).await;
        agent.answer();
        let door = Door::open(ListenerProtocol::Http, |draft, _| draft.limits.connections = 1, &[&agent], hub, None);
        let metrics = door.hub.metrics();
        let first = door.connect().await;
        eventually("the first is taken", || metrics.connections.value() == 1).await;
        let mut second = door.connect().await;
        second.write_all(GET.as_bytes()).await.unwrap();
        eventually("the listener pauses", || metrics.limit_hits(Limit::Connections) == 1).await;
        assert_eq!(metrics.connections_total.value(), 1);
        drop(first);
        assert!(to_end(&mut second).await.unwrap().ends_with("vm-1"));
    });
}

#[test]
fn a_listener_that_closes_serves_who_had_connected() {
    run(|| async {
        let hub = Hub::new();
        let agent = Agent::join("vm-1", &hub.book).await;
        agent.answer();
        let door = Door::open(ListenerProtocol::Http, nothing, &[&agent], hub, None);
        // In the backlog, as nothing has run since.
        let socket = std::net::TcpStream::connect(door.address).unwrap();
        door.drain.stop();
        socket.set_nonblocking(true).unwrap();
        let mut late = TcpStream::from_std(socket).unwrap();
        let answer = ask(&mut late, &GET.replace("Connection: close\r\n", "")).await;
        assert!(answer.contains("connection: close\r\n") && answer.ends_with("vm-1"), "{answer}");
        assert!(TcpStream::connect(door.address).await.is_err());
        assert!(door.drain.run(Duration::from_secs(5)).await);
        assert_eq!(door.listener.name.as_ref(), "web");
    });
}
