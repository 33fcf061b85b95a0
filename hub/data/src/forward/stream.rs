//! Hop: tcp -> forward -> dial. A way for a TCP or TLS-passthrough connection: chosen by the route, opened, counted.
//!
//! Nothing of the client is sent here but the preamble, so that failures are tried elsewhere, and where only a tunnel failed, by
//! another one of the same endpoint. Whether the agent's own connect succeeds is known only later, from a reset; see
//! [`Connecting::next`].

use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use figspan_model::routing::{Backend, StreamRoute};
use figspan_model::snapshot::Snapshot;
use figspan_proto::preamble::Kind;
use figspan_tunnel::{Stream, Tunnel};
use tokio::net::TcpStream;

use super::pick;
use crate::balance::{Question, Tried};
use crate::client::Client;
use crate::dial::inflight::InFlight;
use crate::dial::io::Io;
use crate::dial::place::Place;
use crate::dial::{Call, service, tunnel};
use crate::health::{self, TierOf, Watch};
use crate::limit::backend::Bound;
use crate::metrics::Limit;
use crate::reply::Failure;
use crate::retry::MAX_ATTEMPTS;
use crate::shard::{Held, ShardRef};

/// An open way for a connection. The guard counts it on its endpoint until dropped.
pub enum Connected {
    /// To a workload through that tunnel, the preamble written.
    Tunnel(Stream, Tunnel, InFlight),
    /// To a service.
    Tcp(TcpStream, InFlight),
    /// To either of them, inside TLS whose handshake is done.
    Tls(Io, InFlight),
}

/// A connection's search for a way; keeps what was tried, so that it can go on after an agent said "not delivered".
pub struct Connecting<'c> {
    shard: &'c ShardRef,
    snapshot: Rc<Held>,
    route: &'c StreamRoute,
    client: &'c Client,
    tried: Tried,
    place: Option<Rc<Place>>,
    /// How the last try is going.
    watch: Option<Watch>,
    last: Option<Failure>,
}

impl<'c> Connecting<'c> {
    /// Begins with nothing tried.
    pub fn new(shard: &'c ShardRef, route: &'c StreamRoute, client: &'c Client) -> Self {
        Self { shard, snapshot: shard.snapshot(), route, client, tried: Tried::default(), place: None, watch: None, last: None }
    }

    /// The place of the last try.
    pub fn place(&self) -> Option<&Place> {
        self.place.as_deref()
    }

    /// Tries so far.
    pub fn attempts(&self) -> u32 {
        u32::try_from(self.tried.len()).unwrap_or(u32::MAX)
    }

    /// The workload has taken the connection.
    pub fn settled(&self) {
        if let Some(watch) = &self.watch {
            watch.connected();
        }
    }

    /// Counts a try that the workload did not take, or that broke before it had.
    pub fn broke(&self, in_flight: &InFlight, failure: Failure) {
        in_flight.failed();
        if let Some(watch) = &self.watch {
            watch.failed(failure);
        }
    }

    /// Counts a try of which nothing was delivered: the agent said so, or no byte of the client was on its way.
    pub fn failed(&mut self, in_flight: &InFlight, failure: Failure) {
        self.broke(in_flight, failure);
        self.shard.metrics.failure(failure);
        self.forgive(failure);
    }

    /// Whether somebody could take over from the tunnel of the last try, which has been silent since then.
    pub fn may_leave(&self, silent_since: Instant) -> bool {
        if self.tried.len() >= MAX_ATTEMPTS as usize {
            return false;
        }
        let newest = self.shard.renewed(&self.snapshot);
        self.has_other(&newest) || self.place.as_ref().is_some_and(|place| pick::has_other_way(&newest, place, Some(silent_since)))
    }

    fn has_other(&self, newest: &Snapshot) -> bool {
        pick::has_other(question(self.route, newest, &self.tried, self.shard), true)
    }

    /// Lets the endpoint of the last try be chosen again, where only its tunnel failed and it has another one.
    fn forgive(&mut self, failure: Failure) {
        let Some(place @ Place::Uplink { endpoint, .. }) = self.place.as_deref() else { return };
        let newest = self.shard.renewed(&self.snapshot);
        let other_way = match failure {
            Failure::TunnelLost => true,
            Failure::TunnelSilent => !self.has_other(&newest),
            _ => false,
        };
        if other_way && pick::has_other_way(&newest, place, None) {
            self.tried.forgive(&endpoint.state);
        }
    }

