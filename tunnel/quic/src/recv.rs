//! The receiving side of a stream.

use std::sync::Arc;
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
    /// Read to its end, stopped, or reset.
    done: bool,
    /// A reset that was found behind bytes which had to be handed on first.
    reset: Option<VarInt>,
}

impl RecvStream {
    pub(crate) fn new(connection: Arc<Handle>, id: StreamId) -> Self {
        Self { connection, id, done: false, reset: None }
    }

    /// Reads what has come into `buf`; nothing at the peer's end.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<(), ReadError>> {
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
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Option<Bytes>, ReadError>> {
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
    pub fn poll_chunks(&mut self, cx: &mut Context<'_>, chunks: &mut [Bytes]) -> Poll<Result<Option<usize>, ReadError>> {
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
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&mut dyn FnMut(usize) -> Next) -> (bool, Option<Next>),
    ) -> Poll<Result<bool, ReadError>> {
        if let Some(code) = self.reset {
            return Poll::Ready(Err(ReadError::Reset(code)));
        }
        if self.done {
            return Poll::Ready(Ok(false));
        }
        let core = &self.connection.0;
        let mut state = core.lock();
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
                self.done = true;
                Poll::Ready(Ok(any))
            }
            Some(Next::Reset(code)) => {
                (self.done, self.reset) = (true, Some(code));
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

    /// Asks the peer to stop sending, with this code; what has come is thrown away. Nothing happens after the end.
    pub fn stop(&mut self, code: VarInt) {
        self.done = true;
        let core = &self.connection.0;
        let mut state = core.lock();
        let waiting = state.readers.remove(&self.id);
        let stopped = state.proto.recv_stream(self.id).stop(code);
        drop(state);
        drop(waiting);
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
        if !self.done && !self.connection.is_ended() {
            self.stop(VarInt::from_u32(0));
        }
    }
}
