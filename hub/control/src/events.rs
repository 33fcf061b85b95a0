//! What happened, for people: a bounded ring in memory, and an audit on disk for what somebody changed.
//!
//! Numbers grow by one while the process lives. After a start the ring begins with the end of the audit, and numbers go on
//! behind it. The audit (`audit.jsonl`, one event a line) is appended by one task, synced, and turned over when it grows.

mod audit;

use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};

use figspan_proto::admin::Event;
use figspan_proto::control::plain;
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::Clock;
pub(crate) use audit::Audit;

/// Events kept in memory.
const RING: usize = 4096;
/// Most events in one answer.
const MAX_ANSWER: usize = 1000;
/// Events on their way to the disk. More than that at once means that the disk hangs.
const QUEUE: usize = 1024;

/// Kinds that are changes by somebody and therefore kept on disk. The others are what the network does by itself, and an agent
/// that flaps must not turn the audit over.
const AUDITED: &[&str] = &["weight", "grant", "join", "revoke", "config", "ca", "log"];

/// An event before it has a number and a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) kind: &'static str,
    pub(crate) subject: String,
    pub(crate) who: String,
    pub(crate) old: Option<String>,
    pub(crate) new: Option<String>,
    pub(crate) message: String,
}

impl Note {
    pub(crate) fn new(kind: &'static str, subject: impl Display, who: impl Display, message: String) -> Self {
        Self { kind, subject: subject.to_string(), who: who.to_string(), old: None, new: None, message }
    }

    /// What it was before and is now.
    pub(crate) fn change(self, old: impl Display, new: impl Display) -> Self {
        Self { old: Some(old.to_string()), new: Some(new.to_string()), ..self }
    }
}

impl From<Note> for Event {
    fn from(note: Note) -> Self {
        let Note { kind, subject, who, old, new, message } = note;
        Self { number: 0, at: String::new(), kind: kind.to_owned(), subject, who, old, new, message }
    }
}

type Line = (String, Option<oneshot::Sender<bool>>);

/// All events; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    ring: Arc<Mutex<Ring>>,
    newest: Arc<watch::Sender<u64>>,
    audit: mpsc::Sender<Line>,
    clock: Clock,
}

#[derive(Debug)]
struct Ring {
    events: VecDeque<Event>,
    next: u64,
}

impl Events {
    /// Events that follow those of the audit, and the end that its task reads from.
    pub(crate) fn new(clock: Clock, kept: Vec<Event>) -> (Self, mpsc::Receiver<Line>) {
        let (audit, lines) = mpsc::channel(QUEUE);
        let next = kept.iter().map(|event| event.number).max().unwrap_or(0).saturating_add(1);
        let ring = Ring { events: kept.into(), next };
        (Self { ring: Arc::new(Mutex::new(ring)), newest: Arc::new(watch::Sender::new(next - 1)), audit, clock }, lines)
    }

    /// Records an event; audited kinds are on their way to the disk when this returns.
    pub(crate) fn record(&self, event: impl Into<Event>) {
        let (line, _) = self.enter(event.into());
        let Some(line) = line else { return };
        if self.audit.try_send((line, None)).is_err() {
            tracing::error!("the audit cannot be written as fast as events come; one was left out; look at the state directory's disk");
        }
    }

    /// Records a change by somebody, and waits until it is on the disk. `false` when it could not be written.
    pub(crate) async fn record_on_disk(&self, note: Note) -> bool {
        let (Some(line), _) = self.enter(note.into()) else { return true };
        let (done, written) = oneshot::channel();
        self.audit.send((line, Some(done))).await.is_ok() && written.await.unwrap_or(false)
    }

    fn enter(&self, mut event: Event) -> (Option<String>, u64) {
        event.at = self.clock.text();
        for text in [&mut event.subject, &mut event.who, &mut event.message].into_iter().chain(&mut event.old).chain(&mut event.new) {
            *text = plain(text);
        }
        let audited = AUDITED.contains(&event.kind.as_str());
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        event.number = ring.next;
        ring.next += 1;
        tracing::info!(kind = %event.kind, subject = %event.subject, who = %event.who, "{}", event.message);
        let line = audited.then(|| serde_json::to_string(&event).ok()).flatten();
        let number = event.number;
        if ring.events.len() >= RING {
            ring.events.pop_front();
        }
        ring.events.push_back(event);
        drop(ring);
        self.newest.send_replace(number);
        (line, number)
    }

    /// Events above a number, oldest first; the newest ones if there are more than the limit. A number from a former life of
    /// the process (above all there are) asks for everything.
    pub(crate) fn since(&self, since: u64, limit: usize) -> Vec<Event> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let since = if since >= ring.next { 0 } else { since };
        let above: Vec<&Event> = ring.events.iter().filter(|event| event.number > since).collect();
        let skip = above.len().saturating_sub(limit.min(MAX_ANSWER));
        above.into_iter().skip(skip).cloned().collect()
    }

    /// Waits for an event above a number.
    pub(crate) async fn after(&self, since: u64) {
        let mut newest = self.newest.subscribe();
        // The sender lives as long as `self`: the wait ends with an event only.
        let _ = newest.wait_for(|&number| number > since).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(number: usize) -> Note {
        Note::new("uplink", format!("u{number}"), "hub", format!("line\n{number}"))
    }

    #[test]
    fn the_ring_is_bounded_and_numbers_go_on() {
        let (events, _lines) = Events::new(Clock::system(), Vec::new());
        for number in 0..RING + 10 {
            events.record(note(number));
        }
        let all = events.since(0, usize::MAX);
        assert_eq!(all.len(), MAX_ANSWER);
        assert_eq!(all.last().unwrap().number, (RING + 10) as u64);
        assert!(!all[0].message.contains('\n'));
        assert_eq!(events.since(all.last().unwrap().number - 2, 100).len(), 2);
        assert_eq!(events.since(u64::MAX, 5).len(), 5);
    }

    #[tokio::test]
    async fn whoever_waits_for_an_event_is_woken_by_it() {
        let (events, _lines) = Events::new(Clock::system(), Vec::new());
        let waiting = events.clone();
        let (_, ()) = tokio::join!(waiting.after(0), async { events.record(note(1)) });
        events.after(0).await;
    }
}
