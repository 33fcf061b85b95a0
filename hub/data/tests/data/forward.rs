//! From an admitted request to a scripted agent and back, through a real tunnel.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::harness::{Agent, Hub, eventually, get, post, proxy_status, request, run, text};
use figspan_data::body::Body;
use figspan_data::metrics::Retry;
use figspan_data::reply::Failure;
use figspan_proto::reset::Reason;
use http::Method;
use http_body_util::BodyExt;

#[test]
fn a_get_goes_through_the_tunnel_and_back() {
    run(|| async {
        let hub = Hub::new();
        let agent = Agent::join("vm-1", &hub.book).await;
        hub.publish(&[&agent]);
        let workload = async {
            let mut taken = agent.take().await;
            assert_eq!(taken.preamble.uplink.as_str(), "monolith");
            assert_eq!(taken.preamble.client, Some(([10, 0, 0, 9], 4321).into()));
            let request = taken.request().await.unwrap();
            assert_eq!(request, "GET /cart?id=7 HTTP/1.1\r\nhost: shop.example\r\n\r\n");
            taken.say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\nhello").await;
            taken
        };
        let (response, _taken) = tokio::join!(hub.send(get()), workload);
        assert_eq!(response.headers()["x-a"], "b");
        assert!(!response.headers().contains_key("x-hop"));
        assert_eq!(text(async { response }).await, (200, "hello".to_owned()));
        assert_eq!((agent.state.in_flight.sum(), agent.state.picked.sum(), agent.state.failed.sum()), (0, 1, 0));
    });
}

#[test]
fn requests_after_each_other_use_one_stream() {
    run(|| async {
        let hub = Hub::new();
        let agent = Agent::join("vm-1", &hub.book).await;
        let streams = agent.answer();
        hub.publish(&[&agent]);
        for _ in 0..5 {
            assert_eq!(hub.get().await, (200, "vm-1".to_owned()));
            assert_eq!(agent.state.pooled.sum(), 1);
        }
        assert_eq!(text(hub.send(request(Method::HEAD, Body::Empty))).await, (200, String::new()));
        assert_eq!(streams.get(), 1);
    });
}

