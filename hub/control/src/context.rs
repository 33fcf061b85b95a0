//! What all of control's tasks share: settings, clock, events, CA, limits, and the way to the registry's one writer.

use std::collections::BTreeSet;
use std::hash::Hash;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use figspan_model::state::Board;
use figspan_proto::admin::Problem;
use figspan_proto::name::{AgentName, ReplicaId, TrustDomain};
use figspan_tunnel::drain::Drain;
use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::config::Clock;
use crate::control::Ready;
use crate::core::Core;
use crate::events::Events;
use crate::problem;
use crate::store::Store;
use crate::trust::Trust;

/// How long readiness waits for agents that joined before.
const AGENTS_BACK: Duration = Duration::from_secs(10);
/// Keys that a limiter remembers. Above it those are forgotten that have their whole burst again; if none has, all is refused.
const LIMITER_KEYS: usize = 20_000;

/// How much an agent may say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Entries at once. Eight shards times 256 uplinks, four times: two processes that reconnect twice.
    pub(crate) burst: u32,
    /// Entries per second afterwards.
    pub(crate) per_second: u32,
    /// How long a tunnel may be over its pace, held back all the while, before it is closed.
    pub(crate) patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { burst: 8192, per_second: 1024, patience: Duration::from_secs(5) }
    }
}

/// What control's tasks share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) replica: ReplicaId,
    pub(crate) shards: u8,
    pub(crate) software: String,
    pub(crate) advertise: Vec<String>,
    pub(crate) direct: Vec<SocketAddr>,
    pub(crate) clock: Clock,
    pub(crate) events: Events,
    pub(crate) trust: Trust,
    pub(crate) store: Arc<Store>,
    pub(crate) board: Arc<Board>,
    pub(crate) writer: Writer,
    /// Tasks that serve tunnels and operators.
    pub(crate) work: Drain,
    pub(crate) pace: Pace,
    /// Entries that agents may send.
    pub(crate) talk: Limiter<AgentName>,
    /// Agents that joined and have not been back since the start.
    pub(crate) awaited: Mutex<BTreeSet<AgentName>>,
    pub(crate) started: Instant,
}

impl Context {
    /// Whether the replica may take traffic, as far as control goes.
    pub(crate) fn ready(&self) -> Ready {
        let mut waiting_for = Vec::new();
        if self.clock.now() > self.trust.credentials().identity().not_after() {
            waiting_for.push("the hub's own certificate has ended; look for errors of the CA in the log".to_owned());
        }
        let awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        let left = AGENTS_BACK.saturating_sub(self.started.elapsed());
        if !awaited.is_empty() && !left.is_zero() {
            let names: Vec<&str> = awaited.iter().take(5).map(AgentName::as_str).collect();
            let more = awaited.len().saturating_sub(names.len());
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            waiting_for.push(format!("agents {}{more} to come back, for {} s more", names.join(", "), left.as_secs() + 1));
        }
        Ready { ready: waiting_for.is_empty(), waiting_for }
    }

    /// Runs something to its end, also when whoever waits for it goes away: a change must not stop between disk and memory.
    pub(crate) async fn to_the_end<R: Send + 'static>(&self, work: impl Future<Output = R> + Send + 'static) -> Result<R, Problem> {
        let (done, result) = oneshot::channel();
        self.work.spawn(async move {
            let _ = done.send(work.await);
        });
        result.await.map_err(|_| problem::ending())
    }

    /// An agent is back, or need not be waited for.
    pub(crate) fn arrived(&self, agent: &AgentName) {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner).remove(agent);
    }
}

type Job = Box<dyn FnOnce(&mut Core) + Send>;

/// The way to the registry's one writer.
#[derive(Debug, Clone)]
pub(crate) struct Writer(mpsc::Sender<Job>);

impl Writer {
    /// A writer's two ends.
    pub(crate) fn channel(depth: usize) -> (Self, mpsc::Receiver<Job>) {
        let (sender, receiver) = mpsc::channel(depth);
        (Self(sender), receiver)
    }

    /// Lets the writer do something, and waits for what comes of it.
    pub(crate) async fn ask<R: Send + 'static>(&self, job: impl FnOnce(&mut Core) -> R + Send + 'static) -> Result<R, Problem> {
        let (answer, answered) = oneshot::channel();
        self.tell(move |core| {
            // Whoever asked may have gone.
            let _ = answer.send(job(core));
        })
        .await;
        answered.await.map_err(|_| problem::ending())
    }

    /// Lets the writer do something. Waits while it is busy; after its end nothing happens.
    pub(crate) async fn tell(&self, job: impl FnOnce(&mut Core) + Send + 'static) {
        let _ = self.0.send(Box::new(job)).await;
    }
}

/// A rate limit for each of many keys, bounded in memory.
#[derive(Debug)]
pub(crate) struct Limiter<K: Hash + Eq + Clone>(RateLimiter<K, HashMapStateStore<K>, DefaultClock>);

impl<K: Hash + Eq + Clone> Limiter<K> {
    /// So many at once, and so many a second afterwards.
    pub(crate) fn new(burst: u32, per_second: u32) -> Self {
        let at_least_one = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        Self(RateLimiter::hashmap(Quota::per_second(at_least_one(per_second)).allow_burst(at_least_one(burst))))
    }

    /// Whether so many are allowed now; else how long to wait. More than the whole burst are taken for the whole burst.
    pub(crate) fn check(&self, key: &K, count: u32) -> Result<(), Duration> {
        if self.0.len() >= LIMITER_KEYS {
            self.0.retain_recent();
            if self.0.len() >= LIMITER_KEYS {
                return Err(Duration::from_secs(1));
            }
        }
        let count = NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
        match self.0.check_key_n(key, count) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(later)) => Err(later.wait_time_from(DefaultClock::default().now())),
            Err(capacity) => match self.0.check_key_n(key, NonZeroU32::new(capacity.0).unwrap_or(NonZeroU32::MIN)) {
                Ok(Err(later)) => Err(later.wait_time_from(DefaultClock::default().now())),
                _ => Ok(()),
            },
        }
    }
}
