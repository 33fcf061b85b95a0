//! The agent's end: dialling a hub.
use std::net::SocketAddr;
use std::sync::Arc;
use figspan_proto::join::Pin;
use crate::identity::{Credentials, Roots};
use crate::stream::Stream;
use crate::tunnel::{Tunnel, TunnelError};

/// Dials a shard from a fresh UDP socket: `shard` is the first byte of the first packet's connection id. The tunnel owns its
/// endpoint. The hub's leaf must carry a hub id of our trust domain and chain to our roots. Bounded in time.
pub async fn dial(address: SocketAddr, shard: u8, credentials: &Arc<Credentials>) -> Result<Tunnel, TunnelError> { todo!() }
/// Dials without an identity, to redeem a grant: the hub's chain must hold a CA whose public key has this pin, checked
/// before anything is sent. Returns the one stream to ask on, and that CA.
pub async fn dial_join(address: SocketAddr, pin: Pin) -> Result<JoinDial, TunnelError> { todo!() }
/// A connection for one question.
#[derive(Debug)]
pub struct JoinDial { /// To ask on.
    pub stream: Stream, /// The CA that matched the pin.
    pub roots: Roots }
