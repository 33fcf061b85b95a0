//! The two directions of a stream.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use figspan_proto::reset::Reset;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{StreamError, StreamProbe, state::Shared};

/// Reading half. Dropped before the peer's end, it asks the peer to stop.
#[derive(Debug)]
pub struct RecvHalf(pub(super) Arc<Shared>);

/// Writing half. Dropped unfinished, it is reset with `Cancelled`.
#[derive(Debug)]
pub struct SendHalf(pub(super) Arc<Shared>);

impl RecvHalf {
    /// Next bytes without a copy, at most `max`; `None` at the peer's FIN. Cancel-safe.
    pub async fn read_chunk(&mut self, max: usize) -> Result<Option<Bytes>, StreamError> {
        poll_fn(|cx| self.poll_read_chunk(cx, max)).await
    }

    /// The same for hand-written futures.
    pub fn poll_read_chunk(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Option<Bytes>, StreamError>> {
        self.0.poll_read_chunk(cx, max)
    }

    /// Fills `chunks` from the front with what has arrived, without a copy, and returns how many; `None` at the peer's FIN.
    /// Cancel-safe.
    pub async fn read_chunks(&mut self, chunks: &mut [Bytes]) -> Result<Option<usize>, StreamError> {
        poll_fn(|cx| self.0.poll_read_chunks(cx, chunks)).await
    }

    /// Reads exactly `buf.len()` bytes. Not cancel-safe.
    pub async fn read_exact(&mut self, buf: &mut [u8]) -> Result<(), StreamError> {
        let mut buf = ReadBuf::new(buf);
        while buf.remaining() > 0 {
            let before = buf.filled().len();
            poll_fn(|cx| self.0.poll_read(cx, &mut buf)).await?;
            if buf.filled().len() == before {
                return Err(StreamError::Ended);
            }
        }
        Ok(())
    }

    /// STOP_SENDING: what the peer still sends is not wanted.
    pub fn stop(&mut self, reset: Reset) {
        self.0.stop(reset);
    }

    /// A look at this stream.
    pub fn probe(&self) -> StreamProbe {
        StreamProbe::new(&self.0)
    }
}

impl SendHalf {
    /// Writes all. Not cancel-safe: a part may have been written.
    pub async fn write_chunk(&mut self, mut data: Bytes) -> Result<(), StreamError> {
        while !data.is_empty() {
            poll_fn(|cx| self.poll_write_chunk(cx, &mut data)).await?;
        }
        Ok(())
    }

    /// Writes what fits now, cuts it off the front of `data`, and returns how much it was. For hand-written futures.
    pub fn poll_write_chunk(&mut self, cx: &mut Context<'_>, data: &mut Bytes) -> Poll<Result<usize, StreamError>> {
        self.0.poll_write_chunk(cx, data)
    }

    /// FIN: no more bytes from our side.
    pub fn finish(&mut self) {
        self.0.finish();
    }
}

impl Drop for RecvHalf {
    fn drop(&mut self) {
        self.0.drop_recv();
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        self.0.drop_send();
    }
}

impl AsyncRead for RecvHalf {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.poll_read(cx, buf).map_err(Into::into)
    }
}

impl AsyncWrite for SendHalf {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, buf).map_err(Into::into)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut total = 0;
        for buf in bufs.iter().filter(|buf| !buf.is_empty()) {
            match self.0.poll_write(cx, buf) {
                Poll::Ready(Ok(count)) => {
                    total += count;
                    if count < buf.len() {
                        break;
                    }
                }
                // What was written is reported; the error, or the wait, comes with the next call.
                _ if total > 0 => break,
                other => return other.map_err(Into::into),
            }
        }
        Poll::Ready(Ok(total))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.finish();
        Poll::Ready(Ok(()))
    }
}
