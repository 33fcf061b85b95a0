//! Bodies of both ends: whole with a known length, in parts without one, and one that breaks off on purpose.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};

/// Bytes of one part.
const PART: usize = 1024;

/// Bytes of one part of a body that is large.
const LARGE_PART: usize = 16 * 1024;

/// A body.
pub(crate) enum Chunks {
    /// With its length announced.
    Whole(Full<Bytes>),
    /// In parts, length not announced.
    Parts(Bytes),
    /// Announces all its bytes, gives that many, and breaks off.
    Cut(Bytes, u64),
    /// A body that tells its owner when it was not taken to its end.
    Watched(Box<Chunks>, Watch),
}

/// Told about a body that was dropped before its end.
pub(crate) struct Watch(pub(crate) Option<Box<dyn FnOnce()>>);

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(tell) = self.0.take() {
            tell();
        }
    }
}

/// Why a body ended early.
#[derive(Debug)]
pub(crate) struct CutOff;

impl fmt::Display for CutOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cut off on purpose")
    }
}

impl std::error::Error for CutOff {}

impl Chunks {
    pub(crate) fn whole(body: Bytes) -> Self {
        Self::Whole(Full::new(body))
    }

    pub(crate) const fn parts(body: Bytes) -> Self {
        Self::Parts(body)
    }
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Self::Parts(rest) if rest.is_empty() => Poll::Ready(None),
            Self::Parts(rest) => {
                let part = if rest.len() > LARGE_PART { LARGE_PART } else { PART };
                Poll::Ready(Some(Ok(Frame::data(rest.split_to(rest.len().min(part))))))
            }
            Self::Cut(rest, _) if rest.is_empty() => Poll::Ready(Some(Err(CutOff))),
            Self::Cut(rest, _) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(rest))))),
            Self::Watched(body, watch) => {
                let polled = Pin::new(&mut **body).poll_frame(cx);
                if matches!(polled, Poll::Ready(None)) || body.is_end_stream() {
                    watch.0 = None;
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Parts(rest) => rest.is_empty(),
            Self::Cut(..) => false,
            Self::Watched(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Parts(_) => SizeHint::default(),
            Self::Cut(_, announced) => SizeHint::with_exact(*announced),
            Self::Watched(body, _) => body.size_hint(),
        }
    }
}