/// Large enough to be handed on where they lie, once the tunnel has found out how large its packets may be.
#[test]
fn large_bodies_come_whole_however_they_are_framed_and_what_follows_one_unasked_ends_its_stream() {
    run(|| async {
        let hub = Hub::new();
        let agent = Agent::join("vm-1", &hub.book).await;
        let body: String = (0..300_000u32).map(|number| char::from(b'a' + (number % 23) as u8)).collect();
        let (whole, answers) = (body.clone(), Rc::new(Cell::new(0)));
        let count = Rc::clone(&answers);
        let streams = agent.script(move |mut taken| {
            let (body, count) = (whole.clone(), Rc::clone(&count));
            async move {
                while taken.request().await.is_some() {
                    count.set(count.get() + 1);
                    let (first, rest) = body.split_at(100);
                    match count.get() {
                        1 | 2 => {
                            taken.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{first}", body.len())).await;
                            taken.say(rest).await;
                        }
                        3 => {
                            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n";
                            taken.say(&format!("{head}{first}\r\n{:x}\r\n{rest}\r\n0\r\n\r\n", rest.len())).await;
                        }
                        4 => {
                            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{first}", body.len());
                            taken.say(&head).await;
                            taken.say(&format!("{rest}HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled")).await;
                        }
                        _ => {
                            taken.say(&format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{body}")).await;
                            taken.stream.finish();
                            std::future::pending::<()>().await;
                        }
                    }
                }
            }
        });
        hub.publish(&[&agent]);
        for expected in [1, 1, 1, 1, 2] {
            let (status, got) = hub.get().await;
            assert!(status == 200 && got == body, "answer {}: {status}, {} bytes", answers.get(), got.len());
            assert_eq!(streams.get(), expected);
        }
    });
}

#[test]
fn a_post_that_was_not_delivered_goes_elsewhere() {
    run(|| async {
        let hub = Hub::new();
        let (first, second) = (Agent::join("vm-1", &hub.book).await, Agent::join("vm-2", &hub.book).await);
        let refused = first.script(|mut taken| async move {
            taken.request().await;
            taken.reset(Reason::ConnectRefused, 0);
        });
        second.answer();
        hub.publish(&[&first, &second]);
        for _ in 0..4 {
            assert_eq!(text(hub.send(post("order"))).await, (200, "vm-2".to_owned()));
        }
        let tries = refused.get() as u64;
        assert!(tries >= 2);
        assert_eq!((hub.metrics().retried(Retry::NotDelivered), first.state.failed.sum()), (tries, tries));
        assert_eq!((first.state.in_flight.sum(), second.state.in_flight.sum()), (0, 0));
    });
}

#[test]
fn a_post_that_was_seen_is_never_sent_again() {
    run(|| async {
        let hub = Hub::new();
        let agents = [Agent::join("vm-1", &hub.book).await, Agent::join("vm-2", &hub.book).await];
        let streams = agents.each_ref().map(|agent| {
            agent.script(|mut taken| async move {
                taken.request().await;
                let read = taken.read;
                taken.reset(Reason::WorkloadReset, read);
            })
        });
        hub.publish(&[&agents[0], &agents[1]]);
        let response = hub.send(post("order")).await;
        assert_eq!(
            (response.status().as_u16(), proxy_status(&response).as_str()),
            (502, "figspan; error=connection_terminated; details=\"workload-reset\"")
        );
        assert_eq!(streams[0].get() + streams[1].get(), 1);
        assert_eq!(hub.metrics().failed(Failure::WorkloadReset), 1);
    });
}

#[test]
fn a_get_that_was_seen_goes_elsewhere_and_each_endpoint_is_asked_once() {
    run(|| async {
        let hub = Hub::new();
        let agents = [Agent::join("vm-1", &hub.book).await, Agent::join("vm-2", &hub.book).await];
        let first = agents[0].script(|mut taken| async move {
            taken.request().await;
            let read = taken.read;
            taken.reset(Reason::WorkloadReset, read);
        });
        let second = agents[1].answer();
        hub.publish(&[&agents[0], &agents[1]]);
        assert_eq!(hub.get().await.1, "vm-2");
        assert_eq!(hub.get().await.1, "vm-2");
        assert_eq!((first.get(), second.get(), hub.metrics().retried(Retry::Idempotent)), (1, 1, 1));

        // With nobody left the last failure is told.
        agents[1].state.draining.store(true, Ordering::Release);
        let response = hub.send(get()).await;
        assert_eq!((response.status().as_u16(), first.get()), (502, 2));
    });
}

#[test]
fn a_response_that_ends_early_breaks_the_answer_and_never_ends_it() {
    run(|| async {
        let hub = Hub::new();
        let agent = Agent::join("vm-1", &hub.book).await;
        agent.script(|mut taken| async move {
            let request = taken.request().await.unwrap();
            match request.starts_with("GET") {
                true => taken.say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello").await,
                false => taken.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n").await,
            }
            taken.stream.finish();
        });
        hub.publish(&[&agent]);
        for request in [get(), request(Method::OPTIONS, Body::Empty)] {
            let response = hub.send(request).await;
            assert_eq!(response.status(), 200);
            assert!(response.into_body().collect().await.is_err());
        }
        assert_eq!((agent.state.in_flight.sum(), agent.state.pooled.sum()), (0, 0));
        assert_eq!(hub.metrics().failed(Failure::Incomplete), 2);
    });
}

#[test]
fn a_post_on_a_stream_that_the_workload_just_closed_is_sent_again_to_the_same_endpoint() {
    run(|| async {
        let hub = Hub::new();
        let agent = Agent::join("vm-1", &hub.book).await;
        hub.publish(&[&agent]);
        let workload = async {
            let mut taken = agent.take().await;
            taken.request().await.unwrap();
            taken.say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1").await;
            let delivered = taken.read;
            // The next request arrives on the stream, and the workload had closed before: nothing of it was delivered.
            taken.request().await.unwrap();
            taken.reset(Reason::WorkloadClosed, delivered);
            let mut fresh = agent.take().await;
            fresh.request().await.unwrap();
            fresh.say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2").await;
            (taken, fresh)
        };
        let requests = async {
            assert_eq!(hub.get().await, (200, "1".to_owned()));
            assert_eq!(text(hub.send(post("order"))).await, (200, "2".to_owned()));
        };
        let ((), _streams) = tokio::join!(requests, workload);
        assert_eq!(hub.metrics().retried(Retry::Stale), 1);
    });
}

#[test]
fn without_a_backend_the_answer_is_a_reasoned_503_and_without_a_route_a_404() {
    run(|| async {
        let hub = Hub::new();
        let agent = Agent::join("vm-1", &hub.book).await;
        agent.weight.set(0);
        hub.publish(&[&agent]);
        let response = hub.send(get()).await;
        assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (503, &"1".parse().unwrap()));
        assert_eq!(proxy_status(&response), "figspan; error=destination_unavailable; details=\"all-drained\"");
        hub.publish(&[]);
        assert_eq!(hub.send(get()).await.status(), 503);
        let mut elsewhere = get();
        *elsewhere.uri_mut() = "http://other.example/".parse().unwrap();
        let response = hub.send(elsewhere).await;
        assert_eq!(
            (response.status().as_u16(), proxy_status(&response).as_str()),
            (404, "figspan; error=destination_not_found; details=\"no-route\"")
        );
    });
}

