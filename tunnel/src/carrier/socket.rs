//! What quinn takes for its UDP socket: the UDP socket itself, and the links beside it.
//!
//! On a hub, the address of a datagram says by which of them it goes; on an agent, the route does, which changes with a rebind.
//! Costs a datagram over UDP two looks at thread-local bytes and one at an atomic.

use std::cell::Cell;
use std::collections::HashMap;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use figspan_proto::name::SpiffeId;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use super::link::{Arrivals, Link, Sent};
use super::{MovedTo, address};
use crate::tasks::Tasks;

/// Links of one endpoint, and what came over them.
#[derive(Debug, Default)]
pub(crate) struct Links {
    pub(crate) arrivals: Arc<Arrivals>,
    by_address: Mutex<HashMap<SocketAddr, Arc<Link>>>,
    /// Carry an agent's links for as long as its endpoint lives. A hub's have an owner of their own.
    pub(crate) tasks: Tasks,
    /// How often tunnels have moved.
    pub(crate) moved: Arc<MovedTo>,
}

impl Links {
    /// Takes a link in, unless there are `most` already, or `most_of_one` of its peer.
    pub(crate) fn add(&self, link: &Arc<Link>, most: usize, most_of_one: usize) -> bool {
        let mut links = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if links.len() >= most || links.values().filter(|other| other.peer() == link.peer()).count() >= most_of_one {
            return false;
        }
        links.insert(link.from(), Arc::clone(link));
        true
    }

    /// Forgets a link.
    pub(crate) fn remove(&self, link: &Arc<Link>) {
        let mut links = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if links.get(&link.from()).is_some_and(|known| Arc::ptr_eq(known, link)) {
            links.remove(&link.from());
        }
    }

    /// The peer that TLS has proven behind an address; `None` where there is none, or no link any more.
    pub(crate) fn peer(&self, address: SocketAddr) -> Option<SpiffeId> {
        self.find(address)?.peer().cloned()
    }

    fn find(&self, address: SocketAddr) -> Option<Arc<Link>> {
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner).get(&address).map(Arc::clone)
    }
}

/// By which way datagrams go.
#[derive(Debug, Clone)]
pub(crate) enum Route {
    /// As their address says.
    ByAddress,
    /// By UDP.
    Udp,
    /// By this link.
    Link(Arc<Link>),
}

/// The socket.
#[derive(Debug)]
pub(crate) struct CarrierSocket {
    udp: Arc<dyn AsyncUdpSocket>,
    route: Route,
    links: Arc<Links>,
    /// Whose turn it is to be read first, so that neither way starves the other.
    links_first: AtomicBool,
}

impl CarrierSocket {
    pub(crate) fn new(udp: Arc<dyn AsyncUdpSocket>, route: Route, links: Arc<Links>) -> Arc<Self> {
        Arc::new(Self { udp, route, links, links_first: AtomicBool::new(false) })
    }

    fn link(&self, destination: SocketAddr) -> Option<Option<Arc<Link>>> {
        match &self.route {
            Route::ByAddress if address::is_over_tcp(destination) => Some(self.links.find(destination)),
            Route::ByAddress | Route::Udp => None,
            Route::Link(link) => Some(Some(Arc::clone(link))),
        }
    }
}

thread_local! {
    /// Whether a connection has just been told that it may send: the next send on this thread is its own. quinn's endpoint sends
    /// without asking, and gives up at once.
    static ASKED: Cell<bool> = const { Cell::new(false) };
    /// Whether [`FULL`] holds something.
    static REFUSED: Cell<bool> = const { Cell::new(false) };
    /// The link that had no room for that send. The connection asks again at once, on the same thread, and waits for it.
    static FULL: Cell<Option<Arc<Link>>> = const { Cell::new(None) };
}

impl AsyncUdpSocket for CarrierSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        let udp = match self.route {
            Route::ByAddress | Route::Udp => Some(Arc::clone(&self.udp).create_io_poller()),
            Route::Link(_) => None,
        };
        Box::pin(Poller { udp, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let asked = ASKED.replace(false);
        match self.link(transmit.destination) {
            None => self.udp.try_send(transmit),
            // A link that is gone is a network that loses everything.
            Some(None) => Ok(()),
            Some(Some(link)) => match link.send(transmit.contents, transmit.segment_size) {
                Sent::Taken | Sent::Lost => Ok(()),
                Sent::Full if asked => {
                    FULL.set(Some(link));
                    REFUSED.set(true);
                    Err(io::ErrorKind::WouldBlock.into())
                }
                Sent::Full => Err(io::ErrorKind::WouldBlock.into()),
            },
        }
    }

    fn poll_recv(&self, cx: &mut Context<'_>, bufs: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> Poll<io::Result<usize>> {
        let arrivals = &self.links.arrivals;
        if arrivals.any() && self.links_first.fetch_xor(true, Ordering::Relaxed) {
            let taken = arrivals.take(bufs, meta);
            if taken > 0 {
                return Poll::Ready(Ok(taken));
            }
        }
        if let Poll::Ready(done) = self.udp.poll_recv(cx, bufs, meta) {
            return Poll::Ready(done);
        }
        // Registered before the last look, so that nothing that comes in between is missed.
        arrivals.register(cx);
        match arrivals.any() {
            true => match arrivals.take(bufs, meta) {
                0 => Poll::Pending,
                taken => Poll::Ready(Ok(taken)),
            },
            false => Poll::Pending,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        match self.route {
            Route::ByAddress | Route::Udp => self.udp.max_transmit_segments(),
            // A link cuts them itself; quinn has its own, lower limit.
            Route::Link(_) => usize::MAX,
        }
    }

    fn max_receive_segments(&self) -> usize {
        self.udp.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.udp.may_fragment()
    }
}

/// Says when one connection may send.
#[derive(Debug)]
struct Poller {
    udp: Option<Pin<Box<dyn UdpPoller>>>,
    waiting: Option<Arc<Link>>,
}

impl UdpPoller for Poller {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if REFUSED.replace(false) {
            self.waiting = FULL.take();
        }
        if let Some(link) = &self.waiting {
            ready!(link.poll_room(cx));
            self.waiting = None;
        }
        if let Some(udp) = &mut self.udp {
            ready!(udp.as_mut().poll_writable(cx))?;
        }
        ASKED.set(true);
        Poll::Ready(Ok(()))
    }
}
