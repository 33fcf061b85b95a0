//! One bidirectional stream of a tunnel.
//!
//! Owns the two halves of a QUIC stream behind a lock of its own (never shared with another stream), so that a [`StreamProbe`] can look at
//! and reset a stream that hyper or a splice owns. Promises that a stream never ends silently: dropped unfinished, it is reset.
//! Never claims "not delivered" by accident: QUIC's implicit codes are read as "may have been seen".

mod error;
mod half;
mod probe;
mod state;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use figspan_proto::reset::{Reason, Reset};
use figspan_quic::{Connection, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub use error::StreamError;
pub use half::{RecvHalf, SendHalf};
pub use probe::StreamProbe;
use state::Shared;

/// What a stream is reset with when it is dropped unfinished: whoever dropped it does not know what the workload has seen.
const DROPPED: Reset = Reset { reason: Reason::Cancelled, delivered: Reset::MAX_DELIVERED };

/// A stream: `AsyncRead + AsyncWrite`; shutdown = FIN of our side. Dropped unfinished, it is reset with `Cancelled`.
#[derive(Debug)]
pub struct Stream {
    recv: RecvHalf,
    send: SendHalf,
}

impl Stream {
    pub(crate) fn new(connection: Connection, send: SendStream, recv: RecvStream) -> Self {
        let shared = Arc::new(Shared::new(connection, send, recv));
        Self { recv: RecvHalf(Arc::clone(&shared)), send: SendHalf(shared) }
    }

    /// A look at this stream for when something else owns it.
    pub fn probe(&self) -> StreamProbe {
        StreamProbe::new(&self.recv.0)
    }

    /// Next bytes without a copy, at most `max`; `None` at the peer's FIN. Cancel-safe.
    pub async fn read_chunk(&mut self, max: usize) -> Result<Option<Bytes>, StreamError> {
        self.recv.read_chunk(max).await
    }

    /// The same for hand-written futures.
    pub fn poll_read_chunk(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Option<Bytes>, StreamError>> {
        self.recv.poll_read_chunk(cx, max)
    }

    /// Reads exactly `buf.len()` bytes (the preamble). Not cancel-safe. [`StreamError::Ended`] when the peer ends before.
    pub async fn read_exact(&mut self, buf: &mut [u8]) -> Result<(), StreamError> {
        self.recv.read_exact(buf).await
    }

    /// Writes all. Not cancel-safe: a part may have been written.
    pub async fn write_chunk(&mut self, data: Bytes) -> Result<(), StreamError> {
        self.send.write_chunk(data).await
    }

    /// Writes what fits now, cuts it off the front of `data`, and returns how much it was. For hand-written futures.
    pub fn poll_write_chunk(&mut self, cx: &mut Context<'_>, data: &mut Bytes) -> Poll<Result<usize, StreamError>> {
        self.send.poll_write_chunk(cx, data)
    }

    /// FIN: no more bytes from our side. Nothing happens if our side has ended already.
    pub fn finish(&mut self) {
        self.send.finish();
    }

    /// RESET_STREAM on our sending side and STOP_SENDING on the peer's, with this code.
    pub fn reset(&mut self, reset: Reset) {
        self.recv.0.reset(reset);
    }

    /// STOP_SENDING alone: what the peer still sends is not wanted. Reads end with an error from here on.
    pub fn stop(&mut self, reset: Reset) {
        self.recv.stop(reset);
    }

    /// Waits at most that long for the peer to acknowledge all bytes of a finished stream. Whether it did.
    pub async fn acknowledged(&self, wait: Duration) -> bool {
        self.recv.0.acknowledged(wait).await
    }

    /// Splits into reading and writing halves; the probe stays valid. Each half ends its own direction when dropped.
    pub fn split(self) -> (RecvHalf, SendHalf) {
        (self.recv, self.send)
    }

    /// Puts two halves together again; hands them back if they are not of the same stream.
    pub fn unsplit(recv: RecvHalf, send: SendHalf) -> Result<Self, (RecvHalf, SendHalf)> {
        if Arc::ptr_eq(&recv.0, &send.0) { Ok(Self { recv, send }) } else { Err((recv, send)) }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.recv).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.send).poll_write(cx, buf)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.send).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.send).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
