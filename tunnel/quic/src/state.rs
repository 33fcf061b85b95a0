//! The state of one connection, behind a lock of its own, and how the driver hears of it.
//!
//! The driver feeds the state and takes what it has to send; handles and streams change it and put the connection on the
//! driver's list. Whoever waits is woken after the lock is free again: a woken task may want it at once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Instant;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use quinn_proto::{ConnectionError, ConnectionHandle, Dir, Event, StreamEvent, StreamId, VarInt};
use tokio::sync::Notify;

use crate::Map;
use crate::last_word::LastWord;

/// Connections that have something to send, and who sends it.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    list: Mutex<Vec<Arc<Core>>>,
    pub(crate) driver: AtomicWaker,
}

impl Outbox {
    /// Moves the list into `list`, which must be empty.
    pub(crate) fn take(&self, list: &mut Vec<Arc<Core>>) {
        std::mem::swap(&mut *self.list.lock().unwrap_or_else(PoisonError::into_inner), list);
    }
}

/// A connection, as all its handles, its streams and the driver share it.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) key: ConnectionHandle,
    state: Mutex<State>,
    outbox: Arc<Outbox>,
    /// On the outbox's list, or on one of the driver's.
    queued: AtomicBool,
    /// Has ended, for whatever reason.
    ended: AtomicBool,
    /// Datagrams received and flights sent, together.
    passed: AtomicU64,
    /// Connected or ended.
    pub(crate) settled: Notify,
    /// The peer has opened a stream.
    pub(crate) opened: Notify,
    /// The peer allows more streams.
    pub(crate) available: Notify,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) proto: quinn_proto::Connection,
    pub(crate) error: Option<ConnectionError>,
    pub(crate) connected: bool,
    /// When a datagram last came.
    pub(crate) heard: Instant,
    /// Streams of which all was read that has come, and who waits for more.
    pub(crate) readers: Map<StreamId, Option<Waker>>,
    /// Who waits for a stream to be writable.
    pub(crate) writers: Map<StreamId, Waker>,
    /// Who waits for a stream to be stopped or acknowledged to its end.
    pub(crate) watchers: Map<StreamId, Arc<Notify>>,
    /// What had passed when its window was fitted to its path.
    pub(crate) fitted: u64,
    /// Its earliest entry among the endpoint's timers.
    pub(crate) armed: Option<Instant>,
}

impl Core {
    pub(crate) fn new(key: ConnectionHandle, proto: quinn_proto::Connection, outbox: &Arc<Outbox>) -> Arc<Self> {
        let state = State {
            proto,
            error: None,
            connected: false,
            heard: Instant::now(),
            readers: Map::default(),
            writers: Map::default(),
            watchers: Map::default(),
            fitted: 0,
            armed: None,
        };
        Arc::new(Self {
            key,
            state: Mutex::new(state),
            outbox: Arc::clone(outbox),
            queued: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            passed: AtomicU64::new(0),
            settled: Notify::new(),
            opened: Notify::new(),
            available: Notify::new(),
        })
    }

