//! Hop: dial -> backend. Pure: writes the head of a request and frames its body (RFC 9112, sections 3, 6 and 7).

use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};
use http::{HeaderMap, Method, header, request};

/// How a request's body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// None, and nothing said about it.
    None,
    /// Content-Length, with the bytes still to be written.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// Room that is made at once for a head: more than most need.
const ROOM: usize = 1024;

/// Appends a request's head; says how its body must be framed. `length` is the body's length where known; `upgrade` asks for
/// a WebSocket.
pub fn head(out: &mut BytesMut, parts: &request::Parts, length: Option<u64>, upgrade: bool) -> Framing {
    out.reserve(ROOM);
    let target = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    line(out, &[parts.method.as_str().as_bytes(), b" ", target.as_bytes(), b" HTTP/1.1"]);
    let authority = parts.uri.authority().map_or("", http::uri::Authority::as_str);
    line(out, &[b"host: ", authority.as_bytes()]);
    let (mut declared, mut cookie) = (None, false);
    for (name, value) in &parts.headers {
        match *name {
            header::CONTENT_LENGTH => declared = declared.or_else(|| value.to_str().ok()?.parse().ok()),
            _ if ours(name) => {}
            // HTTP/2 may split it, HTTP/1.1 may not (RFC 9113, section 8.2.3). All lines of a field come one after the other.
            header::COOKIE if cookie => {
                out.truncate(out.len() - 2);
                line(out, &[b"; ", value.as_bytes()]);
            }
            _ => line(out, &[name.as_str().as_bytes(), b": ", value.as_bytes()]),
        }
        cookie = *name == header::COOKIE;
    }
    let framing = match length.or(declared) {
        None => Framing::Chunked,
        Some(0) if declared.is_none() && !expects_body(&parts.method) => Framing::None,
        Some(length) => Framing::Length(length),
    };
    if upgrade {
        line(out, &[b"connection: Upgrade"]);
        line(out, &[b"upgrade: websocket"]);
    }
    match framing {
        Framing::None => {}
        Framing::Length(length) => {
            let _ = write!(out, "content-length: {length}\r\n");
        }
        Framing::Chunked => line(out, &[b"transfer-encoding: chunked"]),
    }
    out.put_slice(b"\r\n");
    framing
}

/// Fields that the hub writes itself or that a proxy never passes on.
fn ours(name: &header::HeaderName) -> bool {
    matches!(*name, header::HOST | header::CONNECTION | header::TRANSFER_ENCODING | header::CONTENT_LENGTH | header::UPGRADE)
}

/// Methods of which workloads expect `Content-Length: 0` rather than silence (RFC 9110, section 8.6).
fn expects_body(method: &Method) -> bool {
    [Method::POST, Method::PUT, Method::PATCH].contains(method)
}

fn line(out: &mut BytesMut, parts: &[&[u8]]) {
    for part in parts {
        out.put_slice(part);
    }
    out.put_slice(b"\r\n");
}

/// Appends a chunk's size line.
pub fn chunk_size(out: &mut BytesMut, size: usize) {
    let _ = write!(out, "{size:x}\r\n");
}

/// Appends the last chunk and the trailers.
pub fn last_chunk(out: &mut BytesMut, trailers: Option<&HeaderMap>) {
    out.put_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten().filter(|(name, _)| !ours(name)) {
        line(out, &[name.as_str().as_bytes(), b": ", value.as_bytes()]);
    }
    out.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn written(request: Request<()>, length: Option<u64>, upgrade: bool) -> (String, Framing) {
        let (mut out, (parts, ())) = (BytesMut::new(), request.into_parts());
        let framing = head(&mut out, &parts, length, upgrade);
        (String::from_utf8(out.to_vec()).unwrap(), framing)
    }

    #[test]
    fn a_get_has_host_first_and_no_framing() {
        let request = Request::get("http://shop.example:81/a?b=c").header("host", "other").header("x-a", "1").body(()).unwrap();
        let (text, framing) = written(request, Some(0), false);
        assert_eq!((text.as_str(), framing), ("GET /a?b=c HTTP/1.1\r\nhost: shop.example:81\r\nx-a: 1\r\n\r\n", Framing::None));
    }

    #[test]
    fn cookies_that_http2_split_are_one_field_again() {
        let request = Request::get("http://a/").header("cookie", "a=1").header("cookie", "b=2").body(()).unwrap();
        assert!(written(request, Some(0), false).0.contains("\r\ncookie: a=1; b=2\r\n"));
    }

    #[test]
    fn a_body_has_exactly_one_framing() {
        let request = || Request::post("http://a/").header("content-length", "5").header("connection", "x").body(()).unwrap();
        assert!(written(request(), Some(5), false).0.ends_with("content-length: 5\r\n\r\n"));
        assert!(written(request(), None, false).0.ends_with("content-length: 5\r\n\r\n"));
        let undeclared = Request::post("http://a/").header("transfer-encoding", "x").body(()).unwrap();
        assert_eq!(written(undeclared, None, false).0, "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
        assert!(written(Request::post("http://a/").body(()).unwrap(), Some(0), false).0.contains("content-length: 0\r\n"));
    }
}
