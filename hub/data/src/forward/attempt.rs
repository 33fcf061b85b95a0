//! Hop: forward -> dial. One attempt at one endpoint: a way there, the exchange, and what came of it.

use std::cell::Cell;
use std::rc::Rc;

use figspan_model::routing::Backend;
use figspan_proto::control::Protocol;
use figspan_proto::preamble::Kind;
use figspan_proto::reset::Reason;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::Request;
use super::answer::{Answer, Rest, Source};
use super::websocket;
use crate::admission::{Marks, fields};
use crate::client::Client;
use crate::dial::h1::body::{Home, ResponseBody};
use crate::dial::h1::decode::Decoder;
use crate::dial::h1::exchange::{Begun, Leave, Terms};
use crate::dial::h1::head::{self, has};
use crate::dial::h1::{self, Wire};
use crate::dial::inflight::InFlight;
use crate::dial::place::Place;
use crate::dial::upload::Upload;
use crate::dial::{Call, Fault, h2};
use crate::reply::Failure;
use crate::shard::ShardRef;

/// An attempt that brought no answer.
#[derive(Debug)]
pub struct Failed {
    /// Why, and what the workload may have seen.
    pub fault: Fault,
    /// Whether it failed on a connection that was used before, so that a fresh one to the same endpoint may do.
    pub stale: bool,
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self { fault, stale: false }
    }
}

/// A try at one endpoint.
pub struct Try<'t> {
    /// What is asked.
    pub request: &'t Request<'t>,
    /// Whom.
    pub place: &'t Place,
    /// Its backend.
    pub backend: &'t Backend,
    /// The count of it.
    pub in_flight: &'t InFlight,
    /// Whether the request asks for a WebSocket.
    pub upgrade: bool,
    /// Asked when its tunnel has gone silent.
    pub leave: &'t Leave<'t>,
    /// Set once there is a way: from then on the workload may have seen something.
    pub began: Cell<bool>,
}

/// Asks one endpoint. `fresh` passes over pooled connections. The answer is boxed: it is handed on through a dozen futures.
pub async fn attempt(of: &Try<'_>, upload: &mut Upload, fresh: bool) -> Result<Box<Answer>, Failed> {
    let Try { request, place, backend, upgrade, leave, .. } = *of;
    let routing = &request.snapshot.routing;
    let call = Call {
        client: request.client,
        timeouts: request.timeouts,
        limits: &routing.limits,
        headers: Some(&request.parts.headers),
        backend,
    };
    let terms = Terms { limits: call.limits, timeouts: call.timeouts, upgrade, leave, informational: request.informational };
    match place.protocol() {
        Protocol::Http1 => over_h1(of, upload, &call, &terms, fresh).await,
        Protocol::H2c => Box::pin(over_h2(of, upload, &call, &terms)).await,
        // The model refuses such a rule; a change of the uplink's protocol may still cross a request.
        Protocol::Tcp => Err(Fault::unseen(Failure::NobodyReady).into()),
    }
}

async fn over_h1(of: &Try<'_>, upload: &mut Upload, call: &Call<'_>, terms: &Terms<'_>, fresh: bool) -> Result<Box<Answer>, Failed> {
    let Try { request, place, in_flight, .. } = *of;
    let dialer = &request.shard.dialer;
    if asks_bound(&request.parts.headers) {
        dialer.bind(request.client);
    }
    let key = dialer.key(place, request.client);
    let pooled = if fresh { None } else { dialer.pool().take(&key) };
    let stale = pooled.is_some();
    let wire = match pooled {
        Some(wire) => wire,
        None => {
            // Rare and large: boxed, so that no other request makes room for it.
            let way = Box::pin(dialer.open(place, Kind::Http, call)).await.map_err(Fault::unseen)?;
            Rc::new(std::cell::RefCell::new(Wire::new(way)))
        }
    };
    // Whatever happens to this future, a connection with half an exchange on it is reset and not left to the workload.
    let mut guard = Abandon(Some(Rc::clone(&wire)), &request.dropped);
    of.began.set(true);
    let begun = h1::exchange::exchange(&wire, request.parts, upload, terms).await;
    let Begun { head, sent } = match begun {
        Ok(begun) => begun,
        Err(fault) => {
            guard.because(fault.failure);
            return Err(Failed { fault, stale });
        }
    };
    guard.0 = None;
    let mut response = Response::new(());
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        let key = request.parts.headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| terms.upgrade);
        return upgraded(response, wire, in_flight, key).map_err(Failed::from);
    }
    if note_bound(&mut response, head.marks) {
        wire.borrow_mut().bound = Some(request.client.connection);
    }
    let owner = wire.borrow().bound;
    let home = (sent && head.keep_alive).then(|| Home {
        pool: Rc::clone(dialer.pool()),
        key: owner.map_or(key, |client| key.bound(client)),
        most: call.limits.idle_streams,
        idle_time: call.limits.idle_stream_time,
    });
    let rest = if sent { Rest::Nothing } else { Rest::H1(Rc::clone(&wire), in_flight.clone()) };
    let mut body =
        ResponseBody::new(wire, Decoder::new(head.framing, head::limits(call.limits)), home, call.timeouts.idle, in_flight.clone());
    if sent && let Some(whole) = body.take_whole() {
        return Ok(Box::new(Answer::Whole { head: response, body: whole, in_flight: in_flight.clone() }));
    }
    Ok(Box::new(Answer::Streaming { head: response, body: Source::H1(body), rest }))
}

