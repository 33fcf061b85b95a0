//! Retries, hedging and the clocks of tries, as a rule's policy asks for them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::harness::{Agent, Hub, eventually, get, post, request, run, text};
use bytes::Bytes;
use figspan_data::body::Body;
use figspan_data::metrics::Retry;
use figspan_data::reply::Failure;
use figspan_model::routing::RulePolicy;
use figspan_model::routing::policy::RetryPolicy;
use figspan_proto::reset::Reason;
use http::Method;
use http_body_util::{BodyExt, StreamBody};

fn retry(hub: &Hub, retry: RetryPolicy) {
    let retry = RetryPolicy { backoff: Duration::from_millis(1), ..retry };
    hub.policy.replace(Some(Arc::new(RulePolicy { retry: Some(retry), ..RulePolicy::default() })));
}

/// Answers everything with this, and tells how the stream ended.
fn says(agent: &Agent, answer: &'static str) -> std::rc::Rc<std::cell::Cell<usize>> {
    agent.script(move |mut taken| async move {
        while taken.request().await.is_some() {
            taken.say(answer).await;
        }
    })
}

const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy";

#[test]
fn a_status_that_the_rule_names_is_tried_elsewhere_for_what_may_be_repeated_only() {
    run(|| async {
        let hub = Hub::new();
        retry(&hub, RetryPolicy { codes: vec![503], ..RetryPolicy::default() });
        let (busy, good) = (Agent::join("vm-1", &hub.book).await, Agent::join("vm-2", &hub.book).await);
        says(&busy, UNAVAILABLE);
        good.answer();
        hub.publish(&[&busy, &good]);
        for _ in 0..4 {
            assert_eq!(hub.get().await, (200, "vm-2".to_owned()));
        }
        let tried = hub.metrics().retried(Retry::Status);
        assert!(tried >= 1);
        let mut statuses = Vec::new();
        for _ in 0..4 {
            statuses.push(text(hub.send(post("order"))).await);
        }
        assert!(statuses.contains(&(503, "busy".to_owned())), "{statuses:?}");
        assert_eq!(hub.metrics().retried(Retry::Status), tried);
        assert_eq!((busy.state.in_flight.sum(), busy.state.failed.sum()), (0, 0));
    });
}

#[test]
fn the_last_answer_is_the_clients_when_tries_or_endpoints_run_out() {
    run(|| async {
        let hub = Hub::new();
        let agents = [Agent::join("vm-1", &hub.book).await, Agent::join("vm-2", &hub.book).await, Agent::join("vm-3", &hub.book).await];
        agents.iter().for_each(|agent| drop(says(agent, UNAVAILABLE)));
        for (attempts, tries) in [(0, 1), (1, 2), (2, 3), (7, 3)] {
            retry(&hub, RetryPolicy { codes: vec![503], attempts, ..RetryPolicy::default() });
            hub.publish(&[&agents[0], &agents[1], &agents[2]]);
            let before: u64 = agents.iter().map(|agent| agent.state.picked.sum()).sum();
            assert_eq!(hub.get().await, (503, "busy".to_owned()));
            assert_eq!(agents.iter().map(|agent| agent.state.picked.sum()).sum::<u64>() - before, tries);
        }
    });
}

#[test]
fn of_an_answer_that_is_tried_again_only_the_head_is_read() {
    run(|| async {
        let hub = Hub::new();
        retry(&hub, RetryPolicy { codes: vec![500], ..RetryPolicy::default() });
        let (bad, good) = (Agent::join("vm-1", &hub.book).await, Agent::join("vm-2", &hub.book).await);
        good.answer();
        hub.publish(&[&bad, &good]);
        let fate = async {
            let mut taken = bad.take().await;
            taken.request().await.unwrap();
            taken.say("HTTP/1.1 500 Oh\r\nContent-Length: 1000000000\r\n\r\nbegin").await;
            taken.stream.probe().fate_within(Duration::from_secs(2)).await
        };
        let requests = async {
            for _ in 0..2 {
                assert_eq!(hub.get().await, (200, "vm-2".to_owned()));
            }
        };
        let (fate, ()) = tokio::join!(fate, requests);
        assert_eq!(fate.map(|reset| reset.reason), Some(Reason::Cancelled));
    });
}

