//! Hop: balance -> forward -> dial. The tries of one request: choose an endpoint, ask it, and go on as the table allows.
//!
//! From a choice to its count (`pick`) there is no await. An endpoint is asked (`ask`) once per request, or by `hedge` beside
//! another; again where only its tunnel failed and it has another one. Never decides by itself whether a repetition is safe: that is
//! `retry`.

use std::cell::Cell;

use figspan_model::routing::policy::RetryPolicy;

use super::answer::Answer;
use super::record::Record;
use super::{Request, ask, hedge, pick};
use crate::balance::Tried;
use crate::dial::Fault;
use crate::dial::upload::Upload;
use crate::metrics::{Limit, Retry};
use crate::reply::Failure;
use crate::retry::{MAX_ATTEMPTS, Retrying, Verdict, idempotent, verdict};

/// Tries endpoints until one answers or the table says stop.
pub(super) async fn run(request: &Request<'_>, upload: &mut Upload, upgrade: bool, record: &mut Record) -> Result<Box<Answer>, Failure> {
    let shard = request.shard;
    let _live = shard.budget.request();
    let mut tried = Tried::default();
    let mut again = Again { request, retrying: None };
    let mut last = None;
    let mut waited = false;
    loop {
        // From the choice to the count there is no await: the drain proof rests on it.
        let picked = match pick::pick(request, &mut tried) {
            Ok(picked) => picked,
            Err(_) if !std::mem::replace(&mut waited, true) && shard.dialer.services().starting(&request.rule.backends) => {
                shard.dialer.services().looked_up(&request.rule.backends, request.rule.timeouts.connect).await;
                continue;
            }
            Err(none) => return Err(last.unwrap_or(none)),
        };
        if let Err(full) = pick::room(request, &picked, &mut tried).await {
            last = full.or(last);
            continue;
        }
        record.picked(&picked.place);
        let backend = &request.rule.backends[picked.backend];
        let movable = request.repeatable() && !upgrade;
        let outcome = match request.retry().and_then(|retry| retry.hedge).filter(|_| movable && upload.fits()) {
            Some(delay) => {
                let terms = hedge::Terms { delay, may_leave: again.allowed(record) };
                Box::pin(hedge::race(request, picked, terms, upload, &mut tried, record)).await
            }
            None => {
                let kept = upload.kept();
                // A silent tunnel of an agent's process that lives may come back, as when it changes its transport. One opened since
                // is a sign that it will not.
                let anew = Cell::new(false);
                // Who has no try left would leave to go nowhere.
                let allowed = again.allowed(record);
                let leave = |silent_since| {
                    if !(movable && allowed && kept.now()) {
                        return false;
                    }
                    let other = request.has_other(&tried, true);
                    anew.set(!other && request.has_other_way(&picked.place, Some(silent_since)));
                    other || anew.get()
                };
                let outcome = ask::ask(request, &picked, upload, upgrade, &leave).await;
                let forgiven = match &outcome {
                    Err(Fault { failure: Failure::TunnelLost, .. }) => request.has_other_way(&picked.place, None),
                    Err(Fault { failure: Failure::TunnelSilent, .. }) => anew.get(),
                    _ => false,
                };
                if forgiven {
                    tried.forgive(picked.place.state());
                }
                outcome
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

    /// Whether one more try is within the bounds of the rule and of one request.
    fn allowed(&self, record: &Record) -> bool {
        self.request.within_rule() && record.attempts() < MAX_ATTEMPTS
    }

    /// Whether there is an endpoint left and leave to try it. Looked at first, so that nobody waits for leave to go nowhere.
    fn elsewhere(&self, tried: &Tried) -> bool {
        self.request.within_rule() && self.request.has_other(tried, false)
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
        self.request.repeats();
        true
    }

    async fn back_off(&self) {
        if let Some(retry) = self.request.retry() {
            tokio::time::sleep(retry.backoff(self.request.repeated.get(), rand::random())).await;
        }
    }
}

impl Request<'_> {
    /// What the rule asks of retries.
    fn retry(&self) -> Option<&RetryPolicy> {
        self.rule.policy.as_ref()?.retry.as_ref()
    }

    /// Whether its rule lets it be repeated once more.
    fn within_rule(&self) -> bool {
        self.repeated.get() < self.retry().map_or(u32::MAX, |retry| retry.attempts)
    }

    fn repeats(&self) {
        self.repeated.set(self.repeated.get() + 1);
    }

    /// Leave to ask the same endpoint again, which may have seen it, if there is some now.
    pub(super) fn again_there(&self) -> Option<Retrying<'_>> {
        if !self.repeatable() || !self.within_rule() {
            return None;
        }
        let leave = self.shard.budget.retry(&self.snapshot.routing.limits)?;
        self.repeats();
        Some(leave)
    }

    /// Whether it may be repeated although a workload may have seen it.
    fn repeatable(&self) -> bool {
        idempotent(&self.parts.method) || self.retry().is_some_and(|retry| retry.idempotent.is_some())
    }
}
