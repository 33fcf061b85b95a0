//! Hop `inbound`: a client's byte stream, plain or TLS, that can give back bytes already read and end with a reset.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A client's connection.
#[derive(Debug)]
pub struct Socket<T> {
    io: T,
    first: Bytes,
    reset: fn(&T),
    ends_in_order: bool,
}

impl<T> Socket<T> {
    /// Wraps a connection; `reset` makes its end visible as a failure: the next close sends RST.
    pub fn new(io: T, reset: fn(&T)) -> Self {
        Self { io, first: Bytes::new(), reset, ends_in_order: false }
    }

    /// Gives bytes back, to be read first.
    pub fn unread(&mut self, bytes: Bytes) {
        debug_assert!(self.first.is_empty(), "bytes are given back once");
        self.first = bytes;
    }

    /// Whether to drop it is to end it in order, after all that was written.
    pub fn ends_in_order(&self) -> bool {
        self.ends_in_order
    }

    /// Makes the coming close a reset, so that nobody takes a cut answer for a whole one.
    pub fn abort(self) {
        (self.reset)(&self.io);
    }
}

impl Socket<TcpStream> {
    /// Wraps a plain connection.
    pub fn tcp(io: TcpStream) -> Self {
        Self { ends_in_order: true, ..Self::new(io, reset_on_close) }
    }
}

/// Turns the coming close of a TCP connection back into an ordinary one.
pub fn close_in_order(io: &TcpStream) {
    let _ = socket2::SockRef::from(io).set_linger(None);
}

/// Turns the coming close of a TCP connection into a reset.
pub fn reset_on_close(io: &TcpStream) {
    // Fails only where the connection is gone already.
    let _ = socket2::SockRef::from(io).set_linger(Some(Duration::ZERO));
}

impl<T: AsyncRead + Unpin> AsyncRead for Socket<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let take = self.first.len().min(buf.remaining());
        buf.put_slice(&self.first[..take]);
        self.first.advance(take);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Socket<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
