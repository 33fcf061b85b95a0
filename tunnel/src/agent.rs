//! The agent's end: dialling a hub.
//!
//! Every attempt uses a fresh socket, so that a load balancer or a broken NAT mapping gets a new chance. Promises that nothing
//! but the handshake is sent before the hub has proven itself, and that a returned tunnel is known to the hub too. Which
//! transport carries it is found out by `call`, and kept up by `mover` while the tunnel lives.

mod call;
mod clock;
mod failure;
mod heard;
mod link;
mod mover;
mod recording;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use figspan_proto::join::Pin;

use crate::carrier::{Carried, Moves, Preference, Transport};
use crate::hub::leaf;
use crate::identity::{Credentials, Roots};
use crate::stream::Stream;
use crate::tls::{self, Pinned};
use crate::transport::HANDSHAKE_TIMEOUT;
use crate::tunnel::{Tunnel, TunnelError};
use call::{Call, Reached, confirmed};
use failure::failure;
use mover::{LOOK_BACK, Mover};

pub use clock::{Proven, Trust, ask_clock};
pub use heard::udp_arrives;
pub use recording::Recording;

/// How to dial.
#[derive(Debug, Clone)]
pub struct DialOptions {
    /// Which transports may carry the tunnel.
    pub preference: Preference,
    /// Counts how often tunnels came to be on a transport.
    pub moves: Arc<Moves>,
    /// How soon a tunnel on TCP looks for UDP again; four times as long where that has led nowhere. Tests are less patient.
    pub look_back: Duration,
    /// Where the tunnel's packets are written down, if they are.
    pub recording: Option<Recording>,
}

impl Default for DialOptions {
    fn default() -> Self {
        Self { preference: Preference::default(), moves: Arc::default(), look_back: LOOK_BACK, recording: None }
    }
}

/// Dials a shard: `shard` is the first byte of the first packet's connection id. The tunnel owns its endpoint. The hub's leaf must
/// carry a hub id of our trust domain and chain to our roots. Where UDP does not pass, TCP carries the tunnel, then or later.
///
/// At most [`HANDSHAKE_TIMEOUT`]. When it returns a tunnel, the hub has accepted our certificate as well.
pub async fn dial(address: SocketAddr, shard: u8, credentials: &Arc<Credentials>) -> Result<Tunnel, TunnelError> {
    dial_with(address, shard, credentials, &DialOptions::default()).await
}

/// The same as [`dial`], otherwise.
pub async fn dial_with(
    address: SocketAddr,
    shard: u8,
    credentials: &Arc<Credentials>,
    options: &DialOptions,
) -> Result<Tunnel, TunnelError> {
    let identity = credentials.identity();
    let attempt = async {
        let failed = |error: rustls::Error| TunnelError::Tls(error.to_string());
        let (quic, tcp) = (|| tls::agent(credentials).map_err(failed), || tls::agent_over_tcp(credentials).map_err(failed));
        let recording = options.recording.as_ref();
        let call = Call { address, shard, identity: Some(&identity), recording };
        let (Reached { endpoint, connection, links, link }, why) = call.reach(options.preference, quic, tcp).await?;
        confirmed(&connection).await.map_err(|error| failure(address, error, Some(&identity)))?;
        let peer = leaf(&connection).ok_or_else(|| TunnelError::Identity(format!("hub at {address} showed no certificate")))?;
        if link.as_ref().is_some_and(|link| link.peer() != Some(&peer.id)) {
            return Err(TunnelError::Identity(format!("hub at {address} is {} inside of a TCP connection of somebody else", peer.id)));
        }
        let transport = if link.is_some() { Transport::Tcp } else { Transport::Quic };
        let tunnel = Tunnel::of_agent(connection, peer, endpoint, links, Carried::now(transport, why));
        options.moves.count(why);
        if options.preference != Preference::Quic {
            let mover = Mover {
                hub: address,
                shard,
                credentials: Arc::clone(credentials),
                preference: options.preference,
                moves: Arc::clone(&options.moves),
                look_back: options.look_back,
                tunnel: tunnel.downgrade(),
            };
            tunnel.keep(mover.keep(link));
        }
        Ok(tunnel)
    };
    tokio::time::timeout(HANDSHAKE_TIMEOUT, attempt).await.unwrap_or(Err(TunnelError::Timeout(address)))
}

/// A connection for one question.
#[derive(Debug)]
pub struct JoinDial {
    /// To ask on.
    pub stream: Stream,
    /// The CA that matched the pin.
    pub roots: Roots,
    /// What carries it.
    pub transport: Transport,
}

/// Dials without an identity, to redeem a grant: the hub's chain must hold a CA whose public key has this pin, checked
/// before anything is sent. Returns the one stream to ask on, and that CA. At most [`HANDSHAKE_TIMEOUT`].
pub async fn dial_join(address: SocketAddr, pin: Pin) -> Result<JoinDial, TunnelError> {
    dial_join_with(address, pin, Preference::Auto).await
}

/// The same over the transports that are preferred.
pub async fn dial_join_with(address: SocketAddr, pin: Pin, preference: Preference) -> Result<JoinDial, TunnelError> {
    let attempt = async {
        // Each attempt checks the pin by itself; both inside of a TCP connection and on it.
        let (pinned, outside) = (Pinned::new(pin), Pinned::new(pin));
        let failed = |error: rustls::Error| TunnelError::Tls(error.to_string());
        let quic = || tls::joining(Arc::clone(&pinned)).map_err(failed);
        let tcp = || tls::joining_over_tcp(Arc::clone(&outside)).map_err(failed);
        let call = Call { address, shard: 0, identity: None, recording: None };
        // The endpoint's task carries the connection until the stream, its last handle, is gone.
        let (Reached { connection, link, .. }, _) = call.reach(preference, quic, tcp).await?;
        let roots = pinned.found().ok_or_else(|| TunnelError::Identity(format!("hub at {address} proved nothing")))?;
        let (send, recv) = connection.open_bi().await.map_err(|error| failure(address, error, None))?;
        let transport = if link.is_some() { Transport::Tcp } else { Transport::Quic };
        Ok(JoinDial { stream: Stream::new(connection, send, recv), roots, transport })
    };
    tokio::time::timeout(HANDSHAKE_TIMEOUT, attempt).await.unwrap_or(Err(TunnelError::Timeout(address)))
}

#[cfg(test)]
mod tests;
