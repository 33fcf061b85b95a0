//! Hop `call` -> inbound: a stream as a client's connection, whose failed end is a reset that says so.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use figspan_proto::reset::{Reason, Reset};
use figspan_tunnel::{Stream, StreamProbe};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::inbound::socket::Socket;

/// What a process hears of an answer that broke off. How much of its request was seen is for the answer to say.
const BROKEN: Reset = Reset { reason: Reason::Cancelled, delivered: Reset::MAX_DELIVERED };

/// A stream and a look at it, by which whoever owns it may cut it.
#[derive(Debug)]
pub(super) struct CallIo {
    stream: Stream,
    probe: StreamProbe,
}

/// A stream that was taken, as `inbound` reads it.
pub(super) fn socket(stream: Stream) -> Socket<CallIo> {
    let probe = stream.probe();
    Socket::new(CallIo { stream, probe }, |io| io.probe.reset(BROKEN))
}

impl AsyncRead for CallIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for CallIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
