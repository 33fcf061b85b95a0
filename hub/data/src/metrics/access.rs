//! The access log: one event per request and per TCP connection, refused ones too; target `figspan::access`.
//!
//! Switched off it costs one check of a flag per request, and nothing is kept for it.

use std::rc::Rc;
use std::time::Duration;

use figspan_proto::reset::Side;
use http::{Method, Uri};

use crate::admission::Reject;
use crate::client::Client;
use crate::reply::{Failure, side_name};

/// What a finished request leaves in the log.
pub struct Entry {
    /// Who asked.
    pub client: Rc<Client>,
    /// The method.
    pub method: Method,
    /// The canonical target.
    pub uri: Uri,
}

/// How it went.
pub struct Outcome<'a> {
    /// Status, 0 where the client went before one.
    pub status: u16,
    /// Name of the route; empty where none matched.
    pub route: &'a str,
    /// Name of the backend; empty where none was chosen.
    pub backend: &'a str,
    /// The agent or address; empty where none was chosen.
    pub endpoint: &'a str,
    /// How many endpoints were asked.
    pub attempts: u32,
    /// From the head to the end of the answer.
    pub duration: Duration,
    /// Body bytes from the client.
    pub received: u64,
    /// Body bytes to the client.
    pub sent: u64,
    /// What went wrong.
    pub failure: Option<Failure>,
}

/// Whether anybody wants the access log.
pub fn enabled() -> bool {
    tracing::enabled!(target: "figspan::access", tracing::Level::INFO)
}

/// Writes that a request was refused before it was one. What was sent is not repeated: it may be anything.
pub fn refused(client: &Client, reject: Reject) {
    tracing::info!(
        target: "figspan::access",
        client = client.logged(),
        listener = &*client.listener,
        agent = client.agent(),
        process = client.process.map(tracing::field::display),
        status = reject.status().as_u16(),
        side = side_name(Side::Client),
        reason = reject.reason(),
    );
}

/// Writes that a connection came to no route.
pub fn refused_connection(client: &Client, reason: &'static str) {
    tracing::info!(
        target: "figspan::access",
        client = client.logged(),
        listener = &*client.listener,
        agent = client.agent(),
        process = client.process.map(tracing::field::display),
        host = client.server_name.as_deref().unwrap_or_default(),
        reason,
    );
}

/// Writes how a TCP or TLS-passthrough connection went.
pub fn connection(client: &Client, outcome: &Outcome<'_>) {
    tracing::info!(
        target: "figspan::access",
        client = client.logged(),
        listener = &*client.listener,
        agent = client.agent(),
        process = client.process.map(tracing::field::display),
        host = client.server_name.as_deref().unwrap_or_default(),
        route = outcome.route,
        backend = outcome.backend,
        endpoint = outcome.endpoint,
        attempts = outcome.attempts,
        duration_us = u64::try_from(outcome.duration.as_micros()).unwrap_or(u64::MAX),
        received = outcome.received,
        sent = outcome.sent,
        side = outcome.failure.map_or("", |failure| side_name(failure.side())),
        reason = outcome.failure.map_or("", Failure::as_str),
    );
}

impl Entry {
    /// Writes the event.
    pub fn write(&self, outcome: &Outcome<'_>) {
        tracing::info!(
            target: "figspan::access",
            client = self.client.logged(),
            listener = &*self.client.listener,
            agent = self.client.agent(),
            process = self.client.process.map(tracing::field::display),
            method = self.method.as_str(),
            host = self.uri.authority().map_or("", http::uri::Authority::as_str),
            path = self.uri.path(),
            status = outcome.status,
            route = outcome.route,
            backend = outcome.backend,
            endpoint = outcome.endpoint,
            attempts = outcome.attempts,
            duration_us = u64::try_from(outcome.duration.as_micros()).unwrap_or(u64::MAX),
            received = outcome.received,
            sent = outcome.sent,
            side = outcome.failure.map_or("", |failure| side_name(failure.side())),
            reason = outcome.failure.map_or("", Failure::as_str),
        );
    }
}