fn upgraded(mut head: Response<()>, wire: h1::Shared, in_flight: &InFlight, key: Option<&HeaderValue>) -> Result<Box<Answer>, Fault> {
    let websocket = has(head.headers(), header::UPGRADE, b"websocket") && has(head.headers(), header::CONNECTION, b"upgrade");
    let proved = |key: &HeaderValue| {
        let accept = head.headers().get(header::SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
        accept == Some(websocket::accept(key.as_bytes()).as_bytes())
    };
    if !websocket || !key.is_some_and(proved) {
        wire.borrow_mut().abandon(Reason::Malformed);
        return Err(Fault::seen(Failure::UpgradeFailed));
    }
    let marks = Marks::of(head.headers());
    if fields::remove_hop_by_hop(head.headers_mut(), marks).is_err() {
        wire.borrow_mut().abandon(Reason::Malformed);
        return Err(Fault::seen(Failure::Malformed));
    }
    let Ok(wire) = Rc::try_unwrap(wire) else { return Err(Fault::seen(Failure::UpgradeFailed)) };
    let (io, first, permit) = wire.into_inner().into_parts();
    permit.into_iter().for_each(|permit| in_flight.hold(permit));
    Ok(Box::new(Answer::Upgraded { head, io: Box::new(websocket::Begun::new(first, io)), in_flight: in_flight.clone() }))
}

async fn over_h2(of: &Try<'_>, upload: &mut Upload, call: &Call<'_>, terms: &Terms<'_>) -> Result<Box<Answer>, Failed> {
    let Try { request, place, in_flight, .. } = *of;
    let lease = request.shard.dialer.lease(place, call).await.map_err(Fault::unseen)?;
    let stale = lease.reused;
    of.began.set(true);
    let begun = h2::exchange::exchange(&lease, request.parts, upload, place.tls().is_some(), terms).await;
    let begun = begun.map_err(|fault| Failed { fault, stale })?;
    let (mut parts, stream) = begun.response.into_parts();
    let marks = Marks::of(&parts.headers);
    fields::remove_hop_by_hop(&mut parts.headers, marks).map_err(|_| Fault::seen(Failure::Malformed))?;
    let mut response = Response::new(());
    *response.status_mut() = parts.status;
    *response.headers_mut() = parts.headers;
    note_bound(&mut response, marks);
    if terms.upgrade && response.status() == StatusCode::OK {
        let Ok(sender) = Rc::try_unwrap(begun.sender) else { return Err(Fault::seen(Failure::UpgradeFailed).into()) };
        websocket::answer_for(&request.parts.headers, &mut response);
        let duplex = h2::duplex::Duplex::new(stream, sender.into_inner().into_stream(), lease);
        return Ok(Box::new(Answer::Upgraded { head: response, io: Box::new(duplex), in_flight: in_flight.clone() }));
    }
    if response.status().is_informational() {
        return Err(Fault::seen(Failure::Malformed).into());
    }
    let length = response.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    let rest = if begun.sent { Rest::Nothing } else { Rest::H2(Rc::clone(&begun.sender), in_flight.clone()) };
    if begun.sent && stream.is_end_stream() {
        return Ok(Box::new(Answer::Whole { head: response, body: bytes::Bytes::new(), in_flight: in_flight.clone() }));
    }
    let body = h2::body::ResponseBody::new(stream, begun.sender, length, call.timeouts.idle, lease, in_flight.clone());
    Ok(Box::new(Answer::Streaming { head: response, body: Source::H2(Box::new(body)), rest }))
}

/// Resets a connection on which an exchange was given up.
struct Abandon<'r>(Option<h1::Shared>, &'r Cell<Reason>);

impl Abandon<'_> {
    fn because(&mut self, failure: Failure) {
        let reason = match failure {
            Failure::Malformed | Failure::HeadTooLarge | Failure::TooManyFields | Failure::Incomplete => Reason::Malformed,
            failure if failure.side() == figspan_proto::reset::Side::Client => Reason::ClientGone,
            _ => Reason::Cancelled,
        };
        self.with(reason);
    }

    fn with(&mut self, reason: Reason) {
        if let Some(wire) = self.0.take() {
            wire.borrow_mut().abandon(reason);
        }
    }
}

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        self.with(self.1.get());
    }
}

fn is_connection_auth(value: &HeaderValue) -> bool {
    let scheme = value.as_bytes().split(|byte| *byte == b' ').next().unwrap_or_default();
    scheme.eq_ignore_ascii_case(b"ntlm") || scheme.eq_ignore_ascii_case(b"negotiate")
}

/// Whether a request authenticates its whole connection.
fn asks_bound(headers: &HeaderMap) -> bool {
    headers.get(header::AUTHORIZATION).is_some_and(is_connection_auth)
}

/// In an answer that is part of such an authentication.
#[derive(Clone)]
struct Binds;

/// Notes in an answer whether it is part of such an authentication, and says so.
fn note_bound(response: &mut Response<()>, marks: Marks) -> bool {
    let offers = |headers: &HeaderMap| headers.get_all(header::WWW_AUTHENTICATE).iter().any(is_connection_auth);
    let binds = marks.has(Marks::AUTHENTICATION) && offers(response.headers());
    if binds {
        response.extensions_mut().insert(Binds);
    }
    binds
}

/// Keeps the client's connections apart once a workload offers it such an authentication.
pub fn bind(shard: &ShardRef, client: &Client, answer: &mut Response<()>) {
    if answer.extensions_mut().remove::<Binds>().is_some() {
        shard.dialer.bind(client);
    }
}
