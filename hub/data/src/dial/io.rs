//! Hop: dial. The byte streams that lead to a backend, behind one type: a tunnel's stream or a TCP connection, plain or TLS.
//!
//! A tunnel's stream begins with a preamble. [`Prefixed`] keeps it back until the first bytes are written, so that both leave
//! in one flight and a fresh stream costs no round trip of its own.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use figspan_tunnel::{Stream, StreamProbe, Tunnel};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::exchange::Raw;

/// A stream whose first write carries the preamble in front.
pub struct Prefixed {
    prefix: Bytes,
    stream: Stream,
}

impl Prefixed {
    /// Keeps the preamble for the first write.
    pub fn new(stream: Stream, preamble: Bytes) -> Self {
        Self { prefix: preamble, stream }
    }

    /// Writes what is left of the preamble.
    fn poll_prefix(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.prefix.is_empty() {
            let n = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.prefix))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.prefix.advance(n);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Prefixed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.stream).poll_write(cx, buf);
        }
        let mut joined = BytesMut::with_capacity(self.prefix.len() + buf.len());
        joined.extend_from_slice(&self.prefix);
        joined.extend_from_slice(buf);
        let n = ready!(Pin::new(&mut self.stream).poll_write(cx, &joined))?;
        let of_prefix = n.min(self.prefix.len());
        self.prefix.advance(of_prefix);
        if self.prefix.is_empty() && (n > of_prefix || buf.is_empty()) {
            return Poll::Ready(Ok(n - of_prefix));
        }
        ready!(self.poll_prefix(cx))?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_prefix(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_prefix(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A way to a backend, open.
pub enum Io {
    /// Through a tunnel.
    Tunnel(Prefixed),
    /// Straight to a service.
    Tcp(TcpStream),
    /// Either of them, inside TLS that ends at the workload.
    Tls(Box<dyn Raw>),
}

impl Io {
    /// The tunnel's stream, for who takes bytes as they lie; none where they must be read into a buffer.
    pub fn stream(&mut self) -> Option<&mut Stream> {
        match self {
            Self::Tunnel(prefixed) => Some(&mut prefixed.stream),
            Self::Tcp(_) | Self::Tls(_) => None,
        }
    }

    /// The same for who gives bytes as they lie: only behind the preamble.
    pub fn begun(&mut self) -> Option<&mut Stream> {
        match self {
            Self::Tunnel(prefixed) if prefixed.prefix.is_empty() => Some(&mut prefixed.stream),
            Self::Tunnel(_) | Self::Tcp(_) | Self::Tls(_) => None,
        }
    }
}

macro_rules! each {
    ($io:expr, $inner:ident => $call:expr) => {
        match $io {
            Io::Tunnel($inner) => $call,
            Io::Tcp($inner) => $call,
            Io::Tls($inner) => $call,
        }
    };
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), io => Pin::new(io).poll_read(cx, buf))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), io => Pin::new(io).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), io => Pin::new(io).poll_shutdown(cx))
    }
}

/// Where bytes go and what is known about them.
#[derive(Clone)]
pub struct Trace {
    /// Looks at the tunnel's stream; none for TCP.
    probe: Option<StreamProbe>,
    /// Bytes of the preamble, which the agent does not count.
    preamble: u64,
    tunnel: Option<Tunnel>,
}

impl Trace {
    /// For a stream of a tunnel.
    pub fn tunnel(tunnel: Tunnel, probe: StreamProbe, preamble: usize) -> Self {
        Self { probe: Some(probe), preamble: preamble as u64, tunnel: Some(tunnel) }
    }

    /// For TCP: nobody tells what arrived.
    pub fn tcp() -> Self {
        Self { probe: None, preamble: 0, tunnel: None }
    }

    /// The tunnel stream's probe.
    pub fn probe(&self) -> Option<&StreamProbe> {
        self.probe.as_ref()
    }

    /// Whether it leads through a tunnel.
    pub fn is_tunnel(&self) -> bool {
        self.tunnel.is_some()
    }

    /// Since when the tunnel has been silent, where that is so long that others are to be preferred.
    pub fn suspect_since(&self) -> Option<Instant> {
        self.tunnel.as_ref()?.suspect_since()
    }

    /// Number of the next byte behind the preamble: where a request that is about to be written starts.
    pub fn position(&self) -> u64 {
        self.probe.as_ref().map_or(0, |probe| probe.written().saturating_sub(self.preamble))
    }
}
