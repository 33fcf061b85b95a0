//! One tunnel: a QUIC connection between an agent and one shard of a hub.
//!
//! A [`Tunnel`] is a handle; clones share it and may live on any thread. Dropping the last handle and the last stream closes
//! the connection in good order. Identity is that of the verified leaf, as of the handshake.

mod error;
mod pulse;
mod statistics;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant, SystemTime};

use figspan_proto::join::MARK;
use figspan_proto::name::SpiffeId;
use figspan_proto::reset::Close;
use figspan_quic::{Connection, Endpoint, Udp};
use tokio::sync::watch;

use crate::carrier::address::{is_over_tcp, real};
use crate::carrier::socket::{CarrierSocket, Links, Route};
use crate::carrier::{Carried, Transport, Why};
use crate::closed::{Closed, closed};
use crate::heard::Heard;
use crate::identity::Leaf;
use crate::stream::Stream;
use crate::tasks::Tasks;
use crate::transport;

pub use error::TunnelError;
use pulse::Pulse;
pub(crate) use pulse::Sampler;
pub use statistics::Statistics;

/// Handle to a tunnel; clones share it. `Send + Sync`; may be used from another thread than its endpoint's.
#[derive(Debug, Clone)]
pub struct Tunnel(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: u64,
    connection: Connection,
    peer: Leaf,
    pulse: Pulse,
    /// What we closed it with, if we did.
    closing: OnceLock<Close>,
    carrier: Carrier,
    carried: watch::Sender<Carried>,
}

/// A handle that does not keep the tunnel alive.
#[derive(Debug)]
pub(crate) struct WeakTunnel(Weak<Inner>);

impl WeakTunnel {
    /// The tunnel, unless it has ended.
    pub(crate) fn alive(&self) -> Option<Tunnel> {
        self.0.upgrade().map(Tunnel).filter(|tunnel| !tunnel.is_closed())
    }
}

/// What has to live as long as the tunnel does.
#[derive(Debug)]
enum Carrier {
    /// An agent's tunnel has an endpoint and sockets of its own, and perhaps a task that moves it between them.
    Own { endpoint: Endpoint, links: Arc<Links>, mover: Tasks },
    /// A hub's tunnel is looked after by its shard.
    Shard {
        #[allow(dead_code, reason = "kept, so that it lives")]
        sampler: Arc<Sampler>,
        heard: Arc<Heard>,
    },
}

impl Tunnel {
    pub(crate) fn of_agent(connection: Connection, peer: Leaf, endpoint: Endpoint, links: Arc<Links>, carried: Carried) -> Self {
        Self::new(connection, peer, Carrier::Own { endpoint, links, mover: Tasks::default() }, carried)
    }

    pub(crate) fn of_hub(connection: Connection, peer: Leaf, sampler: Arc<Sampler>, heard: Arc<Heard>) -> Self {
        let carried = arrived(connection.remote_address());
        let tunnel = Self::new(connection, peer, Carrier::Shard { sampler: Arc::clone(&sampler), heard }, carried);
        sampler.watch(&tunnel.0);
        tunnel
    }

