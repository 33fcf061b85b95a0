//! Hop: inbound -> forward -> dial. One admitted request, one answer: match, choose, try, and try again where that is safe.
//!
//! Holds one snapshot for the whole request. Promises that work is counted on an endpoint in the same step as it is chosen,
//! that a request which a workload may have seen is repeated only if that does no harm (`retry`), and that an answer which
//! broke off never ends cleanly. Every way out leaves one line in the access log and one count in the metrics.

pub mod answer;
pub mod attempt;
pub mod record;
pub mod stream;
pub mod websocket;

use std::rc::Rc;
use std::sync::Arc;

use figspan_model::routing::{HttpRoute, HttpRule};
use figspan_model::snapshot::Snapshot;
use http::{Response, request};

use crate::balance::{self, Choice, Chosen, NoChoice, Tried};
use crate::body::Body;
use crate::client::Client;
use crate::dial::Fault;
use crate::dial::inflight::InFlight;
use crate::dial::place::Place;
use crate::dial::upload::Upload;
use crate::exchange::{Inbound, Outbound, Pause, WebSocket};
use crate::metrics::{Limit, Retry};
use crate::reply::Failure;
use crate::retry::{MAX_ATTEMPTS, Verdict, idempotent, verdict};
use crate::route;
use crate::shard::ShardRef;
use answer::Answer;
use record::Record;

pub use stream::{Connected, connect_stream};

/// One request on its way: what every attempt needs.
pub struct Request<'r> {
    shard: &'r ShardRef,
    snapshot: &'r Snapshot,
    rule: &'r HttpRule,
    parts: &'r request::Parts,
    client: &'r Client,
    informational: &'r dyn Fn(Response<()>),
}

/// A place, with its count of work under way.
struct Picked {
    place: Place,
    in_flight: InFlight,
}

/// Answers an admitted request. Dropped when the client goes away: then the workload's stream is reset.
pub async fn serve(shard: &ShardRef, inbound: Inbound) -> Outbound {
    let Inbound { request, client, informational, websocket } = inbound;
    let (parts, body) = request.into_parts();
    let snapshot = shard.snapshot();
    let mut record = Record::new(shard, &client, &parts);
    let Some(matched) = route::http(&snapshot, &client.listener, &parts.method, &parts.uri, &parts.headers) else {
        return record.refuse(Failure::NoRoute);
    };
    let (route, rule): (&HttpRoute, &HttpRule) = (matched.route, matched.rule);
    record.route(&route.name);
    let request = Request { shard, snapshot: &snapshot, rule, parts: &parts, client: &client, informational: &*informational };
    let mut upload = Upload::new(body, snapshot.routing.limits.replay_bytes);
    record.upload(&upload);
    let deadline = rule.timeouts.request.map(|limit| record.started() + limit);
    let outcome = match deadline {
        None => run(&request, &mut upload, websocket.is_some(), &mut record).await,
        Some(deadline) => tokio::time::timeout_at(deadline, run(&request, &mut upload, websocket.is_some(), &mut record))
            .await
            .unwrap_or(Err(Failure::RequestTimeout)),
    };
    match outcome {
        Err(failure) => record.refuse(failure),
        Ok(answer) => deliver(shard, &client, answer, upload, websocket, rule, deadline, record),
    }
}

/// Tries endpoints until one answers or the table says stop.
async fn run(request: &Request<'_>, upload: &mut Upload, upgrade: bool, record: &mut Record) -> Result<Answer, Failure> {
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
            Ok(answer) => return Ok(answer),
            Err(failed) => failed.fault,
        };
        if fault.failure.blames_endpoint() {
            picked.in_flight.failed();
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
    /// Whether an endpoint is left that this request has not tried; `heard`: one that is not silent itself.
    fn has_other(&self, tried: &Tried, heard: bool) -> bool {
        let services = self.shard.dialer.services();
        match balance::peek(self.snapshot, &self.rule.backends, &self.rule.state, tried, services) {
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
    let services = request.shard.dialer.services();
    let choice = balance::choose(request.snapshot, &request.rule.backends, &request.rule.state, tried, services).map_err(none)?;
    let in_flight = InFlight::picked(choice.state(), request.shard.shard);
    request.rule.backends[choice.backend].share.add(request.shard.shard);
    tried.add(&choice);
    let place = Place::of(choice.endpoint, request.snapshot).ok_or(Failure::NobodyReady)?;
    Ok(Picked { place, in_flight })
}

/// What a client hears where nothing can be chosen.
pub(crate) fn none(why: NoChoice) -> Failure {
    match why {
        NoChoice::AllZero => Failure::AllDrained,
        NoChoice::Unknown | NoChoice::NobodyReady | NoChoice::AllTried => Failure::NobodyReady,
    }
}

/// Turns an answer into what the inbound half sends, and sees to what goes on behind it.
#[allow(clippy::too_many_arguments, reason = "the loose ends of one request, tied in one place")]
fn deliver(
    shard: &ShardRef,
    client: &Rc<Client>,
    answer: Answer,
    mut upload: Upload,
    websocket: Option<WebSocket>,
    rule: &HttpRule,
    deadline: Option<tokio::time::Instant>,
    mut record: Record,
) -> Response<Body> {
    upload.forget();
    match answer {
        Answer::Upgraded { head, io, in_flight } => {
            let Some(websocket) = websocket else { return record.refuse(Failure::UpgradeFailed) };
            record.answered(head.status());
            websocket::carry(shard, websocket, io, in_flight, rule.timeouts.idle, record);
            head.map(|()| Body::Empty)
        }
        Answer::Whole { mut head, body, in_flight } => {
            drop(in_flight);
            attempt::note_bound(shard, client, head.headers_mut());
            record.answered(head.status());
            record.sent(body.len() as u64);
            record.complete();
            head.map(|()| if body.is_empty() { Body::Empty } else { Body::Full(body) })
        }
        Answer::Streaming { mut head, body, rest } => {
            attempt::note_bound(shard, client, head.headers_mut());
            record.answered(head.status());
            rest.spawn(shard, upload);
            head.extensions_mut().insert(Pause(rule.timeouts.idle));
            let body = answer::Tracked::new(body, deadline, record);
            head.map(|()| Body::stream(body))
        }
    }
}

/// The name of a route or backend, kept for the record.
pub(crate) type Name = Arc<str>;
