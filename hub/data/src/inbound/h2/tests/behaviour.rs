//! What HTTP/2 clients may rely on.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::body::{Body, BodyError};
use crate::exchange::Pause;
use crate::inbound::testing::{Fake, data, echo, frames, local};

async fn connect(address: SocketAddr) -> SendRequest<Bytes> {
    let tcp = TcpStream::connect(address).await.unwrap();
    let (send, connection) = h2::client::handshake(tcp).await.unwrap();
    tokio::task::spawn_local(async move { drop(connection.await) });
    send.ready().await.unwrap()
}

fn get(uri: &str) -> Request<()> {
    Request::get(uri).body(()).unwrap()
}

async fn read(mut body: RecvStream) -> (String, Result<Option<HeaderMap>, h2::Error>) {
    let mut held = Vec::new();
    while let Some(data) = body.data().await {
        match data {
            Ok(data) => {
                body.flow_control().release_capacity(data.len()).unwrap();
                held.extend_from_slice(&data);
            }
            Err(error) => return (String::from_utf8(held).unwrap(), Err(error)),
        }
    }
    (String::from_utf8(held).unwrap(), body.trailers().await)
}

async fn ask(address: SocketAddr, request: Request<()>, body: &'static str) -> (Response<()>, String) {
    let mut send = connect(address).await;
    let (response, mut stream) = send.send_request(request, body.is_empty()).unwrap();
    if !body.is_empty() {
        stream.send_data(Bytes::from_static(body.as_bytes()), true).unwrap();
    }
    let (parts, body) = response.await.unwrap().into_parts();
    (Response::from_parts(parts, ()), read(body).await.0)
}