    fn new(connection: Connection, peer: Leaf, carrier: Carrier, carried: Carried) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(Arc::new(Inner {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            connection,
            peer,
            pulse: Pulse::new(),
            closing: OnceLock::new(),
            carrier,
            carried: watch::Sender::new(carried),
        }))
    }

    /// Unique within the process.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// The peer's verified identity.
    pub fn peer(&self) -> &SpiffeId {
        &self.0.peer.id
    }

    /// The peer's certificate (as of the handshake); its chain has been verified.
    pub fn peer_leaf(&self) -> &Leaf {
        &self.0.peer
    }

    /// When the peer's certificate ends (as of the handshake).
    pub fn peer_not_after(&self) -> SystemTime {
        self.0.peer.not_after
    }

    /// The peer's address as of now; it may change while the tunnel lives.
    pub fn remote_address(&self) -> SocketAddr {
        real(self.0.connection.remote_address())
    }

    /// What carries the tunnel. On the hub's end it is looked at every [`transport::SILENCE_SAMPLE`], and the reason is the
    /// agent's: what the hub knows is only that it came.
    pub fn carried(&self) -> Carried {
        *self.0.carried.borrow()
    }

    /// [`Self::carried`] as a channel.
    pub fn carriage(&self) -> watch::Receiver<Carried> {
        self.0.carried.subscribe()
    }

    pub(crate) fn downgrade(&self) -> WeakTunnel {
        WeakTunnel(Arc::downgrade(&self.0))
    }

    /// Runs a task for as long as there is a handle to an agent's tunnel.
    pub(crate) fn keep(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Carrier::Own { mover, .. } = &self.0.carrier {
            mover.spawn(task);
        }
    }

    /// The links of an agent's tunnel.
    pub(crate) fn links(&self) -> Option<Arc<Links>> {
        match &self.0.carrier {
            Carrier::Own { links, .. } => Some(Arc::clone(links)),
            Carrier::Shard { .. } => None,
        }
    }

    /// Sends by another way from now on, with a fresh UDP socket; what comes by the old one still counts. On the agent's end.
    pub(crate) fn switch(&self, route: Route, transport: Transport, why: Why) -> io::Result<()> {
        let Carrier::Own { endpoint, links, .. } = &self.0.carrier else {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "a hub's tunnel shares its shard's socket"));
        };
        let udp = Udp::new(transport::udp_towards(self.remote_address())?)?;
        endpoint.rebind(CarrierSocket::new(udp, route, Arc::clone(links)));
        self.0.carried.send_replace(Carried::now(transport, why));
        Ok(())
    }

    /// Opens a stream; waits while the peer allows no more. Nothing is sent before the first write. Cancel-safe.
    pub async fn open(&self) -> Result<Stream, TunnelError> {
        let (send, recv) = self.0.connection.open_bi().await.map_err(TunnelError::of)?;
        Ok(Stream::new(self.0.connection.clone(), send, recv))
    }

    /// The next stream that the peer opened. Cancel-safe.
    pub async fn accept(&self) -> Result<Stream, TunnelError> {
        let (send, recv) = self.0.connection.accept_bi().await.map_err(TunnelError::of)?;
        Ok(Stream::new(self.0.connection.clone(), send, recv))
    }

    /// Hub: lets the agent open as many streams as calls of services need ([`transport::CALLS_FROM_AGENT`]).
    pub fn allow_calls(&self) {
        let streams = transport::STREAMS_FROM_AGENT + transport::CALLS_FROM_AGENT;
        self.0.connection.set_max_concurrent_bi_streams(streams.into());
    }

    /// Hub: waits up to 3 s for a first packet over UDP to come to the tunnel's shard whose connection id begins so. `None` where too
    /// many are waited for, or on the agent's end.
    pub async fn hears(&self, mark: [u8; MARK]) -> Option<bool> {
        match &self.0.carrier {
            Carrier::Shard { heard, .. } => heard.listen(mark).await,
            Carrier::Own { .. } => None,
        }
    }

    /// Waits for the end.
    pub async fn closed(&self) -> Closed {
        let mut closed = closed(self.0.connection.closed().await);
        if !closed.by_peer && closed.close.is_none() {
            closed.close = self.0.closing.get().copied();
        }
        closed
    }

    /// Whether it has ended, for whatever reason.
    pub fn is_closed(&self) -> bool {
        self.0.connection.is_ended()
    }

    /// Closes the tunnel and all its streams at once; the peer hears `why`. See [`Self::wait_idle`].
    pub fn close(&self, why: Close) {
        if !self.is_closed() {
            let _ = self.0.closing.set(why);
        }
        self.0.connection.close(why.code().into(), b"");
    }

    /// Waits until a close has been said to the peer (three probe timeouts); on the agent's end only, else it returns at once,
    /// because a hub waits for its whole endpoint.
    pub async fn wait_idle(&self) {
        if let Carrier::Own { endpoint, .. } = &self.0.carrier {
            endpoint.wait_idle().await;
        }
    }

    /// Round trip, smoothed.
    pub fn rtt(&self) -> Duration {
        self.0.connection.rtt()
    }

    /// Path MTU in bytes of UDP payload, as discovered so far.
    pub fn mtu(&self) -> u16 {
        self.0.connection.stats().path.current_mtu
    }

    /// What it has carried, and what its path did to it.
    pub fn statistics(&self) -> Statistics {
        self.0.connection.stats().into()
    }

    /// How long nothing has come from the peer. Samples: on the hub's end that is done every [`transport::SILENCE_SAMPLE`] anyway, on
    /// the agent's end [`Self::suspect`] is as of the last call of this.
    pub fn silent_for(&self) -> Duration {
        self.0.pulse.look(&self.0.connection, Instant::now());
        self.0.pulse.silent_for()
    }

    /// Whether the peer has been silent for so long ([`transport::SUSPECT_AFTER`]) that others should be preferred. One atomic
    /// read. On the agent's end it is only looked at where the tunnel may change its transport.
    pub fn suspect(&self) -> bool {
        self.0.pulse.suspect()
    }

    /// Since when it has been silent, where it is [`Self::suspect`].
    pub fn suspect_since(&self) -> Option<Instant> {
        self.suspect().then(|| self.0.pulse.quiet_since())
    }

    /// When it was opened.
    pub fn opened(&self) -> Instant {
        self.0.pulse.start()
    }

    /// [`Self::suspect`] as a channel, for those who must not miss a change between two looks.
    pub fn suspicion(&self) -> watch::Receiver<bool> {
        self.0.pulse.subscribe()
    }

    /// Waits until [`Self::suspect`] changes, counted from this call, and returns the new answer. Never completes for a tunnel
    /// that stays as it is: wait for [`Self::closed`] beside it. Cancel-safe. See [`Self::suspicion`].
    pub async fn changed_suspicion(&self) -> bool {
        self.0.pulse.changed().await
    }

    /// Moves an agent's tunnel to a fresh UDP socket, as after a change of network; streams go on. An error on the hub's end.
    pub fn rebind(&self) -> io::Result<()> {
        let Carried { transport, why, .. } = self.carried();
        let why = if transport == Transport::Quic { why } else { Why::Again };
        self.switch(Route::Udp, Transport::Quic, why)
    }

    /// The UDP address that an agent's tunnel sends from; `None` on the hub's end.
    pub fn local_address(&self) -> Option<SocketAddr> {
        match &self.0.carrier {
            Carrier::Own { endpoint, .. } => endpoint.local_addr().ok(),
            Carrier::Shard { .. } => None,
        }
    }
}

impl Inner {
    /// On the hub's end: notices when the tunnel has changed its transport, and closes one that comes by a TCP connection of
    /// somebody else. It cannot be read or forged there, since QUIC has keys of its own, but nobody has any business with it.
    fn check_path(&self, links: &Links) {
        let address = self.connection.remote_address();
        if is_over_tcp(address) && links.peer(address).is_some_and(|peer| peer != self.peer.id) {
            let _ = self.closing.set(Close::Identity);
            self.connection.close(Close::Identity.code().into(), b"TLS over TCP proved another identity");
            return;
        }
        let now = arrived(address);
        if self.carried.borrow().transport != now.transport {
            links.moved.count(now.transport);
            self.carried.send_replace(now);
            tracing::info!(agent = %self.peer.id, remote = %real(address), transport = %now.transport, "tunnel of {} is carried by {} now", self.peer.id, now.transport);
        }
    }
}

/// What the hub knows of a tunnel's transport.
fn arrived(address: SocketAddr) -> Carried {
    match is_over_tcp(address) {
        true => Carried::now(Transport::Tcp, Why::Blocked),
        false => Carried::now(Transport::Quic, Why::Answered),
    }
}
