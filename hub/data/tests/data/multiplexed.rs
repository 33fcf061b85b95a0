//! HTTP/2 workloads (h2c) behind a tunnel: gRPC's shape, shared connections, refusals, WebSockets.

use std::rc::Rc;

use crate::harness::{Agent, Hub, eventually, get, post, proxy_status, request, run, text};
use bytes::Bytes;
use figspan_data::body::Body;
use figspan_data::exchange::WebSocket;
use figspan_data::metrics::Retry;
use figspan_proto::control::Protocol;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Serves HTTP/2 on every stream of the agent; each request is given to the script. Returns the number of streams.
fn serve(
    agent: &Agent,
    builder: h2::server::Builder,
    script: impl Fn(Request<RecvStream>, SendResponse<Bytes>) + 'static,
) -> Rc<std::cell::Cell<usize>> {
    let script = Rc::new(script);
    agent.script(move |taken| {
        let (builder, script) = (builder.clone(), Rc::clone(&script));
        async move {
            let mut connection = builder.handshake::<_, Bytes>(taken.stream).await.unwrap();
            while let Some(Ok((request, respond))) = connection.accept().await {
                script(request, respond);
            }
        }
    })
}

fn answer(mut respond: SendResponse<Bytes>, text: &'static str) {
    let mut stream = respond.send_response(Response::new(()), false).unwrap();
    stream.send_data(Bytes::from_static(text.as_bytes()), true).unwrap();
}

#[test]
fn a_grpc_call_keeps_its_messages_and_trailers_both_ways() {
    run(|| async {
        let hub = Hub::speaking(Protocol::H2c);
        let agent = Agent::join("vm-1", &hub.book).await;
        serve(&agent, h2::server::Builder::new(), |request, mut respond| {
            tokio::task::spawn_local(async move {
                assert_eq!(request.uri(), "http://shop.example/cart?id=7");
                assert_eq!(request.headers()["te"], "trailers");
                let mut stream = respond.send_response(Response::new(()), false).unwrap();
                let mut body = request.into_body();
                // Echo as it comes: the call is a stream both ways.
                while let Some(data) = body.data().await {
                    let data = data.unwrap();
                    body.flow_control().release_capacity(data.len()).unwrap();
                    stream.send_data(data, false).unwrap();
                }
                assert_eq!(body.trailers().await.unwrap().unwrap()["x-sum"], "1");
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", "0".parse().unwrap());
                stream.send_trailers(trailers).unwrap();
            });
        });
        hub.publish(&[&agent]);
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        let frames = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx).map(|frame| frame.map(Ok)));
        let mut call = request(Method::POST, Body::stream(http_body_util::StreamBody::new(frames)));
        call.headers_mut().insert("content-type", "application/grpc+proto".parse().unwrap());
        let mut response = hub.send(call).await;
        for message in ["one", "two"] {
            sender.send(http_body::Frame::data(Bytes::from_static(message.as_bytes()))).await.unwrap();
            let echo = response.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(echo, message);
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "1".parse().unwrap());
        sender.send(http_body::Frame::trailers(trailers)).await.unwrap();
        let trailers = response.frame().await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(trailers["grpc-status"], "0");
        assert!(response.frame().await.is_none());
        drop(response);
        eventually("the call is over", || agent.state.in_flight.sum() == 0).await;
    });
}

#[test]
fn requests_at_once_share_one_connection() {
    run(|| async {
        let hub = Hub::speaking(Protocol::H2c);
        let agent = Agent::join("vm-1", &hub.book).await;
        let streams = serve(&agent, h2::server::Builder::new(), |_, respond| answer(respond, "vm-1"));
        hub.publish(&[&agent]);
        let all = futures_util::future::join_all((0..50).map(|_| hub.get())).await;
        assert!(all.iter().all(|answer| *answer == (200, "vm-1".to_owned())));
        assert_eq!(streams.get(), 1);
        assert_eq!((agent.state.in_flight.sum(), agent.state.pooled.sum(), agent.state.picked.sum()), (0, 1, 50));
        agent.weight.set(0);
        agent.state.draining.store(true, std::sync::atomic::Ordering::Release);
        hub.publish(&[&agent]);
        assert_eq!(agent.state.pooled.sum(), 0);
    });
}

#[test]
fn a_refused_stream_goes_elsewhere_with_any_method() {
    run(|| async {
        let hub = Hub::speaking(Protocol::H2c);
        let (first, second) = (Agent::join("vm-1", &hub.book).await, Agent::join("vm-2", &hub.book).await);
        serve(&first, h2::server::Builder::new(), |_, mut respond| respond.send_reset(Reason::REFUSED_STREAM));
        serve(&second, h2::server::Builder::new(), |_, respond| answer(respond, "vm-2"));
        hub.publish(&[&first, &second]);
        for _ in 0..2 {
            assert_eq!(text(hub.send(post("order"))).await, (200, "vm-2".to_owned()));
        }
        assert!(hub.metrics().retried(Retry::NotDelivered) == 1);
    });
}

