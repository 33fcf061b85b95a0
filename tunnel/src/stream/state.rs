//! The state that a stream's halves and probes share.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use figspan_proto::reset::{Reason, Reset};
use figspan_quic::{Connection, ReadError, RecvStream, SendStream, WriteError};
use quinn_proto::VarInt;
use tokio::io::ReadBuf;
use tokio::sync::Notify;

use super::{DROPPED, StreamError, error};

/// One per stream.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) connection: Connection,
    halves: Mutex<Halves>,
    pub(super) written: AtomicU64,
    /// What the peer said about the end: its code plus 1, or 0 for nothing.
    fate: AtomicU64,
    /// How many probes look at this stream.
    pub(super) probes: AtomicUsize,
    /// Somebody waits for `fate`.
    pub(super) told: Notify,
}

#[derive(Debug)]
struct Halves {
    send: SendStream,
    recv: RecvStream,
    /// Our side was finished or reset.
    send_ended: bool,
    /// The peer's side was read to its end, reset, or stopped by us.
    recv_ended: bool,
    /// The peer's side was read to its end or reset.
    peer_ended: bool,
    /// Set by a reset of ours: reads and writes fail from here on.
    closed: bool,
    /// Who waits in a read and in a write, to be woken by a reset from outside.
    reader: Option<Waker>,
    writer: Option<Waker>,
}

fn remember(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}

fn varint(reset: Reset) -> VarInt {
    // Codes have 62 bits by construction.
    VarInt::from_u64(reset.code()).unwrap_or(VarInt::MAX)
}

impl Shared {
    pub(super) fn new(connection: Connection, send: SendStream, recv: RecvStream) -> Self {
        let halves =
            Halves { send, recv, send_ended: false, recv_ended: false, peer_ended: false, closed: false, reader: None, writer: None };
        Self {
            connection,
            halves: Mutex::new(halves),
            written: AtomicU64::new(0),
            fate: AtomicU64::new(0),
            probes: AtomicUsize::new(0),
            told: Notify::new(),
        }
    }

    fn halves(&self) -> MutexGuard<'_, Halves> {
        self.halves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<(), StreamError>> {
        let before = buf.filled().len();
        let mut halves = self.halves();
        if halves.closed {
            return Poll::Ready(Err(StreamError::Closed));
        }
        match halves.recv.poll_read(cx, buf) {
            Poll::Pending => {
                remember(&mut halves.reader, cx);
                Poll::Pending
            }
            Poll::Ready(Ok(())) => {
                if buf.filled().len() == before && buf.remaining() > 0 {
                    self.read_ended(&mut halves);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.read_failed(&mut halves, error))),
        }
    }

    pub(super) fn poll_read_chunk(&self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Option<Bytes>, StreamError>> {
        let mut halves = self.halves();
        if halves.closed {
            return Poll::Ready(Err(StreamError::Closed));
        }
        match halves.recv.poll_chunk(cx, max) {
            Poll::Pending => {
                remember(&mut halves.reader, cx);
                Poll::Pending
            }
            Poll::Ready(Ok(Some(chunk))) => Poll::Ready(Ok(Some(chunk))),
            Poll::Ready(Ok(None)) => {
                self.read_ended(&mut halves);
                Poll::Ready(Ok(None))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.read_failed(&mut halves, error))),
        }
    }

