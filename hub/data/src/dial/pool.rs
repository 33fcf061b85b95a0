//! Hop: dial. Idle HTTP/1.1 connections to backends, per shard, ready to be used again.
//!
//! Kept apart by endpoint and, where a client's authentication is bound to its connection (NTLM, Negotiate), by client.
//! Promises: `EndpointState.pooled` is exact; a connection on which anything came or ended while it was idle is dropped at
//! once; what drains or vanishes is dropped with the publication that says so.

mod ear;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use figspan_model::state::{EndpointState, Shard};
use figspan_model::{Map, Set};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::metrics::{Limit, Metrics};
pub use ear::Ear;

/// How often the pool looks for connections that have idled too long.
const TICK: Duration = Duration::from_secs(1);

/// Where a connection belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// Address of the endpoint's long-lived state, which stands for its identity. The bucket keeps the state alive, so that
    /// the address is not given to another one meanwhile.
    state: usize,
    /// TLS settings that the connection was made with.
    tls: usize,
    /// The one client that may use it.
    client: Option<u64>,
}

impl Key {
    /// For an endpoint's state; `tls` tells connections with different settings apart.
    pub fn new(state: &Arc<EndpointState>, tls: usize, client: Option<u64>) -> Self {
        Self { state: Arc::as_ptr(state) as usize, tls, client }
    }

    /// The same endpoint, for one client only.
    pub fn bound(self, client: u64) -> Self {
        Self { client: Some(client), ..self }
    }
}

/// A handle to a connection that can idle.
pub trait Reusable {
    /// The tunnel that carries it, if any.
    fn tunnel(&self) -> Option<u64>;

    /// Frees what an idle connection need not hold.
    fn rest(&self);

    /// Pending while nothing has come and nothing has ended; what does from now on, its ear hears. `make` makes its first one.
    fn listen(&self, make: impl FnOnce() -> Ear) -> Poll<()>;

    /// Whether its ear has heard something.
    fn has_heard(&self) -> bool;

    /// Pending while nothing has come and nothing has ended.
    fn look(&self) -> Poll<()>;

    /// Whether others wait for the room that it takes at its backend.
    fn wanted(&self) -> bool;

    /// Ends our side.
    fn finish(&self);
}

struct Idle<C> {
    connection: C,
    until: Instant,
}

impl<C: Reusable> Idle<C> {
    /// Whether nothing has come on it and it has not ended. Of a tunnel's stream the ear knows: what its driver has taken in has
    /// woken who reads, and more could not be read. What the kernel holds is seen by reading alone.
    fn is_fresh(&self) -> bool {
        (self.connection.tunnel().is_some() && !self.connection.has_heard()) || self.connection.look().is_pending()
    }
}

struct Bucket<C> {
    state: Arc<EndpointState>,
    idle: Vec<Idle<C>>,
}

/// What the newest snapshot leads to.
#[derive(Default)]
pub struct Live {
    /// Endpoints that take new work, by the address of their state.
    pub states: Set<usize>,
    /// Tunnels that take new streams, by id.
    pub tunnels: Set<u64>,
    /// TLS settings in force, by [`Key`]'s number for them.
    pub tls: Set<usize>,
}

impl Live {
    /// Whether a connection of that place, over that tunnel if any, may be kept.
    pub fn holds(&self, key: &Key, tunnel: Option<u64>) -> bool {
        self.states.contains(&key.state)
            && (key.tls == 0 || self.tls.contains(&key.tls))
            && tunnel.is_none_or(|tunnel| self.tunnels.contains(&tunnel))
    }
}

/// The idle connections of a shard.
pub struct Pool<C: Reusable> {
    shard: Shard,
    metrics: Arc<Metrics>,
    live: RefCell<Live>,
    buckets: RefCell<Map<Key, Bucket<C>>>,
    total: Cell<usize>,
    woken: Arc<Notify>,
    stopped: Cell<bool>,
}

