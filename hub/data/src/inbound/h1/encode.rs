//! Hop `inbound`: heads and framing of HTTP/1 responses. The hub says where a body ends in one way only, whatever the backend's
//! headers said.

use bytes::BytesMut;
use http::header::{self, HeaderMap, HeaderName};
use http::{Method, Response, StatusCode, Version, response};
use http_body::Body as _;

use crate::admission::framing::content_length;
use crate::body::Body;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// How a response's body is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sending {
    /// Not at all.
    Nothing,
    /// That many bytes.
    Length(u64),
    /// In chunks, with trailers.
    Chunked,
    /// Until the connection ends: all that HTTP/1.0 has.
    UntilClose,
}

/// How the body of this response goes to a client of that version.
pub(super) fn sending(parts: &response::Parts, body: &Body, method: &Method, version: Version) -> Sending {
    let status = parts.status;
    if status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) || *method == Method::HEAD {
        return Sending::Nothing;
    }
    if let Body::Full(data) = body {
        // Made together with its length, which no filter may write: looking for that again would tell nothing new.
        let length = data.len() as u64;
        debug_assert!(matches!(content_length(&parts.headers), Ok(None)) || content_length(&parts.headers) == Ok(Some(length)));
        return Sending::Length(length);
    }
    match content_length(&parts.headers).ok().flatten().or(body.size_hint().exact()) {
        Some(length) => Sending::Length(length),
        None if version == Version::HTTP_11 => Sending::Chunked,
        None => Sending::UntilClose,
    }
}

/// What the response says about the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connection {
    /// It stays open, as it does without a word (HTTP/1.1).
    Stays,
    /// It stays open, which must be said (HTTP/1.0).
    SaysItStays,
    /// It closes.
    Closes,
    /// It becomes a WebSocket.
    Upgrades,
}

/// Writes the head of a final response or of 101.
pub(super) fn head(out: &mut BytesMut, parts: &response::Parts, sending: Sending, connection: Connection) {
    status_line(out, parts.status);
    fields(out, &parts.headers);
    match sending {
        Sending::Length(length) => decimal_field(out, b"content-length: ", length),
        Sending::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        // A HEAD or 304 says how long the body would have been.
        Sending::Nothing if !parts.status.is_informational() && parts.status != StatusCode::NO_CONTENT => {
            if let Ok(Some(length)) = content_length(&parts.headers) {
                decimal_field(out, b"content-length: ", length);
            }
        }
        Sending::Nothing | Sending::UntilClose => {}
    }
    out.extend_from_slice(match connection {
        Connection::Stays => b"\r\n",
        Connection::SaysItStays => b"connection: keep-alive\r\n\r\n",
        Connection::Closes => b"connection: close\r\n\r\n",
        Connection::Upgrades => b"connection: upgrade\r\nupgrade: websocket\r\n\r\n",
    });
}

/// Writes a 1xx response.
pub(super) fn interim(out: &mut BytesMut, response: &Response<()>) {
    status_line(out, response.status());
    fields(out, response.headers());
    out.extend_from_slice(b"\r\n");
}

/// Writes the line before a chunk.
pub(super) fn chunk_size(out: &mut BytesMut, length: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [0; 16];
    let (mut at, mut rest) = (digits.len(), length);
    while rest > 0 || at == digits.len() {
        at -= 1;
        digits[at] = DIGITS[rest & 15];
        rest >>= 4;
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

/// Writes the last chunk and the trailer section.
pub(super) fn last_chunk(out: &mut BytesMut, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        fields(out, trailers);
    }
    out.extend_from_slice(b"\r\n");
}

fn status_line(out: &mut BytesMut, status: StatusCode) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn fields(out: &mut BytesMut, headers: &HeaderMap) {
    for (name, value) in headers {
        if is_framing(name) {
            continue;
        }
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// What this connection says by itself.
fn is_framing(name: &HeaderName) -> bool {
    matches!(*name, header::CONNECTION | header::CONTENT_LENGTH | header::TRANSFER_ENCODING | header::UPGRADE)
        || [KEEP_ALIVE, PROXY_CONNECTION].contains(name)
}

fn decimal_field(out: &mut BytesMut, name: &[u8], value: u64) {
    out.extend_from_slice(name);
    let mut digits = [0; 20];
    let (mut at, mut rest) = (digits.len(), value);
    while rest > 0 || at == digits.len() {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_they_are() {
        for (length, hex, decimal) in
            [(0, "0", "0"), (10, "a", "10"), (4096, "1000", "4096"), (usize::MAX, "ffffffffffffffff", "18446744073709551615")]
        {
            let mut out = BytesMut::new();
            chunk_size(&mut out, length);
            decimal_field(&mut out, b"n: ", length as u64);
            assert_eq!(out, format!("{hex}\r\nn: {decimal}\r\n"));
        }
    }
}
