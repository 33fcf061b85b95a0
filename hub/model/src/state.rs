//! What outlives every snapshot: counters and cursors, keyed by identity, written by the shards and summed on read.
//!
//! Nothing here is a lock. Each shard writes its own cell; control reads all of them. `Book` hands out the one state for an
//! identity, so that a reload or a reconnect finds what was there before.

mod caller;
mod gate;
mod latency;
mod mirror;
mod own;
mod sessions;
mod share;
mod sources;
mod warmth;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crossbeam_utils::CachePadded;
use xxhash_rust::xxh3::xxh3_64;

pub use caller::CallerState;
pub use gate::Gate;
pub use latency::{FALL, Latency, PENALTY};
pub use mirror::{Copies, Example, MirrorReport, MirrorState};
pub use own::Own;
pub use sessions::{Left, Sessions};
pub use share::{MARK_EVERY, ShareState};
pub use sources::{Entry, InFlightState, RateState};
pub use warmth::Warmth;

use crate::health::{BackendHealth, EndpointHealth, TIERS, TierState};

/// Index of a shard, 0-based.
pub type Shard = usize;

/// One counter per shard; each on a cache line of its own, so that shards do not wait for each other.
#[derive(Debug)]
pub struct PerShard(Box<[CachePadded<Own>]>);

impl PerShard {
    /// Counters at zero.
    pub fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| CachePadded::default()).collect())
    }

    /// Adds to the shard's own counter.
    pub fn add(&self, shard: Shard, n: u64) {
        self.0[shard].add(n);
    }

    /// Takes from the shard's own counter (gauges only).
    pub fn sub(&self, shard: Shard, n: u64) {
        self.0[shard].sub(n);
    }

    /// The shard's own counter.
    pub fn of(&self, shard: Shard) -> u64 {
        self.0[shard].value()
    }

    /// The sum over shards.
    pub fn sum(&self) -> u64 {
        self.0.iter().map(|cell| cell.value()).sum()
    }
}

/// The long-lived state of one endpoint: an (uplink, agent) pair or an address of a service.
#[derive(Debug)]
pub struct EndpointState {
    /// XXH3 of its key: its identity in hashes and sessions, the same on all replicas and in all versions.
    pub id: u64,
    /// Requests and connections under way; a WebSocket counts until it ends. The "in-flight sum" of the drain proof.
    pub in_flight: PerShard,
    /// Streams or connections held idle for reuse. Closed at weight 0, so that the agent's count can reach 0.
    pub pooled: PerShard,
    /// Requests and connections ever given to it: what shares are computed from.
    pub picked: PerShard,
    /// Of those, the ones that failed on the endpoint's side.
    pub failed: PerShard,
    /// Set by control *before* a snapshot without this endpoint is published, so that a retry that still holds an older
    /// snapshot does not bring it new work.
    pub draining: AtomicBool,
    /// Breaker, ejection and checks.
    pub health: EndpointHealth,
    /// How long its answers take lately; kept only where a policy asks for it.
    pub latency: Latency,
    /// Since when it takes work.
    pub warmth: Warmth,
    /// Sessions bound to it.
    pub sessions: Sessions,
    /// Set by control when the deadline of a drain has passed: then sessions bound to it get nothing either.
    pub sessions_over: AtomicBool,
}

impl EndpointState {
    fn new(key: &str, shards: usize) -> Self {
        Self {
            id: xxh3_64(key.as_bytes()),
            in_flight: PerShard::new(shards),
            pooled: PerShard::new(shards),
            picked: PerShard::new(shards),
            failed: PerShard::new(shards),
            draining: AtomicBool::new(false),
            health: EndpointHealth::new(shards),
            latency: Latency::default(),
            warmth: Warmth::default(),
            sessions: Sessions::default(),
            sessions_over: AtomicBool::new(false),
        }
    }
}