#[test]
fn a_drained_endpoint_gets_nothing_new_and_its_pooled_streams_are_closed() {
    run(|| async {
        let hub = Hub::new();
        let (first, second) = (Agent::join("vm-1", &hub.book).await, Agent::join("vm-2", &hub.book).await);
        first.answer();
        second.answer();
        hub.publish(&[&first, &second]);
        for _ in 0..4 {
            hub.get().await;
        }
        assert_eq!((first.state.pooled.sum(), second.state.pooled.sum()), (1, 1));
        first.weight.set(0);
        first.state.draining.store(true, Ordering::Release);
        let generation = hub.publish(&[&first, &second]);
        assert_eq!((first.state.pooled.sum(), hub.board.oldest()), (0, generation));
        for _ in 0..4 {
            assert_eq!(hub.get().await.1, "vm-2");
        }
        assert_eq!(first.state.picked.sum(), 2);
    });
}

#[test]
fn an_idle_stream_that_the_agent_ends_leaves_the_pool_at_once() {
    run(|| async {
        let hub = Hub::new();
        let agent = Agent::join("vm-1", &hub.book).await;
        hub.publish(&[&agent]);
        let workload = async {
            let mut taken = agent.take().await;
            taken.request().await.unwrap();
            taken.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            taken
        };
        let (_, mut taken) = tokio::join!(hub.get(), workload);
        assert_eq!(agent.state.pooled.sum(), 1);
        taken.stream.finish();
        eventually("the pool notices", || agent.state.pooled.sum() == 0).await;
    });
}

#[test]
fn a_malformed_response_is_a_502_and_drops_the_stream() {
    run(|| async {
        let hub = Hub::new();
        let agent = Agent::join("vm-1", &hub.book).await;
        agent.script(|mut taken| async move {
            taken.request().await;
            taken.say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").await;
            let _ = taken.request().await;
        });
        hub.publish(&[&agent]);
        let response = hub.send(post("order")).await;
        assert_eq!(
            (response.status().as_u16(), proxy_status(&response).as_str()),
            (502, "figspan; error=http_protocol_error; details=\"malformed-response\"")
        );
        assert_eq!((agent.state.pooled.sum(), agent.state.in_flight.sum()), (0, 0));
    });
}

#[test]
fn a_client_that_goes_away_resets_the_workloads_stream() {
    run(|| async {
        let hub = Hub::new();
        let agent = Agent::join("vm-1", &hub.book).await;
        hub.publish(&[&agent]);
        let mut request = Box::pin(hub.send(get()));
        let mut taken = tokio::select! {
            _ = &mut request => unreachable!("nobody answered"),
            taken = agent.take() => taken,
        };
        assert_eq!(agent.state.in_flight.sum(), 1);
        drop(request);
        assert_eq!(agent.state.in_flight.sum(), 0);
        taken.request().await;
        let fate = taken.stream.probe().fate_within(Duration::from_secs(2)).await;
        assert_eq!(fate.map(|reset| reset.reason), Some(Reason::ClientGone));
        assert_eq!(hub.metrics().failed(Failure::ClientGone), 1);
    });
}

