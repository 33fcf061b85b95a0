//! Hop: backend -> forward. A WebSocket's bytes on one HTTP/2 stream (RFC 8441), as `AsyncRead + AsyncWrite`.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Lease;

/// Both directions of a stream; dropped before both ended, it is cancelled.
pub struct Duplex {
    receive: RecvStream,
    send: SendStream<Bytes>,
    data: Bytes,
    ended: (bool, bool),
    _lease: Lease,
}

impl Duplex {
    /// After the workload's 200.
    pub fn new(receive: RecvStream, send: SendStream<Bytes>, lease: Lease) -> Self {
        Self { receive, send, data: Bytes::new(), ended: (false, false), _lease: lease }
    }
}

fn other(error: h2::Error) -> io::Error {
    if error.is_io() { error.into_io().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()) } else { io::Error::other(error) }
}

impl AsyncRead for Duplex {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.data.is_empty() {
            match ready!(self.receive.poll_data(cx)) {
                Some(Ok(data)) => {
                    let _ = self.receive.flow_control().release_capacity(data.len());
                    self.data = data;
                }
                Some(Err(error)) => return Poll::Ready(Err(other(error))),
                None => {
                    self.ended.0 = true;
                    return Poll::Ready(Ok(()));
                }
            }
        }
        let n = self.data.len().min(buf.remaining());
        buf.put_slice(&self.data[..n]);
        self.data.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let room = ready!(super::exchange::poll_room(&mut self.send, cx, buf.len())).map_err(other)?;
        self.send.send_data(Bytes::copy_from_slice(&buf[..room]), false).map_err(other)?;
        Poll::Ready(Ok(room))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.ended.1, true) {
            self.send.send_data(Bytes::new(), true).map_err(other)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Duplex {
    fn drop(&mut self) {
        if self.ended != (true, true) {
            self.send.send_reset(Reason::CANCEL);
        }
    }
}
