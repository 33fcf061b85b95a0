//! What the hub shows of itself: status, readiness, the state of its configuration. Written by few, read by admin and metrics.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use figspan_control::Control;
use figspan_proto::admin::{ConfigStatus, ListenerStatus};
use figspan_tunnel::{MovedTo, Transport};
use jiff::Timestamp;

/// A shard that did not turn for that long hangs: ten times what the slowest thing on it may take.
const STUCK: Duration = Duration::from_secs(15);

/// The hub as others see it; shared by control, admin and metrics, never by the request path.
#[derive(Debug)]
pub(crate) struct Face {
    pub(crate) replica: String,
    pub(crate) version: String,
    pub(crate) trust_domain: String,
    pub(crate) started: Timestamp,
    pub(crate) shards: usize,
    pub(crate) tunnel_address: SocketAddr,
    pub(crate) metrics_address: Option<SocketAddr>,
    listeners: RwLock<Arc<Vec<ListenerStatus>>>,
    config: RwLock<Arc<ConfigStatus>>,
    /// Whether the newest configuration is the one in force.
    config_good: AtomicBool,
    /// Unix time of the last successful load.
    config_loaded: AtomicU64,
    shards_up: AtomicUsize,
    /// One per shard that serves.
    moved: RwLock<Vec<Arc<MovedTo>>>,
    leaving: AtomicBool,
    /// When each shard last showed that it lives, in milliseconds since the start.
    beats: Box<[AtomicU64]>,
    clock: Instant,
}

impl Face {
    pub(crate) fn new(
        replica: String,
        version: String,
        trust_domain: String,
        shards: usize,
        tunnel_address: SocketAddr,
        metrics_address: Option<SocketAddr>,
    ) -> Self {
        Self {
            replica,
            version,
            trust_domain,
            started: Timestamp::now(),
            shards,
            tunnel_address,
            metrics_address,
            listeners: RwLock::default(),
            config: RwLock::default(),
            config_good: AtomicBool::new(false),
            config_loaded: AtomicU64::new(0),
            shards_up: AtomicUsize::new(0),
            moved: RwLock::default(),
            leaving: AtomicBool::new(false),
            beats: (0..shards).map(|_| AtomicU64::new(0)).collect(),
            clock: Instant::now(),
        }
    }

    pub(crate) fn listeners(&self) -> Arc<Vec<ListenerStatus>> {
        Arc::clone(&self.listeners.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_listeners(&self, listeners: Vec<ListenerStatus>) {
        *self.listeners.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(listeners);
    }

    pub(crate) fn config(&self) -> Arc<ConfigStatus> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The configuration is in force from now on.
    pub(crate) fn config_loaded(&self, file: String, warnings: Vec<String>) {
        let now = Timestamp::now();
        let status = ConfigStatus { file, loaded: time(now), errors: Vec::new(), warnings };
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(status);
        self.config_good.store(true, Ordering::Release);
        self.config_loaded.store(now.as_second().try_into().unwrap_or(0), Ordering::Release);
    }

    /// The newest configuration was refused; the one before stays in force.
    pub(crate) fn config_refused(&self, errors: Vec<String>) {
        let mut config = self.config.write().unwrap_or_else(PoisonError::into_inner);
        *config = Arc::new(ConfigStatus { errors, ..ConfigStatus::clone(&config) });
        self.config_good.store(false, Ordering::Release);
    }

    /// Whether the newest configuration is in force, and when (Unix time) one was last loaded.
    pub(crate) fn config_metrics(&self) -> (bool, u64) {
        (self.config_good.load(Ordering::Acquire), self.config_loaded.load(Ordering::Acquire))
    }

    /// A shard serves; `moved` is what its tunnels do.
    pub(crate) fn shard_is_up(&self, moved: Arc<MovedTo>) {
        self.moved.write().unwrap_or_else(PoisonError::into_inner).push(moved);
        self.shards_up.fetch_add(1, Ordering::AcqRel);
    }

    /// How often live tunnels have moved to a transport.
    pub(crate) fn moved(&self, to: Transport) -> u64 {
        self.moved.read().unwrap_or_else(PoisonError::into_inner).iter().map(|moved| moved.of(to)).sum()
    }

    /// A shard's thread turns.
    pub(crate) fn beat(&self, shard: usize) {
        let now = self.clock.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
        self.beats[shard].store(now, Ordering::Release);
    }

    /// Shards whose threads have not turned for [`STUCK`].
    pub(crate) fn stuck(&self) -> Vec<usize> {
        let stuck = |beat: &AtomicU64| {
            let at = Duration::from_millis(beat.load(Ordering::Acquire));
            self.clock.elapsed().saturating_sub(at) > STUCK
        };
        self.beats.iter().enumerate().filter(|(_, beat)| stuck(beat)).map(|(shard, _)| shard).collect()
    }

    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// What readiness waits for, for people; empty when the hub shall get new work.
    pub(crate) fn waiting_for(&self, control: &Control) -> Vec<String> {
        let mut waiting = Vec::new();
        if self.leaving.load(Ordering::Acquire) {
            waiting.push("nothing: the hub is leaving; send new work elsewhere".to_owned());
        }
        if self.config_loaded.load(Ordering::Acquire) == 0 {
            waiting.push("configuration: none was loaded yet".to_owned());
        }
        let up = self.shards_up.load(Ordering::Acquire);
        if up < self.shards {
            waiting.push(format!("listeners: {up} of {} shards serve", self.shards));
        }
        let ready = control.ready();
        if !ready.ready {
            waiting.extend(ready.waiting_for);
        }
        waiting
    }
}

/// A time as the API says it: RFC 3339, whole seconds.
pub(crate) fn time(at: Timestamp) -> String {
    jiff::fmt::temporal::DateTimePrinter::new().precision(Some(0)).timestamp_to_string(&at)
}
