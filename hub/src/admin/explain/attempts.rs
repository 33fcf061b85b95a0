//! Where a request would go, and where it would go on if each endpoint failed before it.

use figspan_data::balance::{Bound, Chosen, NoChoice, Question, Tried};
use figspan_data::health;
use figspan_data::retry::{MAX_ATTEMPTS, idempotent};
use figspan_model::routing::HttpRule;
use figspan_proto::name::Zone;
use http::Method;

use super::World;
use crate::admin::policies;
use crate::standing::{AsWritten, Place};

/// The endpoints, one after the other; empty where nothing can be chosen, and `why` then says why.
pub(super) fn of(world: &World<'_>, place: Place<'_>, hash: Option<u64>, bound: Option<Bound>, why: &mut Vec<String>) -> Vec<String> {
    let services = AsWritten::new(world.snapshot, world.book);
    let (mut tried, mut attempts) = (Tried::default(), Vec::new());
    while attempts.len() < MAX_ATTEMPTS as usize {
        let question = place.question(world.snapshot, &tried, &services);
        match health::peek(Question { hash, bound, ..question }) {
            Ok(choice) => {
                let target = &place.backends[choice.backend].target;
                attempts.push(match &choice.endpoint {
                    Chosen::Uplink { endpoint, .. } => format!("uplink {} on agent {}", target.name(), endpoint.agent),
                    Chosen::Service { endpoint, .. } if endpoint.address.ip().is_unspecified() => format!("service {}", target.name()),
                    Chosen::Service { endpoint, .. } => format!("service {} at {}", target.name(), endpoint.address),
                });
                if attempts.len() == 1 {
                    why.extend(choice.near.map(|near| zone(world.snapshot.routing.zone.as_ref(), near)));
                }
                tried.add(&choice);
            }
            Err(_) if !attempts.is_empty() => break,
            Err(reason) => {
                let mend = match reason {
                    NoChoice::AllZero => "raise a weight, or undrain an uplink",
                    NoChoice::Unknown => "does an agent advertise it? figspanctl get uplinks",
                    NoChoice::Breaker => "figspanctl get backends shows it; mend the backend, and probes will close it",
                    NoChoice::NobodyReady | NoChoice::Shut | NoChoice::AllTried => "figspanctl get backends says why nobody is ready",
                };
                why.push(format!("no backend can take it: {reason}; {mend}"));
                break;
            }
        }
    }
    attempts
}

/// Why a backend that prefers the hub's own zone goes where it goes.
fn zone(own: Option<&Zone>, near: bool) -> String {
    match (own, near) {
        (None, _) => "it prefers the hub's own zone, which nobody has told: write hub.zone".to_owned(),
        (Some(own), true) => format!("it prefers zone {own}, the hub's own, and an endpoint there takes it"),
        (Some(own), false) => format!("it prefers zone {own}, the hub's own, but no endpoint there takes it"),
    }
}

/// When a request of that method goes on to the next endpoint.
pub(super) fn retried(rule: &HttpRule, method: &Method) -> Vec<String> {
    let retry = rule.policy.as_ref().and_then(|policy| policy.retry.as_ref());
    let mut when = vec!["no workload saw it: always, while its body is kept".to_owned()];
    if idempotent(method) || retry.is_some_and(|retry| retry.idempotent.is_some()) {
        when.push("a workload may have seen it and did not answer: within the budget of retries".to_owned());
        if let Some(retry) = retry {
            let codes: Vec<_> = retry.codes.iter().map(u16::to_string).collect();
            if !codes.is_empty() {
                when.push(format!("it is answered {} (at most {} more)", codes.join(", "), retry.attempts));
            }
            if !retry.grpc_codes.is_empty() {
                let words = policies::grpc_codes(retry.grpc_codes).join(", ");
                when.push(format!("its head says gRPC {words} (at most {} more)", retry.attempts));
            }
            when.extend(retry.hedge.map(|after| format!("no answer within {}: another one is asked as well", policies::time(after))));
        }
    } else {
        when.push(format!("a workload may have seen it: never, {method} must not be repeated"));
    }
    when
}
