//! Hop `inbound`: the way back to an HTTP/2 client, shared by a request's task, its body and its 1xx responses.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use h2::server::SendResponse;
use http::header::{self, HeaderMap, HeaderName};
use http::{Response, StatusCode};

use crate::exchange::Interim;

/// The way to answer; taken once the final response begins, so that no 1xx follows it.
pub(super) type Answer = Rc<RefCell<Option<SendResponse<Bytes>>>>;

impl Interim for RefCell<Option<SendResponse<Bytes>>> {
    /// Sends it while no final response has begun. A stream is one exchange.
    fn send(&self, _: u64, response: Response<()>) {
        let (mut parts, ()) = response.into_parts();
        if !parts.status.is_informational() || parts.status == StatusCode::SWITCHING_PROTOCOLS {
            return;
        }
        strip(&mut parts.headers);
        if let Some(respond) = self.borrow_mut().as_mut() {
            // Fails only where the stream is over, which the request's task hears by itself.
            let _ = respond.send_informational(Response::from_parts(parts, ()));
        }
    }
}

/// What HTTP/2 has no place for (RFC 9113, section 8.2.2).
static CONNECTION_SPECIFIC: [HeaderName; 5] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Takes those fields out; hardly an answer has any.
pub(super) fn strip(headers: &mut HeaderMap) {
    if headers.keys().any(|name| CONNECTION_SPECIFIC.contains(name)) {
        for name in &CONNECTION_SPECIFIC {
            headers.remove(name);
        }
    }
}
