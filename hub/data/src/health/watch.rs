//! Hop: dial -> health. How one attempt at an endpoint ended, told once.
//!
//! A watch that is dropped without a word gives its permit back: the client went away, say, which is nobody's fault. If by
//! then the time of the whole request was over, it was the endpoint that did not answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use figspan_model::health::breaker::Turn;
use figspan_model::health::{End, Guard, Outcome, Permit};
use figspan_model::routing::{Backend, BackendPolicy};
use figspan_model::state::{BackendState, EndpointState};
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::now;
use crate::balance::{Choice, Chosen, ServiceEndpoints};
use crate::metrics::Turned;
use crate::reply::Failure;
use crate::shard::ShardRef;

/// One attempt under watch; nothing where the backend asks for nothing.
pub struct Watch(Option<Watched>);

struct Watched {
    shard: ShardRef,
    policy: Arc<BackendPolicy>,
    backend: Arc<BackendState>,
    chosen: Chosen,
    permit: Permit,
    began: Instant,
    opened: Option<Duration>,
    deadline: Option<Instant>,
}

impl Watch {
    /// Begins with the choice. `deadline`: when the whole request's time is over.
    pub fn new(shard: &ShardRef, backend: &Backend, choice: &Choice, permit: Permit, deadline: Option<Instant>) -> Self {
        let Some(policy) = backend.policy.as_ref().filter(|policy| policy.guard.is_some()) else { return Self(None) };
        Self(Some(Watched {
            shard: ShardRef::clone(shard),
            policy: Arc::clone(policy),
            backend: Arc::clone(&backend.state),
            chosen: choice.endpoint.clone(),
            permit,
            began: Instant::now(),
            opened: None,
            deadline,
        }))
    }

    /// The head of an answer came.
    pub fn answered(&mut self, status: StatusCode, headers: &HeaderMap) {
        if let Some(watched) = self.0.take() {
            watched.end(End::Answered(grpc_status(headers).unwrap_or(status.as_u16())));
        }
    }

    /// A way to the endpoint is open; what follows takes as long as client and workload like.
    pub fn opened(&mut self) {
        if let Some(watched) = &mut self.0 {
            watched.opened = Some(watched.began.elapsed());
        }
    }

    /// The workload has taken a connection.
    pub fn connected(&mut self) {
        if let Some(watched) = self.0.take() {
            watched.end(End::Connected);
        }
    }

    /// There was no answer.
    pub fn failed(&mut self, failure: Failure) {
        match self.0.take() {
            Some(watched) if blames(failure) => watched.end(End::Failed),
            Some(watched) => watched.forget(),
            None => {}
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(watched) = self.0.take() {
            match watched.deadline {
                Some(deadline) if Instant::now() >= deadline => watched.end(End::Failed),
                _ => watched.forget(),
            }
        }
    }
}

impl Watched {
    fn guard(&self) -> Option<&Guard> {
        self.policy.guard.as_ref()
    }

    fn end(self, end: End) {
        let Some(guard) = self.guard() else { return };
        let outcome = Outcome { end, latency: self.opened.unwrap_or_else(|| self.began.elapsed()) };
        let (endpoint, now) = (self.state(), now());
        let changes = guard.record(self.shard.shard, (&self.backend.health, &endpoint.health), self.permit, &outcome, now, |visit| {
            match &self.chosen {
                Chosen::Uplink { uplink, .. } => uplink.endpoints.iter().for_each(|sibling| {
                    visit(&sibling.state.health, sibling.accepts() && !sibling.state.draining.load(Ordering::Acquire));
                }),
                Chosen::Service { name, .. } => self.shard.dialer.services().endpoints(name).iter().for_each(|sibling| {
                    visit(&sibling.state.health, !sibling.state.draining.load(Ordering::Acquire));
                }),
            }
        });
        if let Some(turn) = changes.backend {
            self.turned(turn, "");
        }
        if let Some(turn) = changes.endpoint {
            self.turned(turn, &self.label());
        }
        if let Some(until) = changes.ejected {
            self.shard.metrics.turned(Turned::Ejected);
            let seconds = until.since(now).as_secs_f64();
            tracing::warn!(backend = self.name(), endpoint = self.label(), seconds, "endpoint ejected after several failures in a row");
        }
    }

    fn turned(&self, turn: Turn, endpoint: &str) {
        match turn {
            Turn::Opened => {
                self.shard.metrics.turned(Turned::BreakerOpened);
                tracing::warn!(backend = self.name(), endpoint, "circuit breaker opened");
            }
            Turn::Closed => {
                self.shard.metrics.turned(Turned::BreakerClosed);
                tracing::info!(backend = self.name(), endpoint, "circuit breaker closed");
            }
        }
    }

    fn forget(self) {
        if let Some(guard) = self.guard() {
            guard.forget(&self.backend.health, &self.state().health, self.permit);
        }
    }

    fn state(&self) -> &EndpointState {
        match &self.chosen {
            Chosen::Uplink { endpoint, .. } => &endpoint.state,
            Chosen::Service { endpoint, .. } => &endpoint.state,
        }
    }

    fn name(&self) -> &str {
        match &self.chosen {
            Chosen::Uplink { uplink, .. } => uplink.name.as_str(),
            Chosen::Service { name, .. } => name,
        }
    }

    fn label(&self) -> String {
        match &self.chosen {
            Chosen::Uplink { endpoint, .. } => endpoint.agent.as_str().to_owned(),
            Chosen::Service { endpoint, .. } => endpoint.address.to_string(),
        }
    }
}

/// Whether a failure speaks against the endpoint. One that leaves in good order is not broken.
fn blames(failure: Failure) -> bool {
    let leaves = matches!(
        failure,
        Failure::AgentDraining | Failure::AgentDeadline | Failure::AgentUnknownUplink | Failure::GoingAway | Failure::StreamRefused
    );
    failure.blames_endpoint() && !leaves
}

/// The HTTP status that goes with an error which gRPC tells in the head (a response of trailers alone), for those that
/// speak against the server.
fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    match headers.get("grpc-status")?.as_bytes() {
        b"2" | b"13" | b"15" => Some(500),
        b"14" => Some(503),
        b"4" => Some(504),
        _ => None,
    }
}
