//! An endpoint that comes back from an ejection, or from behind its breaker, starts slowly; one that never left does not.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::harness::{Agent, Hub, run};
use figspan_data::balance::now;
use figspan_model::health::breaker::{self, Scope, State};
use figspan_model::health::{Condition, Guard, ejection};
use figspan_model::routing::BackendPolicy;
use figspan_model::state::Warmth;

/// A slow start so long that no test sees it grow.
const OVER: Duration = Duration::from_secs(24 * 3600);

fn guarded(hub: &Hub, guard: Guard) {
    hub.backend_policy.replace(Some(Arc::new(BackendPolicy { guard: Some(guard), ..BackendPolicy::default() })));
}

/// Answers 503 while the cell says so.
fn moody(agent: &Agent) -> Rc<Cell<bool>> {
    let broken = Rc::new(Cell::new(true));
    let state = Rc::clone(&broken);
    agent.script(move |mut taken| {
        let broken = Rc::clone(&state);
        async move {
            while taken.request().await.is_some() {
                let status = if broken.get() { "503 Service Unavailable" } else { "200 OK" };
                taken.say(&format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")).await;
            }
        }
    });
    broken
}

fn is_cold(agent: &Agent) -> bool {
    agent.state.warmth.part(OVER, now()) < Warmth::FULL / 4
}

/// Asks again and again until something holds.
async fn ask_until(hub: &Hub, what: &str, holds: impl Fn() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        hub.get().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("never: {what}");
}

#[test]
fn an_endpoint_whose_breaker_has_closed_starts_slowly() {
    run(|| async {
        let hub = Hub::new();
        let condition = Condition::parse("ErrorRatio() >= 0.5").unwrap();
        let (window, open) = (Duration::from_secs(10), Duration::from_millis(20));
        let terms = breaker::Terms { scope: Scope::Endpoint, condition, window, min_requests: 3, open, probes: 2 };
        guarded(&hub, Guard { breaker: Some(terms), ..Guard::default() });
        let (sick, steady) = (Agent::join("vm-1", &hub.book).await, Agent::join("vm-2", &hub.book).await);
        let broken = moody(&sick);
        steady.answer();
        hub.publish(&[&sick, &steady]);
        ask_until(&hub, "the breaker opens", || sick.state.health.breaker.opened() > 0).await;
        assert!(!is_cold(&sick), "it has not come back yet");
        broken.set(false);
        ask_until(&hub, "probes close it", || matches!(sick.state.health.breaker.state(), State::Closed { .. })).await;
        assert!(is_cold(&sick) && !is_cold(&steady));
    });
}

#[test]
fn an_endpoint_that_was_ejected_starts_slowly_when_its_time_is_over() {
    run(|| async {
        let hub = Hub::new();
        let base = Duration::from_secs(60);
        let terms = ejection::Terms {
            consecutive_5xx: 3,
            consecutive_gateway_errors: 3,
            latency: None,
            consecutive_slow: 3,
            interval: Duration::from_secs(10),
            base,
            max: base,
            max_percent: 50,
        };
        guarded(&hub, Guard { ejection: Some(terms), ..Guard::default() });
        let (sick, steady) = (Agent::join("vm-1", &hub.book).await, Agent::join("vm-2", &hub.book).await);
        let _broken = moody(&sick);
        steady.answer();
        hub.publish(&[&sick, &steady]);
        ask_until(&hub, "it is ejected", || sick.state.health.ejection.total() == 1).await;
        let back = sick.state.health.ejection.until();
        let (half, whole) = (sick.state.warmth.part(OVER, back + OVER / 2), sick.state.warmth.part(OVER, back + OVER));
        assert!(is_cold(&sick) && sick.state.warmth.part(OVER, back) < Warmth::FULL / 4);
        assert_eq!((half, whole), (Warmth::FULL / 2, Warmth::FULL), "counted from its return, not from its going");
        assert!(!is_cold(&steady));
    });
}
