//! Hop: forward. What one request leaves behind, written exactly once however it ends.
//!
//! Dropped before anybody said how it ended, it counts as "the client went away", which is what a dropped request means.

use std::rc::Rc;

use http::{StatusCode, request};
use tokio::time::Instant;

use crate::client::Client;
use crate::dial::place::Place;
use crate::dial::upload::{Meter, Upload};
use crate::exchange::Outbound;
use crate::limit::source::Counted;
use crate::metrics::access::{self, Outcome};
use crate::metrics::series::{RequestKey, method_label};
use crate::reply::Failure;
use crate::shard::ShardRef;

use super::compare::Witness;

/// The record of a request under way.
pub struct Record {
    shard: ShardRef,
    entry: Option<access::Entry>,
    started: Instant,
    method: &'static str,
    route: Option<Rc<str>>,
    place: Option<Rc<Place>>,
    attempts: u32,
    status: u16,
    received: Option<Rc<Meter>>,
    sent: u64,
    failure: Option<Failure>,
    ended: bool,
    counted: Option<Counted>,
    witnesses: Vec<Witness>,
}

impl Record {
    /// Begins with a request's head.
    pub fn new(shard: &ShardRef, client: &Rc<Client>, parts: &request::Parts) -> Self {
        shard.metrics.in_flight.add(1);
        let entry =
            access::enabled().then(|| access::Entry { client: Rc::clone(client), method: parts.method.clone(), uri: parts.uri.clone() });
        Self {
            shard: Rc::clone(shard),
            entry,
            started: Instant::now(),
            method: method_label(&parts.method),
            route: None,
            place: None,
            attempts: 0,
            status: 0,
            received: None,
            sent: 0,
            failure: None,
            ended: false,
            counted: None,
            witnesses: Vec::new(),
        }
    }

    /// When the request began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The route that matched.
    pub fn route(&mut self, name: Rc<str>) {
        self.route = Some(name);
    }

    /// The request's body, whose bytes are counted as they come.
    pub fn upload(&mut self, upload: &Upload) {
        self.received = upload.meter();
    }

    /// An attempt begins.
    pub fn picked(&mut self, place: &Rc<Place>) {
        self.attempts += 1;
        self.place = Some(Rc::clone(place));
    }

    /// The place whose answer it is, where several were asked at once.
    pub fn won(&mut self, place: &Rc<Place>) {
        self.place = Some(Rc::clone(place));
    }

    /// Keeps the request counted for its source until it ends.
    pub fn counted(&mut self, counted: Option<Counted>) {
        self.counted = counted;
    }

    /// Attempts so far.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The head of the answer goes out.
    pub fn answered(&mut self, status: StatusCode) {
        self.status = status.as_u16();
        self.witnesses.iter_mut().for_each(|witness| witness.answered(status));
    }

    /// A part of the answer's body goes out.
    pub fn passed(&mut self, data: &[u8]) {
        self.sent(data.len() as u64);
        self.witnesses.iter_mut().for_each(|witness| witness.passed(data));
    }

    /// Lets others look at the answer as it passes.
    pub fn witnesses(&mut self, witnesses: Vec<Witness>) {
        self.witnesses = witnesses;
    }

    /// Bytes of the answer went out.
    pub fn sent(&mut self, bytes: u64) {
        self.sent += bytes;
    }

    /// More bytes came from the client, beyond its request's body.
    pub fn received_more(&mut self, bytes: u64) {
        let received = self.received.get_or_insert_default();
        received.bytes.set(received.bytes.get() + bytes);
    }

    /// The answer broke off.
    pub fn broke(&mut self, failure: Failure) {
        self.failure = Some(failure);
        self.ended = true;
    }

    /// The answer is whole.
    pub fn complete(&mut self) {
        self.witnesses.drain(..).for_each(Witness::complete);
        self.ended = true;
    }

    /// Ends with an answer that the rule itself gives.
    pub fn answer(mut self, answer: Outbound) -> Outbound {
        self.answered(answer.status());
        self.complete();
        answer
    }

    /// Ends with an answer of the hub's own.
    pub fn refuse(mut self, failure: Failure) -> Outbound {
        self.status = failure.status();
        self.broke(failure);
        failure.reply()
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.ended {
            self.failure = Some(Failure::ClientGone);
        }
        let metrics = &self.shard.metrics;
        metrics.in_flight.sub(1);
        if let Some(failure) = self.failure {
            metrics.failure(failure);
        }
        let received = self.received.as_ref().map_or(0, |received| received.bytes.get());
        metrics.bytes_in.add(received);
        metrics.bytes_out.add(self.sent);
        let duration = self.started.elapsed();
        let route = self.route.as_deref().unwrap_or_default();
        let (kind, backend) = match self.place.as_deref() {
            Some(Place::Uplink { uplink, .. }) => ("uplink", uplink.name.as_str()),
            Some(Place::Service { service, .. }) => ("service", &*service.name),
            None => ("", ""),
        };
        // A client that went before any answer counts under the status that proxies show for it.
        let status = if self.status == 0 { Failure::ClientGone.status() } else { self.status };
        metrics.request(RequestKey { route, kind, backend, method: self.method, status }, duration.as_secs_f64());
        if let Some(entry) = &self.entry {
            entry.write(&Outcome {
                status: self.status,
                route,
                backend,
                endpoint: &self.place.as_deref().map(Place::label).unwrap_or_default(),
                attempts: self.attempts,
                duration,
                received,
                sent: self.sent,
                failure: self.failure,
            });
        }
    }
}
