//! Hop `admission`: the one table of refusals. A refusal names a rule, never what was sent.

use http::StatusCode;

macro_rules! rejects {
    ($($(#[$doc:meta])* $name:ident => $status:ident, $reason:literal;)*) => {
        /// Why a message is refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reject { $($(#[$doc])* $name,)* }

        impl Reject {
            /// Every refusal there is.
            pub const ALL: &'static [Reject] = &[$(Reject::$name,)*];

            /// The status of the answer to a client. For a response of a workload it is 502 instead, whatever this says.
            pub const fn status(self) -> StatusCode {
                match self { $(Reject::$name => StatusCode::$status,)* }
            }

            /// A short token for the answer's reason header, logs and metrics.
            pub const fn reason(self) -> &'static str {
                match self { $(Reject::$name => $reason,)* }
            }
        }
    };
}

rejects! {
    /// LF without CR before it, or CR without LF behind it.
    LineEnd => BAD_REQUEST, "line-end";
    /// The request line or status line has the wrong shape.
    StartLine => BAD_REQUEST, "start-line";
    /// A version other than HTTP/1.0 and HTTP/1.1.
    Version => HTTP_VERSION_NOT_SUPPORTED, "version";
    /// CONNECT; extended CONNECT for other protocols than WebSocket.
    Connect => NOT_IMPLEMENTED, "connect";
    /// A field line begins with white space (obsolete line folding).
    Folding => BAD_REQUEST, "line-folding";
    /// A field name is empty, is no token, or has white space before its colon.
    FieldName => BAD_REQUEST, "field-name";
    /// A field value has a control character.
    FieldValue => BAD_REQUEST, "field-value";
    /// The request line alone exceeds the limit of a head.
    TargetTooLong => URI_TOO_LONG, "target-too-long";
    /// The head, or the trailer section, has too many bytes.
    HeadTooLarge => REQUEST_HEADER_FIELDS_TOO_LARGE, "head-too-large";
    /// The head, or the trailer section, has too many fields.
    TooManyFields => REQUEST_HEADER_FIELDS_TOO_LARGE, "too-many-fields";
    /// Content-Length beside Transfer-Encoding.
    LengthAndEncoding => BAD_REQUEST, "length-and-encoding";
    /// Transfer-Encoding other than one `chunked`, or in HTTP/1.0, or where no body may be.
    TransferEncoding => BAD_REQUEST, "transfer-encoding";
    /// Content-Length that is no plain number, or given more than once.
    ContentLength => BAD_REQUEST, "content-length";
    /// Chunked framing that is not exactly RFC 9112, section 7.1.
    Chunk => BAD_REQUEST, "chunk";
    /// Chunk extensions beyond the bound.
    ChunkExtension => BAD_REQUEST, "chunk-extension";
    /// No Host, more than one, or one that is no host and port.
    Host => BAD_REQUEST, "host";
    /// Host and `:authority` disagree.
    AuthorityMismatch => MISDIRECTED_REQUEST, "authority-mismatch";
    /// The server name of the TLS handshake and the request's authority disagree.
    ServerNameMismatch => MISDIRECTED_REQUEST, "server-name-mismatch";
    /// The target has a wrong form, a fragment, user information, or characters that no URI has.
    Target => BAD_REQUEST, "target";
    /// The path could be read in two ways.
    AmbiguousPath => BAD_REQUEST, "ambiguous-path";
    /// Connection names a field that delimits or routes the message, or is malformed.
    Connection => BAD_REQUEST, "connection";
    /// `Upgrade: h2c`.
    UpgradeH2c => BAD_REQUEST, "upgrade-h2c";
    /// A WebSocket handshake that is none.
    WebSocket => BAD_REQUEST, "websocket";
    /// Expect other than `100-continue`.
    Expectation => EXPECTATION_FAILED, "expectation";
    /// The head did not arrive in time.
    HeadTimeout => REQUEST_TIMEOUT, "head-timeout";
}

impl std::fmt::Display for Reject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Reject {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_an_error_status_and_a_reason_of_its_own() {
        let mut reasons: Vec<_> = Reject::ALL.iter().map(|reject| reject.reason()).collect();
        assert!(Reject::ALL.iter().all(|reject| reject.status().is_client_error() || reject.status().is_server_error()));
        reasons.sort_unstable();
        reasons.dedup();
        assert_eq!(reasons.len(), Reject::ALL.len());
    }
}
