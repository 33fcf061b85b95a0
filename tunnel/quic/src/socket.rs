//! What carries an endpoint's datagrams: UDP, many datagrams in one call (GSO, GRO, recvmmsg, by quinn-udp), or whatever behaves
//! like it.

use std::fmt::Debug;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use quinn_proto::{EcnCodepoint, Transmit};
use quinn_udp::{RecvMeta, UdpSocketState};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Receptions of one system call. Each may hold up to 64 datagrams.
pub(crate) const BATCH: usize = 8;

/// The largest UDP payload over IPv4: no send of many datagrams may be larger.
const LARGEST: usize = 65_507;

/// A socket for datagrams. Only the driver of its endpoint calls it.
pub trait Socket: Debug + Send + Sync {
    /// Its address.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// Whether datagrams may be split on their way: then MTU discovery would learn nothing.
    fn may_fragment(&self) -> bool;

    /// Datagrams that may come joined in one reception, at least 1.
    fn gro_segments(&self) -> usize;

    /// Datagrams of that size which one call can send, at least 1.
    fn gso_segments(&self, size: u16) -> usize;

    /// Receives into `bufs`; how many were filled. As many as offered mean that more may have come.
    fn poll_recv(&self, cx: &mut Context<'_>, bufs: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]) -> Poll<io::Result<usize>>;

    /// Ready when datagrams to that address have a place to go, apart from all others: whoever has none waits alone.
    fn poll_room(&self, cx: &mut Context<'_>, to: SocketAddr) -> Poll<()>;

    /// Sends now or fails with `WouldBlock`, which holds for all addresses. Whatever else goes wrong counts as lost on the way.
    fn send(&self, transmit: &Transmit, contents: &[u8]) -> io::Result<()>;

    /// Ready once something may be sent again after `WouldBlock`.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// A UDP socket.
#[derive(Debug)]
pub struct Udp {
    /// Watched for what comes, and for nothing else: each datagram that has left makes room, which would wake the thread once for
    /// every send.
    io: AsyncFd<UdpSocket>,
    /// Watched for room, only while there is none.
    room: Mutex<Option<AsyncFd<UdpSocket>>>,
    state: UdpSocketState,
}

/// Sets what every UDP socket of QUIC needs: datagrams that are not split, and what the kernel can tell about each.
pub fn prepare(socket: &UdpSocket) -> io::Result<()> {
    UdpSocketState::new(socket.into()).map(drop)
}

/// Watches a socket for that alone.
#[allow(
    deprecated,
    reason = "a UdpSocket keeps its one descriptor while it lives, which is what the function that took its place has one swear"
)]
fn watch(socket: UdpSocket, interest: Interest) -> io::Result<AsyncFd<UdpSocket>> {
    AsyncFd::with_interest(socket, interest)
}

impl Udp {
    /// Takes a bound socket. Call it inside a tokio runtime with I/O.
    pub fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        socket.set_nonblocking(true)?;
        Ok(Self { io: watch(socket, Interest::READABLE)?, room: Mutex::default(), state })
    }
}

impl Socket for Udp {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().local_addr()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    fn gro_segments(&self) -> usize {
        self.state.gro_segments().max(1)
    }

    fn gso_segments(&self, size: u16) -> usize {
        (LARGEST / usize::from(size.max(1))).clamp(1, self.state.max_gso_segments().max(1))
    }

    fn poll_recv(&self, cx: &mut Context<'_>, bufs: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]) -> Poll<io::Result<usize>> {
        loop {
            let mut readable = ready!(self.io.poll_read_ready(cx))?;
            match self.state.recv(self.io.get_ref().into(), bufs, metas) {
                Ok(count) => {
                    if count < bufs.len() {
                        // Nothing more has come: the next call then waits without asking the kernel.
                        readable.clear_ready();
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => readable.clear_ready(),
                // A datagram that was refused somewhere (ICMP) says nothing about this socket.
                Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_room(&self, _: &mut Context<'_>, _: SocketAddr) -> Poll<()> {
        Poll::Ready(())
    }

    fn send(&self, transmit: &Transmit, contents: &[u8]) -> io::Result<()> {
        let transmit = quinn_udp::Transmit {
            destination: transmit.destination,
            ecn: transmit.ecn.map(ecn),
            contents: &contents[..transmit.size],
            segment_size: transmit.segment_size,
            src_ip: transmit.src_ip,
        };
        self.state.send(self.io.get_ref().into(), &transmit)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        let watched = match room.take() {
            Some(watched) => watched,
            None => watch(self.io.get_ref().try_clone()?, Interest::WRITABLE)?,
        };
        // With room it is not watched any more; without, until there is.
        match watched.poll_write_ready(cx) {
            Poll::Ready(ready) => Poll::Ready(ready.map(drop)),
            Poll::Pending => {
                *room = Some(watched);
                Poll::Pending
            }
        }
    }
}

fn ecn(codepoint: EcnCodepoint) -> quinn_udp::EcnCodepoint {
    match codepoint {
        EcnCodepoint::Ect0 => quinn_udp::EcnCodepoint::Ect0,
        EcnCodepoint::Ect1 => quinn_udp::EcnCodepoint::Ect1,
        EcnCodepoint::Ce => quinn_udp::EcnCodepoint::Ce,
    }
}

/// The codepoint of a reception, in the protocol's own type.
pub(crate) fn received_ecn(codepoint: quinn_udp::EcnCodepoint) -> EcnCodepoint {
    match codepoint {
        quinn_udp::EcnCodepoint::Ect0 => EcnCodepoint::Ect0,
        quinn_udp::EcnCodepoint::Ect1 => EcnCodepoint::Ect1,
        quinn_udp::EcnCodepoint::Ce => EcnCodepoint::Ce,
    }
}
