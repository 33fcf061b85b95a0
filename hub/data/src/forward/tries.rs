//! Hop: balance -> forward -> dial. The tries of one request: choose an endpoint, ask it, and go on as the table allows.
//!
//! From a choice to its count there is no await. An endpoint is asked once per request, except where a pooled connection had
//! ended before the request got anywhere. Never decides by itself whether a repetition is safe: that is `retry`.

use std::cell::Cell;
use std::pin::pin;
use std::sync::Arc;

use figspan_model::routing::policy::RetryPolicy;
use figspan_proto::reset::Reason;
use tokio::time::Instant;

use super::answer::Answer;
use super::clock::{self, Clock};
use super::record::Record;
use super::{Request, attempt, hedge};
use crate::balance::{Choice, Chosen, NoChoice, Question, Timer, Tried};
use crate::dial::Fault;
use crate::dial::inflight::InFlight;
use crate::dial::place::Place;
use crate::dial::upload::Upload;
use crate::health::{self, Watch};
use crate::limit::backend::{Bound, Queues};
use crate::metrics::{Limit, Retry};
use crate::reply::Failure;
use crate::retry::{MAX_ATTEMPTS, Retrying, Verdict, idempotent, verdict};

/// A place, with its count of work under way.
pub(super) struct Picked {
    pub(super) place: Place,
    pub(super) in_flight: InFlight,
    /// Index of the backend in its rule.
    backend: usize,
    watch: Watch,
}

/// Tries endpoints until one answers or the table says stop.
pub(super) async fn run(request: &Request<'_>, upload: &mut Upload, upgrade: bool, record: &mut Record) -> Result<Answer, Failure> {
    let shard = request.shard;
    let _live = shard.budget.request();
    let mut tried = Tried::default();
    let mut again = Again { request, retrying: None, count: 0 };
    let mut last = None;
    let mut waited = false;
    loop {
        // From the choice to the count there is no await: the drain proof rests on it.
        let picked = match pick(request, &mut tried) {
            Ok(picked) => picked,
            Err(_) if !std::mem::replace(&mut waited, true) && shard.dialer.services().starting(&request.rule.backends) => {
                shard.dialer.services().looked_up(&request.rule.backends, request.rule.timeouts.connect).await;
                continue;
            }
            Err(none) => return Err(last.unwrap_or(none)),
        };
        if let Err(full) = room(request, &picked, &mut tried).await {
            last = full.or(last);
            continue;
        }
        record.picked(&picked.place);
        let backend = &request.rule.backends[picked.backend];
        let movable = request.repeatable() && upload.fits() && !upgrade;
        let outcome = match request.retry().and_then(|retry| retry.hedge).filter(|_| movable) {
            Some(delay) => Box::pin(hedge::race(request, picked, delay, upload, &mut tried, record)).await,
            None => {
                let leave = || movable && request.has_other(&tried, true);
                ask(request, &picked, upload, upgrade, &leave).await
            }
        };
        let fault = match outcome {
            Ok(answer) if record.attempts() < MAX_ATTEMPTS && again.wants(&answer, upload) && again.may(&tried) => {
                // Held back until its head was seen, and no longer.
                answer.refuse();
                shard.metrics.retry(Retry::Status);
                again.back_off().await;
                upload.rewind();
                continue;
            }
            Ok(mut answer) => {
                request.bind(&mut answer);
                return Ok(answer);
            }
            Err(fault) => fault,
        };
        last = Some(fault.failure);
        if fault.failure == Failure::BackendLimit {
            tried.add_full(&backend.state);
        }
        let why = match verdict(fault, request.repeatable(), upload.replayable()) {
            Verdict::Answer => {
                if !upload.replayable() && verdict(fault, request.repeatable(), true) != Verdict::Answer {
                    shard.metrics.limit_hit(Limit::Replay);
                }
                return Err(fault.failure);
            }
            Verdict::Elsewhere(_) if record.attempts() >= MAX_ATTEMPTS => return Err(fault.failure),
            Verdict::Elsewhere(why) => why,
        };
        if why == Retry::Idempotent {
            if !again.may_soon(&tried).await {
                return Err(fault.failure);
            }
            again.back_off().await;
        }
        upload.rewind();
        shard.metrics.retry(why);
    }
}