#[tokio::test]
async fn requests_are_admitted_like_those_of_http_1() {
    local(async {
        let (address, service) = Fake::new(echo).listen().await;
        let request = Request::post("http://A.example:81/x/../b//c?q=1")
            .header("x-forwarded-for", "6.6.6.6")
            .header("x_forwarded_for", "6.6.6.6")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let (response, body) = ask(address, request, "hello").await;
        assert_eq!((response.status(), body.as_str()), (StatusCode::OK, "POST http://a.example:81/b/c?q=1 hello"));
        assert_eq!(
            response.headers()["x-seen"],
            "cookie=a=1; b=2|te=trailers|x-forwarded-for=127.0.0.1|x-forwarded-host=a.example:81|x-forwarded-port=81|x-forwarded-proto=http"
        );
        let with_host = |host: &str| Request::get("http://a.example/").header("host", host).body(()).unwrap();
        assert_eq!(ask(address, with_host("A.example"), "").await.0.status(), StatusCode::OK);
        service.seen.borrow_mut().clear();
        for (request, status) in [
            (with_host("b.example"), 421),
            (with_host("a b"), 400),
            (get("http://u:p@a.example/"), 400),
            (get("http://a.example/a%2fb"), 400),
            (get("http://a.example/a/..;/b"), 400),
            (get("http://a.example/../b"), 400),
            (Request::get("http://a.example/").header("expect", "x").body(()).unwrap(), 417),
            (Request::builder().method(Method::CONNECT).uri("a.example:443").body(()).unwrap(), 501),
        ] {
            let text = format!("{request:?}");
            let (response, _) = ask(address, request, "").await;
            assert_eq!(response.status(), status, "{text}");
            assert!(response.headers().contains_key("figspan-reason"), "{text}");
        }
        let mut many = get("http://a.example/");
        for n in 0..101 {
            many.headers_mut().insert(http::HeaderName::try_from(format!("x-{n}")).unwrap(), HeaderValue::from_static("1"));
        }
        assert_eq!(ask(address, many, "").await.0.status(), 431);
        assert_eq!(service.seen.borrow().as_slice(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn a_request_for_another_host_than_the_handshake_named_is_misdirected() {
    local(async {
        let (address, _) = Fake::new(echo).with_server_name("b.example").listen().await;
        assert_eq!(ask(address, get("https://a.example/"), "").await.0.status(), 421);
        assert_eq!(ask(address, get("https://b.example/"), "").await.0.status(), 200);
    })
    .await;
}

#[tokio::test]
async fn many_requests_share_a_connection() {
    local(async {
        let (address, service) = Fake::new(echo).listen().await;
        let mut send = connect(address).await;
        let answers: Vec<_> = (0..50).map(|n| send.send_request(get(&format!("http://a.example/{n}")), true).unwrap().0).collect();
        for (n, answer) in answers.into_iter().enumerate() {
            let (body, _) = read(answer.await.unwrap().into_body()).await;
            assert_eq!(body, format!("GET http://a.example/{n} "));
        }
        assert_eq!(service.seen.borrow().len(), 50);
    })
    .await;
}

#[tokio::test]
async fn trailers_pass_both_ways_without_what_may_not_trail() {
    local(async {
        let fake = Fake::new(|inbound| async {
            let body = inbound.request.into_body().collect().await.unwrap();
            let mut trailers: HeaderMap = body.trailers().unwrap().clone();
            assert_eq!(trailers.len(), 1);
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            trailers.insert("content-length", HeaderValue::from_static("9"));
            Response::new(frames(vec![data("x"), Ok(Frame::trailers(trailers))]))
        });
        let (address, _) = fake.listen().await;
        let mut send = connect(address).await;
        let (answer, mut stream) = send.send_request(Request::post("http://a.example/").body(()).unwrap(), false).unwrap();
        stream.send_data(Bytes::from_static(b"abc"), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("7"));
        trailers.insert("x-forwarded-for", HeaderValue::from_static("6.6.6.6"));
        stream.send_trailers(trailers).unwrap();
        let (body, trailers) = read(answer.await.unwrap().into_body()).await;
        let trailers = trailers.unwrap().unwrap();
        assert_eq!((body.as_str(), trailers.len()), ("x", 2));
        assert_eq!((&trailers["x-sum"], &trailers["grpc-status"]), (&"7".parse().unwrap(), &"0".parse().unwrap()));
    })
    .await;
}

#[tokio::test]
async fn interim_responses_and_100_continue_come_first() {
    local(async {
        let fake = Fake::new(|inbound| async {
            inbound.informational.send(Response::builder().status(103).header("link", "<a>").body(()).unwrap());
            echo(inbound).await
        });
        let (address, _) = fake.listen().await;
        let mut send = connect(address).await;
        let request = Request::post("http://a.example/").header("expect", "100-continue").body(()).unwrap();
        let (mut answer, mut stream) = send.send_request(request, false).unwrap();
        let interim = std::future::poll_fn(|cx| answer.poll_informational(cx)).await.unwrap().unwrap();
        assert_eq!((interim.status(), &interim.headers()["link"]), (StatusCode::EARLY_HINTS, &"<a>".parse().unwrap()));
        let interim = std::future::poll_fn(|cx| answer.poll_informational(cx)).await.unwrap().unwrap();
        assert_eq!(interim.status(), StatusCode::CONTINUE);
        stream.send_data(Bytes::from_static(b"hi"), true).unwrap();
        assert_eq!(read(answer.await.unwrap().into_body()).await.0, "POST http://a.example/ hi");
    })
    .await;
}

#[tokio::test]
async fn a_response_that_ends_early_or_late_is_reset() {
    local(async {
        let fake = Fake::new(|inbound| {
            let sized = |length: &str, body| Response::builder().header("content-length", length).body(body).unwrap();
            let gone = || Err(BodyError::Backend("gone".into()));
            let response = match inbound.request.uri().path() {
                "/short" => sized("10", frames(vec![data("abc")])),
                "/empty" => sized("10", Body::Empty),
                "/long" => sized("2", frames(vec![data("abc")])),
                "/broken" => sized("10", frames(vec![data("abc"), gone()])),
                _ => Response::new(frames(vec![data("abc"), gone()])),
            };
            async { response }
        });
        let (address, _) = fake.listen().await;
        let mut send = connect(address).await;
        for path in ["/short", "/empty", "/long", "/broken", "/unsized"] {
            let (answer, _) = send.send_request(get(&format!("http://a.example{path}")), true).unwrap();
            let (_, end) = read(answer.await.expect("the client sees whose answer broke off").into_body()).await;
            assert_eq!(end.unwrap_err().reason(), Some(Reason::INTERNAL_ERROR), "{path}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_is_dropped_when_its_client_resets() {
    struct Dropped(Rc<Cell<bool>>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    local(async {
        let dropped = Rc::new(Cell::new(false));
        let flag = Rc::clone(&dropped);
        let fake = Fake::new(move |inbound| {
            let held = Dropped(Rc::clone(&flag));
            async move {
                let _held = (held, inbound);
                std::future::pending().await
            }
        });
        let (address, service) = fake.listen().await;
        let mut send = connect(address).await;
        let (_answer, mut stream) = send.send_request(Request::post("http://a.example/").body(()).unwrap(), false).unwrap();
        while service.seen.borrow().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stream.send_reset(Reason::CANCEL);
        while !dropped.get() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_body_that_its_client_cuts_is_an_error() {
    local(async {
        let end = Rc::new(RefCell::new(None));
        let heard = Rc::clone(&end);
        let fake = Fake::new(move |inbound| {
            let heard = Rc::clone(&heard);
            let mut body = inbound.request.into_body();
            // The answer has begun, so that only the body tells.
            tokio::task::spawn_local(async move {
                let result = loop {
                    match body.frame().await {
                        Some(Ok(_)) => {}
                        Some(Err(error)) => break Err(error.to_string()),
                        None => break Ok(()),
                    }
                };
                *heard.borrow_mut() = Some(result);
            });
            async { Response::new(frames(vec![data("x")])) }
        });
        let (address, _) = fake.listen().await;
        let mut send = connect(address).await;
        let (answer, mut stream) = send.send_request(Request::post("http://a.example/").body(()).unwrap(), false).unwrap();
        stream.send_data(Bytes::from_static(b"abc"), false).unwrap();
        answer.await.unwrap();
        stream.send_reset(Reason::CANCEL);
        while end.borrow().is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(matches!(&*end.borrow(), Some(Err(error)) if error.starts_with("client: ")), "{end:?}");
    })
    .await;
}

#[tokio::test]
async fn a_websocket_is_a_get_with_a_key_and_bytes_both_ways() {
    local(async {
        let fake = Fake::new(|inbound| async move {
            let head = &inbound.request;
            assert_eq!((head.method(), head.uri().to_string().as_str()), (&Method::GET, "http://a.example/chat"));
            assert_eq!((head.headers()["sec-websocket-version"].as_bytes(), head.headers()["sec-websocket-key"].len()), (&b"13"[..], 24));
            let client_io = inbound.websocket.unwrap().client_io;
            tokio::task::spawn_local(async move {
                let mut io = client_io.await.unwrap();
                let mut held = String::new();
                io.read_to_string(&mut held).await.unwrap();
                io.write_all(held.to_uppercase().repeat(100_000).as_bytes()).await.unwrap();
                io.shutdown().await.unwrap();
            });
            Response::builder()
                .status(101)
                .header("sec-websocket-accept", "x")
                .header("sec-websocket-protocol", "chat")
                .body(Body::Empty)
                .unwrap()
        });
        let (address, service) = fake.listen().await;
        let mut send = connect(address).await;
        while !send.is_extended_connect_protocol_enabled() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let handshake = |protocol: &'static str| {
            let mut request = Request::builder()
                .method(Method::CONNECT)
                .uri("http://a.example/chat")
                .header("sec-websocket-version", "13")
                .body(())
                .unwrap();
            request.extensions_mut().insert(h2::ext::Protocol::from_static(protocol));
            request
        };
        let (answer, mut stream) = send.send_request(handshake("websocket"), false).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!((answer.status(), answer.headers().len()), (StatusCode::OK, 1));
        stream.send_data(Bytes::from_static(b"hello"), true).unwrap();
        let (text, end) = read(answer.into_body()).await;
        assert_eq!((text, end.unwrap()), ("HELLO".repeat(100_000), None));
        let (answer, _stream) = send.send_request(handshake("connect-udp"), false).unwrap();
        assert_eq!(answer.await.unwrap().status(), 501);
        assert_eq!(service.seen.borrow().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_drain_finishes_what_is_under_way_and_takes_nothing_new() {
    local(async {
        let go = Rc::new(tokio::sync::Notify::new());
        let wait = Rc::clone(&go);
        let fake = Fake::new(move |inbound| {
            let wait = Rc::clone(&wait);
            async move {
                wait.notified().await;
                echo(inbound).await
            }
        });
        let (address, service) = fake.listen().await;
        let tcp = TcpStream::connect(address).await.unwrap();
        let (mut send, connection) = h2::client::handshake(tcp).await.unwrap();
        let connection = tokio::task::spawn_local(connection);
        let (answer, _) = send.send_request(get("http://a.example/"), true).unwrap();
        while service.seen.borrow().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        service.drain.stop();
        while send.clone().ready().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        go.notify_one();
        assert_eq!(read(answer.await.unwrap().into_body()).await.0, "GET http://a.example/ ");
        connection.await.unwrap().unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_lame_duck_asks_old_connections_to_go_and_new_ones_after_their_first_request() {
    local(async {
        let (address, service) = Fake::new(echo).listen().await;
        let dial = || async {
            let (send, connection) = h2::client::handshake(TcpStream::connect(address).await.unwrap()).await.unwrap();
            (send, tokio::task::spawn_local(connection))
        };
        let (mut old, old_end) = dial().await;
        let (answer, _) = old.send_request(get("http://a.example/"), true).unwrap();
        answer.await.unwrap();
        service.drain.leave();
        old_end.await.unwrap().unwrap();
        let (new, new_end) = dial().await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let mut new = new.ready().await.expect("nobody tells it to go before it has asked");
        let (answer, _) = new.send_request(get("http://a.example/"), true).unwrap();
        assert_eq!(read(answer.await.unwrap().into_body()).await.0, "GET http://a.example/ ");
        new_end.await.unwrap().unwrap();
    })
    .await;
}

#[tokio::test]
async fn large_bodies_stream_both_ways_at_once() {
    local(async {
        let (address, _) = Fake::new(|inbound| async move { Response::new(inbound.request.into_body()) }).listen().await;
        let mut send = connect(address).await;
        let (answer, mut stream) = send.send_request(Request::post("http://a.example/").body(()).unwrap(), false).unwrap();
        const LENGTH: usize = 5_000_000;
        let sending = tokio::task::spawn_local(async move {
            let mut left = LENGTH;
            while left > 0 {
                stream.reserve_capacity(left.min(60_000));
                let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap().min(left);
                left -= room;
                stream.send_data(vec![b'x'; room].into(), left == 0).unwrap();
            }
        });
        let (body, end) = read(answer.await.unwrap().into_body()).await;
        sending.await.unwrap();
        assert!(body.len() == LENGTH && end.is_ok());
    })
    .await;
}

#[tokio::test]
async fn a_slow_reader_holds_the_body_back() {
    local(async {
        let made = Rc::new(Cell::new(0usize));
        let counter = Rc::clone(&made);
        let fake = Fake::new(move |_| {
            let counter = Rc::clone(&counter);
            let stream = futures_util::stream::repeat_with(move || {
                counter.set(counter.get() + 16 * 1024);
                Ok::<_, BodyError>(Frame::data(Bytes::from_static(&[0; 16 * 1024])))
            });
            async { Response::new(Body::stream(http_body_util::StreamBody::new(stream))) }
        });
        let (address, _) = fake.listen().await;
        let mut send = connect(address).await;
        let (answer, _) = send.send_request(get("http://a.example/"), true).unwrap();
        let _unread = answer.await.unwrap();
        let mut before = usize::MAX;
        while before != made.get() {
            before = made.get();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(before < 1024 * 1024, "{before} bytes for a client whose window is 64 KiB");
    })
    .await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_for_too_long_is_reset() {
    local(async {
        let fake = Fake::new(move |_| {
            let stream = futures_util::stream::repeat_with(|| Ok::<_, BodyError>(Frame::data(Bytes::from_static(&[0; 16 * 1024]))));
            let mut response = Response::new(Body::stream(http_body_util::StreamBody::new(stream)));
            response.extensions_mut().insert(Pause(Some(Duration::from_millis(100))));
            async { response }
        });
        let (address, _) = fake.listen().await;
        let mut send = connect(address).await;
        let (answer, mut stream) = send.send_request(get("http://a.example/"), true).unwrap();
        let _unread = answer.await.unwrap();
        let reset = std::future::poll_fn(|cx| stream.poll_reset(cx)).await.unwrap();
        assert_eq!(reset, Reason::CANCEL);
    })
    .await;
}
