//! How connections end, told from QUIC's words: by whom, with which of our codes, and in text for people.

use figspan_proto::reset::Close;
use quinn_proto::ConnectionError;

/// How a tunnel ended.
#[derive(Debug, Clone)]
pub struct Closed {
    /// Whether the peer closed it (else: we did, or it timed out).
    pub by_peer: bool,
    /// The application's word for it; `None` when the transport failed (idle timeout, reset, TLS).
    pub close: Option<Close>,
    /// For people.
    pub detail: String,
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
        // Which of our codes it was is known to the tunnel, not to the protocol.
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

fn text(frame: &quinn_proto::ConnectionClose) -> String {
    // The reason is the peer's free text: keep what a log can bear.
    let reason: String = String::from_utf8_lossy(&frame.reason).chars().filter(|c| !c.is_control()).take(200).collect();
    if reason.is_empty() { frame.error_code.to_string() } else { format!("{} ({reason})", frame.error_code) }
}

/// The peer's word for closing, for people.
pub(crate) fn said(close: Close) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_free_text_can_neither_end_a_line_nor_grow() {
        let reason = format!("\u{1b}[2J\r\n2026 ERROR forged\u{9b}31m{}", "x".repeat(5000)).into_bytes();
        let frame = quinn_proto::ConnectionClose {
            error_code: quinn_proto::TransportErrorCode::INTERNAL_ERROR,
            frame_type: None,
            reason: reason.into(),
        };
        let told = closed(ConnectionError::ConnectionClosed(frame)).detail;
        assert!(told.contains("ERROR forged") && !told.contains(char::is_control) && told.len() < 500, "{told:?}");
    }
}
