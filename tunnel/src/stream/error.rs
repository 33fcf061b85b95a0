//! Why streams fail.

use std::error::Error;
use std::io;

use figspan_proto::reset::Reset;
use figspan_quic::{ReadError, WriteError};

/// Why a stream failed. `AsyncRead`/`AsyncWrite` errors carry it as their source: see [`StreamError::of`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The peer reset its side or asked us to stop ours, and said why.
    #[error("stream reset by the peer: {}", .0.reason.as_str())]
    Reset(Reset),
    /// The tunnel is gone.
    #[error("tunnel lost: {0}")]
    Lost(String),
    /// The peer ended its side before all expected bytes came.
    #[error("the peer ended the stream too early")]
    Ended,
    /// This side has already finished, stopped or reset the stream.
    #[error("the stream was closed by this side")]
    Closed,
}

impl StreamError {
    /// Finds it in an I/O error.
    pub fn of(error: &io::Error) -> Option<&StreamError> {
        error.get_ref()?.downcast_ref()
    }

    /// Finds it in an error or what caused it, however deep (hyper and h2 wrap I/O errors).
    pub fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a StreamError> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<StreamError>() {
                return Some(found);
            }
            if let Some(found) = error.downcast_ref::<io::Error>().and_then(StreamError::of) {
                return Some(found);
            }
            next = error.source();
        }
        None
    }
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        let kind = match &error {
            StreamError::Reset(_) => io::ErrorKind::ConnectionReset,
            StreamError::Lost(_) => io::ErrorKind::ConnectionAborted,
            StreamError::Ended => io::ErrorKind::UnexpectedEof,
            StreamError::Closed => io::ErrorKind::NotConnected,
        };
        io::Error::new(kind, error)
    }
}

/// Reads a code from the wire. What QUIC ends say by themselves when a stream is dropped is code 0, `Internal` with nothing
/// delivered; nobody has counted anything there, so it must not read as "not delivered".
pub(super) fn reset(code: quinn_proto::VarInt) -> Reset {
    use figspan_proto::reset::Reason;
    match Reset::from_code(code.into_inner()) {
        Reset { reason: Reason::Internal, .. } => Reset { reason: Reason::Internal, delivered: Reset::MAX_DELIVERED },
        reset => reset,
    }
}

impl From<ReadError> for StreamError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::Reset(reset(code)),
            ReadError::Lost(error) => Self::Lost(crate::closed::closed(error).detail),
            ReadError::Closed => Self::Closed,
        }
    }
}

impl From<WriteError> for StreamError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(code) => Self::Reset(reset(code)),
            WriteError::Lost(error) => Self::Lost(crate::closed::closed(error).detail),
            WriteError::Closed => Self::Closed,
        }
    }
}
