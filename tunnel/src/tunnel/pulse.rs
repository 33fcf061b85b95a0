//! Notices silence. A killed agent says nothing, and its idle timeout is seconds away; with the hub asking every 400 ms, a
//! peer that has sent nothing for about a second is probably gone and should not get new work while others serve.
//!
//! One sampler per endpoint looks at all its tunnels; a tunnel costs one short look per sample. Suspicion closes nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::Inner;
use crate::tasks::Tasks;
use crate::transport::{SILENCE_SAMPLE, SUSPECT_AFTER};

/// When a peer was last heard.
#[derive(Debug)]
pub(super) struct Pulse {
    start: Instant,
    /// Datagrams received as of the last sample that saw new ones.
    datagrams: AtomicU64,
    /// When that sample was, in milliseconds after `start`.
    heard_ms: AtomicU64,
    suspect: watch::Sender<bool>,
}

impl Pulse {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), datagrams: AtomicU64::new(0), heard_ms: AtomicU64::new(0), suspect: watch::Sender::new(false) }
    }

    pub(super) fn sample(&self, datagrams: u64, rtt: Duration) {
        if self.datagrams.swap(datagrams, Ordering::Relaxed) != datagrams {
            let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.heard_ms.store(now, Ordering::Relaxed);
        }
        let suspect = self.silent_for() > SUSPECT_AFTER + 2 * rtt;
        self.suspect.send_if_modified(|was| std::mem::replace(was, suspect) != suspect);
    }

    pub(super) fn silent_for(&self) -> Duration {
        self.start.elapsed().saturating_sub(Duration::from_millis(self.heard_ms.load(Ordering::Relaxed)))
    }

    pub(super) fn suspect(&self) -> bool {
        *self.suspect.borrow()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<bool> {
        self.suspect.subscribe()
    }

    pub(super) async fn changed(&self) -> bool {
        let mut suspect = self.subscribe();
        // The sender is part of `self`, so it cannot be gone.
        let _ = suspect.changed().await;
        *suspect.borrow_and_update()
    }
}

/// Looks at the tunnels of an endpoint every [`SILENCE_SAMPLE`], until the endpoint and all its tunnels are gone.
#[derive(Debug)]
pub(crate) struct Sampler {
    tunnels: Arc<Mutex<Vec<Weak<Inner>>>>,
    _task: Tasks,
}

impl Sampler {
    /// Starts looking, on the current runtime.
    pub(crate) fn start() -> Arc<Self> {
        let tunnels = Arc::new(Mutex::new(Vec::<Weak<Inner>>::new()));
        let task = Tasks::new();
        let watched = Arc::clone(&tunnels);
        task.spawn(async move {
            let mut tick = tokio::time::interval(SILENCE_SAMPLE);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut before = Instant::now();
            loop {
                tick.tick().await;
                // After a stall of this thread it is we who were silent: what peers have sent waits in the socket.
                let stalled = before.elapsed() > 3 * SILENCE_SAMPLE;
                before = Instant::now();
                if stalled {
                    continue;
                }
                let mut tunnels = watched.lock().unwrap_or_else(PoisonError::into_inner);
                tunnels.retain(|tunnel| match tunnel.upgrade() {
                    Some(tunnel) if tunnel.connection.close_reason().is_none() => {
                        tunnel.sample();
                        true
                    }
                    _ => false,
                });
            }
        });
        Arc::new(Self { tunnels, _task: task })
    }

    pub(super) fn watch(&self, tunnel: &Arc<Inner>) {
        self.tunnels.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(tunnel));
    }
}
