//! Notices silence. A killed agent says nothing, and its idle timeout is seconds away; with the hub asking every 400 ms, a
//! peer that has sent nothing for about a second is probably gone and should not get new work while others serve. Nor should one
//! that speaks but acknowledges nothing: where a path is cut one way only, it hears nothing, and repeats itself until it gives up.
//!
//! One sampler per endpoint looks at all its tunnels. Of one on which nothing has passed since the last time, as on most of them when they
//! are idle, it asks only whether it has been silent for too long. Suspicion closes nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use figspan_quic::Connection;
use tokio::sync::watch;

use super::Inner;
use crate::carrier::socket::Links;
use crate::tasks::Tasks;
use crate::transport::{SILENCE_SAMPLE, SUSPECT_AFTER};

/// What has passed on a connection so far, as far as a pulse is felt by it.
#[derive(Debug, Clone, Copy)]
struct Passed {
    /// When a datagram last came: that moment, and not when it was noticed. The next process of an agent that was killed may open
    /// its tunnels within a sample, and counts only as opened since ([`Pulse::quiet_since`]).
    heard: Instant,
    /// The smoothed round trip: it moves with each new acknowledgement, and with nothing else. A peer that hears nothing repeats its
    /// old acknowledgements all the same, so that counting them would tell nothing.
    rtt: Duration,
    /// Frames sent that must be acknowledged (RFC 9000, section 13.2).
    asked: u64,
}

impl Passed {
    fn of(connection: &Connection) -> Self {
        let stats = connection.stats();
        let sent = &stats.frame_tx;
        // What a tunnel in use consists of, and the signs of life of one that is not.
        let asked =
            sent.stream + sent.ping + sent.max_data + sent.max_stream_data + sent.max_streams_bidi + sent.reset_stream + sent.stop_sending;
        Self { heard: connection.heard(), rtt: stats.path.rtt, asked }
    }
}

/// Nothing waits for an acknowledgement.
const NOTHING: u64 = u64::MAX;

/// When a peer was last heard.
#[derive(Debug)]
pub(super) struct Pulse {
    start: Instant,
    /// When a datagram last came, as of the last sample, in milliseconds after `start`.
    heard_ms: AtomicU64,
    /// The round trip in nanoseconds as of the last sample, and what had been asked.
    rtt: AtomicU64,
    asked: AtomicU64,
    /// What the connection had counted at the last look.
    passed: AtomicU64,
    /// Since when the peer owes an acknowledgement, in milliseconds after `start`; or [`NOTHING`].
    owed_ms: AtomicU64,
    /// What `suspect` says, for those who ask in passing, without its lock; changed under that.
    judged: AtomicBool,
    suspect: watch::Sender<bool>,
}

