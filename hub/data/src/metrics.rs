//! Hop: all of the data path. What a shard counts, and the collector that sums the shards on a scrape.
//!
//! Every shard owns its counters, so that counting costs no cache line that another shard writes. Labels are bounded: names
//! come from the configuration, methods and statuses are normalised, and a table that is full counts under `other`.

pub mod access;
pub mod collector;
pub mod histogram;
pub mod series;
mod words;

use std::sync::Arc;

use figspan_model::routing::Coding;
use figspan_model::state::{Copies, Own};

use crate::admission::Reject;
use crate::reply::Failure;
use series::{RequestKey, Series};
pub use words::{CallEvent, Limit, PinEvent, Retry, SessionEvent, TokenEvent, Turned, Zone};

/// What one shard counts.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Requests by route, backend, method and status, with their durations.
    pub requests: Series,
    /// Retries, by [`Retry`].
    retries: [Own; Retry::ALL.len()],
    /// Sessions, by [`SessionEvent`].
    sessions: [Own; SessionEvent::ALL.len()],
    /// Changes of health, by [`Turned`].
    turns: [Own; Turned::ALL.len()],
    /// Failures, by [`Failure`].
    failures: Failures,
    /// Requests that admission refused, by [`Reject`].
    refusals: Refusals,
    /// Bounds that were reached, by [`Limit`].
    limits: [Own; Limit::ALL.len()],
    /// Copies for mirrors, by [`Copies`].
    copies: [Own; Copies::ALL.len()],
    /// Requests and connections under way.
    pub in_flight: Own,
    /// Idle connections towards backends.
    pub pooled: Own,
    /// Connections of clients.
    pub connections: Own,
    /// Connections of clients so far.
    pub connections_total: Own,
    /// Body bytes from clients.
    pub bytes_in: Own,
    /// Body bytes to clients.
    pub bytes_out: Own,
    /// TCP and TLS-passthrough connections so far.
    pub streams: Own,
    /// DNS names whose last lookup failed.
    pub stale_names: Own,
    /// Choices of backends that prefer the hub's own zone, by [`Zone`].
    zones: [Own; Zone::ALL.len()],
    /// Tokens of requests, by [`TokenEvent`].
    tokens: [Own; TokenEvent::ALL.len()],
    /// Wishes of clients, by [`PinEvent`].
    pins: [Own; PinEvent::ALL.len()],
    /// Calls of agents, by [`CallEvent`].
    calls: [Own; CallEvent::ALL.len()],
    /// Connections of agents' processes to services.
    pub calls_open: Own,
    /// Answers that are being compressed.
    pub coders: Own,
    /// Bytes that were compressed and what became of them, by [`Coding`].
    coded: [(Own, Own); Coding::ALL.len()],
}

#[derive(Debug)]
struct Failures([Own; Failure::ALL.len()]);

impl Default for Failures {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Own::default()))
    }
}

#[derive(Debug)]
struct Refusals([Own; Reject::ALL.len()]);

impl Default for Refusals {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Own::default()))
    }
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Counts a retry.
    pub fn retry(&self, why: Retry) {
        self.retries[why as usize].add(1);
    }

    /// Counts what became of a session.
    pub fn session(&self, event: SessionEvent) {
        self.sessions[event as usize].add(1);
    }

    /// How often that became of a session.
    pub fn sessions(&self, event: SessionEvent) -> u64 {
        self.sessions[event as usize].value()
    }

    /// Counts a change of health.
    pub fn turned(&self, turned: Turned) {
        self.turns[turned as usize].add(1);
    }

    /// How often health changed that way.
    pub fn turns(&self, turned: Turned) -> u64 {
        self.turns[turned as usize].value()
    }

    /// Counts a failure that a client was told of, or saw as a broken answer.
    pub fn failure(&self, failure: Failure) {
        self.failures.0[failure as usize].add(1);
    }

    /// Counts a request that admission refused.
    pub fn refusal(&self, reject: Reject) {
        self.refusals.0[reject as usize].add(1);
    }

    /// How often requests were refused for that reason.
    pub fn refused(&self, reject: Reject) -> u64 {
        self.refusals.0[reject as usize].value()
    }

    /// Counts what became of a copy for a mirror.
    pub fn copies(&self, what: Copies) {
        self.copies[what as usize].add(1);
    }

    /// How often that became of a copy.
    pub fn copied(&self, what: Copies) -> u64 {
        self.copies[what as usize].value()
    }

    /// Counts a bound that was reached.
    pub fn limit_hit(&self, limit: Limit) {
        self.limits[limit as usize].add(1);
    }

    /// How often a bound was reached.
    pub fn limit_hits(&self, limit: Limit) -> u64 {
        self.limits[limit as usize].value()
    }

    /// How often requests were tried again for that reason.
    pub fn retried(&self, why: Retry) -> u64 {
        self.retries[why as usize].value()
    }

    /// How often that failure was counted.
    pub fn failed(&self, failure: Failure) -> u64 {
        self.failures.0[failure as usize].value()
    }

    /// Counts a choice of a backend that prefers the hub's own zone.
    pub fn chosen(&self, near: bool) {
        self.zones[if near { Zone::Near } else { Zone::Far } as usize].add(1);
    }

    /// How many choices led there.
    pub fn zone(&self, zone: Zone) -> u64 {
        self.zones[zone as usize].value()
    }

    /// Counts what came of a request's token.
    pub fn token(&self, event: TokenEvent) {
        self.tokens[event as usize].add(1);
    }

    /// How often that came of a token.
    pub fn tokens(&self, event: TokenEvent) -> u64 {
        self.tokens[event as usize].value()
    }

    /// Counts a client's wish for a backend.
    pub fn pinned(&self, event: PinEvent) {
        self.pins[event as usize].add(1);
    }

    /// How often that became of such a wish.
    pub fn pins(&self, event: PinEvent) -> u64 {
        self.pins[event as usize].value()
    }

    /// Counts an agent's call.
    pub fn call(&self, event: CallEvent) {
        self.calls[event as usize].add(1);
    }

    /// How often that became of a call.
    pub fn called(&self, event: CallEvent) -> u64 {
        self.calls[event as usize].value()
    }

    /// Bytes that were compressed so, and what became of them.
    pub fn coded(&self, coding: Coding) -> &(Own, Own) {
        &self.coded[coding as usize]
    }

    /// Counts a finished request.
    pub fn request(&self, key: RequestKey<'_>, seconds: f64) {
        self.requests.observe(key, seconds);
    }
}
