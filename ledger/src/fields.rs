//! The header fields in which client and workload tell each other what they sent and read.

use http::{HeaderName, HeaderValue};

/// Id of a request of our own load.
pub(crate) const ID: HeaderName = HeaderName::from_static("x-try-id");
/// Whose request it is.
pub(crate) const USER: HeaderName = HeaderName::from_static("x-user");
/// Sum of the request's body as it arrived.
pub(crate) const RECEIVED: HeaderName = HeaderName::from_static("x-try-received");
/// Length and sum of the answer's body.
pub(crate) const WROTE: HeaderName = HeaderName::from_static("x-try-wrote");
/// Who answers.
pub(crate) const BY: HeaderName = HeaderName::from_static("x-try-by");

/// An id as it is written in headers.
pub(crate) fn id_text(id: u64) -> HeaderValue {
    HeaderValue::try_from(format!("{id:016x}")).expect("hexadecimal digits are header text")
}