    /// The next way; call it again after [`Self::failed`].
    pub async fn next(&mut self) -> Result<Connected, Failure> {
        let mut waited = false;
        loop {
            if self.tried.len() >= MAX_ATTEMPTS as usize {
                return Err(self.last.unwrap_or(Failure::NobodyReady));
            }
            if !self.tried.is_empty() {
                // Whoever has come since, while it waited for one that then failed, may take it.
                self.snapshot = self.shard.renewed(&self.snapshot);
            }
            let (services, backends) = (self.shard.dialer.services(), &*self.route.backends);
            let (choice, permit) = match health::choose(question(self.route, &self.snapshot, &self.tried, self.shard)) {
                Ok(chosen) => chosen,
                Err(_) if !std::mem::replace(&mut waited, true) && services.starting(&self.route.backends) => {
                    services.looked_up(&self.route.backends, self.route.timeouts.connect).await;
                    continue;
                }
                Err(none) => return Err(self.last.unwrap_or(pick::none(none))),
            };
            self.route.backends[choice.backend].share.add(self.shard.shard);
            choice.near.into_iter().for_each(|near| self.shard.metrics.chosen(near));
            let backend = &self.route.backends[choice.backend];
            let tier = TierOf::of(self.route.failover.as_ref(), &self.route.state, backends, choice.backend);
            self.tried.add(&choice);
            let Some(place) = self.snapshot.place(&choice.endpoint) else {
                health::give_back(backend, choice.state(), permit);
                continue;
            };
            self.watch = Some(Watch::new(self.shard, backend, &place, permit, tier));
            let in_flight = InFlight::picked(&place, self.shard.shard);
            if let Some(limits) = backend.policy.as_ref().and_then(|policy| policy.limits.as_ref()) {
                match self.shard.dialer.queues().enter(&backend.state, Bound::Requests, limits).await {
                    Ok(permit) => permit.into_iter().for_each(|permit| in_flight.hold(permit)),
                    Err(_) => {
                        self.shard.metrics.limit_hit(Limit::BackendRequests);
                        self.tried.add_full(&backend.state);
                        self.last = Some(Failure::BackendLimit);
                        continue;
                    }
                }
                if in_flight.draining() {
                    continue;
                }
            }
            self.place = Some(Rc::clone(&place));
            match self.open(&place, backend, &in_flight).await {
                Ok(Opened::Tunnel(stream, tunnel)) => {
                    self.watch.iter().for_each(Watch::opened);
                    return Ok(Connected::Tunnel(stream, tunnel, in_flight));
                }
                Ok(Opened::Tcp(stream)) => {
                    self.settled();
                    return Ok(Connected::Tcp(stream, in_flight));
                }
                Ok(Opened::Tls(io)) => {
                    self.settled();
                    return Ok(Connected::Tls(io, in_flight));
                }
                Err(failure) => {
                    if failure == Failure::BackendLimit {
                        self.tried.add_full(&backend.state);
                    } else {
                        self.broke(&in_flight, failure);
                        self.forgive(failure);
                    }
                    self.shard.metrics.failure(failure);
                    self.last = Some(failure);
                }
            }
        }
    }

    async fn open(&self, place: &Place, backend: &Backend, in_flight: &InFlight) -> Result<Opened, Failure> {
        let limits = &self.snapshot.routing.limits;
        let call = Call { client: self.client, timeouts: &self.route.timeouts, limits, headers: None, backend };
        if place.tls().is_some() {
            // The handshake needs no byte of the client, so that whatever fails in it is tried elsewhere.
            let way = self.shard.dialer.open(place, Kind::Tcp, &call).await?;
            way.permit.into_iter().for_each(|permit| in_flight.hold(permit));
            return Ok(Opened::Tls(way.io));
        }
        let permit = self.shard.dialer.connection(backend).await?;
        permit.into_iter().for_each(|permit| in_flight.hold(permit));
        let _waiting = self.shard.dialer.wait_for(place, limits.pending)?;
        let wait = call.timeouts.connect;
        match place {
            Place::Uplink { uplink, endpoint, .. } => {
                let opened = tunnel::open(endpoint, self.shard.shard, &uplink.name, Kind::Tcp, self.client, None, wait).await?;
                let mut stream = opened.stream;
                let preamble: Bytes = opened.preamble;
                match tokio::time::timeout(wait, stream.write_chunk(preamble)).await {
                    Ok(Ok(())) => Ok(Opened::Tunnel(stream, opened.tunnel)),
                    Ok(Err(_)) => Err(Failure::TunnelLost),
                    Err(_) => Err(Failure::StreamTimeout),
                }
            }
            Place::Service { endpoint, .. } => Ok(Opened::Tcp(service::connect(endpoint.address, wait).await?)),
        }
    }
}

/// What `balance` is asked for a connection.
fn question<'p, 'q>(route: &'q StreamRoute, snapshot: &'p Snapshot, tried: &'q Tried, shard: &'q ShardRef) -> Question<'p, 'q> {
    let question = Question::new(snapshot, &route.backends, &route.state, tried, shard.dialer.services());
    Question { failover: route.failover.as_deref(), ..question }.now()
}

enum Opened {
    Tunnel(Stream, Tunnel),
    Tcp(TcpStream),
    Tls(Io),
}

/// One way for a connection, tried elsewhere as long as none opens.
pub async fn connect_stream(shard: &ShardRef, route: &StreamRoute, client: &Client) -> Result<Connected, Failure> {
    Connecting::new(shard, route, client).next().await
}
