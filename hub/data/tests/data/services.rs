//! Services in the cluster, reached by address over TCP and TLS.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use crate::harness::{Agent, Hub, eventually, get, post, proxy_status, run, text};
use figspan_data::forward::{Connected, connect_stream};
use figspan_data::metrics::Retry;
use figspan_data::reply::Failure;
use figspan_model::routing::{Backend, BackendTls, BackendTlsRoots, ServiceAddress, StreamRoute, Target, Timeouts};
use figspan_proto::control::Protocol;
use figspan_tunnel::drain::Drain;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Accepts connections and gives each to the script, with its number.
async fn serve<F: Future<Output = ()> + 'static>(script: impl Fn(TcpStream, usize) -> F + 'static) -> (SocketAddr, Rc<Cell<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Rc::new(Cell::new(0)));
    let counted = Rc::clone(&count);
    tokio::task::spawn_local(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            counted.set(counted.get() + 1);
            tokio::task::spawn_local(script(tcp, counted.get()));
        }
    });
    (address, count)
}

async fn head(tcp: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match tcp.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

fn hub_with(addresses: &[SocketAddr]) -> Hub {
    let hub = Hub::new();
    let addresses = addresses.iter().map(|address| ServiceAddress::Socket(*address)).collect();
    hub.services.borrow_mut().push(("orders".to_owned(), Protocol::Http1, addresses));
    hub.publish(&[]);
    hub
}

#[test]
fn requests_to_a_service_share_a_kept_connection() {
    run(|| async {
        let (address, connections) = serve(|mut tcp, _| async move {
            while !head(&mut tcp).await.is_empty() {
                tcp.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n").await.unwrap();
            }
        })
        .await;
        let hub = hub_with(&[address]);
        for _ in 0..4 {
            assert_eq!(hub.get().await, (200, "ok".to_owned()));
        }
        let state = hub.book.endpoint(&format!("service/orders/{address}"));
        assert_eq!((connections.get(), state.pooled.sum(), state.picked.sum(), state.in_flight.sum()), (1, 1, 4, 0));
        // The service leaves the configuration: what was kept for it is closed.
        hub.services.borrow_mut().clear();
        hub.publish(&[]);
        assert_eq!((state.pooled.sum(), hub.get().await.0), (0, 503));
    });
}

#[test]
fn a_refused_connection_goes_to_the_next_address_with_any_method() {
    run(|| async {
        let refused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let (address, _) = serve(|mut tcp, _| async move {
            let _ = head(&mut tcp).await;
            tcp.read_exact(&mut [0; 5]).await.unwrap();
            tcp.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nbye").await.unwrap();
        })
        .await;
        let hub = hub_with(&[refused, address]);
        for _ in 0..4 {
            assert_eq!(text(hub.send(post("order"))).await, (200, "bye".to_owned()));
        }
        assert!(hub.metrics().retried(Retry::NotDelivered) >= 1);

        let alone = hub_with(&[refused]);
        let response = alone.send(get()).await;
        assert_eq!(
            (response.status().as_u16(), proxy_status(&response).as_str()),
            (503, "figspan; error=connection_refused; details=\"connect-refused\"")
        );
    });
}

#[test]
fn a_post_that_crosses_the_end_of_a_kept_connection_is_sent_once_on_a_fresh_one() {
    run(|| async {
        let kept = Rc::new(RefCell::new(None));
        let keep = Rc::clone(&kept);
        let (address, connections) = serve(move |mut tcp, number| {
            let keep = Rc::clone(&keep);
            async move {
                head(&mut tcp).await;
                if number == 1 {
                    tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1").await.unwrap();
                    keep.replace(Some(tcp));
                } else {
                    let mut body = [0; 5];
                    tcp.read_exact(&mut body).await.unwrap();
                    tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").await.unwrap();
                    tcp.write_all(&body).await.unwrap();
                }
            }
        })
        .await;
        let hub = hub_with(&[address]);
        assert_eq!(hub.get().await, (200, "1".to_owned()));
        // The service closes, and the request leaves before the shard's reactor has had a chance to see that.
        drop(kept.take());
        assert_eq!(text(hub.send(post("order"))).await, (200, "order".to_owned()));
        assert_eq!(connections.get(), 2);
        assert_eq!((hub.metrics().retried(Retry::Stale), hub.metrics().failed(Failure::WorkloadClosed)), (1, 0));
    });
}

#[test]
fn a_name_is_resolved_by_the_shard_and_its_answer_is_an_endpoint() {
    run(|| async {
        let (address, _) = serve(|mut tcp, _| async move {
            let _ = head(&mut tcp).await;
            tcp.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        })
        .await;
        let hub = Hub::new();
        let name = ServiceAddress::Name { host: "localhost".to_owned(), port: address.port() };
        hub.services.borrow_mut().push(("orders".to_owned(), Protocol::Http1, vec![name]));
        hub.publish(&[]);
        let shard = Rc::clone(&hub.shard);
        eventually("the name is resolved", move || {
            use figspan_data::balance::ServiceEndpoints;
            !shard.dialer.services().endpoints(&"orders".into()).is_empty()
        })
        .await;
        assert_eq!(hub.get().await.0, 204);
    });
}

#[test]
fn requests_above_the_pending_limit_are_told_so() {
    run(|| async {
        let hub = Hub::new();
        hub.limits.borrow_mut().pending = 0;
        let agent = Agent::join("vm-1", &hub.book).await;
        agent.answer();
        hub.publish(&[&agent]);
        let response = hub.send(get()).await;
        assert_eq!(
            (response.status().as_u16(), proxy_status(&response).as_str()),
            (503, "figspan; error=connection_limit_reached; details=\"queue-full\"")
        );
        assert_eq!(hub.metrics().limit_hits(figspan_data::metrics::Limit::Pending), 1);
        assert_eq!(agent.state.in_flight.sum(), 0);
    });
}

#[test]
fn a_tcp_connection_gets_a_stream_whose_preamble_left_at_once() {
    run(|| async {
        let hub = Hub::speaking(Protocol::Tcp);
        let agent = Agent::join("vm-1", &hub.book).await;
        hub.publish(&[&agent]);
        let route = StreamRoute {
            name: "db".into(),
            listeners: vec!["db".into()],
            hostnames: vec![],
            backends: vec![Backend::plain(Target::Uplink("monolith".parse().unwrap()), None, &hub.book)],
            timeouts: Timeouts::default(),
            failover: None,
            state: hub.book.rule("rule/db/0"),
        };
        let client = hub.client();
        // The workload speaks first: the agent must hear of the connection without a byte of the client.
        let (connected, mut taken) = tokio::join!(connect_stream(&hub.shard, &route, &client), agent.take());
        assert_eq!(taken.preamble.kind, figspan_proto::preamble::Kind::Tcp);
        taken.say("220 ready\r\n").await;
        let Ok(Connected::Tunnel(mut stream, _, in_flight)) = connected else { panic!("no stream") };
        assert_eq!(stream.read_chunk(64).await.unwrap().unwrap(), "220 ready\r\n");
        assert_eq!(agent.state.in_flight.sum(), 1);
        drop(in_flight);
        assert_eq!(agent.state.in_flight.sum(), 0);
    });
}

#[test]
fn a_stopping_shard_keeps_no_connection() {
    run(|| async {
        let (address, _) = serve(|mut tcp, _| async move {
            while !head(&mut tcp).await.is_empty() {
                tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            }
        })
        .await;
        let hub = hub_with(&[address]);
        hub.get().await;
        let state = hub.book.endpoint(&format!("service/orders/{address}"));
        assert_eq!(state.pooled.sum(), 1);
        let drain: &Drain = &hub.shard.drain;
        drain.stop();
        eventually("idle connections are closed", || state.pooled.sum() == 0).await;
        assert_eq!(hub.get().await.0, 200);
        assert_eq!(state.pooled.sum(), 0);
    });
}

#[test]
fn tls_to_a_service_is_verified_and_never_left_out() {
    run(|| async {
        let issued = rcgen::generate_simple_self_signed(["orders.example".to_owned()]).unwrap();
        let (certificate, key) = (issued.cert.pem(), issued.signing_key.serialize_pem());
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        std::fs::write(&file, &certificate).unwrap();
        let pair = figspan_tunnel::front_tls::PemPair { source: "test".to_owned(), certificate, key };
        let front = figspan_tunnel::front_tls::FrontTls::new(&[pair]).unwrap();
        let (address, _) = serve(move |tcp, _| {
            let front = front.clone();
            async move {
                let Ok(stream) = front.accept(tcp).await else { return };
                let (mut io, mut head) = (stream.io, Vec::new());
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(io.read_u8().await.unwrap());
                }
                io.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret").await.unwrap();
                let _ = io.read_u8().await;
            }
        })
        .await;
        let hub = Hub::new();
        let addresses = vec![ServiceAddress::Socket(address)];
        hub.services.borrow_mut().push(("orders".to_owned(), Protocol::Http1, addresses));
        let settings =
            |hostname: &str| Some(Arc::new(BackendTls { hostname: hostname.to_owned(), roots: BackendTlsRoots::File(file.clone()) }));
        hub.tls.replace(settings("orders.example"));
        hub.publish(&[]);
        assert_eq!(hub.get().await, (200, "secret".to_owned()));
        // Another name: what was kept under the old settings is not used, and the certificate does not match.
        hub.tls.replace(settings("other.example"));
        hub.publish(&[]);
        let response = hub.send(get()).await;
        assert_eq!(
            (response.status().as_u16(), proxy_status(&response).as_str()),
            (502, "figspan; error=tls_protocol_error; details=\"tls-failed\"")
        );
    });
}
