//! Hop: forward -> dial -> backend. HTTP/2 towards workloads: few shared connections per endpoint, many requests on each.
//!
//! A connection is dialled when all others are full, one at a time; requests wait for a free stream in bounded number and
//! time. Cancellations are paced (`resets`). A GOAWAY takes the connection out of use while its streams finish. An unused
//! connection counts as pooled and is closed like any idle one: after its time, or when its endpoint drains or vanishes.

pub mod body;
pub mod duplex;
pub mod exchange;
mod resets;

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use figspan_model::Map;
use figspan_model::state::{EndpointState, Shard};
use figspan_proto::preamble::Kind;
use figspan_tunnel::drain::Drain;
use h2::client::SendRequest;
use h2::{Ping, PingPong};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::io::Trace;
use super::pool::{Key, Live};
use super::{Call, Dialer, Place};
use crate::limit::backend::Permit;
use crate::metrics::{Limit, Metrics};
use crate::reply::Failure;
use resets::Resets;

/// Most connections to one endpoint per shard. With the usual 100 streams each this is far above what one shard brings.
const MAX_LINKS: usize = 4;

/// Window of a stream and of a connection, in bytes: with the tunnel's own windows around it, enough for 100 ms at 80 Mbit/s
/// a stream; memory per connection is bounded by the second.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// Bytes of a stream's request that may wait inside the connection.
const SEND_BUFFER: usize = 64 * 1024;

/// How long a workload may take to answer the first PING.
const SETTLE_WAIT: Duration = Duration::from_secs(2);

/// How often unused connections are looked at.
const TICK: Duration = Duration::from_secs(1);

/// The shared connections of a shard.
pub struct Multiplexed {
    shard: Shard,
    metrics: Arc<Metrics>,
    hosts: RefCell<Map<Key, Rc<Host>>>,
    stopped: Rc<Cell<bool>>,
}

/// One endpoint's connections.
struct Host {
    /// Keeps the address that [`Key`] is made of from being given to another endpoint.
    _state: Arc<EndpointState>,
    links: RefCell<Vec<Rc<Link>>>,
    dialling: Cell<bool>,
    /// A stream or a dial ended.
    freed: Notify,
}

impl Host {
    /// Whether a connection is so new that it may yet turn out to have room.
    fn unsettled(&self) -> bool {
        self.links.borrow().iter().any(|link| link.is_open() && !link.settled.get())
    }
}

/// One connection.
pub struct Link {
    send: RefCell<Option<SendRequest<Bytes>>>,
    /// What is known of its bytes.
    pub trace: Trace,
    tunnel: Option<u64>,
    state: Arc<EndpointState>,
    shard: Shard,
    active: Cell<usize>,
    until: Cell<Instant>,
    /// Whether a request ended on it before.
    used: Cell<bool>,
    /// Nothing is kept any more.
    stopped: Rc<Cell<bool>>,
    /// Its room at the backend.
    permit: Option<Permit>,
    /// Whether the workload's settings are known. Until then one stream at a time is asked of it: more could be refused.
    settled: Cell<bool>,
    settling: Notify,
    /// How its streams may be cancelled.
    resets: Resets,
    tasks: Drain,
}

impl Link {
    /// Waits until the workload's settings are known.
    pub async fn settled(&self, wait: Duration) {
        let known = self.settling.notified();
        if !self.settled.get() {
            // Without an answer the settings stay unknown, and what needs them is refused.
            let _ = tokio::time::timeout(wait, known).await;
        }
    }

    /// The workload's settings are known.
    fn settle(&self) {
        self.settled.set(true);
        self.settling.notify_waiters();
    }

    fn has_room(&self) -> bool {
        let most = |send: &SendRequest<Bytes>| if self.settled.get() { send.current_max_send_streams() } else { 1 };
        self.send.borrow().as_ref().is_some_and(|send| self.active.get() < most(send).max(1))
    }

    /// Takes the connection out of use; it ends with its last stream.
    fn close(&self) {
        if self.send.borrow_mut().take().is_some() && self.active.get() == 0 {
            self.state.pooled.sub(self.shard, 1);
        }
    }

