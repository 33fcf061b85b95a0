//! One bidirectional stream of a tunnel.
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use bytes::Bytes;
use figspan_proto::reset::Reset;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Why a stream failed. `AsyncRead`/`AsyncWrite` errors carry it as their source: see [`StreamError::of`].
#[derive(Debug, Clone, thiserror::Error)]
pub enum StreamError { /// The peer reset its side or asked us to stop ours, and said why.
    #[error("{0:?}")] Reset(Reset), /// The tunnel is gone.
    #[error("tunnel lost: {0}")] Lost(String), }
impl StreamError { /// Finds it in an I/O error.
    pub fn of(error: &io::Error) -> Option<&StreamError> { todo!() } }

/// A stream: `AsyncRead + AsyncWrite`; shutdown = FIN of our side. Dropped unfinished, it is reset with `Cancelled`.
#[derive(Debug)]
pub struct Stream;
/// Looks at a stream that something else (hyper, h2) owns. Cheap clone.
#[derive(Debug, Clone)]
pub struct StreamProbe;
impl Stream {
    /// x
    pub fn probe(&self) -> StreamProbe { todo!() }
    /// Next bytes without a copy; `None` at the peer's FIN. Cancel-safe.
    pub async fn read_chunk(&mut self, max: usize) -> Result<Option<Bytes>, StreamError> { todo!() }
    /// Reads exactly `buf.len()` bytes (the preamble).
    pub async fn read_exact(&mut self, buf: &mut [u8]) -> Result<(), StreamError> { todo!() }
    /// Writes all.
    pub async fn write_chunk(&mut self, data: Bytes) -> Result<(), StreamError> { todo!() }
    /// FIN.
    pub fn finish(&mut self) { todo!() }
    /// RESET_STREAM on our sending side and STOP_SENDING on the peer's, with this code.
    pub fn reset(&mut self, reset: Reset) { todo!() }
    /// STOP_SENDING alone: what the peer still sends is not wanted.
    pub fn stop(&mut self, reset: Reset) { todo!() }
    /// Splits into reading and writing halves; the probe stays valid.
    pub fn split(self) -> (RecvHalf, SendHalf) { todo!() }
}
impl StreamProbe {
    /// Bytes given to the stream for sending so far, preamble included.
    pub fn written(&self) -> u64 { todo!() }
    /// What the peer said about the stream's end so far (RESET_STREAM or STOP_SENDING), if anything.
    pub fn fate(&self) -> Option<Reset> { todo!() }
    /// The same, waiting at most that long for word to arrive.
    pub async fn fate_within(&self, wait: Duration) -> Option<Reset> { todo!() }
    /// Whether the tunnel under it is gone.
    pub fn tunnel_lost(&self) -> bool { todo!() }
    /// Resets the stream from outside, whoever owns it.
    pub fn reset(&self, reset: Reset) { todo!() }
}
/// Reading half.
#[derive(Debug)]
pub struct RecvHalf;
/// Writing half.
#[derive(Debug)]
pub struct SendHalf;
impl AsyncRead for Stream { fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> { todo!() } }
impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> { todo!() }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> { todo!() }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> { todo!() }
}
