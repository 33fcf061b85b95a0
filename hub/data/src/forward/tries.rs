//! Hop: balance -> forward -> dial. The tries of one request: choose an endpoint, ask it, and go on as the table allows.
//!
//! From a choice to its count there is no await. An endpoint is asked once per request, except where a pooled connection had
//! ended before the request got anywhere. Never decides by itself whether a repetition is safe: that is `retry`.

use super::answer::Answer;
use super::record::Record;
use super::{Request, attempt};
use crate::balance::{self, Choice, Chosen, NoChoice, Question, Timer, Tried};
use crate::dial::Fault;
use crate::dial::inflight::InFlight;
use crate::dial::place::Place;
use crate::dial::upload::Upload;
use crate::metrics::{Limit, Retry};
use crate::reply::Failure;
use crate::retry::{MAX_ATTEMPTS, Verdict, idempotent, verdict};

/// A place, with its count of work under way.
struct Picked {
    place: Place,
    in_flight: InFlight,
    timer: Timer,
}

/// Tries endpoints until one answers or the table says stop.
pub(super) async fn run(request: &Request<'_>, upload: &mut Upload, upgrade: bool, record: &mut Record) -> Result<Answer, Failure> {
    let (shard, limits) = (request.shard, &request.snapshot.routing.limits);
    let _live = shard.budget.request();
    let mut tried = Tried::default();
    let mut retrying = None;
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
        record.picked(&picked.place);
        let movable = idempotent(&request.parts.method) && upload.fits() && !upgrade;
        let leave = || movable && request.has_other(&tried, true);
        let mut fault = attempt::attempt(request, &picked.place, &picked.in_flight, upload, upgrade, false, &leave).await;
        if let Err(attempt::Failed { fault: Fault { seen: false, .. }, stale: true }) = &fault
            && upload.replayable()
            && !picked.in_flight.draining()
        {
            // A pooled connection had ended before the request got anywhere: the endpoint itself is not to blame.
            shard.metrics.retry(Retry::Stale);
            upload.rewind();
            fault = attempt::attempt(request, &picked.place, &picked.in_flight, upload, upgrade, true, &leave).await;
        }
        let fault = match fault {
            Ok(answer) => {
                picked.timer.answered(answer.status(), upload.fits());
                return Ok(answer);
            }
            Err(failed) => failed.fault,
        };
        if fault.failure.blames_endpoint() {
            picked.in_flight.failed();
            picked.timer.failed();
        }
        if fault.failure == Failure::QueueFull {
            shard.metrics.limit_hit(Limit::Pending);
        }
        last = Some(fault.failure);
        drop(picked);
        let why = match verdict(fault, &request.parts.method, upload.replayable()) {
            Verdict::Answer => return Err(fault.failure),
            Verdict::Elsewhere(_) if record.attempts() >= MAX_ATTEMPTS => return Err(fault.failure),
            Verdict::Elsewhere(why) => why,
        };
        if why == Retry::Idempotent && retrying.is_none() {
            // Looked at first, so that nobody waits for leave to go nowhere.
            if !request.has_other(&tried, false) {
                return Err(fault.failure);
            }
            retrying = shard.budget.retry_soon(limits).await;
            if retrying.is_none() {
                shard.metrics.limit_hit(Limit::Retries);
                return Err(fault.failure);
            }
        }
        upload.rewind();
        shard.metrics.retry(why);
    }
}

impl Request<'_> {
    /// What `balance` is asked for this request.
    fn question<'q>(&'q self, tried: &'q Tried) -> Question<'q> {
        let (backends, rule) = (&*self.rule.backends, &*self.rule.state);
        let question = Question::new(self.snapshot, backends, rule, tried, self.shard.dialer.services());
        Question { hash: self.affinity.hash, ..question }.now()
    }

    /// Whether an endpoint is left that this request has not tried; `heard`: one that is not silent itself.
    fn has_other(&self, tried: &Tried, heard: bool) -> bool {
        match balance::peek(self.question(tried)) {
            Err(_) => false,
            Ok(Choice { endpoint: Chosen::Uplink { endpoint, .. }, .. }) if heard => {
                endpoint.tunnel(self.shard.shard).is_some_and(|at| !at.tunnel.suspect())
            }
            Ok(_) => true,
        }
    }
}

/// Chooses an endpoint, counts the request on it and remembers it as tried.
fn pick(request: &Request<'_>, tried: &mut Tried) -> Result<Picked, Failure> {
    let choice = balance::choose(request.question(tried)).map_err(none)?;
    let in_flight = InFlight::picked(choice.state(), request.shard.shard);
    request.rule.backends[choice.backend].share.add(request.shard.shard);
    let timer = Timer::begin(&request.rule.backends[choice.backend], choice.state());
    tried.add(&choice);
    let place = Place::of(choice.endpoint, request.snapshot).ok_or(Failure::NobodyReady)?;
    Ok(Picked { place, in_flight, timer })
}

/// What a client hears where nothing can be chosen.
pub(super) fn none(why: NoChoice) -> Failure {
    match why {
        NoChoice::AllZero => Failure::AllDrained,
        NoChoice::Unknown | NoChoice::NobodyReady | NoChoice::Shut | NoChoice::AllTried => Failure::NobodyReady,
    }
}
