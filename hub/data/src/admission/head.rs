//! Hop `admission`: the head of an HTTP/1 message, byte by byte (RFC 9112, sections 2 to 5).
//!
//! [`HeadScan`] looks at bytes as they come and refuses a line as soon as it is whole, so that the verdict depends on the bytes
//! and never on how they were split into reads. It never looks beyond the limit of a head. [`take_request`] and
//! [`take_response`] read heads that are whole; one that is whole at the first look is scanned only if it cannot be read. One
//! empty line before a request is passed over (section 2.2), nothing else is.

use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use http::header::HeaderMap;
use http::{Method, StatusCode, Version};
use memchr::memmem::Finder;

use super::marks::Marks;
use super::reject::Reject;
use super::section;
use super::syntax::{check_field_line, field_line, is_field_value, token};

/// Where a head ends, if nothing is wrong with it.
static END: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\r\n\r\n"));

/// Bounds of a head or a trailer section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes, line ends included.
    pub bytes: usize,
    /// Fields.
    pub count: usize,
}

/// Which side's heads are scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Heads of requests.
    Request,
    /// Heads of responses.
    Response,
}

/// Finds the end of a head and checks its lines on the way.
#[derive(Debug, Clone)]
pub struct HeadScan {
    side: Side,
    /// Where the first line that is not yet checked begins.
    line: usize,
    /// Where to look for its end.
    from: usize,
    /// Lines checked so far, the empty one before a request left out.
    lines: usize,
    skipped: bool,
}

impl HeadScan {
    /// A scan at the first byte of a head.
    pub fn new(side: Side) -> Self {
        Self { side, line: 0, from: 0, lines: 0, skipped: false }
    }

    /// Looks at `bytes`, which begin where the head begins and end with what has come so far; call again with more. `Some(n)`
    /// once the head is whole: its length, line ends included.
    pub fn scan(&mut self, bytes: &[u8], limits: HeadLimits) -> Result<Option<usize>, Reject> {
        let window = &bytes[..bytes.len().min(limits.bytes)];
        loop {
            let rest = &window[self.line..];
            if self.lines > 0 && rest.starts_with(b"\r\n") {
                return Ok(Some(self.line + 2));
            }
            // Nearly all lines are good, and whole at the first look.
            if (1..=limits.count).contains(&self.lines)
                && self.from == self.line
                && let Some(length) = field_line(rest)
            {
                self.pass(self.line + length);
                self.lines += 1;
                continue;
            }
            let Some(at) = memchr::memchr(b'\n', &window[self.from..]) else { break };
            let end = self.from + at;
            let [line @ .., b'\r'] = &window[self.line..end] else { return Err(Reject::LineEnd) };
            self.pass(end + 1);
            match (line, self.lines) {
                ([], 0) if self.side == Side::Request && !self.skipped => {
                    self.skipped = true;
                    continue;
                }
                (_, 0) if self.side == Side::Request => drop(request_line(line)?),
                (_, 0) => drop(status_line(line)?),
                _ if memchr::memchr(b'\r', line).is_some() => return Err(Reject::LineEnd),
                _ if self.lines > limits.count => return Err(Reject::TooManyFields),
                _ => drop(check_field_line(line)?),
            }
            self.lines += 1;
        }
        self.from = window.len();
        match bytes.len() {
            held if held < limits.bytes => Ok(None),
            _ if self.lines == 0 && self.side == Side::Request => Err(Reject::TargetTooLong),
            _ => Err(Reject::HeadTooLarge),
        }
    }

    /// Whether it stands before the first byte.
    fn is_new(&self) -> bool {
        self.from == 0
    }

    fn pass(&mut self, line: usize) {
        (self.line, self.from) = (line, line);
    }

    /// Whether nothing of a head has come yet but perhaps its permitted empty line.
    pub fn is_fresh(&self, held: usize) -> bool {
        self.lines == 0 && held <= if self.skipped { 2 } else { 0 }
    }
}

/// The head of a request.
#[derive(Debug)]
pub struct RequestHead {
    /// A token; never CONNECT.
    pub method: Method,
    /// The target's bytes.
    pub target: Bytes,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// The field section, but a Connection that its marks tell.
    pub headers: HeaderMap,
    /// What is in it, and what Connection said.
    pub marks: Marks,
}

/// The head of a response.
#[derive(Debug)]
pub struct ResponseHead {
    /// 100 to 599.
    pub status: StatusCode,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// The field section, but a Connection that its marks tell.
    pub headers: HeaderMap,
    /// What is in it, and what Connection said.
    pub marks: Marks,
}

/// Takes a request's head from the front of what has come and reads it; `None` while it is incomplete. `scan` goes with the head,
/// and stands before the next one after it.
pub fn take_request(held: &mut BytesMut, scan: &mut HeadScan, limits: HeadLimits) -> Result<Option<RequestHead>, Reject> {
    take(held, scan, limits, request)
}

/// The same for a response.
pub fn take_response(held: &mut BytesMut, scan: &mut HeadScan, limits: HeadLimits) -> Result<Option<ResponseHead>, Reject> {
    take(held, scan, limits, response)
}

