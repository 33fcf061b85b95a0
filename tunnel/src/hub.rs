//! The hub's end: sockets that shards share by connection id, and the endpoints on them.
//!
//! One [`HubEndpoint`] per shard, which may take agents over [`tcp`] as well, made and driven on the shard's runtime. Promises that nothing of a connection reaches the hub
//! before its handshake is over and its identity is checked: a verified agent becomes a [`Tunnel`](crate::Tunnel), a client without a
//! certificate may only redeem a grant. Attempts are bounded; under load, addresses must first prove themselves (Retry).

mod cid;
mod incoming;
mod steer;
pub mod tcp;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use figspan_proto::reset::Close;
use figspan_quic::{Driver, Endpoint, Udp};
use quinn_proto::{EndpointConfig, ServerConfig};

use crate::carrier::MovedTo;
use crate::carrier::address::is_over_tcp;
use crate::carrier::socket::{CarrierSocket, Links, Route};
use crate::heard::Heard;
use crate::identity::Credentials;
use crate::tasks::Tasks;
use crate::tunnel::Sampler;
use crate::{tasks, tls, transport};

pub(crate) use cid::towards;
pub(crate) use incoming::leaf;
pub use incoming::{Established, Incoming, Joining};

/// Most shards of a hub: the first byte of a connection id names the shard, and each must have at least two values.
pub const MAX_SHARDS: usize = 128;

/// Above this many attempts at a time, an address must prove itself by a Retry round trip: handshakes cost CPU, and a flood of
/// them comes from forged addresses (RFC 9000, section 8.1.2). Agents that reconnect in a storm pay one round trip.
pub const RETRY_ABOVE: usize = 64;

/// Above this many attempts at a time, new ones are refused at once; agents come back with back-off.
pub const REFUSE_ABOVE: usize = 1024;

/// Binds one UDP socket per shard to the same address (SO_REUSEPORT) and steers packets by connection id (classic BPF): shard
/// s gets the packets whose connection id begins with a byte that is s modulo the number of shards. Port 0 is resolved by the
/// first socket. Works unprivileged. An address that another process holds is an error, not a share.
pub fn bind_shards(address: SocketAddr, shards: usize) -> io::Result<Vec<UdpSocket>> {
    if shards == 0 || shards > MAX_SHARDS {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{shards} shards; between 1 and {MAX_SHARDS} are possible")));
    }
    // The first one binds alone and opens the group afterwards: with SO_REUSEPORT it would join another hub of the same user on
    // that port, and for port 0 the kernel may even choose such a port by itself.
    let first = transport::udp(address)?;
    first.bind(&address.into())?;
    first.set_reuse_port(true)?;
    let first = UdpSocket::from(first);
    let address = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..shards {
        let socket = transport::udp(address)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        sockets.push(socket.into());
    }
    if shards > 1 {
        // Only when all have joined: an index without a socket would fall back to hashing addresses.
        steer::attach(&sockets[0], shards)?;
    }
    Ok(sockets)
}

/// The UDP sockets and the TCP shares of one address. With port 0, a port that both have free.
pub fn bind_both(address: SocketAddr, shards: usize) -> io::Result<(Vec<UdpSocket>, Vec<tcp::TcpShare>)> {
    let mut tries = if address.port() == 0 { 16 } else { 1 };
    loop {
        let sockets = bind_shards(address, shards)?;
        let bound = sockets[0].local_addr()?;
        tries -= 1;
        match tcp::bind_tcp(bound, shards) {
            Ok(shares) => return Ok((sockets, shares)),
            Err(error) if tries == 0 => return Err(io::Error::new(error.kind(), format!("over TCP: {error}"))),
            Err(_) => {}
        }
    }
}

/// What a shard's endpoint needs.
#[derive(Clone)]
pub struct HubConfig {
    /// 0-based.
    pub shard: usize,
    /// 1 to [`MAX_SHARDS`].
    pub shards: usize,
    /// Presented and trusted.
    pub credentials: Arc<Credentials>,
    /// One per hub, kept over restarts (RFC 9000, section 10.3): agents of a hub that has restarted are told at once.
    pub reset_key: [u8; 64],
}

impl std::fmt::Debug for HubConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { shard, shards, credentials, reset_key: _ } = self;
        f.debug_struct("HubConfig").field("shard", shard).field("shards", shards).field("credentials", credentials).finish_non_exhaustive()
    }
}

