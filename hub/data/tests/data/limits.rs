//! Limits of backends and of sources, through the whole data path.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::harness::{Agent, Hub, eventually, get, post, proxy_status, run, text};
use figspan_data::metrics::Limit;
use figspan_model::routing::policy::{BackendLimits, InFlightLimit, Per, RateLimit};
use figspan_model::routing::{BackendPolicy, RulePolicy, ServiceAddress};
use figspan_proto::control::Protocol;

fn count(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

fn limit(hub: &Hub, requests: u32, pending: u32, wait: u64) {
    let limits = BackendLimits { requests: Some(count(requests)), pending, wait: Duration::from_millis(wait), ..BackendLimits::default() };
    hub.backend_policy.replace(Some(Arc::new(BackendPolicy { limits: Some(limits), ..BackendPolicy::default() })));
}

#[test]
fn a_request_above_the_limit_waits_for_room_and_gets_it() {
    run(|| async {
        let hub = Hub::new();
        limit(&hub, 1, 5, 5000);
        let agents = [Agent::join("vm-1", &hub.book).await, Agent::join("vm-2", &hub.book).await];
        hub.publish(&[&agents[0], &agents[1]]);
        let backend = hub.book.backend("uplink/monolith");
        let workload = async {
            let mut taken = tokio::select! { taken = agents[0].take() => taken, taken = agents[1].take() => taken };
            taken.request().await.unwrap();
            eventually("the other one waits", || backend.requests.waiting() == 1).await;
            assert_eq!(backend.requests.used(), 1);
            taken.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            agents[0].answer();
            agents[1].answer();
            taken.request().await.map(drop)
        };
        let requests = async { tokio::join!(hub.get(), text(hub.send(post("order")))) };
        tokio::select! {
            (one, two) = requests => assert_eq!((one.0, two.0), (200, 200)),
            Some(()) = workload => unreachable!("the second goes to the other endpoint"),
        }
        assert_eq!((backend.requests.used(), backend.requests.waiting()), (0, 0));
    });
}

#[test]
fn without_room_in_time_the_answer_is_503_with_its_reason() {
    run(|| async {
        let hub = Hub::new();
        limit(&hub, 1, 1, 30);
        let agent = Agent::join("vm-1", &hub.book).await;
        hub.publish(&[&agent]);
        let mut first = Box::pin(hub.send(get()));
        let taken = tokio::select! { _ = &mut first => unreachable!(), taken = agent.take() => taken };
        let (waited, refused) = tokio::join!(hub.send(get()), hub.send(post("order")));
        for response in [waited, refused] {
            assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (503, &"1".parse().unwrap()));
            assert_eq!(proxy_status(&response), "figspan; error=connection_limit_reached; details=\"backend-limit\"");
        }
        assert_eq!((hub.metrics().limit_hits(Limit::BackendRequests), agent.state.failed.sum()), (2, 0));
        drop((first, taken));
        agent.answer();
        assert_eq!(hub.get().await.0, 200, "a request that was given up makes room");
    });
}

#[test]
fn what_finds_no_room_goes_to_another_backend_of_the_rule() {
    run(|| async {
        let hub = Hub::new();
        limit(&hub, 1, 0, 30);
        let agent = Agent::join("vm-1", &hub.book).await;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            use std::io::{Read, Write};
            for connection in listener.incoming() {
                let Ok(mut connection) = connection else { return };
                let mut buffer = [0; 4096];
                while matches!(connection.read(&mut buffer), Ok(1..)) {
                    if connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nservice").is_err() {
                        break;
                    }
                }
            }
        });
        hub.services.borrow_mut().push(("orders".into(), Protocol::Http1, vec![ServiceAddress::Socket(address)]));
        hub.publish(&[&agent]);
        let mut held = None;
        let mut bodies = Vec::new();
        for _ in 0..6 {
            let mut request = Box::pin(text(hub.send(post("order"))));
            tokio::select! {
                answer = &mut request => bodies.push(answer),
                taken = agent.take(), if held.is_none() => held = Some((taken, request)),
            }
        }
        assert_eq!(bodies, vec![(200, "service".to_owned()); 5]);
    });
}

#[test]
fn connections_are_bounded_idle_ones_too_and_those_make_room_for_others() {
    run(|| async {
        let hub = Hub::new();
        let limits = BackendLimits { connections: Some(count(1)), pending: 5, wait: Duration::from_secs(3), ..BackendLimits::default() };
        hub.backend_policy.replace(Some(Arc::new(BackendPolicy { limits: Some(limits), ..BackendPolicy::default() })));
        let agents = [Agent::join("vm-1", &hub.book).await, Agent::join("vm-2", &hub.book).await];
        let streams = agents.each_ref().map(Agent::answer);
        hub.publish(&[&agents[0], &agents[1]]);
        let backend = hub.book.backend("uplink/monolith");
        // The second request goes to the other endpoint; the idle connection of the first is in its way and is closed.
        for _ in 0..4 {
            assert_eq!(hub.get().await.0, 200);
            assert_eq!((backend.connections.used(), agents[0].state.pooled.sum() + agents[1].state.pooled.sum()), (1, 1));
        }
        assert_eq!(streams[0].get() + streams[1].get(), 4);
        let many = futures_util::future::join_all((0..5).map(|_| hub.get())).await;
        assert!(many.iter().all(|answer| answer.0 == 200), "{many:?}");
        assert_eq!((backend.connections.used(), backend.connections.waiting(), backend.requests.used()), (1, 0, 0));
        assert_eq!(hub.metrics().limit_hits(Limit::BackendConnections), 0);
    });
}

