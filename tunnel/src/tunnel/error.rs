//! Why tunnels fail and end, in words that say what to do.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use figspan_proto::reset::Close;
use quinn::ConnectionError;

use super::Closed;
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
    /// Nothing came back in time.
    #[error("no answer from {0} within {limit} s; is a hub listening there, and does a firewall let UDP pass both ways?", limit = HANDSHAKE_TIMEOUT.as_secs())]
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

/// The peer's word for closing, for people.
fn said(close: Close) -> String {
    let text = match close {
        Close::Done => "its work is finished",
        Close::Leaving => "its process ends",
        Close::Revoked => "this identity was revoked; ask for a new grant and join again",
        Close::Identity => "it does not accept this identity",
        Close::Version => "no version of the control protocol is known to both; upgrade the older one",
        Close::Protocol => "it says that the protocol or its limits were broken",
        Close::Replaced => "a newer tunnel of this process took its place",
        Close::Limit => "it has as many tunnels as it allows",
        Close::Other(code) => return format!("the peer closed the tunnel: code {code}, which this build does not know"),
    };
    format!("the peer closed the tunnel: {text}")
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

/// The application's word for an end, and whether it is the peer's.
pub(crate) fn close_reason(error: &ConnectionError) -> Option<(bool, Close)> {
    match error {
        ConnectionError::ApplicationClosed(frame) => {
            let code = u32::try_from(frame.error_code.into_inner()).unwrap_or(u32::MAX);
            Some((true, Close::from_code(code)))
        }
        ConnectionError::LocallyClosed => Some((false, Close::Done)),
        _ => None,
    }
}

pub(crate) fn closed(error: ConnectionError) -> Closed {
    if let Some((by_peer, close)) = close_reason(&error) {
        let detail = if by_peer { said(close) } else { "closed by this side".to_owned() };
        // Which of our codes it was is known to the tunnel, not to quinn.
        return Closed { by_peer, close: by_peer.then_some(close), detail };
    }
    let (by_peer, detail) = match error {
        ConnectionError::TimedOut => (false, "nothing came from the peer for too long".to_owned()),
        ConnectionError::Reset => (true, "the peer does not know the tunnel any more; it has probably restarted".to_owned()),
        ConnectionError::ConnectionClosed(frame) => (true, format!("the peer's QUIC closed the tunnel: {}", text(&frame))),
        ConnectionError::TransportError(error) => (false, format!("the peer broke QUIC or TLS: {error}")),
        error => (false, error.to_string()),
    };
    Closed { by_peer, close: None, detail }
}

fn text(frame: &quinn::ConnectionClose) -> String {
    // The reason is the peer's free text: keep what a log can bear.
    let reason: String = String::from_utf8_lossy(&frame.reason).chars().filter(|c| !c.is_control()).take(200).collect();
    if reason.is_empty() { frame.error_code.to_string() } else { format!("{} ({reason})", frame.error_code) }
}
