//! The hub's end: sockets that shards share by connection id, and the endpoints on them.
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use figspan_proto::reset::Close;
use crate::identity::Credentials;
use crate::stream::Stream;
use crate::tunnel::{Tunnel, TunnelError};

/// Binds one UDP socket per shard to the same address (SO_REUSEPORT) and steers packets by connection id (classic BPF).
pub fn bind_shards(address: SocketAddr, shards: usize) -> io::Result<Vec<UdpSocket>> { todo!() }
/// What a shard's endpoint needs.
#[derive(Debug, Clone)]
pub struct HubConfig { /// 0-based.
    pub shard: usize, /// 1 to 128.
    pub shards: usize, /// Presented and trusted.
    pub credentials: Arc<Credentials>, /// One per hub, kept over restarts (RFC 9000, section 10.3).
    pub reset_key: [u8; 64] }
/// A shard's QUIC endpoint. Made and used inside the shard's tokio runtime.
#[derive(Debug)]
pub struct HubEndpoint;
impl HubEndpoint {
    /// x
    pub fn new(socket: UdpSocket, config: HubConfig) -> io::Result<Self> { todo!() }
    /// x
    pub fn local_address(&self) -> io::Result<SocketAddr> { todo!() }
    /// The next connection attempt; `None` once closed. Retry (address validation) under load is decided inside.
    pub async fn accept(&self) -> Option<Incoming> { todo!() }
    /// Closes all its tunnels.
    pub fn close(&self, why: Close) { todo!() }
    /// Waits until closed tunnels have said so to their peers.
    pub async fn wait_idle(&self) { todo!() }
}
/// A connection attempt.
#[derive(Debug)]
pub struct Incoming;
impl Incoming { /// x
    pub fn remote_address(&self) -> SocketAddr { todo!() }
    /// Finishes the handshake (bounded in time) and checks the identity: role agent, own trust domain.
    pub async fn establish(self) -> Result<Established, TunnelError> { todo!() } }
/// What a handshake led to.
#[derive(Debug)]
pub enum Established { /// A tunnel of a known agent.
    Tunnel(Tunnel), /// A VM without a certificate that may do one thing: redeem a grant.
    Joining(Joining) }
/// A connection without a client certificate.
#[derive(Debug)]
pub struct Joining;
impl Joining { /// x
    pub fn remote_address(&self) -> SocketAddr { todo!() }
    /// The one stream that it may open.
    pub async fn accept(&mut self) -> Result<Stream, TunnelError> { todo!() }
    /// Closes after the answer was acknowledged or 1 s.
    pub async fn finish(self) { todo!() } }