    /// Fills `chunks` from the front with what has arrived; `None` at the peer's FIN.
    pub(super) fn poll_read_chunks(&self, cx: &mut Context<'_>, chunks: &mut [Bytes]) -> Poll<Result<Option<usize>, StreamError>> {
        let mut halves = self.halves();
        if halves.closed {
            return Poll::Ready(Err(StreamError::Closed));
        }
        match halves.recv.poll_chunks(cx, chunks) {
            Poll::Pending => {
                remember(&mut halves.reader, cx);
                Poll::Pending
            }
            Poll::Ready(Ok(Some(count))) => Poll::Ready(Ok(Some(count))),
            Poll::Ready(Ok(None)) => {
                self.read_ended(&mut halves);
                Poll::Ready(Ok(None))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.read_failed(&mut halves, error))),
        }
    }

    /// The peer's side is over in good order; it may also have said why it reads no more.
    fn read_ended(&self, halves: &mut Halves) {
        if !halves.peer_ended {
            (halves.recv_ended, halves.peer_ended) = (true, true);
            self.look_for_stop(halves);
        }
    }

    fn read_failed(&self, halves: &mut Halves, error: ReadError) -> StreamError {
        let error = StreamError::from(error);
        if let StreamError::Reset(reset) = &error {
            self.tell(*reset);
        }
        (halves.recv_ended, halves.peer_ended) = (true, true);
        self.look_for_stop(halves);
        error
    }

    fn look_for_stop(&self, halves: &Halves) {
        if let Ok(Some(code)) = halves.send.stop_code() {
            self.tell(error::reset(code));
        }
    }

    pub(super) fn poll_write(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize, StreamError>> {
        self.poll_send(cx, |send, cx| send.poll_write(cx, buf))
    }

    /// Writes as much of `data` as fits, cuts that off its front, and returns how much it was.
    pub(super) fn poll_write_chunk(&self, cx: &mut Context<'_>, data: &mut Bytes) -> Poll<Result<usize, StreamError>> {
        self.poll_send(cx, |send, cx| send.poll_write_chunk(cx, data))
    }

    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        write: impl FnOnce(&mut SendStream, &mut Context<'_>) -> Poll<Result<usize, WriteError>>,
    ) -> Poll<Result<usize, StreamError>> {
        let mut halves = self.halves();
        if halves.closed {
            return Poll::Ready(Err(StreamError::Closed));
        }
        match write(&mut halves.send, cx) {
            Poll::Pending => {
                remember(&mut halves.writer, cx);
                Poll::Pending
            }
            Poll::Ready(Ok(count)) => {
                self.written.fetch_add(count as u64, Ordering::Release);
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => {
                let error = StreamError::from(error);
                if let StreamError::Reset(reset) = &error {
                    self.tell(*reset);
                }
                Poll::Ready(Err(error))
            }
        }
    }

    pub(super) fn finish(&self) {
        let mut halves = self.halves();
        if !halves.send_ended {
            halves.send_ended = true;
            halves.send.finish();
        }
    }

    pub(super) fn stop(&self, reset: Reset) {
        let mut halves = self.halves();
        if !halves.recv_ended {
            halves.recv_ended = true;
            halves.recv.stop(varint(reset));
            if let Some(reader) = halves.reader.take() {
                reader.wake();
            }
        }
    }

    /// Ends both directions. Where a side has ended in good order but is not yet acknowledged, the reset still goes out.
    pub(super) fn reset(&self, reset: Reset) {
        let mut halves = self.halves();
        if halves.closed {
            return;
        }
        halves.closed = true;
        halves.send_ended = true;
        halves.send.reset(varint(reset));
        if !halves.recv_ended {
            halves.recv_ended = true;
            halves.recv.stop(varint(reset));
        }
        for waker in [halves.reader.take(), halves.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    /// The writing half is gone. An unfinished side is reset, unless the peer has already ended its own side and somebody
    /// still waits to hear why: then the reset comes when that one is gone too, or the answer could be lost.
    pub(super) fn drop_send(&self) {
        let mut halves = self.halves();
        let awaited = halves.peer_ended && self.probes.load(Ordering::Acquire) > 0;
        if !halves.send_ended && !awaited {
            halves.send_ended = true;
            halves.send.reset(varint(DROPPED));
        }
    }

    pub(super) fn drop_recv(&self) {
        self.stop(DROPPED);
    }

    pub(super) fn fate(&self) -> Option<Reset> {
        if self.fate.load(Ordering::Acquire) == 0 {
            self.look_for_stop(&self.halves());
        }
        self.fate.load(Ordering::Acquire).checked_sub(1).map(Reset::from_code)
    }

    /// Keeps the word with the most in it: a reason beats the mere fact, and of two counts the larger is the safe one.
    fn tell(&self, reset: Reset) {
        let rank = |reset: Reset| match reset.reason {
            Reason::Internal => (0, reset.delivered),
            Reason::Cancelled => (1, reset.delivered),
            _ => (2, reset.delivered),
        };
        let _ = self.fate.fetch_update(Ordering::AcqRel, Ordering::Acquire, |old| {
            let better = old.checked_sub(1).is_none_or(|old| rank(reset) > rank(Reset::from_code(old)));
            better.then_some(reset.code() + 1)
        });
        self.told.notify_waiters();
    }

    /// Waits for a STOP_SENDING; `None` when the send side is over without one.
    pub(super) async fn stopped(&self) -> Option<Reset> {
        let stopped = self.halves().send.stopped();
        let reset = error::reset(stopped.await.ok()??);
        self.tell(reset);
        Some(reset)
    }

    pub(super) async fn acknowledged(&self, wait: Duration) -> bool {
        let stopped = self.halves().send.stopped();
        matches!(tokio::time::timeout(wait, stopped).await, Ok(Ok(None)))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.drop_send();
    }
}
