//! What would become of a request: admission, matching, policies and choosing as a shard does them, without counting as one.
//!
//! The same functions decide here and on the data path, so that the two cannot disagree; only what they count is left out.
//! `question` makes the request, `decisions` tells what each policy does with it, `attempts` where it would go. `connection` does
//! all of that for listeners whose bytes are not looked into.

mod attempts;
pub(super) mod connection;
mod decisions;
mod question;

use std::rc::Rc;
use std::sync::Arc;

use figspan_data::admission::Marks;
use figspan_data::admission::head::RequestHead;
use figspan_data::admission::host::LastAsked;
use figspan_data::admission::request::{Admitted, Asked, admit};
use figspan_data::client::Client;
use figspan_data::seal::Sealer;
use figspan_model::snapshot::Snapshot;
use figspan_model::state::Book;
use figspan_proto::admin::{ExplainRequest, Explanation};
use figspan_proto::control::plain;
use http::{StatusCode, request};

use super::{policies, routes};
use crate::problem::Refusal;
use crate::standing::Place;
use decisions::Decided;

/// What a hub knows when it is asked.
#[derive(Clone, Copy)]
pub(super) struct World<'w> {
    pub(super) snapshot: &'w Snapshot,
    pub(super) book: &'w Arc<Book>,
    /// Opens session cookies.
    pub(super) sessions: &'w Sealer,
}

/// Explains. Fails only where the question itself makes no sense.
pub(super) fn explain(world: &World<'_>, asked: &ExplainRequest) -> Result<Explanation, Refusal> {
    let url = question::Url::read(&asked.url)?;
    let listener = question::listener(world.snapshot, asked.listener.as_deref(), url.scheme)?;
    let head = question::head_bytes(asked, &url)?;
    let client = Rc::new(question::client(&listener, &url, asked.client.as_deref())?);
    let refuse =
        |reason: &str, status: StatusCode| Ok(refused(Some(reason.to_owned()), url.target, status, "admission refuses it".to_owned()));
    let mut request = match question::read(&head, &world.snapshot.routing.limits) {
        Ok(request) => request,
        Err(reject) => return refuse(reject.reason(), reject.status()),
    };
    let marks = Marks::of(&request.headers);
    let question = Asked {
        method: &request.method,
        target: &request.target,
        authority: None,
        headers: &mut request.headers,
        marks,
        last: &LastAsked::default(),
    };
    let (uri, client) = match admit(question, &client, &world.snapshot.routing.proxies, &world.snapshot.routing.reserved) {
        Ok(Admitted::Forward { uri, client }) => (uri, client),
        Ok(Admitted::Ping) => return Ok(refused(None, "*", StatusCode::NO_CONTENT, "`OPTIONS *` asks the hub itself".to_owned())),
        Err(reject) => return refuse(reject.reason(), reject.status()),
    };
    let RequestHead { method, headers, .. } = request;
    let mut parts = http::Request::new(()).into_parts().0;
    (parts.method, parts.uri, parts.headers) = (method, uri, headers);
    Ok(matched(world, &client, parts))
}

fn matched(world: &World<'_>, client: &Client, parts: request::Parts) -> Explanation {
    let snapshot = world.snapshot;
    let (host, path, query) = (parts.uri.host().unwrap_or_default(), parts.uri.path(), parts.uri.query());
    let matcher = snapshot.routing.matcher();
    let (found, mut why) = matcher.explain_http(&client.listener, host, &parts.method, path, query, &parts.headers);
    why.insert(0, format!("listener {}", client.listener));
    let told = Explanation { target: parts.uri.to_string(), ..nothing() };
    let Some(found) = found else {
        return Explanation { why, status: Some(StatusCode::NOT_FOUND.as_u16()), ..told };
    };
    let Decided { decisions, rule, parts, hash, bound, answer } = decisions::of(world, &found, client, parts);
    let told = Explanation {
        route: Some(found.route.name.to_string()),
        rule: Some(found.rule_index),
        rule_name: found.rule.name.as_ref().map(|name| name.to_string()),
        policies: policies::of_rule(found.rule),
        backends: routes::backends(snapshot, world.book, Place::from(&**found.rule)),
        tiers: routes::tiers(Place::from(&**found.rule)),
        decisions,
        ..told
    };
    if let Some((status, reason)) = answer {
        why.push(reason);
        return Explanation { why, status: Some(status), ..told };
    }
    let attempts = attempts::of(world, Place::from(rule), hash, bound, &mut why);
    let status = attempts.is_empty().then(|| StatusCode::SERVICE_UNAVAILABLE.as_u16());
    Explanation { why, next: attempts.first().cloned(), retried: attempts::retried(rule, &parts.method), attempts, status, ..told }
}

/// An explanation that says nothing yet.
fn nothing() -> Explanation {
    Explanation {
        refused: None,
        target: String::new(),
        route: None,
        rule: None,
        rule_name: None,
        policies: Vec::new(),
        why: Vec::new(),
        decisions: Vec::new(),
        backends: Vec::new(),
        tiers: Vec::new(),
        next: None,
        attempts: Vec::new(),
        retried: Vec::new(),
        status: None,
    }
}

fn refused(refused: Option<String>, target: &str, status: StatusCode, why: String) -> Explanation {
    Explanation { refused, target: plain(target), why: vec![why], status: Some(status.as_u16()), ..nothing() }
}

#[cfg(test)]
mod tests;
