//! The state that a stream's halves and probes share.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use figspan_proto::reset::{Reason, Reset};
use figspan_quic::{Connection, ReadError, RecvStream, SendStream, WriteError};
use quinn_proto::VarInt;
use tokio::io::ReadBuf;
use tokio::sync::Notify;

use super::{DROPPED, StreamError, error};

/// One per stream. The streams of `figspan_quic` are behind their connection's lock, so that none is needed here: each flag is set
/// once and never taken back.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) connection: Connection,
    send: SendStream,
    recv: RecvStream,
    /// Our side was finished or reset.
    send_ended: Flag,
    /// The peer's side was read to its end, reset, or stopped by us.
    recv_ended: Flag,
    /// The peer's side was read to its end or reset.
    peer_ended: Flag,
    /// Set by a reset of ours: reads and writes fail from here on.
    closed: Flag,
    pub(super) written: AtomicU64,
    /// What the peer said about the end: its code plus 1, or 0 for nothing.
    fate: AtomicU64,
    /// How many probes look at this stream.
    pub(super) probes: AtomicUsize,
    /// Somebody waits for `fate`.
    pub(super) told: Notify,
}

#[derive(Debug, Default)]
struct Flag(AtomicBool);

impl Flag {
    fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Sets it; whether it was not set before.
    fn set(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

fn varint(reset: Reset) -> VarInt {
    // Codes have 62 bits by construction.
    VarInt::from_u64(reset.code()).unwrap_or(VarInt::MAX)
}

impl Shared {
    pub(super) fn new(connection: Connection, send: SendStream, recv: RecvStream) -> Self {
        Self {
            connection,
            send,
            recv,
            send_ended: Flag::default(),
            recv_ended: Flag::default(),
            peer_ended: Flag::default(),
            closed: Flag::default(),
            written: AtomicU64::new(0),
            fate: AtomicU64::new(0),
            probes: AtomicUsize::new(0),
            told: Notify::new(),
        }
    }

    pub(super) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<(), StreamError>> {
        let before = buf.filled().len();
        if self.closed.is_set() {
            return Poll::Ready(Err(StreamError::Closed));
        }
        match self.recv.poll_read(cx, buf) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => {
                if buf.filled().len() == before && buf.remaining() > 0 {
                    self.read_ended();
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.read_failed(error))),
        }
    }

    pub(super) fn poll_read_chunk(&self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Option<Bytes>, StreamError>> {
        if self.closed.is_set() {
            return Poll::Ready(Err(StreamError::Closed));
        }
        match self.recv.poll_chunk(cx, max) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(Some(chunk))) => Poll::Ready(Ok(Some(chunk))),
            Poll::Ready(Ok(None)) => {
                self.read_ended();
                Poll::Ready(Ok(None))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.read_failed(error))),
        }
    }

    /// Fills `chunks` from the front with what has arrived; `None` at the peer's FIN.
    pub(super) fn poll_read_chunks(&self, cx: &mut Context<'_>, chunks: &mut [Bytes]) -> Poll<Result<Option<usize>, StreamError>> {
        if self.closed.is_set() {
            return Poll::Ready(Err(StreamError::Closed));
        }
        match self.recv.poll_chunks(cx, chunks) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(Some(count))) => Poll::Ready(Ok(Some(count))),
            Poll::Ready(Ok(None)) => {
                self.read_ended();
                Poll::Ready(Ok(None))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.read_failed(error))),
        }
    }

    /// The peer's side is over in good order; it may also have said why it reads no more.
    fn read_ended(&self) {
        if self.peer_ended.set() {
            self.recv_ended.set();
            self.look_for_stop();
        }
    }

    fn read_failed(&self, error: ReadError) -> StreamError {
        let error = StreamError::from(error);
        if let StreamError::Reset(reset) = &error {
            self.tell(*reset);
        }
        self.recv_ended.set();
        self.peer_ended.set();
        self.look_for_stop();
        error
    }

    fn look_for_stop(&self) {
        if let Ok(Some(code)) = self.send.stop_code() {
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
        write: impl FnOnce(&SendStream, &mut Context<'_>) -> Poll<Result<usize, WriteError>>,
    ) -> Poll<Result<usize, StreamError>> {
        if self.closed.is_set() {
            return Poll::Ready(Err(StreamError::Closed));
        }
        match write(&self.send, cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(count)) => {
                // One half writes, so nobody adds at the same time.
                self.written.store(self.written.load(Ordering::Relaxed) + count as u64, Ordering::Release);
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
        if self.send_ended.set() {
            self.send.finish();
        }
    }

    pub(super) fn stop(&self, reset: Reset) {
        if self.recv_ended.set() {
            self.recv.stop(varint(reset));
        }
    }

    /// Ends both directions. Where a side has ended in good order but is not yet acknowledged, the reset still goes out.
    pub(super) fn reset(&self, reset: Reset) {
        if !self.closed.set() {
            return;
        }
        self.send_ended.set();
        self.send.reset(varint(reset));
        if self.recv_ended.set() {
            self.recv.stop(varint(reset));
        }
    }

    /// The writing half is gone. An unfinished side is reset, unless the peer has already ended its own side and somebody
    /// still waits to hear why: then the reset comes when that one is gone too, or the answer could be lost.
    pub(super) fn drop_send(&self) {
        let awaited = self.peer_ended.is_set() && self.probes.load(Ordering::Acquire) > 0;
        if !awaited && self.send_ended.set() {
            self.send.reset(varint(DROPPED));
        }
    }

    pub(super) fn drop_recv(&self) {
        self.stop(DROPPED);
    }

    pub(super) fn fate(&self) -> Option<Reset> {
        if self.fate.load(Ordering::Acquire) == 0 {
            self.look_for_stop();
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
        let stopped = self.send.stopped();
        let reset = error::reset(stopped.await.ok()??);
        self.tell(reset);
        Some(reset)
    }

    pub(super) async fn acknowledged(&self, wait: Duration) -> bool {
        let stopped = self.send.stopped();
        matches!(tokio::time::timeout(wait, stopped).await, Ok(Ok(None)))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.drop_send();
    }
}
