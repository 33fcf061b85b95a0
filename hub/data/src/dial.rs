//! Hop: balance -> dial -> (agent | service). Ways to a chosen endpoint: fresh ones, pooled ones, shared ones.
//!
//! Owns every connection towards backends of its shard. Promises that what drains is closed with the publication that says
//! so, that a failed attempt says whether the workload may have seen it, and that waiting is bounded in number and time.
//! Never chooses an endpoint and never retries: that is `balance` and `forward`.

pub mod h1;
pub mod h2;
pub mod inflight;
pub mod io;
pub mod part;
pub mod place;
pub mod pool;
pub mod service;
pub mod tee;
pub mod tunnel;
pub mod upload;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use figspan_model::Map;
use figspan_model::routing::{Backend, BackendTls, BackendTlsRoots, Limits, Timeouts};
use figspan_model::snapshot::Snapshot;
use figspan_model::state::{Book, EndpointState, Shard};
use figspan_proto::control::Protocol;
use figspan_proto::preamble::Kind;
use figspan_tunnel::backend_tls::BackendTlsClient;
use figspan_tunnel::drain::Drain;
use figspan_tunnel::resolve::Resolver;
use figspan_tunnel::{StreamError, StreamProbe};
use http::HeaderMap;
use tokio::time::Instant;

use crate::client::Client;
use crate::limit::backend::{Bound, Permit, Queues};
use crate::metrics::{Limit, Metrics};
use crate::reply::Failure;
use io::{Io, Prefixed, Trace};
use place::Place;
use pool::{Key, Live, Pool};
use service::Services;

/// How often a request that waits looks whether its tunnel is still heard of.
pub const SILENCE_CHECK: Duration = Duration::from_millis(200);

/// How long the agent's word about a failed stream is waited for. It travels with the reset that ended the stream, so that
/// one round trip is plenty; without word a request counts as seen.
pub const FATE_WAIT: Duration = Duration::from_millis(250);

/// Clients with bound authentication that are remembered, and for how long after they were last seen. One that is forgotten
/// is asked to authenticate again.
const MAX_BOUND: usize = 10_000;
const BOUND_TIME: Duration = Duration::from_secs(120);

/// A failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// What went wrong.
    pub failure: Failure,
    /// Whether the workload may have seen any of the request.
    pub seen: bool,
}

impl Fault {
    /// The workload may have seen the request.
    pub const fn seen(failure: Failure) -> Self {
        Self { failure, seen: true }
    }

    /// Nothing of the request reached the workload.
    pub const fn unseen(failure: Failure) -> Self {
        Self { failure, seen: false }
    }
}

/// Finds out whether a request whose way broke may have been seen: from what left, and from what the agent says.
pub async fn judge(trace: &Trace, start: u64, wrote: bool, otherwise: Failure, wait: Duration) -> Fault {
    let word = match trace.probe() {
        None => None,
        Some(probe) => word(probe, wait).await,
    };
    match word {
        Some(reset) => Fault { failure: Failure::of_reset(reset.reason), seen: wrote && reset.may_have_seen(start) },
        None if trace.probe().is_some_and(StreamProbe::tunnel_lost) => Fault { failure: Failure::TunnelLost, seen: wrote },
        None => Fault { failure: otherwise, seen: wrote },
    }
}

async fn word(probe: &StreamProbe, wait: Duration) -> Option<figspan_proto::reset::Reset> {
    match probe.fate() {
        Some(reset) => Some(reset),
        None if wait.is_zero() || probe.tunnel_lost() => None,
        None => probe.fate_within(wait).await,
    }
}

/// What a broken way means once a response has begun.
pub fn broken(error: &std::io::Error) -> Failure {
    match StreamError::find(error) {
        Some(StreamError::Reset(reset)) => Failure::of_reset(reset.reason),
        Some(StreamError::Lost(_)) => Failure::TunnelLost,
        Some(StreamError::Ended) => Failure::Incomplete,
        Some(StreamError::Closed) | None => Failure::WorkloadReset,
    }
}

/// What an attempt brings to a dial.
pub struct Call<'a> {
    /// Whom it serves.
    pub client: &'a Client,
    /// Clocks.
    pub timeouts: &'a Timeouts,
    /// Bounds.
    pub limits: &'a Limits,
    /// The request's, in which its trace context is; none for streams.
    pub headers: Option<&'a HeaderMap>,
    /// Whose connections these are, and how many there may be.
    pub backend: &'a Backend,
}