#[test]
fn a_stream_reset_after_the_request_was_seen_is_a_502_for_post() {
    run(|| async {
        let hub = Hub::speaking(Protocol::H2c);
        let (first, second) = (Agent::join("vm-1", &hub.book).await, Agent::join("vm-2", &hub.book).await);
        for agent in [&first, &second] {
            serve(agent, h2::server::Builder::new(), |_, mut respond| respond.send_reset(Reason::INTERNAL_ERROR));
        }
        hub.publish(&[&first, &second]);
        let response = hub.send(post("order")).await;
        assert_eq!(
            (response.status().as_u16(), proxy_status(&response).as_str()),
            (502, "figspan; error=connection_terminated; details=\"workload-reset\"")
        );
        assert_eq!(first.state.picked.sum() + second.state.picked.sum(), 1);
    });
}

#[test]
fn an_answer_that_breaks_off_is_never_a_clean_end() {
    run(|| async {
        let hub = Hub::speaking(Protocol::H2c);
        let agent = Agent::join("vm-1", &hub.book).await;
        serve(&agent, h2::server::Builder::new(), |_, mut respond| {
            tokio::task::spawn_local(async move {
                let mut stream = respond.send_response(Response::new(()), false).unwrap();
                stream.send_data(Bytes::from_static(b"half"), false).unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                stream.send_reset(Reason::INTERNAL_ERROR);
            });
        });
        hub.publish(&[&agent]);
        let response = hub.send(get()).await;
        assert!(response.into_body().collect().await.is_err());
        assert_eq!(agent.state.in_flight.sum(), 0);
    });
}

#[test]
fn a_large_body_both_ways_stays_whole() {
    run(|| async {
        let hub = Hub::speaking(Protocol::H2c);
        let agent = Agent::join("vm-1", &hub.book).await;
        serve(&agent, h2::server::Builder::new(), |request, mut respond| {
            tokio::task::spawn_local(async move {
                let mut body = request.into_body();
                let mut sum = 0usize;
                while let Some(data) = body.data().await {
                    let data = data.unwrap();
                    body.flow_control().release_capacity(data.len()).unwrap();
                    sum += data.iter().map(|byte| usize::from(*byte)).sum::<usize>();
                }
                let mut stream = respond.send_response(Response::new(()), false).unwrap();
                stream.send_data(Bytes::from(sum.to_string()), true).unwrap();
            });
        });
        hub.publish(&[&agent]);
        let body = Body::Full(Bytes::from(vec![1; 3_000_000]));
        assert_eq!(text(hub.send(request(Method::PUT, body))).await, (200, "3000000".to_owned()));
    });
}

#[test]
fn a_websocket_reaches_an_h2c_workload_by_extended_connect() {
    run(|| async {
        let hub = Hub::speaking(Protocol::H2c);
        let agent = Agent::join("vm-1", &hub.book).await;
        let mut builder = h2::server::Builder::new();
        builder.enable_connect_protocol();
        serve(&agent, builder, |request, mut respond| {
            tokio::task::spawn_local(async move {
                assert_eq!(request.method(), Method::CONNECT);
                assert_eq!(request.extensions().get::<h2::ext::Protocol>().unwrap().as_str(), "websocket");
                let mut stream = respond.send_response(Response::new(()), false).unwrap();
                let mut body = request.into_body();
                while let Some(Ok(data)) = body.data().await {
                    body.flow_control().release_capacity(data.len()).unwrap();
                    stream.send_data(data, false).unwrap();
                }
                stream.send_data(Bytes::new(), true).unwrap();
            });
        });
        hub.publish(&[&agent]);
        let (client, mut browser) = tokio::io::duplex(1024);
        let websocket = WebSocket { client_io: Box::pin(async move { Ok(Box::new(client) as Box<_>) }) };
        let mut handshake = get();
        handshake.headers_mut().insert("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==".parse().unwrap());
        let response = hub.upgrade(handshake, websocket).await;
        assert_eq!(response.status(), 101);
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        browser.write_all(b"ping").await.unwrap();
        let mut echo = [0; 4];
        browser.read_exact(&mut echo).await.unwrap();
        assert_eq!((&echo, agent.state.in_flight.sum()), (b"ping", 1));
        drop(browser);
        eventually("the WebSocket is over", || agent.state.in_flight.sum() == 0).await;
    });
}

#[test]
fn a_stopping_shard_lets_go_of_shared_connections_when_their_last_request_ends() {
    run(|| async {
        let hub = Hub::speaking(Protocol::H2c);
        let agent = Agent::join("vm-1", &hub.book).await;
        let streams = serve(&agent, h2::server::Builder::new(), |_, respond| answer(respond, "vm-1"));
        hub.publish(&[&agent]);
        hub.get().await;
        assert_eq!(agent.state.pooled.sum(), 1);
        hub.shard.drain.stop();
        eventually("the idle connection is closed", || agent.state.pooled.sum() == 0).await;
        assert_eq!(hub.get().await, (200, "vm-1".to_owned()));
        assert_eq!((agent.state.pooled.sum(), streams.get()), (0, 2));
    });
}

