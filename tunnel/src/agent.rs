//! The agent's end: dialling a hub.
//!
//! Every attempt uses a fresh UDP socket, so that a load balancer or a broken NAT mapping gets a new chance. Promises that
//! nothing but the handshake is sent before the hub has proven itself, and that a returned tunnel is known to the hub too.

mod clock;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use figspan_proto::join::Pin;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, EndpointConfig, TransportErrorCode};

use crate::hub::{leaf, towards};
use crate::identity::{Credentials, Identity, Roots};
use crate::stream::Stream;
use crate::tls::{self, Pinned};
use crate::transport::{self, HANDSHAKE_TIMEOUT};
use crate::tunnel::{Tunnel, TunnelError};

pub use clock::{Proven, Trust, ask_clock};

/// Dials a shard from a fresh UDP socket: `shard` is the first byte of the first packet's connection id. The tunnel owns its
/// endpoint. The hub's leaf must carry a hub id of our trust domain and chain to our roots.
///
/// At most [`HANDSHAKE_TIMEOUT`]. When it returns a tunnel, the hub has accepted our certificate as well.
pub async fn dial(address: SocketAddr, shard: u8, credentials: &Arc<Credentials>) -> Result<Tunnel, TunnelError> {
    dial_with_mtu(address, shard, credentials, transport::MTU).await
}

/// The same with MTU discovery up to `mtu` bytes of UDP payload (at most [`transport::MTU_CAP`]).
pub async fn dial_with_mtu(address: SocketAddr, shard: u8, credentials: &Arc<Credentials>, mtu: u16) -> Result<Tunnel, TunnelError> {
    let identity = credentials.identity();
    let attempt = async {
        let crypto = tls::agent(credentials).map_err(|error| TunnelError::Tls(error.to_string()))?;
        let (endpoint, connection) = connect(address, shard, crypto, mtu, &identity).await?;
        confirmed(&connection).await.map_err(|error| failure(address, error, Some(&identity)))?;
        let peer = leaf(&connection).ok_or_else(|| TunnelError::Identity(format!("hub at {address} showed no certificate")))?;
        Ok(Tunnel::of_agent(connection, peer, endpoint))
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
}

/// Dials without an identity, to redeem a grant: the hub's chain must hold a CA whose public key has this pin, checked
/// before anything is sent. Returns the one stream to ask on, and that CA. At most [`HANDSHAKE_TIMEOUT`].
pub async fn dial_join(address: SocketAddr, pin: Pin) -> Result<JoinDial, TunnelError> {
    let attempt = async {
        let pinned = Pinned::new(pin);
        let crypto = tls::joining(Arc::clone(&pinned)).map_err(|error| TunnelError::Tls(error.to_string()))?;
        // The endpoint's task carries the connection until the stream, its last handle, is gone.
        let (_, connection) = connect(address, 0, crypto, transport::MTU, None).await?;
        let roots = pinned.found().ok_or_else(|| TunnelError::Identity(format!("hub at {address} proved nothing")))?;
        let (send, recv) = connection.open_bi().await.map_err(|error| failure(address, error, None))?;
        Ok(JoinDial { stream: Stream::new(connection, send, recv), roots })
    };
    tokio::time::timeout(HANDSHAKE_TIMEOUT, attempt).await.unwrap_or(Err(TunnelError::Timeout(address)))
}

async fn connect<'a>(
    address: SocketAddr,
    shard: u8,
    crypto: QuicClientConfig,
    mtu: u16,
    identity: impl Into<Option<&'a Arc<Identity>>>,
) -> Result<(Endpoint, Connection), TunnelError> {
    let socket_failed = |error: std::io::Error| TunnelError::Socket { address, source: Arc::new(error) };
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport::agent(mtu)));
    config.initial_dst_cid_provider(Arc::new(move || towards(shard)));
    let mut endpoint = EndpointConfig::default();
    let payload = endpoint.max_udp_payload_size(transport::max_payload(mtu));
    payload.map_err(|error| socket_failed(std::io::Error::other(error)))?;
    let socket = transport::udp_towards(address).map_err(socket_failed)?;
    let endpoint = Endpoint::new(endpoint, None, socket, transport::runtime()).map_err(socket_failed)?;
    let connecting = endpoint
        .connect_with(config, address, tls::SERVER_NAME)
        .map_err(|error| socket_failed(std::io::Error::new(std::io::ErrorKind::InvalidInput, error)))?;
    let connection = connecting.await.map_err(|error| failure(address, error, identity.into()))?;
    Ok((endpoint, connection))
}