/// An open way.
pub struct Way {
    /// Its bytes.
    pub io: Io,
    /// What is known of them.
    pub trace: Trace,
    /// The tunnel that carries it.
    pub tunnel: Option<u64>,
    /// Its room at the backend, kept for as long as it is open.
    pub permit: Option<Permit>,
}

/// Address of TLS settings, which the entry keeps alive, and what is offered by ALPN.
type TlsKey = (usize, Option<bool>);

/// Everything of a shard that leads to backends.
pub struct Dialer {
    shard: Shard,
    pool: Rc<Pool<h1::Shared>>,
    multiplexed: h2::Multiplexed,
    services: Services,
    queues: Queues,
    metrics: Arc<Metrics>,
    tasks: Drain,
    tls: RefCell<Map<TlsKey, (Arc<BackendTls>, BackendTlsClient)>>,
    /// Attempts that wait for a way, by endpoint.
    pending: RefCell<Map<usize, usize>>,
    /// Clients whose authentication is bound to their connection, and when they were last seen.
    bound: RefCell<Map<u64, Instant>>,
}

impl Dialer {
    /// For a shard; its tasks belong to `tasks` and end when that stops.
    pub fn new(shard: Shard, book: Arc<Book>, resolver: Option<Resolver>, tasks: Drain, metrics: Arc<Metrics>) -> Self {
        Self {
            shard,
            pool: Pool::new(shard, Arc::clone(&metrics)),
            multiplexed: h2::Multiplexed::new(shard, Arc::clone(&metrics)),
            services: Services::new(book, resolver),
            queues: Queues::new(shard),
            metrics,
            tasks,
            tls: RefCell::default(),
            pending: RefCell::default(),
            bound: RefCell::default(),
        }
    }

    /// The shard that it dials for.
    pub fn shard(&self) -> Shard {
        self.shard
    }

    /// Idle HTTP/1.1 connections.
    pub fn pool(&self) -> &Rc<Pool<h1::Shared>> {
        &self.pool
    }

    /// Shared HTTP/2 connections.
    pub fn multiplexed(&self) -> &h2::Multiplexed {
        &self.multiplexed
    }

    /// Where services are.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// Owner of the tasks that carry connections.
    pub fn tasks(&self) -> &Drain {
        &self.tasks
    }

    /// Follows a publication: learns services, closes what is idle towards endpoints that drain or vanished.
    pub fn sweep(&self, snapshot: &Snapshot) {
        self.services.update(&snapshot.routing, &self.tasks);
        let mut live = Live::default();
        let draining = |state: &EndpointState| state.draining.load(Ordering::Acquire);
        for uplink in snapshot.uplinks.values().filter(|uplink| !uplink.draining) {
            for endpoint in uplink.endpoints.iter().filter(|endpoint| !endpoint.weight.is_zero() && !draining(&endpoint.state)) {
                live.states.insert(Arc::as_ptr(&endpoint.state) as usize);
                live.tunnels.extend(endpoint.tunnels.iter().map(|at| at.tunnel.id()));
            }
        }
        let tls = snapshot.routing.uplink_tls.values().chain(snapshot.routing.services.values().filter_map(|service| service.tls.as_ref()));
        live.tls.extend(tls.map(|tls| Arc::as_ptr(tls) as usize));
        self.services.each_state(|state| {
            if !draining(state) {
                live.states.insert(Arc::as_ptr(state) as usize);
            }
        });
        self.multiplexed.sweep(&live);
        self.pool.sweep(live);
        self.tls.borrow_mut().retain(|_, (settings, _)| Arc::strong_count(settings) > 1);
    }

    /// Watches idle connections until the shard stops; then lets go of them.
    pub async fn watch(&self) {
        tokio::select! {
            () = self.pool.watch() => {}
            () = self.multiplexed.watch() => {}
            () = self.tasks.stopping() => {}
        }
        self.pool.stop();
        self.multiplexed.stop();
    }

    /// The pool's place for a client's connections to an endpoint.
    pub fn key(&self, place: &Place, client: &Client) -> Key {
        let key = Key::new(place.state(), place.tls_id(), None);
        match self.bound.borrow_mut().get_mut(&client.connection) {
            None => key,
            Some(seen) => {
                *seen = Instant::now();
                key.bound(client.connection)
            }
        }
    }

    /// Keeps a client's connections apart from now on.
    pub fn bind(&self, client: &Client) {
        let mut bound = self.bound.borrow_mut();
        let now = Instant::now();
        if bound.len() >= MAX_BOUND {
            bound.retain(|_, seen| now.duration_since(*seen) < BOUND_TIME);
        }
        if bound.len() < MAX_BOUND {
            bound.insert(client.connection, now);
        }
    }

