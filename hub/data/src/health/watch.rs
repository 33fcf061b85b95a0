//! Hop: dial -> health. How one attempt at an endpoint ended, told once.
//!
//! A watch that is dropped without a word gives its permit back: the client went away, say, which is nobody's fault.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use figspan_model::health::breaker::Turn;
use figspan_model::health::{End, Guard, Outcome, Permit};
use figspan_model::moment::Moment;
use figspan_model::routing::{Backend, BackendPolicy};
use figspan_model::state::BackendState;
use figspan_proto::reset::Reason;
use http::{HeaderMap, Response};
use tokio::time::Instant;

use super::TierOf;
use crate::balance::{ServiceEndpoints, now};
use crate::dial::place::Place;
use crate::metrics::Turned;
use crate::reply::Failure;
use crate::shard::ShardRef;

/// One attempt under watch; nothing where the backend asks for nothing.
pub struct Watch(RefCell<Option<Watched>>);

struct Watched {
    shard: ShardRef,
    place: Rc<Place>,
    /// What the backend's policy watches.
    guarded: Option<Guarded>,
    /// The tier, where the rule may leave it.
    tier: Option<TierOf>,
    began: Instant,
    /// Time to the open way, where what follows takes as long as client and workload like.
    opened: Option<Duration>,
}

struct Guarded {
    policy: Arc<BackendPolicy>,
    backend: Arc<BackendState>,
    permit: Permit,
}

impl Watch {
    /// Begins with the choice of that place.
    pub fn new(shard: &ShardRef, backend: &Backend, place: &Rc<Place>, permit: Permit, tier: Option<TierOf>) -> Self {
        let policy = backend.policy.as_ref().filter(|policy| policy.guard.is_some());
        let guarded = policy.map(|policy| Guarded { policy: Arc::clone(policy), backend: Arc::clone(&backend.state), permit });
        if guarded.is_none() && tier.is_none() {
            return Self(RefCell::new(None));
        }
        let (shard, place) = (ShardRef::clone(shard), Rc::clone(place));
        Self(RefCell::new(Some(Watched { shard, place, guarded, tier, began: Instant::now(), opened: None })))
    }

    /// The time that its rule gives an attempt. Where the request's body is not `short`, its time is the client's.
    pub fn patience(&self, short: bool) -> Option<Duration> {
        self.0.borrow().as_ref().filter(|_| short)?.tier.as_ref().and_then(TierOf::patience)
    }

    /// What comes of an attempt. If nothing has in the time of [`Self::patience`], its tier hears of that at once, and no more.
    pub async fn timed<F: Future>(&self, patience: Duration, mut attempt: Pin<&mut F>) -> F::Output {
        if let Ok(outcome) = tokio::time::timeout(patience, attempt.as_mut()).await {
            return outcome;
        }
        if let Some(watched) = &mut *self.0.borrow_mut()
            && let Some(tier) = watched.tier.take()
        {
            tier.late(moment(watched.began), now());
        }
        attempt.await
    }

    /// The endpoint is asked now. If the guard is dropped because the hub gave the attempt up, after most of the whole
    /// request's time, it was the endpoint that did not answer; `dropped` tells who gave up.
    pub fn asked<'w>(&'w self, dropped: &'w Cell<Reason>, limit: Option<Duration>) -> Asked<'w> {
        if let Some(watched) = &mut *self.0.borrow_mut() {
            watched.began = Instant::now();
        }
        Asked { watch: self, dropped, limit }
    }

    /// The head of an answer came. Where the request's body is not `short`, its time is the client's and counts as none.
    pub fn answered(&self, head: &Response<()>, short: bool) {
        if let Some(mut watched) = self.0.take() {
            watched.opened = watched.opened.or((!short).then_some(Duration::ZERO));
            watched.end(End::Answered(grpc_status(head.headers()).unwrap_or(head.status().as_u16())));
        }
    }

    /// A way to the endpoint is open.
    pub fn opened(&self) {
        if let Some(watched) = &mut *self.0.borrow_mut() {
            watched.opened = Some(watched.began.elapsed());
        }
    }

    /// The workload has taken a connection.
    pub fn connected(&self) {
        if let Some(watched) = self.0.take() {
            watched.end(End::Connected);
        }
    }

    /// There was no answer.
    pub fn failed(&self, failure: Failure) {
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
            watched.forget();
        }
    }
}

/// An attempt that is waited for; see [`Watch::asked`].
pub struct Asked<'w> {
    watch: &'w Watch,
    dropped: &'w Cell<Reason>,
    limit: Option<Duration>,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let late = |watched: &mut Watched| self.limit.is_some_and(|limit| watched.began.elapsed() >= limit / 2);
        let watched = self.watch.0.borrow_mut().take_if(|watched| self.dropped.get() == Reason::Cancelled && late(watched));
        if let Some(watched) = watched {
            watched.end(End::Failed);
        }
    }
}

impl Watched {
    fn guarded(&self) -> Option<(&Guarded, &Guard)> {
        let guarded = self.guarded.as_ref()?;
        Some((guarded, guarded.policy.guard.as_ref()?))
    }

    fn end(self, end: End) {
        let outcome = Outcome { end, latency: self.opened.unwrap_or_else(|| self.began.elapsed()) };
        let now = now();
        if let Some(tier) = &self.tier {
            tier.ended(&outcome, moment(self.began), now);
        }
        let Some((guarded, guard)) = self.guarded() else { return };
        let endpoint = self.place.state();
        let healths = (&guarded.backend.health, &endpoint.health);
        let changes = guard.record(self.shard.shard, healths, guarded.permit, &outcome, now, |visit| match &*self.place {
            Place::Uplink { uplink, .. } => uplink.endpoints.iter().for_each(|sibling| {
                visit(&sibling.state.health, sibling.accepts() && !sibling.state.draining.load(Ordering::Acquire));
            }),
            Place::Service { service, .. } => self.shard.dialer.services().endpoints(&service.name).iter().for_each(|sibling| {
                visit(&sibling.state.health, !sibling.state.draining.load(Ordering::Acquire));
            }),
        });
        if let Some(turn) = changes.backend {
            self.turned(turn, "");
        }
        if let Some(turn) = changes.endpoint {
            self.turned(turn, &self.place.label());
            if turn == Turn::Closed {
                endpoint.warmth.begin(now);
            }
        }
        if let Some(until) = changes.ejected {
            self.shard.metrics.turned(Turned::Ejected);
            endpoint.warmth.begin(until);
            let seconds = until.since(now).as_secs_f64();
            tracing::warn!(
                backend = self.place.backend(),
                endpoint = &*self.place.label(),
                seconds,
                "endpoint ejected after several failures in a row"
            );
        }
    }

    fn turned(&self, turn: Turn, endpoint: &str) {
        match turn {
            Turn::Opened => {
                self.shard.metrics.turned(Turned::BreakerOpened);
                tracing::warn!(backend = self.place.backend(), endpoint, "circuit breaker opened");
            }
            Turn::Closed => {
                self.shard.metrics.turned(Turned::BreakerClosed);
                tracing::info!(backend = self.place.backend(), endpoint, "circuit breaker closed");
            }
        }
    }

    fn forget(self) {
        if let Some((guarded, guard)) = self.guarded() {
            guard.forget(&guarded.backend.health, &self.place.state().health, guarded.permit);
        }
    }
}

fn moment(instant: Instant) -> Moment {
    Moment::of(instant.into_std())
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
