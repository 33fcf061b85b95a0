//! Mirrors: copies of requests to a target of their own, and what their answers tell.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::harness::{Agent, Hub, eventually, get, post, request, run, text};
use bytes::Bytes;
use figspan_data::body::Body;
use figspan_data::limit::copies::MAX_COPIES;
use figspan_model::routing::policy::{Compare, CompareBody, Mirror};
use figspan_model::routing::{RulePolicy, ServiceAddress, Target};
use figspan_model::state::{Copies, MirrorState};
use figspan_proto::control::Protocol;
use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn mirror() -> Mirror {
    Mirror {
        target: Target::Service("copies".into()),
        percent: 100,
        max_body: 1000,
        timeout: Duration::from_secs(5),
        unsafe_methods: Some("tests".into()),
        compare: None,
    }
}

fn state(hub: &Hub) -> Arc<MirrorState> {
    hub.book.mirror("rule/shop/0/mirror/service/copies")
}

fn count(hub: &Hub, what: Copies) -> u64 {
    state(hub).report().count(what)
}

/// The target of mirrors: answers each request with this, or never. What came, and where it is.
async fn target(hub: &Hub, answer: Option<&'static str>) -> Rc<RefCell<Vec<String>>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    hub.services.borrow_mut().push(("copies".into(), Protocol::Http1, vec![ServiceAddress::Socket(listener.local_addr().unwrap())]));
    let came = Rc::new(RefCell::new(Vec::new()));
    let all = Rc::clone(&came);
    tokio::task::spawn_local(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let all = Rc::clone(&all);
            tokio::task::spawn_local(async move {
                let mut buffer = [0; 65536];
                while let Ok(n @ 1..) = connection.read(&mut buffer).await {
                    all.borrow_mut().push(String::from_utf8_lossy(&buffer[..n]).into_owned());
                    if let Some(answer) = answer {
                        connection.write_all(answer.as_bytes()).await.unwrap();
                    }
                }
            });
        }
    });
    came
}

/// A hub whose rule mirrors to `copies`, which has no share of its own.
async fn mirroring(hub: &Hub, mirror: Mirror) -> Agent {
    hub.policy.replace(Some(Arc::new(RulePolicy { mirrors: vec![mirror], ..RulePolicy::default() })));
    *hub.service_weight.borrow_mut() = Some(0);
    let agent = Agent::join("vm-1", &hub.book).await;
    hub.publish(&[&agent]);
    agent
}

#[test]
fn a_copy_has_the_request_with_its_marker_and_its_answer_is_dropped() {
    run(|| async {
        let hub = Hub::new();
        let came = target(&hub, Some("HTTP/1.1 500 No\r\nContent-Length: 5\r\n\r\nwrong")).await;
        let agent = mirroring(&hub, mirror()).await;
        agent.answer();
        assert_eq!(text(hub.send(post("order"))).await, (200, "vm-1".to_owned()));
        eventually("the copy is answered", || count(&hub, Copies::Answered) == 1).await;
        let copy = came.borrow().concat();
        assert!(copy.starts_with("POST /cart?id=7 HTTP/1.1\r\nhost: shop.example\r\n") && copy.ends_with("\r\n\r\norder"), "{copy}");
        assert!(copy.contains("figspan-mirror: shop\r\n") && copy.contains("content-length: 5\r\n"), "{copy}");
        assert_eq!((hub.shard.copies.count(), agent.state.picked.sum()), (0, 1));
    });
}

#[test]
fn methods_that_may_change_something_are_copied_only_for_a_reason() {
    run(|| async {
        let hub = Hub::new();
        target(&hub, Some("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")).await;
        let agent = mirroring(&hub, Mirror { unsafe_methods: None, ..mirror() }).await;
        agent.answer();
        for method in [Method::PUT, Method::DELETE, Method::TRACE] {
            assert_eq!(hub.send(request(method, Body::Empty)).await.status(), 200);
        }
        assert_eq!((hub.send(post("order")).await.status(), count(&hub, Copies::Seen)), (http::StatusCode::OK, 0));
        hub.get().await;
        eventually("the copy of the GET is answered", || count(&hub, Copies::Answered) == 1).await;
    });
}