/// Waits until the hub has confirmed the handshake (RFC 9001, section 4.1.2), which it does after it has verified our
/// certificate. quinn tells nobody about that frame, so its counter is looked at, ever less often.
async fn confirmed(connection: &Connection) -> Result<(), ConnectionError> {
    let mut wait = Duration::from_micros(500);
    while connection.stats().frame_rx.handshake_done == 0 {
        match tokio::time::timeout(wait, connection.closed()).await {
            Ok(error) => return Err(error),
            Err(_) => wait = (wait * 2).min(Duration::from_millis(20)),
        }
    }
    Ok(())
}

/// TLS alerts (RFC 8446, section 6) that are about certificates.
const BAD_CERTIFICATE: u8 = 42;
const CERTIFICATE_EXPIRED: u8 = 45;
const CERTIFICATE_UNKNOWN: u8 = 46;
const UNKNOWN_CA: u8 = 48;
const ACCESS_DENIED: u8 = 49;
const CERTIFICATE_REQUIRED: u8 = 116;

/// Says why a dial failed: whose side, and what to do.
fn failure(address: SocketAddr, error: ConnectionError, identity: Option<&Arc<Identity>>) -> TunnelError {
    let alert = |code: TransportErrorCode| u64::from(code).checked_sub(0x100).and_then(|alert| u8::try_from(alert).ok());
    match error {
        ConnectionError::TimedOut => TunnelError::Timeout(address),
        ConnectionError::TransportError(ours) if alert(ours.code).is_some() => {
            TunnelError::Identity(format!("hub at {address} cannot be trusted: {}", tls::plain(&ours.reason)))
        }
        ConnectionError::ConnectionClosed(theirs) => match alert(theirs.error_code) {
            Some(alert) => TunnelError::Identity(format!("hub at {address} refuses our certificate: {}", alert_text(alert, identity))),
            None if theirs.error_code == TransportErrorCode::CONNECTION_REFUSED => {
                TunnelError::Lost(format!("hub at {address} is busy; try again"))
            }
            None => TunnelError::Lost(crate::closed::closed(ConnectionError::ConnectionClosed(theirs)).detail),
        },
        other => TunnelError::of(other),
    }
}

fn alert_text(alert: u8, identity: Option<&Arc<Identity>>) -> String {
    let valid = identity.map_or_else(String::new, |identity| {
        format!(
            " (it is valid from {} to {}; this machine's clock says {})",
            stamp(identity.not_before()),
            stamp(identity.not_after()),
            stamp(SystemTime::now())
        )
    });
    match alert {
        CERTIFICATE_EXPIRED => format!("it has expired, or is not yet valid by the hub's clock{valid}; compare the clocks, or join again"),
        UNKNOWN_CA => "it was issued by a CA that the hub does not trust; join this hub with a token of its own".into(),
        CERTIFICATE_REQUIRED => "none was shown; join first".into(),
        BAD_CERTIFICATE | CERTIFICATE_UNKNOWN | ACCESS_DENIED => format!("its identity is not accepted{valid}"),
        other => format!("TLS alert {other}{valid}"),
    }
}

fn stamp(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| "an impossible time".into(), |time| time.to_string())
}

#[cfg(test)]
mod tests;
