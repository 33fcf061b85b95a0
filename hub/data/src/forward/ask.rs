//! Hop: forward -> dial. One try: asks one endpoint within its time, and tells everybody who watches it how that went.
//!
//! A pooled connection that ends where an answer should begin is no failure: the same endpoint is asked on a fresh one, if the
//! request may be repeated or got nowhere.
//! Never chooses: that is `pick`.

use std::cell::Cell;
use std::pin::pin;
use std::sync::Arc;

use figspan_proto::reset::Reason;
use tokio::time::Instant;

use super::answer::Answer;
use super::clock::{self, Clock};
use super::pick::Picked;
use super::{Request, attempt};
use crate::balance::Timer;
use crate::dial::Fault;
use crate::dial::h1::exchange::Leave;
use crate::dial::upload::Upload;
use crate::metrics::{Limit, Retry};
use crate::reply::Failure;

/// Asks one endpoint, within the time of one try; on a fresh connection where a pooled one had ended before.
pub(super) async fn ask(
    request: &Request<'_>,
    picked: &Picked,
    upload: &mut Upload,
    upgrade: bool,
    leave: &Leave<'_>,
) -> Result<Box<Answer>, Fault> {
    let (backend, in_flight) = (&request.rule.backends[picked.backend], &picked.in_flight);
    let timer = Timer::begin(backend, in_flight.state());
    let of = attempt::Try { request, place: &picked.place, backend, in_flight, upgrade, leave, began: Cell::new(false) };
    let _asked = picked.watch.asked(&request.dropped, request.rule.timeouts.request);
    let clock = request.rule.timeouts.backend_request.map(|limit| Clock::new(limit, Instant::now(), upload.meter()));
    let outcome = {
        let patience = picked.watch.patience(upload.fits());
        let mut trying = pin!(attempt_twice(&of, upload));
        // No clock is no future more on every wake-up's way.
        let outcome = match (&clock, patience) {
            (None, None) => Some(trying.as_mut().await),
            (Some(clock), None) => clock::within(clock, trying.as_mut()).await,
            (None, Some(patience)) => Some(picked.watch.timed(patience, trying.as_mut()).await),
            (Some(clock), Some(patience)) => clock::within(clock, pin!(picked.watch.timed(patience, trying.as_mut()))).await,
        };
        if outcome.is_none() {
            request.dropped.set(Reason::Cancelled);
        }
        outcome
    };
    request.dropped.set(Reason::ClientGone);
    let outcome = outcome.unwrap_or_else(|| Err(Fault { failure: Failure::TryTimeout, seen: of.began.get() }));
    match &outcome {
        Ok(answer) => {
            timer.answered(answer.status(), upload.fits());
            if request.has_sessions() {
                // The last to answer is the one whose answer the client gets.
                request.answered_by.replace(Some((picked.backend, Arc::clone(picked.in_flight.state()))));
            }
            picked.watch.answered(answer.head(), upload.fits());
            request.due.set(clock.and_then(|clock| clock.due()));
        }
        Err(fault) => {
            picked.watch.failed(fault.failure);
            if fault.failure.blames_endpoint() {
                picked.in_flight.failed();
                timer.failed();
            }
            if let Some(limit) = reached(fault.failure) {
                request.shard.metrics.limit_hit(limit);
            }
        }
    }
    outcome
}

/// One attempt, and another on a fresh connection where a pooled one has ended: the endpoint itself is not to blame.
pub(super) async fn attempt_twice(of: &attempt::Try<'_>, upload: &mut Upload) -> Result<Box<Answer>, Fault> {
    let fault = match attempt::attempt(of, upload, false).await {
        Err(attempt::Failed { fault, stale: true }) if upload.replayable() && !of.in_flight.draining() => fault,
        outcome => return outcome.map_err(|failed| failed.fault),
    };
    let request = of.request;
    let leave = match fault {
        Fault { seen: false, .. } => None,
        // Its end crossed the request (RFC 9112, section 9.3.1). Or the workload ended because of it, so this is within the
        // bounds of all repetitions.
        Fault { failure: Failure::WorkloadClosed, .. } => Some(request.again_there().ok_or(fault)?),
        fault => return Err(fault),
    };
    request.shard.metrics.retry(if leave.is_some() { Retry::Idempotent } else { Retry::Stale });
    upload.rewind();
    attempt::attempt(of, upload, true).await.map_err(|failed| failed.fault)
}

impl Request<'_> {
    fn has_sessions(&self) -> bool {
        self.rule.policy.as_ref().is_some_and(|policy| policy.session.is_some())
    }

    /// Binds the client to who answered, where the rule has sessions. A 101 is no final answer: browsers may ignore its cookies.
    pub(super) fn bind(&self, answer: &mut Answer) {
        let Some((backend, endpoint)) = self.answered_by.take() else { return };
        if !matches!(answer, Answer::Upgraded { .. }) {
            let secure = self.client.scheme == "https" || self.parts.uri.scheme_str() == Some("https");
            self.affinity.answered(self.shard, self.rule, &self.rule.backends[backend], &endpoint, secure, answer.headers_mut());
        }
    }
}

/// The bound of `[limits]` that a failure stands for.
fn reached(failure: Failure) -> Option<Limit> {
    match failure {
        Failure::QueueFull => Some(Limit::Pending),
        Failure::HeadTooLarge => Some(Limit::HeaderBytes),
        Failure::TooManyFields => Some(Limit::HeaderCount),
        _ => None,
    }
}
