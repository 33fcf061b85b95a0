//! Why tunnels fail and end, in words that say what to do.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use figspan_proto::reset::Close;
use quinn_proto::ConnectionError;

use crate::closed::{close_reason, closed, said};
use crate::transport::HANDSHAKE_TIMEOUT;

/// Why a tunnel could not be opened, or gave no stream.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TunnelError {
    /// The UDP socket could not be made or used.
    #[error("cannot use a UDP socket towards {address}: {source}")]
    Socket {
        /// The address to be called.
        address: SocketAddr,
        /// The system's reason.
        source: Arc<io::Error>,
    },
    /// No TCP connection.
    #[error("cannot connect to {address} over TCP: {source}")]
    Tcp {
        /// The address called.
        address: SocketAddr,
        /// The system's reason.
        source: Arc<io::Error>,
    },
    /// Nothing came back in time.
    #[error("no answer from {0} within {limit} s; is a hub listening there, and does a firewall let UDP pass both ways, or TCP?", limit = HANDSHAKE_TIMEOUT.as_secs())]
    Timeout(SocketAddr),
    /// One end could not prove who it is. The text says which, and why.
    #[error("{0}")]
    Identity(String),
    /// TLS failed for another reason.
    #[error("TLS handshake failed: {0}")]
    Tls(String),
    /// The peer closed the tunnel and said why.
    #[error("{}", said(*close))]
    Refused {
        /// Its code.
        close: Close,
    },
    /// The tunnel is gone.
    #[error("{0}")]
    Lost(String),
}

impl TunnelError {
    pub(crate) fn of(error: ConnectionError) -> Self {
        match close_reason(&error) {
            Some((true, close)) => Self::Refused { close },
            _ => Self::Lost(closed(error).detail),
        }
    }

    /// The code with which the peer closed, if it did.
    pub fn close(&self) -> Option<Close> {
        match self {
            Self::Refused { close } => Some(*close),
            _ => None,
        }
    }
}