/// What a request has used of its leave to be repeated after a workload may have seen it.
struct Again<'r> {
    request: &'r Request<'r>,
    /// Its place in the budget, kept until the request is answered.
    retrying: Option<Retrying<'r>>,
    count: u32,
}

impl Again<'_> {
    /// Whether the rule tries again what brought this answer, and the table lets it.
    fn wants(&self, answer: &Answer, upload: &Upload) -> bool {
        let Some(retry) = self.request.retry() else { return false };
        if matches!(answer, Answer::Upgraded { .. }) || !upload.replayable() || !self.request.repeatable() {
            return false;
        }
        let head = answer.head();
        retry.codes.binary_search(&head.status().as_u16()).is_ok()
            || (!retry.grpc_codes.is_empty() && head.headers().get("grpc-status").is_some_and(|code| retry.grpc_codes.has(code.as_bytes())))
    }

    /// Whether there is an endpoint left and leave to try it. Looked at first, so that nobody waits for leave to go nowhere.
    fn elsewhere(&self, tried: &Tried) -> bool {
        self.request.retry().is_none_or(|retry| self.count < retry.attempts) && self.request.has_other(tried, false)
    }

    /// Takes leave from the budget if there is some now: an answer is at hand.
    fn may(&mut self, tried: &Tried) -> bool {
        if !self.elsewhere(tried) {
            return false;
        }
        if self.retrying.is_none() {
            self.retrying = self.request.shard.budget.retry(&self.request.snapshot.routing.limits);
        }
        self.granted()
    }

    /// Takes leave from the budget, waiting a bounded time for it.
    async fn may_soon(&mut self, tried: &Tried) -> bool {
        if !self.elsewhere(tried) {
            return false;
        }
        if self.retrying.is_none() {
            self.retrying = self.request.shard.budget.retry_soon(&self.request.snapshot.routing.limits).await;
        }
        self.granted()
    }

    fn granted(&mut self) -> bool {
        if self.retrying.is_none() {
            self.request.shard.metrics.limit_hit(Limit::Retries);
            return false;
        }
        self.count += 1;
        true
    }

    async fn back_off(&self) {
        if let Some(retry) = self.request.retry() {
            tokio::time::sleep(retry.backoff(self.count, rand::random())).await;
        }
    }
}