#[test]
fn a_target_that_never_answers_costs_a_bounded_number_of_tasks_and_nothing_else() {
    run(|| async {
        let hub = Hub::new();
        let came = target(&hub, None).await;
        let agent = mirroring(&hub, Mirror { timeout: Duration::from_millis(600), ..mirror() }).await;
        agent.answer();
        let begun = Instant::now();
        for _ in 0..300 {
            assert_eq!(text(hub.send(post("order"))).await.0, 200);
        }
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert!(hub.shard.copies.count() <= MAX_COPIES);
        let (made, dropped) = (count(&hub, Copies::Begun), count(&hub, Copies::DroppedFull));
        assert_eq!(made + dropped, 300);
        assert!(dropped > 0, "{made} copies were made");
        eventually("the copies that wait end with their time", || hub.shard.copies.count() == 0).await;
        assert_eq!((count(&hub, Copies::Failed), came.borrow().len() as u64), (made, made));
        assert_eq!(hub.metrics().copied(Copies::Failed), made);
    });
}

#[test]
fn a_body_above_the_cap_is_not_copied_or_its_copy_breaks_off() {
    run(|| async {
        let hub = Hub::new();
        let came = target(&hub, None).await;
        let agent = mirroring(&hub, Mirror { max_body: 10, ..mirror() }).await;
        agent.script(|mut taken| async move {
            let mut all = String::new();
            while let Ok(Some(chunk)) = taken.stream.read_chunk(10_000).await {
                all.push_str(std::str::from_utf8(&chunk).unwrap());
                if all.ends_with("0\r\n\r\n") || all.ends_with("eleven bytes") {
                    taken.say("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").await;
                }
            }
        });
        assert_eq!(text(hub.send(post("over eleven bytes"))).await.0, 200);
        assert_eq!((count(&hub, Copies::DroppedBody), count(&hub, Copies::Begun)), (1, 0));
        let pieces = futures_util::stream::iter(0..4).map(|_| Ok(http_body::Frame::data(Bytes::from_static(b"piece"))));
        use futures_util::StreamExt;
        let upload = request(Method::POST, Body::stream(http_body_util::StreamBody::new(pieces)));
        assert_eq!(text(hub.send(upload)).await, (200, "ok".to_owned()));
        eventually("the copy has ended", || count(&hub, Copies::DroppedBody) == 2).await;
        assert!(!came.borrow().concat().contains("0\r\n\r\n"), "never a clean end: {:?}", came.borrow());
    });
}

#[test]
fn answers_are_compared_into_a_report_without_values() {
    run(|| async {
        let hub = Hub::new();
        target(&hub, Some("HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\n{\"total\": 7, \"at\": \"later\"}")).await;
        let body = CompareBody::Json { ignore: vec!["$.at".parse().unwrap()], max_bytes: 1000 };
        let compare = Some(Compare { sample_percent: 100, body });
        let agent = mirroring(&hub, Mirror { compare, ..mirror() }).await;
        agent.script(|mut taken| async move {
            while let Some(request) = taken.request().await {
                let (status, total) = match request.lines().next().unwrap() {
                    line if line.contains("/same") => (200, 7),
                    line if line.contains("/other") => (200, 8),
                    _ => (404, 7),
                };
                let body = format!("{{\"at\":\"now\",\"total\":{total}}}");
                taken
                    .say(&format!("HTTP/1.1 {status} X\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len()))
                    .await;
            }
        });
        for (n, path) in ["/same", "/same", "/other?password=x", "/none"].into_iter().enumerate() {
            let mut request = get();
            *request.uri_mut() = format!("http://shop.example{path}").parse().unwrap();
            let _ = text(hub.send(request)).await;
            eventually("it is compared", || count(&hub, Copies::Compared) == n as u64 + 1).await;
        }
        let report = state(&hub).report();
        assert_eq!(report.match_percent(), Some(50.0));
        assert_eq!((report.count(Copies::OtherBody), report.count(Copies::OtherStatus)), (1, 1));
        let mut examples: Vec<_> = report.examples.iter().map(|example| (&*example.method, &*example.path, &*example.difference)).collect();
        examples.sort_unstable();
        assert_eq!(examples, [("GET", "/none", "status 404, mirror 200"), ("GET", "/other", "body: $.total: other value")]);
    });
}

#[test]
fn a_mirror_without_endpoints_and_a_drain_leave_requests_alone() {
    run(|| async {
        let hub = Hub::new();
        hub.services.borrow_mut().push(("copies".into(), Protocol::Http1, vec![]));
        let agent = mirroring(&hub, mirror()).await;
        agent.answer();
        assert_eq!(hub.get().await.0, 200);
        eventually("the copy found nobody", || count(&hub, Copies::DroppedNobody) == 1).await;
        assert_eq!(hub.shard.copies.count(), 0);
        hub.shard.drain.stop();
        assert_eq!((hub.get().await.0, count(&hub, Copies::Seen)), (200, 1));
    });
}
