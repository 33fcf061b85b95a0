//! What one shard owns and lends to every request on it, and the task that follows the snapshot.

mod held;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use figspan_model::snapshot::{Reader, Snapshot};
use figspan_model::state::{Board, Book, Shard};
use figspan_tunnel::drain::Drain;
use figspan_tunnel::resolve::Resolver;

use crate::dial::Dialer;
use crate::jwt::remembered::Remembered;
use crate::limit::copies::Room;
use crate::metrics::Metrics;
use crate::retry::Budget;
use crate::seal::Sealer;
pub use held::Held;

/// How often gauges are brought up to date.
const GAUGES: Duration = Duration::from_secs(1);

/// A shard's belongings; shared by `Rc` on its thread only.
pub struct ShardContext {
    /// Its index.
    pub shard: Shard,
    reader: Reader,
    cache: RefCell<Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>>,
    current: RefCell<Rc<Held>>,
    board: Arc<Board>,
    /// Pools and ways to backends.
    pub dialer: Dialer,
    /// How many requests live, and how many may be retries at once.
    pub budget: Budget,
    /// Seals and opens session cookies.
    pub sessions: Arc<Sealer>,
    /// Tokens that were verified lately.
    pub tokens: Remembered,
    /// Copies of requests under way.
    pub copies: Room,
    /// Counters of this shard.
    pub metrics: Arc<Metrics>,
    /// Owner of its tasks.
    pub drain: Drain,
}

/// Shared on the shard's thread.
pub type ShardRef = Rc<ShardContext>;

impl ShardContext {
    /// The belongings of a shard that has seen nothing yet: see [`ShardContext::follow`].
    pub fn new(shard: Shard, reader: Reader, board: Arc<Board>, book: Arc<Book>, metrics: Arc<Metrics>, drain: Drain) -> Self {
        let resolver = Resolver::system()
            .inspect_err(|error| tracing::warn!(%error, "DNS cannot be used; services are reached by fixed addresses only"))
            .ok();
        let dialer = Dialer::new(shard, book, resolver, drain.clone(), Arc::clone(&metrics));
        let (cache, current) = (RefCell::new(reader.cache()), RefCell::new(Rc::new(Held::new(reader.load()))));
        let sessions = Arc::new(Sealer::new(&[]));
        Self {
            shard,
            reader,
            cache,
            current,
            board,
            dialer,
            budget: Budget::default(),
            tokens: Remembered::default(),
            copies: Room::default(),
            sessions,
            metrics,
            drain,
        }
    }

    /// The same with keys for session cookies; without any there are no sessions.
    #[must_use]
    pub fn with_sessions(self, sessions: Arc<Sealer>) -> Self {
        Self { sessions, ..self }
    }

    /// The newest snapshot, to keep for one request. Costs one read of a shared pointer; its count of owners, which all shards
    /// would write, is touched only after a publication.
    pub fn snapshot(&self) -> Rc<Held> {
        let mut cache = self.cache.borrow_mut();
        let newest = cache.load();
        let mut current = self.current.borrow_mut();
        if !current.is(newest) {
            *current = Rc::new(Held::new(Arc::clone(newest)));
        }
        Rc::clone(&current)
    }

    /// The snapshot that something began with, with the endpoints that there are by now: for another try of it. Rules stay what
    /// they were, also where the configuration has changed meanwhile.
    pub fn renewed(&self, began: &Rc<Held>) -> Rc<Held> {
        let newest = self.snapshot();
        if Arc::ptr_eq(&newest.routing, &began.routing) {
            return newest;
        }
        let (routing, uplinks, callers) = (Arc::clone(&began.routing), newest.uplinks.clone(), newest.callers.clone());
        Rc::new(Held::new(Arc::new(Snapshot { generation: newest.generation, routing, uplinks, callers })))
    }

    /// Takes over the newest snapshot: what drains or vanished is closed first, then the board hears of the generation.
    pub fn catch_up(&self) {
        let snapshot = self.snapshot();
        self.dialer.sweep(&snapshot);
        self.board.saw(self.shard, snapshot.generation);
    }

    /// Follows the snapshot and watches idle connections. Never ends by itself: dropping it ends it.
    pub async fn follow(&self) {
        tokio::join!(self.follow_snapshots(), self.dialer.watch(), self.follow_gauges());
        std::future::pending().await
    }

    async fn follow_snapshots(&self) {
        let mut reader = self.reader.clone();
        self.catch_up();
        while reader.changed().await {
            self.catch_up();
        }
    }

    async fn follow_gauges(&self) {
        let mut tick = tokio::time::interval(GAUGES);
        loop {
            tick.tick().await;
            self.metrics.pooled.set(self.dialer.pool().idle() as u64);
            self.metrics.stale_names.set(self.dialer.services().failing() as u64);
        }
    }
}