/// The long-lived state of a place where a choice is made: a rule (among backends) or a backend (among endpoints).
#[derive(Debug, Default)]
pub struct RuleState {
    /// Number of the next choice; see `balance`. Shared by all shards, so that shares are exact over all of them.
    pub cursor: CachePadded<AtomicU64>,
    /// The same for choices after a failed try, so that these take nobody's turn.
    pub again: AtomicU64,
    /// What it is kept under; see [`Book::rule`].
    pub key: Box<str>,
    tiers: OnceLock<Box<[TierState; TIERS]>>,
}

impl RuleState {
    /// One of its tiers. They take their memory with the first use: most rules have none.
    pub fn tier(&self, tier: u8) -> &TierState {
        &self.tiers.get_or_init(Box::default)[usize::from(tier).min(TIERS - 1)]
    }
}

/// The long-lived state of an uplink or service as a backend, over all rules and endpoints.
#[derive(Debug)]
pub struct BackendState {
    /// XXH3 of its key: its identity in hashes and sessions, the same on all replicas and in all versions.
    pub id: u64,
    /// Its breaker.
    pub health: BackendHealth,
    /// Requests and connections under way, where the backend's policy bounds them.
    pub requests: Gate,
    /// Open connections, where the backend's policy bounds them.
    pub connections: Gate,
}

impl BackendState {
    fn new(key: &str, shards: usize) -> Self {
        Self {
            id: xxh3_64(key.as_bytes()),
            health: BackendHealth::new(shards),
            requests: Gate::new(shards),
            connections: Gate::new(shards),
        }
    }
}

/// Hands out the one state for an identity. Used when snapshots are built, never on the data path.
#[derive(Debug)]
pub struct Book {
    shards: usize,
    /// Unix time in seconds since when every session that was made is known; see [`Book::sessions_since`].
    sessions_since: AtomicU64,
    endpoints: Mutex<HashMap<String, Arc<EndpointState>>>,
    backends: Mutex<HashMap<String, Arc<BackendState>>>,
    rules: Mutex<HashMap<String, Arc<RuleState>>>,
    shares: Mutex<HashMap<String, Arc<ShareState>>>,
    rates: Mutex<HashMap<String, Arc<RateState>>>,
    sources: Mutex<HashMap<String, Arc<InFlightState>>>,
    mirrors: Mutex<HashMap<String, Arc<MirrorState>>>,
    callers: Mutex<HashMap<String, Arc<CallerState>>>,
}

impl Book {
    /// An empty book for a hub of that many shards.
    pub fn new(shards: usize) -> Arc<Self> {
        Arc::new(Self {
            shards,
            sessions_since: AtomicU64::new(0),
            endpoints: Mutex::default(),
            backends: Mutex::default(),
            rules: Mutex::default(),
            shares: Mutex::default(),
            rates: Mutex::default(),
            sources: Mutex::default(),
            mirrors: Mutex::default(),
            callers: Mutex::default(),
        })
    }

    /// Unix time in seconds since when every session that was made is known: older ones may have been made by a process before
    /// this one, and show only when they come.
    pub fn sessions_since(&self) -> u64 {
        self.sessions_since.load(Ordering::Acquire)
    }

    /// Says that sessions made before that Unix time in seconds are not known.
    pub fn know_sessions_since(&self, since: u64) {
        self.sessions_since.store(since, Ordering::Release);
    }

    /// How many shards the states are made for.
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// The state of an endpoint: `uplink/<name>/<agent>` or `service/<name>/<address>`.
    pub fn endpoint(&self, key: &str) -> Arc<EndpointState> {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        match endpoints.get(key) {
            Some(state) => Arc::clone(state),
            None => Arc::clone(endpoints.entry(key.to_owned()).or_insert_with(|| Arc::new(EndpointState::new(key, self.shards)))),
        }
    }

    /// All endpoints whose keys begin so, each with the rest of its key.
    pub fn endpoints_of(&self, prefix: &str) -> Vec<(String, Arc<EndpointState>)> {
        let endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        endpoints.iter().filter_map(|(key, state)| Some((key.strip_prefix(prefix)?.to_owned(), Arc::clone(state)))).collect()
    }