    fn is_open(&self) -> bool {
        self.send.borrow().is_some()
    }
}

/// One stream's place on a connection, until dropped.
pub struct Lease {
    link: Rc<Link>,
    host: Rc<Host>,
    idle_time: Duration,
    /// Whether the connection carried a request before.
    pub reused: bool,
}

impl Lease {
    fn new(link: &Rc<Link>, host: &Rc<Host>, idle_time: Duration) -> Self {
        if link.active.get() == 0 {
            link.state.pooled.sub(link.shard, 1);
        }
        link.active.set(link.active.get() + 1);
        Self { link: Rc::clone(link), host: Rc::clone(host), idle_time, reused: link.used.replace(true) }
    }

    /// Another place, for a stream that outlasts its request.
    fn again(&self) -> Self {
        Self::new(&self.link, &self.host, self.idle_time)
    }

    /// The connection.
    pub fn link(&self) -> &Rc<Link> {
        &self.link
    }

    /// A handle to send on; `None` once the connection is out of use.
    pub fn sender(&self) -> Option<SendRequest<Bytes>> {
        self.link.send.borrow().clone()
    }

    /// Takes the connection out of use.
    pub fn retire(&self) {
        self.link.close();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let active = self.link.active.get() - 1;
        self.link.active.set(active);
        if active == 0 && self.link.is_open() {
            self.link.state.pooled.add(self.link.shard, 1);
            self.link.until.set(Instant::now() + self.idle_time);
            if self.link.stopped.get() || self.link.state.draining.load(Ordering::Acquire) {
                self.link.close();
            }
        }
        self.host.freed.notify_one();
    }
}

impl Multiplexed {
    /// None yet.
    pub fn new(shard: Shard, metrics: Arc<Metrics>) -> Self {
        Self { shard, metrics, hosts: RefCell::default(), stopped: Rc::default() }
    }

    fn host(&self, key: Key, state: &Arc<EndpointState>) -> Rc<Host> {
        let mut hosts = self.hosts.borrow_mut();
        let fresh =
            || Rc::new(Host { _state: Arc::clone(state), links: RefCell::default(), dialling: Cell::new(false), freed: Notify::new() });
        Rc::clone(hosts.entry(key).or_insert_with(fresh))
    }

    /// Closes what leads to endpoints that are not live any more, or over tunnels that are not.
    pub fn sweep(&self, live: &Live) {
        self.retain(|key, link| live.holds(key, link.tunnel));
    }

    /// Keeps nothing from now on; running streams finish.
    pub fn stop(&self) {
        self.stopped.set(true);
        self.retain(|_, _| false);
    }

    /// Closes connections that nobody has used for their time; runs until dropped.
    pub async fn watch(&self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let now = Instant::now();
            self.retain(|_, link| {
                if link.active.get() == 0 && link.permit.as_ref().is_some_and(Permit::wanted) {
                    return false;
                }
                let stale = link.active.get() == 0 && link.until.get() <= now;
                if stale {
                    self.metrics.limit_hit(Limit::IdleStreamTime);
                }
                !stale
            });
        }
    }

    fn retain(&self, keep: impl Fn(&Key, &Link) -> bool) {
        self.hosts.borrow_mut().retain(|key, host| {
            host.links.borrow_mut().retain(|link| {
                let kept = link.is_open() && keep(key, link);
                if !kept {
                    link.close();
                }
                kept
            });
            !host.links.borrow().is_empty() || host.dialling.get() || Rc::strong_count(host) > 1
        });
    }
}