impl<C: Reusable> Pool<C> {
    /// An empty pool.
    pub fn new(shard: Shard, metrics: Arc<Metrics>) -> Rc<Self> {
        Rc::new(Self {
            shard,
            metrics,
            live: RefCell::default(),
            buckets: RefCell::default(),
            total: Cell::new(0),
            woken: Arc::new(Notify::new()),
            stopped: Cell::new(false),
        })
    }

    /// What makes it look at its idle connections.
    pub fn waker(&self) -> Arc<Notify> {
        Arc::clone(&self.woken)
    }

    /// How many are idle.
    pub fn idle(&self) -> usize {
        self.total.get()
    }

    /// The connection that was used last, if one is still good.
    pub fn take(&self, key: &Key) -> Option<C> {
        loop {
            let idle = {
                let mut buckets = self.buckets.borrow_mut();
                let bucket = buckets.get_mut(key)?;
                let idle = bucket.idle.pop();
                match idle {
                    Some(_) => self.left(&bucket.state),
                    None => {
                        buckets.remove(key);
                    }
                }
                idle?
            };
            if idle.is_fresh() && !self.is_stale(&idle, Instant::now()) {
                return Some(idle.connection);
            }
            idle.connection.finish();
        }
    }

    /// Keeps a connection, unless its endpoint drains, its place is full, or the shard stops.
    pub fn put(&self, key: Key, state: &Arc<EndpointState>, connection: C, most: usize, idle_time: Duration) {
        connection.rest();
        let open = !self.stopped.get()
            && !connection.wanted()
            && !state.draining.load(Ordering::Acquire)
            && (connection.tunnel().is_none() || self.live.borrow().holds(&key, connection.tunnel()))
            && connection.listen(|| Ear::new(&self.woken)).is_pending();
        let mut buckets = self.buckets.borrow_mut();
        let bucket = buckets.entry(key).or_insert_with(|| Bucket { state: Arc::clone(state), idle: Vec::new() });
        if open && bucket.idle.len() >= most {
            self.metrics.limit_hit(Limit::IdleStreams);
        }
        if !open || bucket.idle.len() >= most {
            connection.finish();
            return;
        }
        bucket.idle.push(Idle { connection, until: Instant::now() + idle_time });
        self.total.set(self.total.get() + 1);
        state.pooled.add(self.shard, 1);
    }

    /// Drops what leads to endpoints that are not live any more, or over tunnels that are not; keeps no more of these.
    pub fn sweep(&self, live: Live) {
        self.retain(|key, idle| live.holds(key, idle.connection.tunnel()));
        self.live.replace(live);
    }

    /// Takes and keeps nothing from now on.
    pub fn stop(&self) {
        self.stopped.set(true);
        self.retain(|_, _| false);
    }

    /// Watches idle connections; runs until it is dropped.
    pub async fn watch(&self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.woken.notified() => {}
                _ = tick.tick() => {}
            }
            let now = Instant::now();
            self.retain(|_, idle| !self.is_spoiled(idle) && !idle.connection.wanted() && !self.is_stale(idle, now));
        }
    }

    fn retain(&self, keep: impl Fn(&Key, &Idle<C>) -> bool) {
        self.buckets.borrow_mut().retain(|key, bucket| {
            let Bucket { state, idle } = bucket;
            idle.retain(|idle| {
                let kept = keep(key, idle);
                if !kept {
                    self.left(state);
                    idle.connection.finish();
                }
                kept
            });
            !idle.is_empty()
        });
    }

    /// Whether it has idled for its time, which counts as a bound reached.
    fn is_stale(&self, idle: &Idle<C>, now: Instant) -> bool {
        let stale = idle.until <= now;
        if stale {
            self.metrics.limit_hit(Limit::IdleStreamTime);
        }
        stale
    }

    /// Whether something happened on an idle connection. Looks only at those that heard something.
    fn is_spoiled(&self, idle: &Idle<C>) -> bool {
        idle.connection.has_heard() && idle.connection.listen(|| Ear::new(&self.woken)).is_ready()
    }

    fn left(&self, state: &EndpointState) {
        self.total.set(self.total.get() - 1);
        state.pooled.sub(self.shard, 1);
    }
}

impl<C: Reusable> Drop for Pool<C> {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests;