    /// The state of a backend: `uplink/<name>` or `service/<name>`.
    pub fn backend(&self, key: &str) -> Arc<BackendState> {
        let mut backends = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        match backends.get(key) {
            Some(state) => Arc::clone(state),
            None => Arc::clone(backends.entry(key.to_owned()).or_insert_with(|| Arc::new(BackendState::new(key, self.shards)))),
        }
    }

    /// The state of a place of choice: `rule/<route>/<rule>` (see [`HttpRule::key`]), `uplink/<name>`, `service/<name>`.
    ///
    /// [`HttpRule::key`]: crate::routing::HttpRule::key
    pub fn rule(&self, key: &str) -> Arc<RuleState> {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let state = || Arc::new(RuleState { key: key.into(), ..RuleState::default() });
        Arc::clone(rules.entry(key.to_owned()).or_insert_with(state))
    }

    /// What a backend of a rule was given: `<key of the rule>/<key of the backend>`.
    pub fn share(&self, key: &str) -> Arc<ShareState> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        match shares.get(key) {
            Some(state) => Arc::clone(state),
            None => Arc::clone(shares.entry(key.to_owned()).or_insert_with(|| Arc::new(ShareState::new(self.shards)))),
        }
    }

    /// What the sources of a rate limit owe: `<key of the rule>/<key of the limit>`.
    pub fn rate(&self, key: &str) -> Arc<RateState> {
        Arc::clone(self.rates.lock().unwrap_or_else(PoisonError::into_inner).entry(key.to_owned()).or_default())
    }

    /// What the sources of a limit on requests under way have: `<key of the rule>/<what a source is>`.
    pub fn in_flight(&self, key: &str) -> Arc<InFlightState> {
        Arc::clone(self.sources.lock().unwrap_or_else(PoisonError::into_inner).entry(key.to_owned()).or_default())
    }

    /// What became of the copies of a mirror: `<key of the rule>/<key of its target>`.
    pub fn mirror(&self, key: &str) -> Arc<MirrorState> {
        let mut mirrors = self.mirrors.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(mirrors.entry(key.to_owned()).or_insert_with(|| Arc::new(MirrorState::new(self.shards))))
    }

    /// What an agent's processes call, by its name.
    pub fn caller(&self, agent: &str) -> Arc<CallerState> {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(callers.entry(agent.to_owned()).or_insert_with(|| Arc::new(CallerState::new(self.shards))))
    }

    /// Notes where all shares stand; control calls it every [`MARK_EVERY`], nobody else.
    pub fn mark(&self) {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner).values().for_each(|share| share.mark());
    }

    /// Forgets states that nothing else holds, so that churn of names does not grow the book for ever.
    pub fn sweep(&self) {
        self.endpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, state| Arc::strong_count(state) > 1 || state.in_flight.sum() > 0);
        self.backends.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, state| Arc::strong_count(state) > 1);
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, state| Arc::strong_count(state) > 1);
        self.shares.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, state| Arc::strong_count(state) > 1);
        self.rates.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, state| Arc::strong_count(state) > 1);
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, state| Arc::strong_count(state) > 1);
        self.mirrors.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, state| Arc::strong_count(state) > 1);
        self.callers.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, state| Arc::strong_count(state) > 1);
    }
}

/// Where each shard says which snapshot it works with, so that control can say "live on every shard" and mean it.
#[derive(Debug)]
pub struct Board(PerShard);

impl Board {
    /// A board on which no shard has seen anything.
    pub fn new(shards: usize) -> Arc<Self> {
        Arc::new(Self(PerShard::new(shards)))
    }

    /// Says that the shard makes every new choice with this generation or a later one, and has dropped what it pooled for
    /// endpoints that drain in it.
    pub fn saw(&self, shard: Shard, generation: u64) {
        self.0.0[shard].set(generation);
    }

    /// The oldest generation that any shard still works with.
    pub fn oldest(&self) -> u64 {
        self.0.0.iter().map(|cell| cell.value()).min().unwrap_or(0)
    }
}
