//! What an endpoint takes for its UDP socket: the UDP socket itself, and the links beside it.
//!
//! On a hub, the address of a datagram says by which of them it goes; on an agent, the route does, which changes with a rebind.
//! Costs a datagram over UDP a look at an atomic.

use std::collections::HashMap;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use figspan_proto::name::SpiffeId;
use figspan_quic::{RecvMeta, Socket, Udp};
use quinn_proto::Transmit;

use super::link::{Arrivals, Link};
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
    udp: Udp,
    route: Route,
    links: Arc<Links>,
    /// Whose turn it is to be read first, so that neither way starves the other.
    links_first: AtomicBool,
}

/// Where a datagram goes.
enum Way {
    Udp,
    Link(Arc<Link>),
    /// A link that is gone: a network that loses everything.
    Nowhere,
}

impl CarrierSocket {
    pub(crate) fn new(udp: Udp, route: Route, links: Arc<Links>) -> Arc<Self> {
        Arc::new(Self { udp, route, links, links_first: AtomicBool::new(false) })
    }

    fn way(&self, to: SocketAddr) -> Way {
        match &self.route {
            Route::ByAddress if address::is_over_tcp(to) => self.links.find(to).map_or(Way::Nowhere, Way::Link),
            Route::ByAddress | Route::Udp => Way::Udp,
            Route::Link(link) => Way::Link(Arc::clone(link)),
        }
    }
}

impl Socket for CarrierSocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }

    fn may_fragment(&self) -> bool {
        self.udp.may_fragment()
    }

    fn gro_segments(&self) -> usize {
        self.udp.gro_segments()
    }

    fn gso_segments(&self, size: u16) -> usize {
        self.udp.gso_segments(size)
    }

    fn poll_recv(&self, cx: &mut Context<'_>, bufs: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]) -> Poll<io::Result<usize>> {
        let arrivals = &self.links.arrivals;
        if arrivals.any() && self.links_first.fetch_xor(true, Ordering::Relaxed) {
            let taken = arrivals.take(bufs, metas);
            if taken > 0 {
                return Poll::Ready(Ok(taken));
            }
        }
        if let Poll::Ready(done) = self.udp.poll_recv(cx, bufs, metas) {
            return Poll::Ready(done);
        }
        // Registered before the last look, so that nothing that comes in between is missed.
        arrivals.register(cx);
        match arrivals.any() {
            true => match arrivals.take(bufs, metas) {
                0 => Poll::Pending,
                taken => Poll::Ready(Ok(taken)),
            },
            false => Poll::Pending,
        }
    }

    fn poll_room(&self, cx: &mut Context<'_>, to: SocketAddr) -> Poll<()> {
        match self.way(to) {
            Way::Link(link) => link.poll_room(cx),
            Way::Udp | Way::Nowhere => Poll::Ready(()),
        }
    }

    fn send(&self, transmit: &Transmit, contents: &[u8]) -> io::Result<()> {
        match self.way(transmit.destination) {
            Way::Udp => return self.udp.send(transmit, contents),
            // What it does not take is lost; whether it has room was asked before.
            Way::Link(link) => drop(link.send(&contents[..transmit.size], transmit.segment_size)),
            Way::Nowhere => {}
        }
        Ok(())
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.udp.poll_writable(cx)
    }
}
