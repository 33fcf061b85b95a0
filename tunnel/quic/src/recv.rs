//! The receiving side of a stream.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use quinn_proto::{ConnectionError, ReadableError, StreamId, VarInt};
use tokio::io::ReadBuf;

use crate::state::Handle;

/// Why reading failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The peer gave the stream up, with this code.
    #[error("stream reset by the peer: {0}")]
    Reset(VarInt),
    /// The connection has ended.
    #[error("connection lost: {0}")]
    Lost(ConnectionError),
    /// This side has stopped or finished reading it before.
    #[error("the stream was closed by this side")]
    Closed,
}

/// The receiving side of a stream. Dropped before its end, it asks the peer to stop, with code 0.
#[derive(Debug)]
pub struct RecvStream {
    connection: Arc<Handle>,
    id: StreamId,
    /// Read to its end, stopped, or reset. Written under the connection's lock.
    done: AtomicBool,
    /// A reset that was found, perhaps behind bytes which had to be handed on first. Written once.
    reset: OnceLock<VarInt>,
}

impl RecvStream {
    pub(crate) fn new(connection: Arc<Handle>, id: StreamId) -> Self {
        Self { connection, id, done: AtomicBool::new(false), reset: OnceLock::new() }
    }

    /// Reads what has come into `buf`; nothing at the peer's end.
    pub fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<(), ReadError>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let polled = self.poll_with(cx, |next| {
            let mut any = false;
            while buf.remaining() > 0 {
                match next(buf.remaining()) {
                    Next::Bytes(bytes) => {
                        buf.put_slice(&bytes);
                        any = true;
                    }
                    last => return (any, Some(last)),
                }
            }
            (any, None)
        });
        polled.map_ok(|_| ())
    }

    /// The next bytes without a copy, at most `max`; `None` at the peer's end.
    pub fn poll_chunk(&self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Option<Bytes>, ReadError>> {
        let mut chunk = None;
        let polled = self.poll_with(cx, |next| match next(max) {
            Next::Bytes(bytes) => {
                chunk = Some(bytes);
                (true, None)
            }
            last => (false, Some(last)),
        });
        polled.map_ok(|_| chunk)
    }

    /// Fills `chunks` from the front with what has come, without a copy; how many, or `None` at the peer's end.
    pub fn poll_chunks(&self, cx: &mut Context<'_>, chunks: &mut [Bytes]) -> Poll<Result<Option<usize>, ReadError>> {
        let mut count = 0;
        let polled = self.poll_with(cx, |next| {
            while count < chunks.len() {
                match next(usize::MAX) {
                    Next::Bytes(bytes) => {
                        chunks[count] = bytes;
                        count += 1;
                    }
                    last => return (count > 0, Some(last)),
                }
            }
            (true, None)
        });
        polled.map_ok(|any| any.then_some(count))
    }

    /// Reads by `take`, which says whether it took any bytes and, if it met it, what ended them. Whether any were taken; none
    /// means the peer's end.
    fn poll_with(
        &self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&mut dyn FnMut(usize) -> Next) -> (bool, Option<Next>),
    ) -> Poll<Result<bool, ReadError>> {
        let core = &self.connection.0;
        let mut state = core.lock();
        if self.is_done() {
            return Poll::Ready(self.reset.get().map_or(Ok(false), |code| Err(ReadError::Reset(*code))));
        }
        // Nothing has come since all was read: an idle stream is asked often, and this is cheap.
        if let Some(reader) = state.readers.get_mut(&self.id) {
            wait(reader, cx);
            return Poll::Pending;
        }
        let mut stream = state.proto.recv_stream(self.id);
        let mut chunks = match stream.read(true) {
            Ok(chunks) => chunks,
            Err(ReadableError::ClosedStream | ReadableError::IllegalOrderedRead) => return Poll::Ready(Err(ReadError::Closed)),
        };
        let (any, last) = take(&mut |max| match chunks.next(max) {
            Ok(Some(chunk)) => Next::Bytes(chunk.bytes),
            Ok(None) => Next::End,
            Err(quinn_proto::ReadError::Blocked) => Next::Blocked,
            Err(quinn_proto::ReadError::Reset(code)) => Next::Reset(code),
        });
        // Room for the peer to go on.
        let owed = chunks.finalize().should_transmit();
        let polled = match last {
            Some(Next::End) => {
                self.done.store(true, Ordering::Release);
                Poll::Ready(Ok(any))
            }
            Some(Next::Reset(code)) => {
                let _ = self.reset.set(code);
                self.done.store(true, Ordering::Release);
                Poll::Ready(if any { Ok(true) } else { Err(ReadError::Reset(code)) })
            }
            Some(Next::Blocked) => match &state.error {
                Some(error) if !any => Poll::Ready(Err(ReadError::Lost(error.clone()))),
                Some(_) => Poll::Ready(Ok(true)),
                None => {
                    let reader = state.readers.entry(self.id).or_default();
                    if any {
                        Poll::Ready(Ok(true))
                    } else {
                        wait(reader, cx);
                        Poll::Pending
                    }
                }
            },
            _ => Poll::Ready(Ok(any)),
        };
        drop(state);
        if owed {
            core.send_soon();
        }
        polled
    }

    fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// Asks the peer to stop sending, with this code; what has come is thrown away. Who waits for more is woken. Nothing happens
    /// after the end.
    pub fn stop(&self, code: VarInt) {
        let core = &self.connection.0;
        let mut state = core.lock();
        self.done.store(true, Ordering::Release);
        let waiting = state.readers.remove(&self.id).flatten();
        let stopped = state.proto.recv_stream(self.id).stop(code);
        drop(state);
        if let Some(waiting) = waiting {
            waiting.wake();
        }
        if stopped.is_ok() {
            core.send_soon();
        }
    }
}

/// Remembers who waits, without a clone where it is the same task as before.
fn wait(reader: &mut Option<Waker>, cx: &Context<'_>) {
    match reader {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *reader = Some(cx.waker().clone()),
    }
}

/// What a read finds next.
enum Next {
    Bytes(Bytes),
    End,
    Blocked,
    Reset(VarInt),
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        if !self.is_done() && !self.connection.is_ended() {
            self.stop(VarInt::from_u32(0));
        }
    }
}