impl Dialer {
    /// A stream's place on a shared connection to the endpoint, dialled if need be.
    pub async fn lease(&self, place: &Place, call: &Call<'_>) -> Result<Lease, Failure> {
        let key = Key::new(place.state(), place.tls_id(), None);
        let host = self.multiplexed().host(key, place.state());
        let idle_time = call.limits.idle_stream_time;
        let deadline = Instant::now() + call.timeouts.connect;
        let mut waiting = None;
        let mut may_dial = true;
        loop {
            let free = host.links.borrow().iter().find(|link| link.has_room()).map(|link| Lease::new(link, &host, idle_time));
            if let Some(lease) = free {
                return Ok(lease);
            }
            if may_dial && !host.dialling.get() && !host.unsettled() && host.links.borrow().len() < MAX_LINKS {
                let dialling = Dialling::begin(&host);
                let link = match self.link(place, call, &host).await {
                    // No room for one more: those that there are have streams that end.
                    Err(Failure::BackendLimit) if !host.links.borrow().is_empty() => {
                        may_dial = false;
                        continue;
                    }
                    linked => linked?,
                };
                let lease = Lease::new(&link, &host, idle_time);
                host.links.borrow_mut().push(link);
                drop(dialling);
                return Ok(lease);
            }
            if waiting.is_none() {
                waiting = Some(self.wait_for(place, call.limits.pending)?);
            }
            if timeout_at(deadline, host.freed.notified()).await.is_err() {
                return Err(Failure::QueueFull);
            }
        }
    }

    /// Dials a connection and starts the task that carries it.
    async fn link(&self, place: &Place, call: &Call<'_>, host: &Rc<Host>) -> Result<Rc<Link>, Failure> {
        let way = self.open(place, Kind::Http, call).await?;
        let mut builder = h2::client::Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(u32::try_from(call.limits.header_bytes).unwrap_or(u32::MAX));
        let handshake = tokio::time::timeout(call.timeouts.connect, builder.handshake::<_, Bytes>(way.io)).await;
        let (send, mut connection) = match handshake {
            Ok(Ok(both)) => both,
            Ok(Err(_)) => return Err(super::judge(&way.trace, 0, true, Failure::WorkloadReset, super::FATE_WAIT).await.failure),
            Err(_) => return Err(Failure::ConnectTimeout),
        };
        place.state().pooled.add(self.multiplexed().shard, 1);
        let link = Rc::new(Link {
            send: RefCell::new(Some(send)),
            trace: way.trace,
            tunnel: way.tunnel,
            state: Arc::clone(place.state()),
            shard: self.multiplexed().shard,
            active: Cell::new(0),
            until: Cell::new(Instant::now() + call.limits.idle_stream_time),
            used: Cell::new(false),
            stopped: Rc::clone(&self.multiplexed().stopped),
            permit: way.permit,
            settled: Cell::new(false),
            settling: Notify::new(),
            resets: Resets::default(),
            tasks: self.tasks().clone(),
        });
        let settled = settle(connection.ping_pong(), Rc::downgrade(&link), Rc::clone(host));
        let weak = Rc::downgrade(&link);
        self.tasks().spawn_local(async move {
            // How it ended is told to each of its streams by h2 itself.
            tokio::select! {
                _ = connection => {}
                () = settled => {}
            }
            if let Some(link) = weak.upgrade() {
                link.close();
            }
        });
        Ok(link)
    }
}

/// Learns the workload's settings, which come before its answer to a PING; then waits for ever.
async fn settle(ping: Option<PingPong>, link: Weak<Link>, host: Rc<Host>) {
    if let Some(mut ping) = ping {
        // A workload that answers no PING has had time enough to say its settings.
        let _ = tokio::time::timeout(SETTLE_WAIT, ping.ping(Ping::opaque())).await;
    }
    if let Some(link) = link.upgrade() {
        link.settle();
    }
    host.freed.notify_waiters();
    drop(host);
    std::future::pending().await
}

/// Marks that somebody dials, until dropped.
struct Dialling(Rc<Host>);

impl Dialling {
    fn begin(host: &Rc<Host>) -> Self {
        host.dialling.set(true);
        Self(Rc::clone(host))
    }
}

impl Drop for Dialling {
    fn drop(&mut self) {
        self.0.dialling.set(false);
        self.0.freed.notify_waiters();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for link in self.links.get_mut() {
            link.close();
        }
    }
}
