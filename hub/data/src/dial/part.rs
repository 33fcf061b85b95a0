//! Hop: forward -> dial. A piece of a request's body, as an upload reads it and as its other readers get it.

use bytes::Bytes;
use http::HeaderMap;

/// A piece of an upload.
#[derive(Debug, Clone)]
pub enum Part {
    /// Bytes.
    Data(Bytes),
    /// Trailers, the last part.
    Trailers(HeaderMap),
}

impl Part {
    /// Bytes of data; trailers have none.
    pub fn size(&self) -> usize {
        match self {
            Self::Data(data) => data.len(),
            Self::Trailers(_) => 0,
        }
    }
}