fn take<H>(
    held: &mut BytesMut,
    scan: &mut HeadScan,
    limits: HeadLimits,
    read: impl FnOnce(&Bytes, usize) -> Result<H, Reject>,
) -> Result<Option<H>, Reject> {
    if held.is_empty() {
        return Ok(None);
    }
    if scan.is_new()
        && let Some(at) = END.find(&held[..held.len().min(limits.bytes)])
    {
        let head = cut(held, at + 4);
        // Whatever the scan refuses cannot be read either, and the scan knows best why.
        let why = |reject| HeadScan::new(scan.side).scan(&head, limits).err().unwrap_or(reject);
        return read(&head, limits.count).map(Some).map_err(why);
    }
    let Some(length) = scan.scan(held, limits)? else { return Ok(None) };
    *scan = HeadScan::new(scan.side);
    read(&cut(held, length), limits.count).map(Some)
}

/// The front of what has come. Its buffer is used again once the head is done.
fn cut(held: &mut BytesMut, length: usize) -> Bytes {
    held.split_to(length).freeze()
}

/// Reads a whole head of a request, with its last empty line and at most `count` fields.
fn request(head: &Bytes, count: usize) -> Result<RequestHead, Reject> {
    let bytes = head.strip_prefix(b"\r\n").unwrap_or(head);
    let (line, rest) = split_line(bytes)?;
    let (method, target, version) = request_line(line)?;
    let method = Method::from_bytes(method).map_err(|_| Reject::StartLine)?;
    let (headers, marks) = section::of_head(head, rest, count, section::ADMITTED)?;
    Ok(RequestHead { method, target: head.slice_ref(target), version, headers, marks })
}

/// Reads a whole head of a response, with its last empty line and at most `count` fields.
fn response(head: &Bytes, count: usize) -> Result<ResponseHead, Reject> {
    let (line, rest) = split_line(head)?;
    let (version, status) = status_line(line)?;
    let (headers, marks) = section::of_head(head, rest, count, 0)?;
    Ok(ResponseHead { status, version, headers, marks })
}

/// The first line, without its line end, and what follows.
fn split_line(bytes: &[u8]) -> Result<(&[u8], &[u8]), Reject> {
    let end = memchr::memchr(b'\n', bytes).ok_or(Reject::LineEnd)?;
    match &bytes[..end] {
        [line @ .., b'\r'] => Ok((line, &bytes[end + 1..])),
        _ => Err(Reject::LineEnd),
    }
}

/// A line with CR inside is refused for that, whatever else is wrong with it.
fn refused(line: &[u8], reject: Reject) -> Reject {
    if memchr::memchr(b'\r', line).is_some() { Reject::LineEnd } else { reject }
}

/// `method SP target SP version`, one space each.
fn request_line(line: &[u8]) -> Result<(&[u8], &[u8], Version), Reject> {
    let read = || {
        let (method, rest) = line.split_at(token(line));
        let asked = rest.strip_prefix(b" ").and_then(|rest| rest.split_last_chunk::<9>());
        let Some((target, [b' ', version @ ..])) = asked else { return Err(Reject::StartLine) };
        // To the end in any case, so that many bytes are looked at in one instruction.
        let divided = target.iter().fold(false, |found, byte| found | matches!(byte, b' ' | b'\r'));
        if method.is_empty() || target.is_empty() || divided {
            return Err(Reject::StartLine);
        }
        Ok((method, target, self::version(version)?))
    };
    let (method, target, version) = read().map_err(|reject| refused(line, reject))?;
    // Last, so that a line which is no HTTP at all is not taken for a wish to connect.
    if method == b"CONNECT" { Err(Reject::Connect) } else { Ok((method, target, version)) }
}

/// `version SP status [SP reason]`. The space before an empty reason may be missing: many servers leave it out, and nothing
/// can be read into it.
fn status_line(line: &[u8]) -> Result<(Version, StatusCode), Reject> {
    let read = || {
        let (version, rest) = line.split_first_chunk().ok_or(Reject::StartLine)?;
        let version = self::version(version)?;
        let [b' ', status @ ..] = rest else { return Err(Reject::StartLine) };
        let (status, reason) = status.split_first_chunk::<3>().ok_or(Reject::StartLine)?;
        if !matches!(status, [b'1'..=b'5', b'0'..=b'9', b'0'..=b'9']) {
            return Err(Reject::StartLine);
        }
        match reason {
            [] => {}
            [b' ', reason @ ..] if is_field_value(reason) => {}
            _ => return Err(Reject::StartLine),
        }
        Ok((version, StatusCode::from_bytes(status).map_err(|_| Reject::StartLine)?))
    };
    read().map_err(|reject| refused(line, reject))
}

fn version(bytes: &[u8; 8]) -> Result<Version, Reject> {
    match bytes {
        b"HTTP/1.1" => Ok(Version::HTTP_11),
        b"HTTP/1.0" => Ok(Version::HTTP_10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => Err(Reject::Version),
        _ => Err(Reject::StartLine),
    }
}

#[cfg(test)]
mod agreement;
#[cfg(test)]
mod tests;
