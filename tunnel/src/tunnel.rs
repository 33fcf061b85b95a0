//! One tunnel: a QUIC connection between an agent and one shard of a hub.
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};
use figspan_proto::name::SpiffeId;
use figspan_proto::reset::Close;
use crate::stream::Stream;

/// Why a tunnel could not be opened, or gave no stream.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TunnelError { /// x
    #[error("{0}")] Lost(String) }
/// How a tunnel ended.
#[derive(Debug, Clone)]
pub struct Closed { /// Whether the peer closed it (else: we did, or it timed out).
    pub by_peer: bool, /// The application's word for it; `None` when the transport failed (idle timeout, reset, TLS).
    pub close: Option<Close>, /// For people.
    pub detail: String }
/// Handle to a tunnel; clones share it. `Send + Sync`; may be used from another thread than its endpoint's.
#[derive(Debug, Clone)]
pub struct Tunnel;
impl Tunnel {
    /// Unique within the process.
    pub fn id(&self) -> u64 { todo!() }
    /// The peer's verified identity.
    pub fn peer(&self) -> &SpiffeId { todo!() }
    /// When the peer's certificate ends (as of the handshake).
    pub fn peer_not_after(&self) -> SystemTime { todo!() }
    /// x
    pub fn remote_address(&self) -> SocketAddr { todo!() }
    /// Opens a stream; waits while the peer allows no more. Nothing is sent before the first write. Cancel-safe.
    pub async fn open(&self) -> Result<Stream, TunnelError> { todo!() }
    /// The next stream that the peer opened. Cancel-safe.
    pub async fn accept(&self) -> Result<Stream, TunnelError> { todo!() }
    /// Waits for the end.
    pub async fn closed(&self) -> Closed { todo!() }
    /// x
    pub fn is_closed(&self) -> bool { todo!() }
    /// x
    pub fn close(&self, why: Close) { todo!() }
    /// x
    pub fn rtt(&self) -> Duration { todo!() }
    /// Path MTU in bytes of UDP payload, as discovered so far.
    pub fn mtu(&self) -> u16 { todo!() }
}