#[test]
fn grpc_codes_count_in_the_head_and_only_where_the_rule_says_that_calls_may_be_repeated() {
    run(|| async {
        let hub = Hub::new();
        let mut codes = figspan_model::routing::policy::GrpcCodes::default();
        codes.insert(14);
        let (busy, good) = (Agent::join("vm-1", &hub.book).await, Agent::join("vm-2", &hub.book).await);
        says(&busy, "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nGrpc-Status: 14\r\nContent-Length: 0\r\n\r\n");
        good.answer();
        let idempotent = Some("reads only".into());
        retry(&hub, RetryPolicy { grpc_codes: codes, idempotent, ..RetryPolicy::default() });
        hub.publish(&[&busy, &good]);
        for _ in 0..4 {
            assert_eq!(text(hub.send(post("call"))).await, (200, "vm-2".to_owned()));
        }
        retry(&hub, RetryPolicy { grpc_codes: codes, ..RetryPolicy::default() });
        hub.publish(&[&busy, &good]);
        let mut bodies = Vec::new();
        for _ in 0..4 {
            bodies.push(text(hub.send(post("call"))).await.1);
        }
        assert!(bodies.contains(&String::new()), "{bodies:?}");
    });
}

#[test]
fn a_try_that_takes_too_long_goes_elsewhere_or_is_a_504() {
    run(|| async {
        let hub = Hub::new();
        hub.timeouts.borrow_mut().backend_request = Some(Duration::from_millis(60));
        let (mute, good) = (Agent::join("vm-1", &hub.book).await, Agent::join("vm-2", &hub.book).await);
        mute.script(|mut taken| async move { while taken.request().await.is_some() {} });
        good.answer();
        hub.publish(&[&mute, &good]);
        for _ in 0..2 {
            assert_eq!(hub.get().await, (200, "vm-2".to_owned()));
        }
        assert_eq!((hub.metrics().retried(Retry::Idempotent), mute.state.failed.sum()), (1, 1));
        let mut reasons = Vec::new();
        for _ in 0..2 {
            let response = hub.send(post("order")).await;
            reasons.push((
                response.status().as_u16(),
                response.headers().get("figspan-reason").map(|value| value.to_str().unwrap().to_owned()),
            ));
        }
        assert!(reasons.contains(&(504, Some("backend-request-timeout".to_owned()))), "{reasons:?}");
        assert_eq!((mute.state.in_flight.sum(), hub.metrics().failed(Failure::TryTimeout)), (0, 1));
    });
}

#[test]
fn an_upload_that_streams_is_not_cut_by_clocks_and_its_answer_still_is() {
    run(|| async {
        let hub = Hub::new();
        {
            let mut timeouts = hub.timeouts.borrow_mut();
            (timeouts.request, timeouts.backend_request) = (Some(Duration::from_millis(150)), Some(Duration::from_millis(100)));
        }
        let agent = Agent::join("vm-1", &hub.book).await;
        agent.script(|mut taken| async move {
            let mut all = String::new();
            while !all.ends_with("0\r\n\r\n") {
                let Ok(Some(chunk)) = taken.stream.read_chunk(1000).await else { return };
                all.push_str(std::str::from_utf8(&chunk).unwrap());
            }
            if all.contains("/answered") {
                taken.say("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nall!").await;
            }
            while let Ok(Some(_)) = taken.stream.read_chunk(1000).await {}
        });
        hub.publish(&[&agent]);
        let slow = |path: &str| {
            let pieces = futures_util::stream::unfold(0, |n| async move {
                tokio::time::sleep(Duration::from_millis(60)).await;
                (n < 5).then(|| (Ok(http_body::Frame::data(Bytes::from_static(b"piece"))), n + 1))
            });
            let mut upload = request(Method::POST, Body::stream(StreamBody::new(pieces)));
            *upload.uri_mut() = format!("http://shop.example{path}").parse().unwrap();
            upload
        };
        assert_eq!(text(hub.send(slow("/answered"))).await, (200, "all!".to_owned()));
        let begun = Instant::now();
        let response = hub.send(slow("/silent")).await;
        assert_eq!(response.headers()["figspan-reason"], "backend-request-timeout");
        assert!(begun.elapsed() >= Duration::from_millis(400));
    });
}