#[test]
fn a_source_above_its_rate_gets_429_and_learns_when_to_come_back() {
    run(|| async {
        let hub = Hub::new();
        let rate = RateLimit {
            per: Per::Header("x-api-key".parse().unwrap()),
            requests: count(2),
            period: Duration::from_secs(3600),
            burst: count(2),
            told: false,
        };
        hub.policy.replace(Some(Arc::new(RulePolicy { rate_limits: vec![rate], ..RulePolicy::default() })));
        let agent = Agent::join("vm-1", &hub.book).await;
        agent.answer();
        hub.publish(&[&agent]);
        let keyed = |key: &'static str| {
            let mut request = get();
            request.headers_mut().insert("x-api-key", key.parse().unwrap());
            hub.send(request)
        };
        assert_eq!((keyed("a").await.status(), keyed("a").await.status()), (http::StatusCode::OK, http::StatusCode::OK));
        let refused = keyed("a").await;
        assert_eq!(
            (refused.status().as_u16(), proxy_status(&refused).as_str()),
            (429, "figspan; error=http_request_denied; details=\"rate-limited\"")
        );
        let field = |name: &str| refused.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(
            (field("retry-after"), field("ratelimit-policy")),
            ("1800".to_owned(), "\"header:x-api-key-3600s\";q=2;w=3600".to_owned())
        );
        assert_eq!(keyed("b").await.status(), 200);
        // The debt outlives a reload, also one that changes the number.
        hub.publish(&[&agent]);
        assert_eq!(keyed("a").await.status(), 429);
        assert_eq!((agent.state.picked.sum(), hub.metrics().limit_hits(Limit::Rate)), (3, 2));
    });
}

#[test]
fn limits_that_are_told_are_told_by_every_answer_the_hubs_own_too_and_others_by_none() {
    run(|| async {
        let hub = Hub::new();
        let limit = |name: &str, requests, told| RateLimit {
            per: Per::Header(name.parse().unwrap()),
            requests: count(requests),
            period: Duration::from_secs(3600),
            burst: count(requests),
            told,
        };
        let rate_limits = vec![limit("x-key", 4, true), limit("x-tenant", 100, false), limit("x-user", 60, true)];
        hub.policy.replace(Some(Arc::new(RulePolicy { rate_limits, ..RulePolicy::default() })));
        let agent = Agent::join("vm-1", &hub.book).await;
        agent.answer();
        hub.publish(&[&agent]);
        let told = |answer: &http::Response<figspan_data::body::Body>| {
            ["ratelimit-policy", "ratelimit"].map(|name| answer.headers()[name].to_str().unwrap().to_owned())
        };
        let first = hub.send(get()).await;
        let policy = "\"header:x-key-3600s\";q=4;w=3600, \"header:x-user-3600s\";q=60;w=3600";
        assert_eq!(
            (first.status().as_u16(), told(&first)),
            (200, [policy, "\"header:x-key-3600s\";r=3;t=900, \"header:x-user-3600s\";r=59;t=60"].map(str::to_owned))
        );
        hub.publish(&[]);
        let nobody = hub.send(get()).await;
        assert_eq!(
            (nobody.status().as_u16(), told(&nobody)[1].as_str()),
            (503, "\"header:x-key-3600s\";r=2;t=1800, \"header:x-user-3600s\";r=58;t=120")
        );
        hub.policy.replace(None);
        hub.publish(&[&agent]);
        assert!(hub.send(get()).await.headers().get("ratelimit").is_none());
    });
}

#[test]
fn a_source_has_so_many_requests_under_way_and_no_more_until_one_ends() {
    run(|| async {
        let hub = Hub::new();
        let in_flight = InFlightLimit { per: Per::Client, max: count(1) };
        hub.policy.replace(Some(Arc::new(RulePolicy { in_flight: Some(in_flight), ..RulePolicy::default() })));
        let agent = Agent::join("vm-1", &hub.book).await;
        hub.publish(&[&agent]);
        let workload = async {
            let mut taken = agent.take().await;
            taken.request().await.unwrap();
            let refused = hub.send(get()).await;
            assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (429, &"1".parse().unwrap()));
            assert_eq!(refused.headers()["figspan-reason"], "too-many-in-flight");
            taken.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n").await;
            taken
        };
        let (response, mut taken) = tokio::join!(hub.send(get()), workload);
        assert_eq!(hub.send(get()).await.status(), 429, "its answer is still on its way");
        taken.say("0\r\n\r\n").await;
        assert_eq!(text(async { response }).await, (200, "ok".to_owned()));
        agent.answer();
        let workload = async {
            if let Some(_again) = taken.request().await {
                taken.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            }
        };
        let (response, ()) = tokio::join!(hub.send(get()), workload);
        assert_eq!(response.status(), 200);
    });
}