    /// Counts an attempt that waits for a way; refused above the limit.
    pub fn wait_for(&self, place: &Place, most: usize) -> Result<Waiting<'_>, Failure> {
        let key = Arc::as_ptr(place.state()) as usize;
        let mut pending = self.pending.borrow_mut();
        let count = pending.entry(key).or_default();
        if *count >= most {
            return Err(Failure::QueueFull);
        }
        *count += 1;
        Ok(Waiting { dialer: self, key })
    }

    /// Who waits for room at backends.
    pub fn queues(&self) -> &Queues {
        &self.queues
    }

    /// Room for one more connection to a backend, waited for in turn; `None` where its connections are not bounded.
    pub async fn connection(&self, backend: &Backend) -> Result<Option<Permit>, Failure> {
        let Some(limits) = backend.policy.as_ref().and_then(|policy| policy.limits.as_ref()) else { return Ok(None) };
        // Whoever waits elsewhere wakes this shard's pool, which then closes what idles.
        backend.state.connections.tell(self.shard, || self.pool.waker());
        self.queues.enter(&backend.state, Bound::Connections, limits).await.map_err(|_| {
            self.metrics.limit_hit(Limit::BackendConnections);
            Failure::BackendLimit
        })
    }

    /// Opens a fresh way. Nothing of a request is sent; on a tunnel nothing at all.
    pub async fn open(&self, place: &Place, kind: Kind, call: &Call<'_>) -> Result<Way, Failure> {
        let permit = self.connection(call.backend).await?;
        let _waiting = self.wait_for(place, call.limits.pending)?;
        let wait = call.timeouts.connect;
        let (io, trace, tunnel) = match place {
            Place::Uplink { uplink, endpoint, .. } => {
                let opened =
                    tunnel::open(endpoint, self.shard, &uplink.name, kind, call.client, call.headers.and_then(tunnel::trace_context), wait)
                        .await?;
                let id = opened.tunnel.id();
                let trace = Trace::tunnel(opened.tunnel, opened.stream.probe(), opened.preamble.len());
                (Io::Tunnel(Prefixed::new(opened.stream, opened.preamble)), trace, Some(id))
            }
            Place::Service { endpoint, .. } => (Io::Tcp(service::connect(endpoint.address, wait).await?), Trace::tcp(), None),
        };
        let Some(settings) = place.tls() else { return Ok(Way { io, trace, tunnel, permit }) };
        let alpn = (kind == Kind::Http).then_some(place.protocol() == Protocol::H2c);
        let tls = self.tls_client(settings, alpn).await?;
        match tokio::time::timeout(wait, tls.connect(io)).await {
            Ok(Ok(stream)) => Ok(Way { io: Io::Tls(Box::new(stream)), trace, tunnel, permit }),
            Ok(Err(error)) => Err(match StreamError::find(&error) {
                Some(_) => judge(&trace, 0, true, Failure::TlsFailed, Duration::ZERO).await.failure,
                None => Failure::TlsFailed,
            }),
            Err(_) => Err(Failure::ConnectTimeout),
        }
    }

    /// The TLS client for these settings; made once per publication of them, so that a reload reads the roots again.
    async fn tls_client(&self, settings: &Arc<BackendTls>, alpn: Option<bool>) -> Result<BackendTlsClient, Failure> {
        let key = (Arc::as_ptr(settings) as usize, alpn);
        if let Some((_, client)) = self.tls.borrow().get(&key) {
            return Ok(client.clone());
        }
        let unusable = |why: String| {
            tracing::warn!(hostname = settings.hostname, why, "TLS settings of a backend cannot be used; correct its ca_certificate");
            Failure::BackendTls
        };
        let roots = match &settings.roots {
            BackendTlsRoots::System => None,
            BackendTlsRoots::File(path) => {
                Some(tokio::fs::read_to_string(path).await.map_err(|error| unusable(format!("{}: {error}", path.display())))?)
            }
        };
        let client = BackendTlsClient::new(&settings.hostname, roots.as_deref(), alpn).map_err(|error| unusable(error.to_string()))?;
        self.tls.borrow_mut().insert(key, (Arc::clone(settings), client.clone()));
        Ok(client)
    }
}

/// An attempt that waits for a way.
pub struct Waiting<'a> {
    dialer: &'a Dialer,
    key: usize,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut pending = self.dialer.pending.borrow_mut();
        if let Some(count) = pending.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                pending.remove(&self.key);
            }
        }
    }
}