#[test]
fn an_event_stream_outlives_the_time_of_its_request() {
    run(|| async {
        let hub = Hub::new();
        hub.timeouts.borrow_mut().request = Some(Duration::from_millis(80));
        let agent = Agent::join("vm-1", &hub.book).await;
        agent.script(|mut taken| async move {
            taken.request().await;
            taken.say("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            for _ in 0..4 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                taken.say("4\r\nevnt\r\n").await;
            }
            taken.say("0\r\n\r\n").await;
            let _ = taken.request().await;
        });
        hub.publish(&[&agent]);
        assert_eq!(hub.get().await, (200, "evnt".repeat(4)));
    });
}

#[test]
fn a_hedge_takes_the_first_answer_and_resets_the_other_try() {
    run(|| async {
        let hub = Hub::new();
        retry(&hub, RetryPolicy { hedge: Some(Duration::from_millis(30)), ..RetryPolicy::default() });
        let (slow, quick) = (Agent::join("vm-1", &hub.book).await, Agent::join("vm-2", &hub.book).await);
        quick.answer();
        hub.publish(&[&slow, &quick]);
        let fate = async {
            let mut taken = slow.take().await;
            let request = taken.request().await.unwrap();
            (request, taken.stream.probe().fate_within(Duration::from_secs(2)).await.map(|reset| reset.reason))
        };
        let requests = async {
            let put = || request(Method::PUT, Body::Full(Bytes::from_static(b"value")));
            for _ in 0..2 {
                assert_eq!(text(hub.send(put())).await, (200, "vm-2".to_owned()));
            }
        };
        let ((request, fate), ()) = tokio::join!(fate, requests);
        assert!(request.ends_with("value"), "{request}");
        assert_eq!((fate, hub.metrics().retried(Retry::Hedge)), (Some(Reason::Cancelled), 1));
        eventually("nothing is under way", || slow.state.in_flight.sum() + quick.state.in_flight.sum() == 0).await;
        assert_eq!((slow.state.failed.sum(), slow.state.picked.sum(), hub.metrics().failed(Failure::ClientGone)), (0, 1, 0));
    });
}

#[test]
fn a_hedge_is_never_made_of_a_post_or_beyond_the_budget() {
    run(|| async {
        let hub = Hub::new();
        retry(&hub, RetryPolicy { hedge: Some(Duration::from_millis(10)), ..RetryPolicy::default() });
        (hub.limits.borrow_mut().retry_floor, hub.limits.borrow_mut().retry_percent) = (0, 0);
        let agents = [Agent::join("vm-1", &hub.book).await, Agent::join("vm-2", &hub.book).await];
        for agent in &agents {
            agent.script(|mut taken| async move {
                while taken.request().await.is_some() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    taken.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                }
            });
        }
        hub.publish(&[&agents[0], &agents[1]]);
        assert_eq!(hub.get().await.0, 200);
        (hub.limits.borrow_mut().retry_floor, hub.limits.borrow_mut().retry_percent) = (3, 20);
        hub.publish(&[&agents[0], &agents[1]]);
        assert_eq!(text(hub.send(post("order"))).await.0, 200);
        assert_eq!((hub.metrics().retried(Retry::Hedge), agents[0].state.picked.sum() + agents[1].state.picked.sum()), (0, 2));
        assert_eq!(hub.metrics().limit_hits(figspan_data::metrics::Limit::Retries), 1);
    });
}

#[test]
fn a_hedge_whose_first_try_fails_still_brings_the_seconds_answer() {
    run(|| async {
        let hub = Hub::new();
        retry(&hub, RetryPolicy { hedge: Some(Duration::from_millis(20)), ..RetryPolicy::default() });
        let (dies, slow) = (Agent::join("vm-1", &hub.book).await, Agent::join("vm-2", &hub.book).await);
        dies.script(|mut taken| async move {
            taken.request().await;
            let read = taken.read;
            tokio::time::sleep(Duration::from_millis(60)).await;
            taken.reset(Reason::WorkloadReset, read);
        });
        slow.script(|mut taken| async move {
            while taken.request().await.is_some() {
                tokio::time::sleep(Duration::from_millis(120)).await;
                taken.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow").await;
            }
        });
        hub.publish(&[&dies, &slow]);
        for _ in 0..2 {
            let response = hub.send(get()).await;
            assert_eq!(response.status(), 200);
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "slow");
        }
        assert_eq!((slow.state.picked.sum(), dies.state.in_flight.sum()), (2, 0));
    });
}
