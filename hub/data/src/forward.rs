//! Hop: inbound -> forward -> dial. One admitted request, one answer: match, choose, try, and try again where that is safe.
//!
//! Holds one snapshot for the whole request; another try looks for endpoints in the newest. Promises that work is counted on an
//! endpoint in the same step as it is chosen, that a request which a workload may have seen is repeated only if that does no
//! harm (`retry`), and that an answer which broke off never ends cleanly. Every way out leaves one line in the access log and one
//! count in the metrics.

pub mod answer;
mod ask;
pub mod attempt;
mod clock;
pub mod compare;
mod hedge;
pub mod mirror;
mod pick;
pub mod record;
pub(crate) mod splice;
pub mod stream;
mod tries;
pub mod websocket;

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use figspan_model::routing::{HttpRoute, HttpRule, Timeouts};
use figspan_model::state::EndpointState;
use figspan_proto::reset::Reason;
use http::{Response, request};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;
use tokio::time::Instant;

use crate::admission::fields;
use crate::affinity::Affinity;
use crate::affinity::session::unix_now;
use crate::body::Body;
use crate::client::Client;
use crate::dial::upload::Upload;
use crate::exchange::{Inbound, Outbound, Pause, WebSocket};
use crate::filters;
use crate::jwt;
use crate::limit;
use crate::pins;
use crate::reply::Failure;
use crate::route;
use crate::shard::{Held, ShardRef};
use crate::spare;
use answer::Answer;
use clock::Clock;
use mirror::Original;
use record::Record;
use tries::run;

pub use stream::{Connected, connect_stream};

/// One request on its way: what every attempt needs.
pub struct Request<'r> {
    shard: &'r ShardRef,
    snapshot: &'r Rc<Held>,
    rule: &'r HttpRule,
    parts: &'r request::Parts,
    client: &'r Client,
    affinity: Affinity,
    timeouts: &'r Timeouts,
    informational: &'r dyn Fn(Response<()>),
    /// What a workload hears when a try is dropped: that the client went, unless somebody here gave it up.
    dropped: Cell<Reason>,
    /// When the time of the try that brought the answer ends.
    due: Cell<Option<Instant>>,
    /// How often it was repeated after a workload may have seen it.
    repeated: Cell<u32>,
    /// Who answered last, by index of the backend; kept where the rule has sessions.
    answered_by: RefCell<Option<(usize, Arc<EndpointState>)>>,
}

/// Answers an admitted request. Dropped when the client goes away: then the workload's stream is reset.
pub async fn serve(shard: &ShardRef, inbound: Inbound) -> Outbound {
    let Inbound { request, client, informational, websocket } = inbound;
    let (mut parts, body) = request.into_parts();
    let snapshot = shard.snapshot();
    let mut record = Record::new(shard, &client, &parts);
    let Some(matched) = route::http(&snapshot, &client.listener, &parts.method, &parts.uri, &parts.headers) else {
        return record.refuse(Failure::NoRoute);
    };
    let (route, rule): (&HttpRoute, &HttpRule) = (matched.route, matched.rule);
    record.route(snapshot.name(&route.name));
    let jwt = rule.policy.as_deref().and_then(|policy| policy.jwt.as_ref()).filter(|_| !filters::is_preflight(rule, &parts));
    let check = |jwt| jwt::check(jwt, &parts.headers, unix_now().into(), &shard.tokens, &shard.metrics);
    let verified = match jwt.map(check).transpose() {
        Ok(verified) => verified.unwrap_or_default(),
        Err(refused) => {
            let mut response = record.refuse(refused.failure());
            refused.tell(&mut response);
            return filters::refusal(filters::of(rule, &parts).as_ref(), response);
        }
    };
    let own = rule;
    let rule = pins::rule(own, &client, || unix_now().into(), &shard.metrics);
    let affinity = Affinity::of(shard, rule, &parts, &client, &verified);
    let filtered = match filters::before(&matched, &mut parts) {
        filters::Verdict::Forward(filtered) => filtered,
        filters::Verdict::Answer(answer) => return record.answer(answer),
        filters::Verdict::Refuse(filtered, failure) => return filters::refusal(Some(&filtered), record.refuse(failure)),
    };
    let mut told = None;
    if let Some(policy) = &own.policy {
        match limit::source::admit(own, policy, &client, &parts.headers, &verified, &shard.metrics) {
            Ok(passed) => {
                record.counted(passed.counted);
                told = passed.told;
            }
            Err(refused) => {
                let mut response = record.refuse(refused.failure);
                refused.tell(&mut response);
                return filters::refusal(filtered.as_ref(), response);
            }
        }
    }
    // After the filters, so that none of them can write a claim.
    verified.write(&mut parts.headers);
    let (dropped, due) = (Cell::new(Reason::ClientGone), Cell::new(None));
    let informational = |response| informational.send(response);
    let timeouts = &rule.timeouts;
    let request = Request {
        shard,
        snapshot: &snapshot,
        rule,
        parts: &parts,
        client: &client,
        affinity,
        timeouts,
        informational: &informational,
        dropped,
        due,
        repeated: Cell::new(0),
        answered_by: RefCell::default(),
    };
    let mut upload = Upload::new(guarded(body, &snapshot), snapshot.routing.limits.replay_bytes);
    record.upload(&upload);
    if let Some(policy) = rule.policy.as_deref().filter(|policy| !policy.mirrors.is_empty() && websocket.is_none()) {
        let original = Original { shard, snapshot: &snapshot, route: &route.name, rule: matched.rule, parts: &parts, client: &client };
        record.witnesses(original.copy(&policy.mirrors, &mut upload));
    }
    let clock = rule.timeouts.request.map(|limit| Clock::new(limit, record.started(), upload.meter()));
    let outcome = {
        let mut tries = pin!(run(&request, &mut upload, websocket.is_some(), &mut record));
        let outcome = match &clock {
            None => Some(tries.as_mut().await),
            Some(clock) => clock::within(clock, tries.as_mut()).await,
        };
        request.dropped.set(Reason::Cancelled);
        outcome.unwrap_or(Err(Failure::RequestTimeout))
    };
    let whole = clock.and_then(|clock| clock.due()).map(|at| (at, Failure::RequestTimeout));
    let of_try = request.due.get().map(|at| (at, Failure::TryTimeout));
    let deadline = whole.into_iter().chain(of_try).min_by_key(|(at, _)| *at);
    let mut response = match outcome {
        Err(failure) => filters::refusal(filtered.as_ref(), record.refuse(failure)),
        Ok(answer) => {
            let kept = snapshot.routing.limits.replay_bytes;
            deliver(shard, &client, answer, upload, websocket, rule, deadline, kept, filtered.as_ref(), record)
        }
    };
    if let Some(told) = told {
        told.tell(response.headers_mut());
    }
    spare::give(parts.headers);
    response
}