#[test]
fn a_lost_tunnel_sends_what_it_carried_elsewhere_only_where_that_is_safe() {
    run(|| async {
        let hub = Hub::new();
        let (first, second) = (Agent::join("vm-1", &hub.book).await, Agent::join("vm-2", &hub.book).await);
        second.answer();
        hub.publish(&[&first, &second]);
        assert_eq!(hub.get().await.1, "vm-2");
        let dies = async {
            let mut taken = first.take().await;
            taken.request().await.unwrap();
            first.tunnel.close(figspan_proto::reset::Close::Done);
        };
        let ((status, body), ()) = tokio::join!(hub.get(), dies);
        assert_eq!((status, body.as_str()), (200, "vm-2"));
        assert_eq!(hub.get().await.1, "vm-2");
        assert_eq!(hub.metrics().retried(Retry::Idempotent), 1);
    });
}

#[test]
fn a_body_past_the_replay_buffer_has_one_try() {
    run(|| async {
        let hub = Hub::new();
        hub.limits.borrow_mut().replay_bytes = 4;
        let agents = [Agent::join("vm-1", &hub.book).await, Agent::join("vm-2", &hub.book).await];
        for agent in &agents {
            agent.script(|mut taken| async move {
                taken.request().await;
                taken.reset(Reason::ConnectRefused, 0);
            });
        }
        hub.publish(&[&agents[0], &agents[1]]);
        let response = hub.send(post("order")).await;
        assert_eq!(
            (response.status().as_u16(), proxy_status(&response).as_str()),
            (503, "figspan; error=connection_refused; details=\"connect-refused\"")
        );
        assert_eq!(agents[0].state.picked.sum() + agents[1].state.picked.sum(), 1);
    });
}