/// Asks one endpoint, within the time of one try; on a fresh connection where a pooled one had ended before.
pub(super) async fn ask(
    request: &Request<'_>,
    picked: &Picked,
    upload: &mut Upload,
    upgrade: bool,
    leave: &dyn Fn() -> bool,
) -> Result<Answer, Fault> {
    let (backend, in_flight) = (&request.rule.backends[picked.backend], &picked.in_flight);
    let timer = Timer::begin(backend, in_flight.state());
    let of = attempt::Try { request, place: &picked.place, backend, in_flight, upgrade, leave, began: Cell::new(false) };
    let _asked = picked.watch.asked(&request.dropped, request.rule.timeouts.request);
    let clock = request.rule.timeouts.backend_request.map(|limit| Clock::new(limit, Instant::now(), upload.meter()));
    let outcome = {
        let mut trying = pin!(attempt_twice(&of, upload));
        let outcome = clock::within(clock.as_ref(), trying.as_mut()).await;
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

pub(super) async fn attempt_twice(of: &attempt::Try<'_>, upload: &mut Upload) -> Result<Answer, Fault> {
    match attempt::attempt(of, upload, false).await {
        Err(attempt::Failed { fault: Fault { seen: false, .. }, stale: true }) if upload.replayable() && !of.in_flight.draining() => {
            // A pooled connection had ended before the request got anywhere: the endpoint itself is not to blame.
            of.request.shard.metrics.retry(Retry::Stale);
            upload.rewind();
            attempt::attempt(of, upload, true).await.map_err(|failed| failed.fault)
        }
        outcome => outcome.map_err(|failed| failed.fault),
    }
}

/// Takes room for a try at its backend, where that is bounded. `Err`: choose again, and what to tell if nothing else is left.
async fn room(request: &Request<'_>, picked: &Picked, tried: &mut Tried) -> Result<(), Option<Failure>> {
    let backend = &request.rule.backends[picked.backend];
    let Some(limits) = backend.policy.as_ref().and_then(|policy| policy.limits.as_ref()) else { return Ok(()) };
    // A session may go where nothing new goes.
    let drained = picked.in_flight.draining();
    match request.shard.dialer.queues().enter(&backend.state, Bound::Requests, limits).await {
        Ok(Some(permit)) => picked.in_flight.hold(permit),
        Ok(None) => {}
        Err(_) => {
            request.shard.metrics.limit_hit(Limit::BackendRequests);
            tried.add_full(&backend.state);
            return Err(Some(Failure::BackendLimit));
        }
    }
    // It may have begun to drain while the request waited: nothing new goes there.
    if picked.in_flight.draining() && !drained { Err(None) } else { Ok(()) }
}

impl Request<'_> {
    /// What the rule asks of retries.
    fn retry(&self) -> Option<&RetryPolicy> {
        self.rule.policy.as_ref()?.retry.as_ref()
    }

    /// Whether it may be repeated although a workload may have seen it.
    fn repeatable(&self) -> bool {
        idempotent(&self.parts.method) || self.retry().is_some_and(|retry| retry.idempotent.is_some())
    }

    /// What `balance` is asked for this request.
    fn question<'q>(&'q self, tried: &'q Tried) -> Question<'q> {
        let (backends, rule) = (&*self.rule.backends, &*self.rule.state);
        let question = Question::new(self.snapshot, backends, rule, tried, self.shard.dialer.services());
        Question { hash: self.affinity.hash, bound: self.affinity.bound(), ..question }.now()
    }

    fn has_sessions(&self) -> bool {
        self.rule.policy.as_ref().is_some_and(|policy| policy.session.is_some())
    }

    /// Binds the client to who answered, where the rule has sessions. A 101 is no final answer: browsers may ignore its cookies.
    fn bind(&self, answer: &mut Answer) {
        let Some((backend, endpoint)) = self.answered_by.take() else { return };
        if !matches!(answer, Answer::Upgraded { .. }) {
            let secure = self.client.scheme == "https" || self.parts.uri.scheme_str() == Some("https");
            self.affinity.answered(self.shard, self.rule, &self.rule.backends[backend], &endpoint, secure, answer.headers_mut());
        }
    }

    /// Whether an endpoint is left that this request has not tried; `heard`: one that is not silent itself.
    pub(super) fn has_other(&self, tried: &Tried, heard: bool) -> bool {
        match health::peek(self.question(tried)) {
            Err(_) => false,
            Ok(Choice { endpoint: Chosen::Uplink { endpoint, .. }, .. }) if heard => {
                endpoint.tunnel(self.shard.shard).is_some_and(|at| !at.tunnel.suspect())
            }
            Ok(_) => true,
        }
    }
}

/// Chooses an endpoint, counts the request on it and remembers it as tried.
pub(super) fn pick(request: &Request<'_>, tried: &mut Tried) -> Result<Picked, Failure> {
    let (choice, permit) = health::choose(request.question(tried)).map_err(none)?;
    let in_flight = InFlight::picked(choice.state(), request.shard.shard);
    let backend = choice.backend;
    request.rule.backends[backend].share.add(request.shard.shard);
    let watch = Watch::new(request.shard, &request.rule.backends[backend], &choice, permit);
    tried.add(&choice);
    let place = Place::of(choice.endpoint, request.snapshot).ok_or(Failure::NobodyReady)?;
    Ok(Picked { place, in_flight, backend, watch })
}

/// The same where room is there at once, or `None`: a second try does not wait.
pub(super) fn pick_with_room(request: &Request<'_>, tried: &mut Tried) -> Option<Picked> {
    let picked = pick(request, tried).ok()?;
    let backend = &request.rule.backends[picked.backend];
    if let Some(limits) = backend.policy.as_ref().and_then(|policy| policy.limits.as_ref()) {
        let permit = Queues::try_enter(&backend.state, Bound::Requests, limits).ok()?;
        permit.into_iter().for_each(|permit| picked.in_flight.hold(permit));
    }
    Some(picked)
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

/// What a client hears where nothing can be chosen.
pub(super) fn none(why: NoChoice) -> Failure {
    match why {
        NoChoice::AllZero => Failure::AllDrained,
        NoChoice::Breaker => Failure::BreakerOpen,
        NoChoice::Unknown | NoChoice::NobodyReady | NoChoice::Shut | NoChoice::AllTried => Failure::NobodyReady,
    }
}