/// Turns an answer into what the inbound half sends, and sees to what goes on behind it.
#[allow(clippy::too_many_arguments, reason = "the loose ends of one request, tied in one place")]
fn deliver(
    shard: &ShardRef,
    client: &Rc<Client>,
    answer: Box<Answer>,
    mut upload: Upload,
    websocket: Option<WebSocket>,
    rule: &HttpRule,
    deadline: Option<(Instant, Failure)>,
    kept: usize,
    filtered: Option<&filters::Filtered<'_>>,
    mut record: Record,
) -> Response<Body> {
    upload.forget();
    let mut answer = *answer;
    if let Some(filtered) = filtered {
        answer = answer.filtered(filtered);
    }
    match answer {
        Answer::Upgraded { head, io, in_flight } => {
            let Some(websocket) = websocket else { return record.refuse(Failure::UpgradeFailed) };
            record.answered(head.status());
            websocket::carry(shard, websocket, io, in_flight, rule.timeouts.idle, record);
            head.map(|()| Body::Empty)
        }
        Answer::Whole { mut head, body, in_flight } => {
            drop(in_flight);
            attempt::bind(shard, client, &mut head);
            let body = match filtered {
                Some(filtered) => filtered.whole(&mut head, body, &shard.metrics),
                None => body,
            };
            record.answered(head.status());
            record.passed(&body);
            record.complete();
            head.map(|()| if body.is_empty() { Body::Empty } else { Body::Full(body) })
        }
        Answer::Streaming { mut head, body, rest } => {
            attempt::bind(shard, client, &mut head);
            record.answered(head.status());
            rest.spawn(shard, upload);
            head.extensions_mut().insert(Pause(rule.timeouts.idle));
            // A stream is governed by idle progress alone.
            let deadline = deadline.filter(|_| !clock::streams(head.headers(), &body.size_hint(), kept));
            let coder = filtered.and_then(|filtered| filtered.coder(&mut head, body.size_hint().exact(), &shard.metrics));
            let body = answer::Tracked::new(body.coded(coder), deadline, record);
            head.map(|()| Body::stream(body))
        }
    }
}

/// A request's body whose trailers hold nothing that is kept for claims.
fn guarded(body: Body, snapshot: &Rc<Held>) -> Body {
    if snapshot.routing.reserved.is_empty() || body.is_end_stream() {
        return body;
    }
    let snapshot = Rc::clone(snapshot);
    Body::stream(body.map_frame(move |frame| match frame.into_trailers() {
        Ok(mut trailers) => {
            fields::filter_reserved_trailers(&mut trailers, &snapshot.routing.reserved);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }))
}
