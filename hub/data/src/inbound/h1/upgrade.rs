//! Hop `inbound`: an HTTP/1 connection that has become a WebSocket.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use crate::exchange::Raw;
use crate::inbound::socket::Socket;

/// A connection that speaks WebSocket from here on.
pub(super) struct Upgraded<T> {
    socket: Socket<T>,
    first: Bytes,
    /// Dropped with the rest, which the connection's task sees.
    _alive: oneshot::Sender<()>,
}

impl<T> Upgraded<T> {
    /// `first` was read with the handshake; `alive` is dropped with the rest.
    pub(super) fn new(socket: Socket<T>, first: Bytes, alive: oneshot::Sender<()>) -> Self {
        Self { socket, first, _alive: alive }
    }
}

pub(super) async fn client_io<T: AsyncRead + AsyncWrite + Unpin + 'static>(
    upgraded: oneshot::Receiver<Upgraded<T>>,
) -> io::Result<Box<dyn Raw>> {
    match upgraded.await {
        Ok(upgraded) => Ok(Box::new(upgraded)),
        Err(_) => Err(io::Error::new(io::ErrorKind::NotConnected, "the client's connection ended before the handshake did")),
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Upgraded<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.socket).poll_read(cx, buf);
        }
        let take = self.first.len().min(buf.remaining());
        buf.put_slice(&self.first.split_to(take));
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Upgraded<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