#[test]
fn interim_responses_reach_the_client_before_the_final_one() {
    run(|| async {
        let hub = Hub::new();
        let agent = Agent::join("vm-1", &hub.book).await;
        agent.script(|mut taken| async move {
            taken.request().await;
            taken.say("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            let _ = taken.request().await;
        });
        hub.publish(&[&agent]);
        assert_eq!(hub.get().await.0, 200);
        assert_eq!(*hub.informed.0.borrow(), [103]);
    });
}

#[test]
fn a_body_waits_for_100_where_the_client_asked_for_it() {
    run(|| async {
        let hub = Hub::new();
        let agent = Agent::join("vm-1", &hub.book).await;
        agent.script(|mut taken| async move {
            let mut head = vec![0; 512];
            let n = tokio::io::AsyncReadExt::read(&mut taken.stream, &mut head).await.unwrap();
            let head = String::from_utf8(head[..n].to_vec()).unwrap();
            assert!(head.ends_with("\r\n\r\n") && head.contains("expect: 100-continue"), "{head}");
            taken.say("HTTP/1.1 100 Continue\r\n\r\n").await;
            let mut body = [0; 5];
            taken.stream.read_exact(&mut body).await.unwrap();
            taken.say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").await;
            taken.say(std::str::from_utf8(&body).unwrap()).await;
            let _ = taken.request().await;
        });
        hub.publish(&[&agent]);
        let mut order = post("order");
        order.headers_mut().insert("expect", "100-continue".parse().unwrap());
        assert_eq!(text(hub.send(order)).await, (200, "order".to_owned()));
        assert!(hub.informed.0.borrow().is_empty());
    });
}

#[test]
fn an_early_answer_does_not_end_the_upload_and_its_stream_is_not_kept() {
    run(|| async {
        let hub = Hub::new();
        let agent = Agent::join("vm-1", &hub.book).await;
        hub.publish(&[&agent]);
        let (sender, receiver) = tokio::sync::mpsc::channel::<&'static str>(4);
        let frames = tokio_stream(receiver);
        let mut order = request(Method::POST, frames);
        order.headers_mut().insert("content-length", 10.into());
        sender.send("hello").await.unwrap();
        let workload = async {
            let mut taken = agent.take().await;
            taken.say("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").await;
            taken
        };
        let ((status, _), mut taken) = tokio::join!(text(hub.send(order)), workload);
        assert_eq!((status, agent.state.in_flight.sum()), (202, 1));
        sender.send("world").await.unwrap();
        drop(sender);
        assert!(taken.request().await.unwrap().ends_with("\r\n\r\nhelloworld"));
        eventually("the upload ends", || agent.state.in_flight.sum() == 0).await;
        assert_eq!(agent.state.pooled.sum(), 0);
    });
}

/// A body of unknown length whose frames come from a channel.
fn tokio_stream(mut receiver: tokio::sync::mpsc::Receiver<&'static str>) -> Body {
    let frames = futures_util::stream::poll_fn(move |cx| {
        receiver.poll_recv(cx).map(|text| text.map(|text| Ok(http_body::Frame::data(bytes::Bytes::from_static(text.as_bytes())))))
    });
    Body::stream(http_body_util::StreamBody::new(frames))
}

#[test]
fn retries_above_the_budget_are_answered_and_counted() {
    run(|| async {
        let hub = Hub::new();
        (hub.limits.borrow_mut().retry_percent, hub.limits.borrow_mut().retry_floor) = (0, 0);
        let agents = [Agent::join("vm-1", &hub.book).await, Agent::join("vm-2", &hub.book).await];
        for agent in &agents {
            agent.script(|mut taken| async move {
                taken.request().await;
                let read = taken.read;
                taken.reset(Reason::WorkloadReset, read);
            });
        }
        hub.publish(&[&agents[0], &agents[1]]);
        assert_eq!(hub.get().await.0, 502);
        assert_eq!(hub.metrics().limit_hits(figspan_data::metrics::Limit::Retries), 1);
        assert_eq!(agents[0].state.picked.sum() + agents[1].state.picked.sum(), 1);
    });
}

#[test]
fn a_workload_that_says_nothing_is_a_504_and_its_stream_is_reset() {
    run(|| async {
        let hub = Hub::new();
        hub.timeouts.borrow_mut().first_byte = Some(Duration::from_millis(50));
        let agent = Agent::join("vm-1", &hub.book).await;
        hub.publish(&[&agent]);
        let (response, mut taken) = tokio::join!(hub.send(get()), agent.take());
        assert_eq!(
            (response.status().as_u16(), proxy_status(&response).as_str()),
            (504, "figspan; error=http_response_timeout; details=\"first-byte-timeout\"")
        );
        taken.request().await;
        let fate = taken.stream.probe().fate_within(Duration::from_secs(2)).await;
        assert_eq!(fate.map(|reset| reset.reason), Some(Reason::Cancelled));
    });
}

#[test]
fn connections_bound_to_a_clients_authentication_are_not_shared() {
    run(|| async {
        let hub = Hub::new();
        let agent = Agent::join("vm-1", &hub.book).await;
        let streams = agent.answer();
        hub.publish(&[&agent]);
        let (one, other) = (hub.client(), hub.client());
        let authenticated = || {
            let mut request = get();
            request.headers_mut().insert("authorization", "NTLM TlRMTVNTUAAB".parse().unwrap());
            request
        };
        for _ in 0..2 {
            text(hub.send_as(one.clone(), authenticated())).await;
            text(hub.send_as(one.clone(), get())).await;
        }
        assert_eq!(streams.get(), 1);
        text(hub.send_as(other, get())).await;
        assert_eq!(streams.get(), 2);
    });
}

#[test]
fn a_body_that_stalls_breaks_after_the_idle_time_and_not_before() {
    run(|| async {
        let hub = Hub::new();
        hub.timeouts.borrow_mut().idle = Some(Duration::from_millis(150));
        let agent = Agent::join("vm-1", &hub.book).await;
        agent.script(|mut taken| async move {
            taken.request().await;
            taken.say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n").await;
            // Longer in all than the idle time, never silent for so long.
            for _ in 0..4 {
                tokio::time::sleep(Duration::from_millis(60)).await;
                taken.say("x").await;
            }
            taken.request().await;
        });
        hub.publish(&[&agent]);
        let mut body = hub.send(get()).await.into_body();
        for _ in 0..4 {
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "x");
        }
        assert!(body.frame().await.unwrap().is_err());
        drop(body);
        assert_eq!((hub.metrics().failed(Failure::WorkloadIdle), agent.state.in_flight.sum()), (1, 0));
    });
}