#[test]
fn requests_beyond_what_a_workload_allows_at_once_wait_and_are_answered() {
    run(|| async {
        let hub = Hub::speaking(Protocol::H2c);
        let agent = Agent::join("vm-1", &hub.book).await;
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(2);
        let streams = serve(&agent, builder, |_, respond| {
            tokio::task::spawn_local(async move {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                answer(respond, "vm-1");
            });
        });
        hub.publish(&[&agent]);
        // The first teaches the hub the workload's limit.
        hub.get().await;
        let all = futures_util::future::join_all((0..40).map(|_| hub.get())).await;
        assert!(all.iter().all(|answer| *answer == (200, "vm-1".to_owned())), "{all:?}");
        assert!(streams.get() <= 4);
        assert_eq!(agent.state.in_flight.sum(), 0);
    });
}

#[test]
fn a_workload_that_goes_away_finishes_what_it_took_and_the_rest_goes_elsewhere() {
    run(|| async {
        let hub = Hub::speaking(Protocol::H2c);
        let agent = Agent::join("vm-1", &hub.book).await;
        let streams = agent.script(|taken| async move {
            let mut connection = h2::server::Builder::new().handshake::<_, Bytes>(taken.stream).await.unwrap();
            let (_, respond) = connection.accept().await.unwrap().unwrap();
            // GOAWAY first, then the answer to the request that was taken.
            connection.graceful_shutdown();
            tokio::task::spawn_local(async move {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                answer(respond, "last");
            });
            while connection.accept().await.is_some() {}
        });
        hub.publish(&[&agent]);
        for _ in 0..3 {
            assert_eq!(text(hub.send(post("order"))).await, (200, "last".to_owned()));
        }
        assert_eq!((streams.get(), agent.state.failed.sum()), (3, 0));
    });
}

/// A server ends the connection, with every stream on it, when too many are cancelled that it has not taken yet.
#[test]
fn requests_that_are_given_up_while_a_workload_stands_still_do_not_cost_the_others_their_connection() {
    run(|| async {
        let hub = Hub::speaking(Protocol::H2c);
        let agent = Agent::join("vm-1", &hub.book).await;
        let (wake, asked) = (Rc::new(tokio::sync::Notify::new()), Rc::new(std::cell::Cell::new(0)));
        let (woken, count) = (Rc::clone(&wake), Rc::clone(&asked));
        let streams = agent.script(move |taken| {
            let (woken, count) = (Rc::clone(&woken), Rc::clone(&count));
            async move {
                // As servers are by default: at most 20 in the queue.
                let mut connection = h2::server::Builder::new().handshake::<_, Bytes>(taken.stream).await.unwrap();
                loop {
                    let Some(Ok((_, mut respond))) = connection.accept().await else { return };
                    count.set(count.get() + 1);
                    // What was given up meanwhile cannot be answered.
                    if let Ok(mut stream) = respond.send_response(Response::new(()), false) {
                        let _ = stream.send_data(Bytes::from_static(b"vm-1"), true);
                    }
                    if count.get() == 3 {
                        // The last answer goes out, and then nothing until it is woken.
                        tokio::select! {
                            _ = connection.accept() => unreachable!("nothing else is asked yet"),
                            () = woken.notified() => {}
                        }
                        woken.notified().await;
                    }
                }
            }
        });
        hub.publish(&[&agent]);
        // Its settings come before the second answer at the latest, so that all that follows is put on the one connection.
        for _ in 0..3 {
            assert_eq!(hub.get().await, (200, "vm-1".to_owned()));
        }
        eventually("the connection is unused again", || agent.state.pooled.sum() == 1).await;
        wake.notify_one();
        let orders = futures_util::future::join_all((0..5).map(|_| text(hub.send(post("order")))));
        let given_up = async {
            let many = futures_util::future::join_all((0..60).map(|_| hub.get()));
            assert!(tokio::time::timeout(std::time::Duration::from_millis(100), many).await.is_err(), "it stands still");
            // Nobody waits for these any more, and what is said of that arrives while the workload still stands.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            wake.notify_one();
        };
        let (answers, ()) = tokio::join!(orders, given_up);
        assert!(answers.iter().all(|answer| *answer == (200, "vm-1".to_owned())), "{answers:?}");
        assert_eq!((streams.get(), agent.state.failed.sum()), (1, 0), "all on one connection");
        eventually("it has taken all that was asked", || asked.get() == 3 + 5 + 60).await;
        eventually("nothing is left on it", || agent.state.pooled.sum() == 1).await;
    });
}
