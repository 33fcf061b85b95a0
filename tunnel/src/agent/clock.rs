//! Asks a hub for its clock, without an identity and whatever this machine's own clock says.
//!
//! For finding out what is wrong, never for carrying anything: see `tls::timeless` for what is proven and what is not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use figspan_proto::join::{HubClock, Pin};

use super::call::{Call, Reached};
use super::failure;
use crate::carrier::Preference;
use crate::exchange;
use crate::identity::{Leaf, Roots};
use crate::stream::Stream;
use crate::tls::{self, Anchor, Pinned, Timeless};
use crate::transport::HANDSHAKE_TIMEOUT;
use crate::tunnel::TunnelError;

/// Whom to believe about who the hub is.
#[derive(Debug, Clone)]
pub enum Trust {
    /// The CA of a join token.
    Pin(Pin),
    /// The CAs of an identity.
    Roots(Arc<Roots>),
}

/// A hub that has proven itself, whatever the time is.
#[derive(Debug, Clone)]
pub struct Proven {
    /// Its certificate.
    pub leaf: Leaf,
    /// The round trip of the handshake.
    pub rtt: Duration,
    /// What its clock said, and what ours said at that moment; the error of a hub that does not know the question.
    pub clock: Result<(HubClock, SystemTime), String>,
}

/// Proves the hub's identity and asks for its time. At most [`HANDSHAKE_TIMEOUT`] and [`exchange::EXCHANGE_TIMEOUT`].
pub async fn ask_clock(address: SocketAddr, trust: Trust) -> Result<Proven, TunnelError> {
    let anchor = match trust {
        Trust::Pin(pin) => Anchor::Pinned(Pinned::new(pin)),
        Trust::Roots(roots) => Anchor::Roots(roots),
    };
    let timeless = Timeless::new(anchor);
    let attempt = async {
        let failed = |error: rustls::Error| TunnelError::Tls(error.to_string());
        let quic = || tls::asking(Arc::clone(&timeless)).map_err(failed);
        let tcp = || tls::asking_over_tcp(Arc::clone(&timeless)).map_err(failed);
        let call = Call { address, shard: 0, identity: None, recording: None };
        let (Reached { endpoint, connection, .. }, _) = call.reach(Preference::Auto, quic, tcp).await?;
        let (send, recv) = connection.open_bi().await.map_err(|error| failure(address, error, None))?;
        Ok((endpoint, Stream::new(connection.clone(), send, recv), connection))
    };
    let (_endpoint, stream, connection) =
        tokio::time::timeout(HANDSHAKE_TIMEOUT, attempt).await.unwrap_or(Err(TunnelError::Timeout(address)))?;
    let leaf = timeless.found().ok_or_else(|| TunnelError::Identity(format!("hub at {address} proved nothing")))?;
    let (asked, ours) = (Instant::now(), SystemTime::now());
    let clock = match exchange::ask_clock(stream).await {
        // The hub looked at its clock about half way between question and answer.
        Ok(clock) => Ok((clock, ours + asked.elapsed() / 2)),
        Err(error) => Err(error.to_string()),
    };
    Ok(Proven { leaf, rtt: connection.rtt(), clock })
}