impl Pulse {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            heard_ms: AtomicU64::new(0),
            rtt: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            passed: AtomicU64::new(0),
            owed_ms: AtomicU64::new(NOTHING),
            judged: AtomicBool::new(false),
            suspect: watch::Sender::new(false),
        }
    }

    /// Looks at a connection; whether anything has passed on it since the last look.
    pub(super) fn look(&self, connection: &Connection, now: Instant) -> bool {
        let count = connection.passed();
        let moved = self.passed.swap(count, Ordering::Relaxed) != count;
        if moved {
            self.sample(Passed::of(connection), now);
        } else {
            self.judge(now);
        }
        moved
    }

    fn sample(&self, passed: Passed, at: Instant) {
        let now = self.ms(at);
        self.heard_ms.store(self.ms(passed.heard), Ordering::Relaxed);
        let rtt = u64::try_from(passed.rtt.as_nanos()).unwrap_or(u64::MAX);
        let answered = self.rtt.swap(rtt, Ordering::Relaxed) != rtt;
        let asked = self.asked.swap(passed.asked, Ordering::Relaxed) != passed.asked;
        // Which of the two came first within a sample is not known. What is owed is asked for again soon, so an answer clears all.
        if answered {
            self.owed_ms.store(NOTHING, Ordering::Relaxed);
        } else if asked && self.owed_ms.load(Ordering::Relaxed) == NOTHING {
            self.owed_ms.store(now, Ordering::Relaxed);
        }
        self.judge(at);
    }

    /// Whether it has been silent for too long. What two threads find at a time, the next look puts right.
    fn judge(&self, now: Instant) {
        let rtt = Duration::from_nanos(self.rtt.load(Ordering::Relaxed));
        let suspect = now.saturating_duration_since(self.quiet_since()) > SUSPECT_AFTER + 2 * rtt;
        if self.suspect() != suspect {
            self.suspect.send_if_modified(|was| {
                self.judged.store(suspect, Ordering::Relaxed);
                std::mem::replace(was, suspect) != suspect
            });
        }
    }

    /// Rounded down: nobody counts as heard later than they were.
    fn ms(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.start).as_millis()).unwrap_or(NOTHING - 1)
    }

    pub(super) fn silent_for(&self) -> Duration {
        self.start.elapsed().saturating_sub(Duration::from_millis(self.heard_ms.load(Ordering::Relaxed)))
    }

    /// When the peer was last known to hear and speak.
    pub(super) fn quiet_since(&self) -> Instant {
        let since = self.heard_ms.load(Ordering::Relaxed).min(self.owed_ms.load(Ordering::Relaxed));
        self.start + Duration::from_millis(since)
    }

    /// When the tunnel was opened.
    pub(super) fn start(&self) -> Instant {
        self.start
    }

    pub(super) fn suspect(&self) -> bool {
        self.judged.load(Ordering::Relaxed)
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
    /// Starts looking, on the current runtime, at the tunnels of the endpoint of those links.
    pub(crate) fn start(links: Arc<Links>) -> Arc<Self> {
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
                    Some(tunnel) if !tunnel.connection.is_ended() => {
                        if tunnel.pulse.look(&tunnel.connection, before) {
                            tunnel.check_path(&links);
                        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_speaks_but_never_answers_is_suspect_and_one_that_is_not_asked_is_not() {
        let (deaf, talker, busy) = (Pulse::new(), Pulse::new(), Pulse::new());
        let rtt = |moved: u64| Duration::from_millis(1) + Duration::from_nanos(moved);
        let start = Instant::now();
        let mut sample = 0;
        while start.elapsed() < SUSPECT_AFTER + Duration::from_millis(150) {
            sample += 1;
            let heard = Instant::now();
            deaf.sample(Passed { heard, rtt: rtt(0), asked: sample }, heard);
            // Streams its own, and has acknowledged the one thing that it was asked.
            talker.sample(Passed { heard, rtt: rtt(sample.min(2)), asked: 1 }, heard);
            busy.sample(Passed { heard, rtt: rtt(sample), asked: sample }, heard);
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!((deaf.suspect(), talker.suspect(), busy.suspect()), (true, false, false));
        deaf.sample(Passed { heard: Instant::now(), rtt: rtt(1), asked: sample }, Instant::now());
        assert!(!deaf.suspect(), "it has answered");
    }

    #[test]
    fn a_peer_is_suspect_after_a_while_although_nothing_at_all_has_passed_and_no_more_when_something_does() {
        let pulse = Pulse::new();
        let heard = Instant::now();
        pulse.sample(Passed { heard, rtt: Duration::from_millis(50), asked: 0 }, heard);
        let later = |more: u64| heard + SUSPECT_AFTER + Duration::from_millis(more);
        let mut told = pulse.subscribe();
        pulse.judge(later(90));
        assert!(!pulse.suspect(), "two round trips are allowed for");
        pulse.judge(later(110));
        assert!(pulse.suspect() && told.has_changed().unwrap());
        told.mark_unchanged();
        pulse.judge(later(200));
        assert!(pulse.suspect() && !told.has_changed().unwrap());
        let again = later(300);
        pulse.sample(Passed { heard: again, rtt: Duration::from_millis(50), asked: 0 }, again);
        assert!(!pulse.suspect() && told.has_changed().unwrap());
    }

    #[test]
    fn a_peer_was_heard_when_its_word_came_and_not_when_that_was_noticed() {
        let killed = Pulse::new();
        let heard = Instant::now();
        std::thread::sleep(Duration::from_millis(5));
        let next = Pulse::new();
        std::thread::sleep(Duration::from_millis(5));
        killed.sample(Passed { heard, rtt: Duration::from_millis(1), asked: 0 }, Instant::now());
        assert!(killed.quiet_since() <= heard && killed.quiet_since() < next.start(), "the next process came since");
        assert!(killed.silent_for() >= Duration::from_millis(10));
    }
}