    /// Counts a datagram or a flight; only the driver does.
    pub(crate) fn pass(&self) {
        self.passed.store(self.passed.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// How many have passed.
    pub(crate) fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the connection on the driver's list and wakes the driver.
    pub(crate) fn send_soon(self: &Arc<Self>) {
        if self.queue() {
            self.outbox.driver.wake();
        }
    }

    /// Puts the connection on the driver's list; whether it was not there.
    pub(crate) fn queue(self: &Arc<Self>) -> bool {
        let fresh = self.hold();
        if fresh {
            self.outbox.list.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(self));
        }
        fresh
    }

    /// Keeps the connection off the list though it has something to say, for a driver that has a list of its own for it; whether
    /// it was on neither.
    pub(crate) fn hold(&self) -> bool {
        !self.queued.swap(true, Ordering::AcqRel)
    }

    /// The driver begins to send for it.
    pub(crate) fn unqueued(&self) {
        self.queued.store(false, Ordering::Release);
    }

    /// Whether it may have something to say that the driver has not begun to send.
    pub(crate) fn is_queued(&self) -> bool {
        self.queued.load(Ordering::Acquire)
    }

    /// Takes in what the protocol has to tell; who must be woken for it comes into `wakes`.
    pub(crate) fn tell(&self, state: &mut State, wakes: &mut Vec<Waker>) {
        while let Some(event) = state.proto.poll() {
            match event {
                Event::Connected => {
                    state.connected = true;
                    self.settled.notify_waiters();
                }
                Event::ConnectionLost { reason } => self.end(state, reason, wakes),
                Event::Stream(StreamEvent::Readable { id }) => wakes.extend(state.readers.remove(&id).flatten()),
                Event::Stream(StreamEvent::Writable { id }) => wakes.extend(state.writers.remove(&id)),
                Event::Stream(StreamEvent::Finished { id }) => notify(state.watchers.remove(&id)),
                Event::Stream(StreamEvent::Stopped { id, .. }) => {
                    // Also who reads: of an idle stream its owner hears that it is of no use any more.
                    wakes.extend(state.readers.remove(&id).flatten());
                    wakes.extend(state.writers.remove(&id));
                    notify(state.watchers.remove(&id));
                }
                Event::Stream(StreamEvent::Opened { dir: Dir::Bi }) => self.opened.notify_waiters(),
                Event::Stream(StreamEvent::Available { dir: Dir::Bi }) => self.available.notify_waiters(),
                // Unidirectional streams and datagrams are not used.
                Event::Stream(StreamEvent::Opened { .. } | StreamEvent::Available { .. }) => {}
                Event::HandshakeDataReady | Event::DatagramReceived | Event::DatagramsUnblocked => {}
            }
        }
    }

    /// Ends the connection for its handles; what it still has to say is the driver's affair.
    pub(crate) fn end(&self, state: &mut State, error: ConnectionError, wakes: &mut Vec<Waker>) {
        state.error.get_or_insert(error);
        // Also where the peer broke the protocol: it hears that.
        LastWord::let_through(&state.proto);
        self.ended.store(true, Ordering::Release);
        wakes.extend(state.readers.drain().filter_map(|(_, waker)| waker));
        wakes.extend(state.writers.drain().map(|(_, waker)| waker));
        state.watchers.drain().for_each(|(_, watchers)| watchers.notify_waiters());
        self.settled.notify_waiters();
        self.opened.notify_waiters();
        self.available.notify_waiters();
    }

    /// Closes it; nothing happens if it has ended.
    pub(crate) fn close(self: &Arc<Self>, code: VarInt, reason: Bytes) {
        let mut wakes = Vec::new();
        {
            let mut state = self.lock();
            if state.error.is_some() {
                return;
            }
            state.proto.close(Instant::now(), code, reason);
            self.end(&mut state, ConnectionError::LocallyClosed, &mut wakes);
        }
        wakes.into_iter().for_each(Waker::wake);
        self.send_soon();
    }
}

fn notify(watchers: Option<Arc<Notify>>) {
    if let Some(watchers) = watchers {
        watchers.notify_waiters();
    }
}

/// Closes the connection when the last handle and the last stream are gone.
#[derive(Debug)]
pub(crate) struct Handle(pub(crate) Arc<Core>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close(VarInt::from_u32(0), Bytes::new());
    }
}

impl Handle {
    /// Whether the connection has ended. One atomic read.
    pub(crate) fn is_ended(&self) -> bool {
        self.0.ended.load(Ordering::Acquire)
    }
}

/// Remembers who waits for a stream, without a clone where it is the same task as before.
pub(crate) fn remember(waiting: &mut Map<StreamId, Waker>, id: StreamId, cx: &Context<'_>) {
    match waiting.entry(id) {
        std::collections::hash_map::Entry::Occupied(mut entry) => entry.get_mut().clone_from(cx.waker()),
        std::collections::hash_map::Entry::Vacant(entry) => drop(entry.insert(cx.waker().clone())),
    }
}
