//! Hop `admission`: the one canonical path, used for match, authorisation and forward alike.
//!
//! | written | becomes |
//! |---|---|
//! | `%41`, `%7e`, `%2D` (unreserved, RFC 3986 section 2.3) | `A`, `~`, `-` |
//! | `%e2` | `%E2` |
//! | `"`, `<`, `>`, `[`, `]`, `^`, `` ` ``, `{`, `\|`, `}` in the path; `"`, `<`, `>` in the query | percent-encoded |
//! | `/a/./b`, `/a/%2e/b`, `/a//b` | `/a/b` |
//! | `/a/../b`, `/a/%2E%2e/b` | `/b` |
//! | `..` above the root | 400 |
//! | `%2F`, `%5C`, `\`, `%00` to `%1F`, `%7F` | 400: workloads disagree about them |
//! | `..;x`, `.;x`, `;x` as a segment, `;` also as `%3B` | 400: servlet containers take parameters away first, and then see `..` |
//! | `%` without two hexadecimal digits | 400 in the path; a query is passed on as written |
//! | `#` anywhere, bytes that are not visible ASCII | 400 |
//!
//! An escape is decoded once: `%252e` stays as it is.

use std::borrow::Cow;

use super::reject::Reject;

/// The canonical path and query of an origin-form target.
pub fn canonical(target: &str) -> Result<Cow<'_, str>, Reject> {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    if !path.starts_with('/') {
        return Err(Reject::Target);
    }
    let query = query.map(canonical_query).transpose()?;
    let plain = is_plain(path.as_bytes());
    if plain && !matches!(query, Some(Cow::Owned(_))) {
        return Ok(Cow::Borrowed(target));
    }
    let mut out = if plain { path.to_owned() } else { canonical_path(path.as_bytes())? };
    if let Some(query) = query {
        out.push('?');
        out.push_str(&query);
    }
    Ok(Cow::Owned(out))
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// `pchar` without `%` and `;` (RFC 3986, section 3.3).
fn is_ordinary(byte: u8) -> bool {
    is_unreserved(byte) || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@')
}

/// Whether a path is canonical at first sight: most are.
fn is_plain(path: &[u8]) -> bool {
    let mut before = 0;
    for &byte in path {
        if !(is_ordinary(byte) || byte == b'/') || (before == b'/' && matches!(byte, b'/' | b'.')) {
            return false;
        }
        before = byte;
    }
    true
}

fn canonical_path(path: &[u8]) -> Result<String, Reject> {
    let mut out = String::with_capacity(path.len() + 8);
    let mut segments = path[1..].split(|&byte| byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let start = out.len();
        out.push('/');
        push_segment(&mut out, segment)?;
        let name = &out[start + 1..];
        let parameters = name.find(';').into_iter().chain(name.find("%3B")).min();
        if parameters.is_some_and(|at| matches!(&name[..at], "" | "." | "..")) {
            return Err(Reject::AmbiguousPath);
        }
        let last = segments.peek().is_none();
        match name {
            "" | "." => {
                out.truncate(start);
                if last {
                    out.push('/');
                }
            }
            ".." => {
                out.truncate(start);
                let parent = out.rfind('/').ok_or(Reject::AmbiguousPath)?;
                out.truncate(parent);
                if last {
                    out.push('/');
                }
            }
            _ => {}
        }
    }
    Ok(out)
}

fn push_segment(out: &mut String, segment: &[u8]) -> Result<(), Reject> {
    let mut bytes = segment.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|byte| (byte as char).to_digit(16)).ok_or(Reject::Target);
                let value = (digit(bytes.next())? * 16 + digit(bytes.next())?) as u8;
                match value {
                    _ if is_unreserved(value) => out.push(value as char),
                    b'/' | b'\\' | 0..=0x1f | 0x7f => return Err(Reject::AmbiguousPath),
                    _ => push_encoded(out, value),
                }
            }
            b'\\' => return Err(Reject::AmbiguousPath),
            _ if is_ordinary(byte) || byte == b';' => out.push(byte as char),
            b'"' | b'<' | b'>' | b'[' | b']' | b'^' | b'`' | b'{' | b'|' | b'}' => push_encoded(out, byte),
            _ => return Err(Reject::Target),
        }
    }
    Ok(())
}

fn canonical_query(query: &str) -> Result<Cow<'_, str>, Reject> {
    if query.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'#') {
        return Err(Reject::Target);
    }
    if !query.contains(['"', '<', '>']) {
        return Ok(Cow::Borrowed(query));
    }
    let mut out = String::with_capacity(query.len() + 8);
    for byte in query.bytes() {
        match byte {
            b'"' | b'<' | b'>' => push_encoded(&mut out, byte),
            _ => out.push(byte as char),
        }
    }
    Ok(Cow::Owned(out))
}

fn push_encoded(out: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend(['%', DIGITS[usize::from(byte >> 4)] as char, DIGITS[usize::from(byte & 15)] as char]);
}

#[cfg(test)]
mod tests;
