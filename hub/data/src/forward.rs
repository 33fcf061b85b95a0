//! Hop: inbound -> forward -> dial. One admitted request, one answer: match, choose, try, and try again where that is safe.
//!
//! Holds one snapshot for the whole request. Promises that work is counted on an endpoint in the same step as it is chosen,
//! that a request which a workload may have seen is repeated only if that does no harm (`retry`), and that an answer which
//! broke off never ends cleanly. Every way out leaves one line in the access log and one count in the metrics.

pub mod answer;
pub mod attempt;
pub mod record;
pub mod stream;
mod tries;
pub mod websocket;

use std::rc::Rc;
use std::sync::Arc;

use figspan_model::routing::{HttpRoute, HttpRule};
use figspan_model::snapshot::Snapshot;
use http::{Response, request};

use crate::affinity::Affinity;
use crate::body::Body;
use crate::client::Client;
use crate::dial::upload::Upload;
use crate::exchange::{Inbound, Outbound, Pause, WebSocket};
use crate::filters;
use crate::reply::Failure;
use crate::route;
use crate::shard::ShardRef;
use answer::Answer;
use record::Record;
use tries::run;

pub use stream::{Connected, connect_stream};

/// One request on its way: what every attempt needs.
pub struct Request<'r> {
    shard: &'r ShardRef,
    snapshot: &'r Snapshot,
    rule: &'r HttpRule,
    parts: &'r request::Parts,
    client: &'r Client,
    affinity: Affinity,
    informational: &'r dyn Fn(Response<()>),
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
    record.route(&route.name);
    let affinity = Affinity::of(rule, &parts, &client);
    let filtered = match filters::before(&matched, &mut parts) {
        filters::Verdict::Forward(filtered) => filtered,
        filters::Verdict::Answer(answer) => return record.answer(answer),
        filters::Verdict::Refuse(filtered, failure) => return filters::refusal(Some(&filtered), record.refuse(failure)),
    };
    let request = Request { shard, snapshot: &snapshot, rule, parts: &parts, client: &client, affinity, informational: &*informational };
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
        Err(failure) => filters::refusal(filtered.as_ref(), record.refuse(failure)),
        Ok(answer) => deliver(shard, &client, answer, upload, websocket, rule, deadline, filtered.as_ref(), record),
    }
}

/// Turns an answer into what the inbound half sends, and sees to what goes on behind it.
#[allow(clippy::too_many_arguments, reason = "the loose ends of one request, tied in one place")]
fn deliver(
    shard: &ShardRef,
    client: &Rc<Client>,
    mut answer: Answer,
    mut upload: Upload,
    websocket: Option<WebSocket>,
    rule: &HttpRule,
    deadline: Option<tokio::time::Instant>,
    filtered: Option<&filters::Filtered<'_>>,
    mut record: Record,
) -> Response<Body> {
    upload.forget();
    if let Some(filtered) = filtered {
        filtered.answer(answer.headers_mut());
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
