//! Why a dial failed, in words: whose side, and what to do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use quinn_proto::{ConnectionError, TransportErrorCode};

use crate::identity::Identity;
use crate::tls;
use crate::tunnel::TunnelError;

/// TLS alerts (RFC 8446, section 6) that are about certificates.
const BAD_CERTIFICATE: u8 = 42;
const CERTIFICATE_EXPIRED: u8 = 45;
const CERTIFICATE_UNKNOWN: u8 = 46;
const UNKNOWN_CA: u8 = 48;
const ACCESS_DENIED: u8 = 49;
const CERTIFICATE_REQUIRED: u8 = 116;

/// Says why a dial failed: whose side, and what to do.
pub(super) fn failure(address: SocketAddr, error: ConnectionError, identity: Option<&Arc<Identity>>) -> TunnelError {
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