/// A shard's QUIC endpoint. Made and used inside the shard's tokio runtime.
#[derive(Debug)]
pub struct HubEndpoint {
    endpoint: Endpoint,
    opening: Arc<AtomicUsize>,
    sampler: Arc<Sampler>,
    links: Arc<Links>,
    heard: Arc<Heard>,
    credentials: Arc<Credentials>,
    /// Connections over TCP.
    tasks: Tasks,
}

impl HubEndpoint {
    /// Starts the endpoint on one of the sockets of [`bind_shards`].
    pub fn new(socket: UdpSocket, config: HubConfig) -> io::Result<Self> {
        let (endpoint, driver) = Self::make(socket, config)?;
        tasks::drive(driver);
        Ok(endpoint)
    }

    /// The same with its driver on the current thread's `LocalSet`, among the tasks that it wakes: between them is no detour by the
    /// runtime.
    pub fn local(socket: UdpSocket, config: HubConfig) -> io::Result<Self> {
        let (endpoint, driver) = Self::make(socket, config)?;
        tasks::drive_locally(driver);
        Ok(endpoint)
    }

    fn make(socket: UdpSocket, config: HubConfig) -> io::Result<(Self, Driver)> {
        let HubConfig { shard, shards, credentials, reset_key } = config;
        if shard >= shards || shards > MAX_SHARDS {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("shard {shard} of {shards}")));
        }
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &reset_key);
        let mut endpoint = EndpointConfig::new(Arc::new(key));
        endpoint.cid_generator(move || Box::new(cid::ShardIds::new(shard, shards)));
        endpoint.max_udp_payload_size(transport::MTU_CAP).map_err(io::Error::other)?;

        let crypto = tls::hub(&credentials).map_err(io::Error::other)?;
        let mut server = ServerConfig::with_crypto(Arc::new(crypto));
        server
            .transport_config(Arc::new(transport::hub(transport::MTU)))
            .migration(true)
            .max_incoming(REFUSE_ABOVE)
            // Before an attempt is accepted there is nothing but a ClientHello to buffer.
            .incoming_buffer_size(16 * 1024)
            .incoming_buffer_size_total(4 * 1024 * 1024);

        let links = Arc::<Links>::default();
        let socket = CarrierSocket::new(Udp::new(socket)?, Route::ByAddress, Arc::clone(&links));
        let (endpoint, driver) = Endpoint::new(endpoint, Some(server), socket);
        let sampler = Sampler::start(Arc::clone(&links));
        let endpoint = Self { endpoint, opening: Arc::default(), sampler, links, heard: Arc::default(), credentials, tasks: Tasks::new() };
        Ok((endpoint, driver))
    }

    /// Accepts agents over TCP as well, with one of the shares of [`tcp::bind_tcp`], until the endpoint is dropped.
    pub fn listen_tcp(&self, share: tcp::TcpShare) -> io::Result<()> {
        let tls = tls::hub_over_tcp(&self.credentials).map_err(io::Error::other)?;
        tcp::serve(share, tls, Arc::clone(&self.links), &self.tasks)
    }

    /// How often its tunnels have moved to a transport.
    pub fn moved(&self) -> Arc<MovedTo> {
        Arc::clone(&self.links.moved)
    }

    /// The address that all shards share.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// The next connection attempt; `None` once closed. Retry (address validation) under load is decided inside. Cancel-safe.
    pub async fn accept(&self) -> Option<Incoming> {
        loop {
            let incoming = self.endpoint.accept().await?;
            if !is_over_tcp(incoming.remote_address()) {
                self.heard.note(&incoming.first_id());
            }
            let opening = self.opening.load(Ordering::Relaxed);
            if opening >= REFUSE_ABOVE {
                incoming.refuse();
            } else if opening >= RETRY_ABOVE && !proven(&incoming) {
                incoming.retry();
            } else {
                return Some(Incoming::new(incoming, &self.opening, &self.sampler, &self.links, &self.heard));
            }
        }
    }

    /// Closes all its tunnels and accepts no more.
    pub fn close(&self, why: Close) {
        self.endpoint.close(why.code().into(), b"");
    }

    /// Waits until closed tunnels have said so to their peers.
    pub async fn wait_idle(&self) {
        self.endpoint.wait_idle().await;
    }

    /// Tunnels and attempts that are open now.
    pub fn open_connections(&self) -> usize {
        self.endpoint.open_connections()
    }
}

/// Whether an address is known to be that of whoever sent the attempt: TCP has shown as much.
fn proven(incoming: &figspan_quic::Incoming) -> bool {
    incoming.remote_address_validated() || is_over_tcp(incoming.remote_address())
}

#[cfg(test)]
mod tests;
