//! What HTTP/1 clients may rely on, seen from raw bytes.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::body::{Body, BodyError};
use crate::exchange::Pause;
use crate::inbound::testing::{Fake, Raw, ask, data, echo, frames, local};

fn text(body: &str) -> Response<Body> {
    Response::new(Body::Full(body.to_owned().into()))
}

#[tokio::test]
async fn requests_are_answered_over_one_kept_connection() {
    local(async {
        let (address, service) = Fake::new(echo).listen().await;
        let mut raw = Raw::connect(address).await;
        for n in 0..3 {
            raw.send(format!("GET /a/./b?n={n} HTTP/1.1\r\nHost: A.example\r\n\r\n")).await;
            let answer = raw.until(&format!("GET http://a.example/a/b?n={n} ")).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && !answer.contains("connection:"), "{answer}");
        }
        raw.send("GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").await;
        let (answer, clean) = raw.rest().await;
        assert!(answer.contains("connection: close\r\n") && clean, "{answer}");
        assert_eq!(service.seen.borrow().len(), 4);
    })
    .await;
}

#[tokio::test]
async fn who_asks_for_the_end_is_not_waited_for_unless_it_may_still_send() {
    local(async {
        let (address, service) = Fake::new(echo).listen().await;
        let idle = Rc::strong_count(&service);
        let lives = || Rc::strong_count(&service) > idle;
        for (request, lingers) in [
            ("GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nHost: a.example\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\nGET /more", true),
            ("POST / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", true),
        ] {
            let mut raw = Raw::connect(address).await;
            raw.send(request).await;
            let (answer, clean) = raw.rest().await;
            assert!(answer.starts_with("HTTP/1.") && answer.contains("200 OK") && clean, "{answer}");
            // The client has heard the end and keeps its own side open.
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert_eq!(lives(), lingers, "{request}");
            drop(raw);
            while lives() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    local(async {
        let (address, _) = Fake::new(echo).listen().await;
        let one = "POST /1 HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc";
        let two = "POST /2 HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nde\r\n1\r\nf\r\n0\r\n\r\n";
        let three = "GET /3 HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
        let all = [one, two, three].concat();
        let expected = ["POST http://a.example/1 abc", "POST http://a.example/2 def", "GET http://a.example/3 "];
        let check = |answer: &str| {
            let at: Vec<_> = expected.iter().map(|text| answer.find(text).unwrap_or_else(|| panic!("{text} in {answer}"))).collect();
            assert!(at.is_sorted() && answer.matches("HTTP/1.1 200 OK").count() == 3, "{answer}");
        };
        check(&ask(address, &all).await);
        // The same in single bytes.
        let mut raw = Raw::connect(address).await;
        for byte in all.bytes() {
            raw.send([byte]).await;
            tokio::task::yield_now().await;
        }
        check(&raw.rest().await.0);
    })
    .await;
}

#[tokio::test]
async fn http_1_0_clients_get_what_they_can_read() {
    local(async {
        let (address, _) = Fake::new(|_| async { frames_of(&["a", "b"]) }).listen().await;
        let answer = ask(address, "GET / HTTP/1.0\r\nHost: a.example\r\n\r\n").await;
        assert!(answer.ends_with("connection: close\r\n\r\nab") && !answer.contains("chunked"), "{answer}");
        let (address, _) = Fake::new(echo).listen().await;
        let mut raw = Raw::connect(address).await;
        for _ in 0..2 {
            raw.send("GET / HTTP/1.0\r\nHost: a.example\r\nConnection: keep-alive\r\n\r\n").await;
            let answer = raw.until("GET http://a.example/ ").await;
            assert!(answer.contains("connection: keep-alive\r\n") && answer.contains("content-length: "), "{answer}");
        }
    })
    .await;
}

fn frames_of(pieces: &[&'static str]) -> Response<Body> {
    Response::new(frames(pieces.iter().map(|piece| data(piece)).collect()))
}

#[tokio::test]
async fn the_workload_hears_of_the_client_and_of_nothing_that_the_client_made_up() {
    local(async {
        let (address, _) = Fake::new(echo).listen().await;
        let answer = ask(
            address,
            "GET / HTTP/1.1\r\nHost: A.example:81\r\nX-Forwarded-For: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nConnection: close, x-hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nUpgrade: foo\r\nAccept: */*\r\n\r\n",
        )
        .await;
        let seen = answer.lines().find_map(|line| line.strip_prefix("x-seen: ")).unwrap();
        assert_eq!(seen, "accept=*/*|te=trailers|x-forwarded-for=127.0.0.1|x-forwarded-host=a.example:81|x-forwarded-port=81|x-forwarded-proto=http");
        let trusting = Fake::new(echo).with_routing(|routing| routing.proxies.trusted = vec!["127.0.0.0/8".parse().unwrap()]);
        let (address, _) = trusting.listen().await;
        let answer = ask(
            address,
            "GET / HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: 6.6.6.6, 1.2.3.4, 127.0.0.2\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n",
        )
        .await;
        assert!(answer.contains("x-forwarded-for=1.2.3.4, 127.0.0.2, 127.0.0.1|") && answer.contains("x-client: 1.2.3.4\r\n"), "{answer}");
        assert!(answer.contains("GET https://a.example/ "), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn absolute_targets_win_over_host() {
    local(async {
        let (address, _) = Fake::new(echo).listen().await;
        let answer = ask(address, "GET http://B.example/x HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").await;
        assert!(answer.contains("GET http://b.example/x ") && answer.contains("x-forwarded-host=b.example"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn an_asterisk_is_answered_by_the_hub() {
    local(async {
        let (address, service) = Fake::new(echo).listen().await;
        let answer = ask(address, "OPTIONS * HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
        assert!(service.seen.borrow().is_empty());
    })
    .await;
}

#[tokio::test]
async fn trailers_pass_both_ways_without_what_may_not_trail() {
    local(async {
        let fake = Fake::new(|inbound| async {
            let body = inbound.request.into_body().collect().await.unwrap();
            let mut trailers: HeaderMap = body.trailers().unwrap().clone();
            trailers.insert("host", HeaderValue::from_static("evil"));
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            Response::new(frames(vec![data("x"), Ok(Frame::trailers(trailers))]))
        });
        let (address, _) = fake.listen().await;
        let request = "POST / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Sum: 7\r\nX_Forwarded_For: 6.6.6.6\r\nAuthorization: evil\r\n\r\n";
        let answer = ask(address, request).await;
        assert!(answer.ends_with("\r\n\r\n1\r\nx\r\n0\r\nx-sum: 7\r\ngrpc-status: 0\r\n\r\n"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn interim_responses_come_before_the_final_one_and_in_order() {
    local(async {
        let fake = Fake::new(|inbound| async move {
            for link in ["<a>", "<b>"] {
                inbound.informational.send(Response::builder().status(103).header("link", link).body(()).unwrap());
            }
            inbound.informational.send(Response::builder().status(101).body(()).unwrap());
            inbound.informational.send(Response::builder().status(100).body(()).unwrap());
            let late = inbound.informational.clone();
            tokio::task::spawn_local(async move { late.send(Response::builder().status(103).header("link", "late").body(()).unwrap()) });
            text("done")
        });
        let (address, _) = fake.listen().await;
        let answer = ask(address, "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").await;
        let expected = "HTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: <b>\r\n\r\nHTTP/1.1 200 OK\r\n";
        assert!(answer.starts_with(expected) && answer.ends_with("\r\n\r\ndone") && !answer.contains("late"), "{answer}");
        let answer = ask(address, "GET / HTTP/1.0\r\nHost: a.example\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn interim_responses_leave_at_once() {
    local(async {
        let go = Rc::new(tokio::sync::Notify::new());
        let wait = Rc::clone(&go);
        let fake = Fake::new(move |inbound| {
            let wait = Rc::clone(&wait);
            async move {
                inbound.informational.send(Response::builder().status(103).body(()).unwrap());
                wait.notified().await;
                text("done")
            }
        });
        let (address, _) = fake.listen().await;
        let mut raw = Raw::connect(address).await;
        raw.send("GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").await;
        assert_eq!(raw.until("\r\n\r\n").await, "HTTP/1.1 103 Early Hints\r\n\r\n");
        go.notify_one();
        assert!(raw.rest().await.0.ends_with("done"));
    })
    .await;
}

#[tokio::test]
async fn a_client_that_waits_for_100_hears_it_once_and_only_when_its_body_is_wanted() {
    local(async {
        let (address, _) = Fake::new(echo).listen().await;
        let head = "POST / HTTP/1.1\r\nHost: a.example\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n";
        let mut raw = Raw::connect(address).await;
        raw.send(head).await;
        assert_eq!(raw.until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
        raw.send("hi").await;
        let (answer, _) = raw.rest().await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with(" hi"), "{answer}");

        let passing = Fake::new(|inbound| async move {
            inbound.informational.send(Response::builder().status(100).body(()).unwrap());
            let body = inbound.request.into_body().collect().await.unwrap().to_bytes();
            inbound.informational.send(Response::builder().status(100).body(()).unwrap());
            Response::new(Body::Full(body))
        });
        let (address, _) = passing.listen().await;
        let mut raw = Raw::connect(address).await;
        raw.send(head).await;
        assert_eq!(raw.until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
        raw.send("hi").await;
        assert!(raw.rest().await.0.starts_with("HTTP/1.1 200 OK\r\n"));

        let (address, _) = Fake::new(|_| async { text("no") }).listen().await;
        let answer = ask(address, head.replace("Connection: close\r\n", "")).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("connection: close\r\n"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn an_early_answer_reaches_a_client_that_still_sends() {
    local(async {
        let (address, service) =
            Fake::new(|_| async { Response::builder().status(413).body(Body::Full("too large".into())).unwrap() }).listen().await;
        let mut raw = Raw::connect(address).await;
        raw.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1000000\r\n\r\n").await;
        for _ in 0..10 {
            raw.send([b'x'; 1000]).await;
        }
        let (answer, clean) = raw.rest().await;
        assert!(
            answer.starts_with("HTTP/1.1 413 ") && answer.contains("connection: close\r\n") && answer.ends_with("too large"),
            "{answer}"
        );
        assert!(clean);
        // A small body that nobody wanted does not cost the connection, and is not taken for a request.
        let mut raw = Raw::connect(address).await;
        for _ in 0..2 {
            raw.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 26\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n").await;
            assert!(!raw.until("too large").await.contains("connection: close"));
        }
        assert!(service.seen.borrow().iter().all(|seen| seen == "POST http://a.example/"));
    })
    .await;
}

/// Answers at once, and reads the body all the same, as the rest of an upload is.
fn answers_early() -> Fake {
    Fake::new(|inbound| async move {
        tokio::task::spawn_local(inbound.request.into_body().collect());
        text("early")
    })
}

#[tokio::test]
async fn a_body_that_came_outlives_the_connection_that_brought_it() {
    local(async {
        let (told, heard) = tokio::sync::oneshot::channel();
        let told = RefCell::new(Some(told));
        let late = Fake::new(move |inbound| {
            let told = told.take().expect("one request");
            async move {
                // As a workload does that answers before it has read what it was sent.
                tokio::task::spawn_local(async move {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    let _ = told.send(inbound.request.into_body().collect().await.map(|body| body.to_bytes()));
                });
                text("soon")
            }
        });
        let (address, _) = late.listen().await;
        let answer = ask(address, "POST / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("soon"), "{answer}");
        assert_eq!(heard.await.unwrap().unwrap(), "body");
    })
    .await;
}

#[tokio::test]
async fn an_answer_before_its_requests_body_keeps_the_connection_that_its_head_promised() {
    local(async {
        let (address, service) = answers_early().listen().await;
        let mut raw = Raw::connect(address).await;
        let chunked = ["Transfer-Encoding: chunked", "3\r\none\r\n0\r\n\r\n"];
        for [framing, body] in [["Content-Length: 3", "one"], chunked, ["Content-Length: 3", "one"]] {
            raw.send(format!("PUT / HTTP/1.1\r\nHost: a.example\r\n{framing}\r\n\r\n")).await;
            let answer = raw.until("early").await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && !answer.contains("connection:"), "{answer}");
            raw.send(body).await;
        }
        assert_eq!(service.seen.borrow().len(), 3);
        // One who waits for leave to send may leave its body out, and then a next request must not be taken for it.
        raw.send("PUT / HTTP/1.1\r\nHost: a.example\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n").await;
        let (answer, clean) = raw.rest().await;
        assert!(answer.contains("connection: close\r\n") && clean, "{answer}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_follow_its_early_answer_costs_the_connection_and_nothing_else() {
    local(async {
        let (address, service) = answers_early().listen().await;
        let mut raw = Raw::connect(address).await;
        raw.send("PUT / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\non").await;
        let (answer, clean) = raw.rest().await;
        assert!(answer.ends_with("early") && clean, "{answer}");
        assert_eq!(service.seen.borrow().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_response_that_ends_early_or_late_is_never_a_clean_end() {
    local(async {
        let chunked = || frames(vec![data("abc"), Err(BodyError::Backend("gone".into()))]);
        let short = || Response::builder().header("content-length", "10").body(frames(vec![data("abc")])).unwrap();
        let long = || Response::builder().header("content-length", "2").body(frames(vec![data("abc")])).unwrap();
        let broken = || {
            Response::builder()
                .header("content-length", "10")
                .body(frames(vec![data("abc"), Err(BodyError::Backend("gone".into()))]))
                .unwrap()
        };
        let fake = Fake::new(move |inbound| {
            let response = match inbound.request.uri().path() {
                "/short" => short(),
                "/long" => long(),
                "/broken" => broken(),
                _ => Response::new(chunked()),
            };
            async { response }
        });
        let (address, _) = fake.listen().await;
        for (path, version) in [("/short", "1.1"), ("/long", "1.1"), ("/broken", "1.1"), ("/chunked", "1.1"), ("/until-close", "1.0")] {
            let mut raw = Raw::connect(address).await;
            raw.send(format!("GET {path} HTTP/{version}\r\nHost: a.example\r\nConnection: close\r\n\r\n")).await;
            let (answer, clean) = raw.rest().await;
            assert!(!clean, "{path}: {answer}");
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{path}: the client sees whose answer broke off: {answer:?}");
            assert!(!answer.ends_with("0\r\n\r\n"), "{path}: {answer}");
        }
    })
    .await;
}

#[tokio::test]
async fn heads_say_where_bodies_end_in_one_way() {
    local(async {
        let fake = Fake::new(|inbound| {
            let response = Response::builder()
                .header("connection", "close, x")
                .header("transfer-encoding", "gzip")
                .header("keep-alive", "x")
                .header("upgrade", "x");
            let response = match inbound.request.uri().path() {
                "/204" => response.status(204).header("content-length", "5").body(Body::Empty),
                "/304" => response.status(304).header("content-length", "5").body(Body::Empty),
                "/head" => response.header("content-length", "5").body(Body::Empty),
                "/101" => response.status(101).body(Body::Empty),
                _ => response.body(frames(vec![data("a")])),
            };
            async { response.unwrap() }
        });
        let (address, _) = fake.listen().await;
        for (method, path, status, expected) in [
            ("GET", "/204", 204, "\r\nconnection: close\r\n\r\n"),
            ("GET", "/304", 304, "\r\ncontent-length: 5\r\nconnection: close\r\n\r\n"),
            ("HEAD", "/head", 200, "\r\ncontent-length: 5\r\nconnection: close\r\n\r\n"),
            ("GET", "/x", 200, "\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n1\r\na\r\n0\r\n\r\n"),
            ("GET", "/101", 502, "\r\nconnection: close\r\n\r\n"),
        ] {
            let answer = ask(address, format!("{method} {path} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.ends_with(expected), "{path}: {answer}");
            assert!(!answer.contains("gzip") && !answer.contains("keep-alive") && !answer.contains("upgrade"), "{path}: {answer}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_ends_its_side_still_gets_its_answer() {
    local(async {
        let (address, _) = Fake::new(echo).listen().await;
        let mut raw = Raw::connect(address).await;
        raw.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nhi").await;
        raw.0.shutdown().await.unwrap();
        let (answer, clean) = raw.rest().await;
        assert!(answer.ends_with(" hi") && clean, "{answer}");
        // Within a body it is no end of the body.
        let mut raw = Raw::connect(address).await;
        raw.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nhi").await;
        raw.0.shutdown().await.unwrap();
        assert!(raw.rest().await.0.starts_with("HTTP/1.1 400 "));
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
        let mut raw = Raw::connect(address).await;
        raw.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
        while service.seen.borrow().is_empty() {
            tokio::task::yield_now().await;
        }
        crate::inbound::socket::reset_on_close(&raw.0);
        drop(raw);
        while !dropped.get() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_websocket_gets_the_bytes_of_the_connection() {
    local(async {
        let fake = Fake::new(|inbound| async move {
            assert_eq!(inbound.request.headers()["sec-websocket-version"], "13");
            assert!(!inbound.request.headers().contains_key("upgrade"));
            let client_io = inbound.websocket.unwrap().client_io;
            tokio::task::spawn_local(async move {
                let mut io = client_io.await.unwrap();
                let mut held = [0; 5];
                io.read_exact(&mut held).await.unwrap();
                io.write_all(&held.map(|byte| byte.to_ascii_uppercase())).await.unwrap();
                io.shutdown().await.unwrap();
            });
            Response::builder().status(101).header("sec-websocket-accept", "x").body(Body::Empty).unwrap()
        });
        let (address, _) = fake.listen().await;
        let mut raw = Raw::connect(address).await;
        // Bytes in the same flight as the handshake belong to the WebSocket.
        raw.send("GET /chat HTTP/1.1\r\nHost: a.example\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nhel").await;
        let head = raw.until("\r\n\r\n").await;
        assert_eq!(head, "HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
        raw.send("lo").await;
        assert_eq!(raw.rest().await, ("HELLO".to_owned(), true));
    })
    .await;
}

#[tokio::test]
async fn a_refused_websocket_is_an_ordinary_answer() {
    local(async {
        let (address, _) = Fake::new(|inbound| async move {
            assert!(inbound.websocket.is_some());
            Response::builder().status(403).body(Body::Full("no".into())).unwrap()
        })
        .listen()
        .await;
        let mut raw = Raw::connect(address).await;
        let request = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        for _ in 0..2 {
            raw.send(request).await;
            assert!(raw.until("no").await.starts_with("HTTP/1.1 403 "));
        }
    })
    .await;
}

#[tokio::test]
async fn a_drain_asks_busy_connections_to_close_and_closes_idle_ones() {
    local(async {
        let (address, service) = Fake::new(echo).listen().await;
        let (mut busy, mut idle) = (Raw::connect(address).await, Raw::connect(address).await);
        for raw in [&mut busy, &mut idle] {
            raw.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
            raw.until("GET http://a.example/ ").await;
        }
        service.drain.stop();
        busy.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
        let (answer, clean) = busy.rest().await;
        assert!(answer.contains("connection: close\r\n") && answer.starts_with("HTTP/1.1 200 ") && clean, "{answer}");
        assert_eq!(idle.rest().await, (String::new(), true));
    })
    .await;
}

#[tokio::test]
async fn a_lame_duck_serves_old_and_new_connections_and_tells_each_to_close() {
    local(async {
        let (address, service) = Fake::new(echo).listen().await;
        let (mut old, mut idle) = (Raw::connect(address).await, Raw::connect(address).await);
        for raw in [&mut old, &mut idle] {
            raw.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
            raw.until("GET http://a.example/ ").await;
        }
        service.drain.leave();
        let mut new = Raw::connect(address).await;
        for raw in [&mut old, &mut new] {
            raw.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nhi").await;
            let (answer, clean) = raw.rest().await;
            assert!(answer.contains("connection: close\r\n") && answer.starts_with("HTTP/1.1 200 ") && clean, "{answer}");
        }
        // Longer than a drain would leave it open: nobody told its client anything yet.
        tokio::time::sleep(Duration::from_millis(1300)).await;
        idle.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
        let (answer, clean) = idle.rest().await;
        assert!(answer.contains("connection: close\r\n") && answer.starts_with("HTTP/1.1 200 ") && clean, "{answer}");
    })
    .await;
}

#[tokio::test]
async fn a_request_whose_first_byte_came_before_the_end_of_a_lame_duck_is_served() {
    local(async {
        let (address, service) = Fake::new(echo).listen().await;
        let mut raw = Raw::connect(address).await;
        raw.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
        raw.until("GET http://a.example/ ").await;
        raw.send("G").await;
        service.drain.leave();
        service.drain.stop();
        tokio::time::sleep(Duration::from_millis(1300)).await;
        raw.send("ET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
        let (answer, clean) = raw.rest().await;
        assert!(answer.contains("connection: close\r\n") && answer.starts_with("HTTP/1.1 200 ") && clean, "{answer}");
    })
    .await;
}

#[tokio::test]
async fn a_forced_drain_resets_what_is_under_way() {
    local(async {
        let (address, service) = Fake::new(|_| std::future::pending()).listen().await;
        let mut raw = Raw::connect(address).await;
        raw.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
        while service.seen.borrow().is_empty() {
            tokio::task::yield_now().await;
        }
        service.drain.force();
        assert_eq!(raw.rest().await, (String::new(), false));
    })
    .await;
}

#[tokio::test]
async fn large_bodies_stream_both_ways_at_once() {
    local(async {
        // Each frame of the request comes back as one of the response, before the request has ended.
        let fake = Fake::new(|inbound| async move { Response::new(inbound.request.into_body()) });
        let (address, _) = fake.listen().await;
        let Raw(tcp) = Raw::connect(address).await;
        let (mut read, mut write) = tcp.into_split();
        const PIECE: usize = 100_000;
        const PIECES: usize = 100;
        let sending = tokio::task::spawn_local(async move {
            write
                .write_all(b"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
                .await
                .unwrap();
            for n in 0..PIECES {
                write.write_all(format!("{PIECE:x}\r\n").as_bytes()).await.unwrap();
                write.write_all(&vec![n as u8; PIECE]).await.unwrap();
                write.write_all(b"\r\n").await.unwrap();
            }
            write.write_all(b"0\r\n\r\n").await.unwrap();
            write
        });
        let mut answer = Vec::new();
        read.read_to_end(&mut answer).await.unwrap();
        sending.await.unwrap();
        let head = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        let mut chunked = crate::admission::chunked::Chunked::new(crate::admission::HeadLimits { bytes: 1000, count: 10 });
        let (mut rest, mut body) = (&answer[head..], Vec::new());
        loop {
            let (framing, step) = chunked.step(rest).unwrap();
            match step {
                crate::admission::chunked::Step::Data(length) => {
                    body.extend_from_slice(&rest[framing..framing + length]);
                    rest = &rest[framing + length..];
                }
                step => break assert_eq!(step, crate::admission::chunked::Step::End(HeaderMap::new())),
            }
        }
        assert_eq!(body.len(), PIECE * PIECES);
        assert!(body.chunks(PIECE).enumerate().all(|(n, piece)| piece.iter().all(|&byte| byte == n as u8)));
    })
    .await;
}

#[tokio::test]
async fn a_slow_reader_holds_the_body_back() {
    local(async {
        let made = Rc::new(RefCell::new(0usize));
        let counter = Rc::clone(&made);
        let fake = Fake::new(move |_| {
            let counter = Rc::clone(&counter);
            let stream = futures_util::stream::repeat_with(move || {
                *counter.borrow_mut() += 1;
                Ok::<_, BodyError>(Frame::data(Bytes::from_static(&[0; 16 * 1024])))
            });
            async { Response::new(Body::stream(http_body_util::StreamBody::new(stream))) }
        });
        let (address, _) = fake.listen().await;
        let mut raw = Raw::connect(address).await;
        raw.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
        raw.0.readable().await.unwrap();
        let mut before = usize::MAX;
        while before != *made.borrow() {
            before = *made.borrow();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // What the kernel buffers, and little more.
        assert!(before * 16 * 1024 < 64 * 1024 * 1024, "{before} pieces for a reader that does not read");
    })
    .await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_for_too_long_is_reset() {
    local(async {
        let open = Rc::new(());
        let watch = Rc::downgrade(&open);
        let bodies = RefCell::new(vec![open]);
        let fake = Fake::new(move |_| {
            let open = bodies.borrow_mut().pop();
            let stream = futures_util::stream::repeat_with(move || {
                let _open = &open;
                Ok::<_, BodyError>(Frame::data(Bytes::from_static(&[0; 16 * 1024])))
            });
            let mut response = Response::new(Body::stream(http_body_util::StreamBody::new(stream)));
            response.extensions_mut().insert(Pause(Some(Duration::from_millis(100))));
            async { response }
        });
        let (address, _) = fake.listen().await;
        let mut raw = Raw::connect(address).await;
        raw.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
        while watch.strong_count() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Whoever reads on finds no end.
        assert!(!raw.rest().await.1);
    })
    .await;
}
