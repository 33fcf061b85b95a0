//! Hop: backend -> dial. Pure: reads the head of a workload's response, strictly (RFC 9112, sections 2 to 6).
//!
//! One reading and no second opinion: what is ambiguous is refused, because a message whose end two parsers see at different
//! places lets one request's answer become another's. Promises bounded work per byte and no panic on any input.

use bytes::{Bytes, BytesMut};
use figspan_model::routing::Limits;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use crate::reply::Failure;

/// How the end of a response's body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body at all.
    None,
    /// Content-Length.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Until the connection ends; never reusable.
    UntilClose,
}

/// A response's head, hop-by-hop fields removed.
#[derive(Debug)]
pub struct Head {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
    /// Where its body ends. Meaningless for 1xx.
    pub framing: Framing,
    /// Whether the workload keeps the connection after the body.
    pub keep_alive: bool,
}

/// Takes a whole head from the front of the buffer; `None` while it is incomplete. `scanned` (0 at first) keeps how far earlier
/// calls have looked, so that a head that drips in is not searched again from its start.
pub fn take(input: &mut BytesMut, scanned: &mut usize, method: &Method, limits: &Limits) -> Result<Option<Head>, Failure> {
    let from = scanned.saturating_sub(3).min(input.len());
    let Some(end) = memchr::memmem::find(&input[from..], b"\r\n\r\n").map(|at| from + at) else {
        // A bare LF LF would make a lenient peer see an end that we do not: it can only be refused, never waited out.
        if memchr::memmem::find(&input[from..], b"\n\n").is_some() {
            return Err(Failure::Malformed);
        }
        *scanned = input.len();
        return if input.len() > limits.header_bytes { Err(Failure::HeadTooLarge) } else { Ok(None) };
    };
    if end + 4 > limits.header_bytes {
        return Err(Failure::HeadTooLarge);
    }
    *scanned = 0;
    let head = input.split_to(end + 4).freeze();
    let first = line_end(&head, 0).ok_or(Failure::Malformed)?;
    let (version_11, status) = status_line(&head[..first]).ok_or(Failure::Malformed)?;
    let headers = fields(&head, first + 2, end, limits.header_count)?;
    finish(version_11, status, headers, method).map(Some)
}

/// Position of the CRLF that ends the line from `from`; `None` where a bare CR, LF or a NUL comes first.
fn line_end(bytes: &[u8], from: usize) -> Option<usize> {
    let at = from + memchr::memchr3(b'\r', b'\n', 0, &bytes[from..])?;
    (bytes[at] == b'\r' && bytes.get(at + 1) == Some(&b'\n')).then_some(at)
}

/// `HTTP/1.x SP 3DIGIT [SP reason]`: whether it is 1.1, and the status.
fn status_line(line: &[u8]) -> Option<(bool, StatusCode)> {
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let version_11 = match rest.first()? {
        b'1' => true,
        b'0' => false,
        _ => return None,
    };
    let rest = rest[1..].strip_prefix(b" ")?;
    let digits = rest.get(..3)?;
    let tail_ok = match rest.get(3) {
        None => true,
        Some(b' ') => rest[4..].iter().all(|byte| *byte == b'\t' || (*byte >= 0x20 && *byte != 0x7f)),
        Some(_) => false,
    };
    let status = StatusCode::from_bytes(digits).ok().filter(|status| status.as_u16() < 600)?;
    tail_ok.then_some((version_11, status))
}

/// Field lines from `from` to the CRLF at `end`; shared with chunked trailers.
pub(super) fn fields(head: &Bytes, from: usize, end: usize, most: usize) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::with_capacity(16);
    let mut at = from;
    let mut count = 0;
    while at < end {
        let stop = line_end(head, at).ok_or(Failure::Malformed)?;
        count += 1;
        if count > most {
            return Err(Failure::HeadTooLarge);
        }
        let line = &head[at..stop];
        let colon = memchr::memchr(b':', line).ok_or(Failure::Malformed)?;
        // An empty name, or blank before the colon or at the line's start (obs-fold), is no token and fails here.
        let name = HeaderName::from_bytes(&line[..colon]).map_err(|_| Failure::Malformed)?;
        let blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
        let left = colon + 1 + line[colon + 1..].iter().take_while(|byte| blank(byte)).count();
        let right = line.len() - line[left..].iter().rev().take_while(|byte| blank(byte)).count();
        let value = HeaderValue::from_maybe_shared(head.slice(at + left..at + right)).map_err(|_| Failure::Malformed)?;
        headers.append(name, value);
        at = stop + 2;
    }
    Ok(headers)
}

fn finish(version_11: bool, status: StatusCode, mut headers: HeaderMap, method: &Method) -> Result<Head, Failure> {
    let chunked = match transfer_encoding(&headers)? {
        true if !version_11 || headers.contains_key(header::CONTENT_LENGTH) => return Err(Failure::Malformed),
        chunked => chunked,
    };
    let length = content_length(&headers)?;
    let bodiless = status.is_informational() || status == StatusCode::NO_CONTENT;
    if bodiless && (chunked || length.is_some_and(|length| length > 0)) {
        return Err(Failure::Malformed);
    }
    let framing = if bodiless || status == StatusCode::NOT_MODIFIED || method == Method::HEAD {
        Framing::None
    } else if chunked {
        Framing::Chunked
    } else {
        length.map_or(Framing::UntilClose, Framing::Length)
    };
    let keep_alive = framing != Framing::UntilClose && stays_open(version_11, &headers);
    // What a 101 switches to is read by the caller first.
    if status != StatusCode::SWITCHING_PROTOCOLS {
        strip_hop_by_hop(&mut headers);
    }
    Ok(Head { status, headers, framing, keep_alive })
}

/// Exactly one field with exactly `chunked`, or none.
fn transfer_encoding(headers: &HeaderMap) -> Result<bool, Failure> {
    let mut values = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(false),
        (Some(value), None) if value.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(true),
        _ => Err(Failure::Malformed),
    }
}

/// Exactly one field of digits, or none: no sign, no list, no repetition.
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Failure> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let digits = value.as_bytes();
            if digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
                return Err(Failure::Malformed);
            }
            Ok(Some(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))))
        }
        _ => Err(Failure::Malformed),
    }
}

fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers.get_all(header::CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

fn stays_open(version_11: bool, headers: &HeaderMap) -> bool {
    let says = |word: &[u8]| connection_options(headers).any(|option| option.eq_ignore_ascii_case(word));
    if version_11 { !says(b"close") } else { says(b"keep-alive") && !says(b"close") }
}

/// Removes what concerns this connection only (RFC 9110, section 7.6.1), fields named by Connection first.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = connection_options(headers)
        .filter(|option| !option.eq_ignore_ascii_case(b"close") && !option.eq_ignore_ascii_case(b"keep-alive"))
        .filter_map(|option| HeaderName::from_bytes(option).ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::TE] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
}

#[cfg(test)]
mod tests;
