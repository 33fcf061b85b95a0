//! The sending side of a stream.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use quinn_proto::{ClosedStream, ConnectionError, FinishError, StreamId, VarInt};
use tokio::sync::Notify;

use crate::state::{Handle, remember};

/// Why writing failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The peer reads no more, and gave this code.
    #[error("stopped by the peer: {0}")]
    Stopped(VarInt),
    /// The connection has ended.
    #[error("connection lost: {0}")]
    Lost(ConnectionError),
    /// This side has finished or reset it before.
    #[error("the stream was closed by this side")]
    Closed,
}

/// The connection ended before the peer said anything about the stream's end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("connection lost: {0}")]
pub struct StoppedError(pub ConnectionError);

/// The sending side of a stream. Dropped unfinished, it is finished.
#[derive(Debug)]
pub struct SendStream {
    connection: Arc<Handle>,
    id: StreamId,
}

impl SendStream {
    pub(crate) fn new(connection: Arc<Handle>, id: StreamId) -> Self {
        Self { connection, id }
    }

    /// Writes what fits now; how much that was.
    pub fn poll_write(&self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, WriteError>> {
        self.poll_with(cx, |stream| stream.write(data))
    }

    /// Writes what fits now of `data`, without a copy, and cuts it off its front; how much that was.
    pub fn poll_write_chunk(&self, cx: &mut Context<'_>, data: &mut Bytes) -> Poll<Result<usize, WriteError>> {
        self.poll_with(cx, |stream| stream.write_chunks(std::slice::from_mut(data)).map(|written| written.bytes))
    }

    fn poll_with(
        &self,
        cx: &mut Context<'_>,
        write: impl FnOnce(&mut quinn_proto::SendStream<'_>) -> Result<usize, quinn_proto::WriteError>,
    ) -> Poll<Result<usize, WriteError>> {
        let core = &self.connection.0;
        let mut state = core.lock();
        if let Some(error) = &state.error {
            return Poll::Ready(Err(WriteError::Lost(error.clone())));
        }
        match write(&mut state.proto.send_stream(self.id)) {
            Ok(count) => {
                drop(state);
                core.send_soon();
                Poll::Ready(Ok(count))
            }
            Err(quinn_proto::WriteError::Blocked) => {
                remember(&mut state.writers, self.id, cx);
                Poll::Pending
            }
            Err(quinn_proto::WriteError::Stopped(code)) => Poll::Ready(Err(WriteError::Stopped(code))),
            Err(quinn_proto::WriteError::ClosedStream) => Poll::Ready(Err(WriteError::Closed)),
        }
    }

    /// FIN. Nothing happens where this side has ended already.
    pub fn finish(&self) {
        let core = &self.connection.0;
        let finished = core.lock().proto.send_stream(self.id).finish();
        match finished {
            Ok(()) => core.send_soon(),
            Err(FinishError::ClosedStream) => {}
            // The peer reads no more, so that it need not hear of an end.
            Err(FinishError::Stopped(code)) => self.reset(code),
        }
    }

    /// Gives the stream up, with this code, and wakes who waits to write. No more happens where its end is acknowledged already.
    pub fn reset(&self, code: VarInt) {
        let core = &self.connection.0;
        let mut state = core.lock();
        let waiting = state.writers.remove(&self.id);
        let reset = state.proto.send_stream(self.id).reset(code);
        drop(state);
        if let Some(waiting) = waiting {
            waiting.wake();
        }
        if reset.is_ok() {
            core.send_soon();
        }
    }

    /// What the peer has said about reading so far: the code with which it stopped. `Err` once the stream has ended otherwise:
    /// all of it is acknowledged, or this side reset it.
    pub fn stop_code(&self) -> Result<Option<VarInt>, ClosedStream> {
        self.connection.0.lock().proto.send_stream(self.id).stopped()
    }

    /// Waits until the peer stops reading (`Some`), or the stream has ended otherwise: all of it is acknowledged, or this side
    /// reset it (`None`). Lives apart from the stream. Cancel-safe.
    pub fn stopped(&self) -> impl Future<Output = Result<Option<VarInt>, StoppedError>> + Send + use<> {
        let (connection, id) = (Arc::clone(&self.connection), self.id);
        async move {
            loop {
                let watchers: Arc<Notify> = {
                    let mut state = connection.0.lock();
                    match (state.proto.send_stream(id).stopped(), &state.error) {
                        (Ok(Some(code)), _) => return Ok(Some(code)),
                        (Err(_), _) => return Ok(None),
                        (Ok(None), Some(error)) => return Err(StoppedError(error.clone())),
                        (Ok(None), None) => Arc::clone(state.watchers.entry(id).or_default()),
                    }
                };
                let mut notified = std::pin::pin!(watchers.notified());
                notified.as_mut().enable();
                // Whoever notified in between has taken the watchers away.
                let still = connection.0.lock().watchers.get(&id).is_some_and(|known| Arc::ptr_eq(known, &watchers));
                if still {
                    notified.await;
                }
            }
        }
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        if !self.connection.is_ended() {
            self.connection.0.lock().writers.remove(&self.id);
            self.finish();
        }
    }
}