#[test]
fn an_answer_that_stalls_beside_its_upload_breaks_the_idle_time_after_the_last_byte_of_either() {
    run(|| async {
        let (idle, later) = (Duration::from_secs(1), Duration::from_millis(500));
        let hub = Hub::new();
        hub.timeouts.borrow_mut().idle = Some(idle);
        let agent = Agent::join("vm-1", &hub.book).await;
        agent.script(|mut taken| async move {
            taken.say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx").await;
            std::future::pending::<()>().await;
        });
        hub.publish(&[&agent]);
        let (sender, receiver) = tokio::sync::mpsc::channel::<&'static str>(4);
        let mut order = request(Method::POST, tokio_stream(receiver));
        order.headers_mut().insert("content-length", 10.into());
        let mut body = hub.send(order).await.into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "x");
        let start = Instant::now();
        let uploading = async {
            tokio::time::sleep(later).await;
            sender.send("hello").await.unwrap();
        };
        let (broken, ()) = tokio::join!(body.frame(), uploading);
        assert!(broken.unwrap().is_err());
        let took = start.elapsed();
        assert!((later + idle..2 * idle).contains(&took), "{took:?}");
    });
}

#[test]
fn the_time_of_a_whole_request_bounds_its_head_and_its_body() {
    run(|| async {
        let hub = Hub::new();
        hub.timeouts.borrow_mut().request = Some(Duration::from_millis(80));
        let agent = Agent::join("vm-1", &hub.book).await;
        agent.script(|mut taken| async move {
            if taken.request().await.is_some_and(|request| request.starts_with("GET")) {
                taken.say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx").await;
            }
            taken.request().await;
        });
        hub.publish(&[&agent]);
        let response = hub.send(post("order")).await;
        assert_eq!((response.status().as_u16(), response.headers()["figspan-reason"].to_str().unwrap()), (504, "request-timeout"));
        assert!(hub.send(get()).await.into_body().collect().await.is_err());
        assert_eq!((hub.metrics().failed(Failure::RequestTimeout), agent.state.in_flight.sum()), (2, 0));
    });
}

#[test]
fn a_stream_that_ends_its_work_after_the_drain_began_is_not_kept() {
    run(|| async {
        let hub = Hub::new();
        let agent = Agent::join("vm-1", &hub.book).await;
        hub.publish(&[&agent]);
        let workload = async {
            let mut taken = agent.take().await;
            taken.request().await.unwrap();
            agent.weight.set(0);
            agent.state.draining.store(true, Ordering::Release);
            hub.publish(&[&agent]);
            taken.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            taken
        };
        let (answer, _taken) = tokio::join!(hub.get(), workload);
        assert_eq!(answer, (200, "ok".to_owned()));
        assert_eq!((agent.state.pooled.sum(), agent.state.in_flight.sum()), (0, 0));
    });
}

#[test]
fn half_an_upload_is_never_taken_for_a_whole_one() {
    run(|| async {
        let hub = Hub::new();
        let agent = Agent::join("vm-1", &hub.book).await;
        hub.publish(&[&agent]);
        let (sender, receiver) = tokio::sync::mpsc::channel::<&'static str>(4);
        sender.send("hello").await.unwrap();
        let mut order = request(Method::POST, tokio_stream(receiver));
        order.headers_mut().insert("content-length", 10.into());
        drop(sender);
        let fate = async {
            let stream = agent.tunnel.accept().await.unwrap();
            stream.probe().fate_within(Duration::from_secs(2)).await
        };
        let (response, fate) = tokio::join!(hub.send(order), fate);
        assert_eq!((response.status().as_u16(), response.headers()["figspan-reason"].to_str().unwrap()), (400, "client-body"));
        assert_eq!(fate.map(|reset| reset.reason), Some(Reason::ClientGone));
        assert_eq!(agent.state.failed.sum(), 0);
    });
}

#[test]
fn a_get_leaves_a_tunnel_that_went_silent_long_before_it_is_given_up() {
    run(|| async {
        let hub = Hub::new();
        let (frozen, lively) = (Agent::join_and_freeze("vm-2", &hub.book).await, Agent::join("vm-1", &hub.book).await);
        lively.answer();
        hub.publish(&[&lively, &frozen]);
        let begun = Instant::now();
        assert_eq!(hub.get().await, (200, "vm-1".to_owned()));
        assert!(begun.elapsed() < Duration::from_millis(2500), "{:?}", begun.elapsed());
        assert!(!frozen.hub.is_closed());
        assert_eq!((frozen.state.picked.sum(), frozen.state.in_flight.sum(), hub.metrics().retried(Retry::Idempotent)), (1, 0, 1));
    });
}
