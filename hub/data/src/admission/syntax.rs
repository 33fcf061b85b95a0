//! Hop `admission`: the character classes and the one field line of RFC 9110, section 5, and RFC 9112, section 5.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::reject::Reject;

const TOKEN: u8 = 1;

const CLASSES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let c = byte as u8;
        if c.is_ascii_alphanumeric()
            || matches!(c, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
        {
            table[byte] |= TOKEN;
        }
        byte += 1;
    }
    table
};

/// Whether the bytes are a token (RFC 9110, section 5.6.2).
pub fn is_token(bytes: &[u8]) -> bool {
    // Without an early end, which would cost a branch for each byte of what is nearly always good.
    !bytes.is_empty() && bytes.iter().fold(TOKEN, |class, &byte| class & CLASSES[byte as usize]) != 0
}

/// Whether the bytes have no control character but the tab.
pub fn is_field_value(bytes: &[u8]) -> bool {
    // As arithmetic, so that many bytes are looked at in one instruction.
    !bytes.iter().fold(false, |bad, &byte| bad | ((byte < b' ') & (byte != b'\t')) | (byte == 0x7f))
}

/// Without spaces and tabs at both ends.
pub fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Checks one field line without its line end; returns the length of the name.
pub fn check_field_line(line: &[u8]) -> Result<usize, Reject> {
    if let [b' ' | b'\t', ..] = line {
        return Err(Reject::Folding);
    }
    let colon = memchr::memchr(b':', line).ok_or(Reject::FieldName)?;
    if !is_token(&line[..colon]) {
        return Err(Reject::FieldName);
    }
    if !is_field_value(&line[colon + 1..]) {
        return Err(Reject::FieldValue);
    }
    Ok(colon)
}

/// Reads one field line, which shares the bytes of `whole`. Refuses what [`check_field_line`] refuses: the types of `http`
/// hold nothing else, so that a checked line is not checked a third time.
pub fn field(whole: &Bytes, line: &[u8]) -> Result<(HeaderName, HeaderValue), Reject> {
    if let [b' ' | b'\t', ..] = line {
        return Err(Reject::Folding);
    }
    let colon = memchr::memchr(b':', line).ok_or(Reject::FieldName)?;
    let name = HeaderName::from_bytes(&line[..colon]).map_err(|_| Reject::FieldName)?;
    let value = trim(&line[colon + 1..]);
    let value = if value.is_empty() {
        HeaderValue::from_static("")
    } else {
        HeaderValue::from_maybe_shared(whole.slice_ref(value)).map_err(|_| Reject::FieldValue)?
    };
    Ok((name, value))
}

/// The elements of a comma-separated list field, over all its lines, trimmed, empty ones left out (RFC 9110, section 5.6.1).
/// Not for lists whose elements may be quoted strings.
pub fn list(headers: &http::HeaderMap, name: impl http::header::AsHeaderName) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(name)
        .into_iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .map(trim)
        .filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_types_of_http_hold_what_is_checked_and_nothing_else() {
        for byte in 0..=u8::MAX {
            let (name, value) = ([b'x', byte, b'y'], [b'x', byte, b'y']);
            assert_eq!(is_token(&name), HeaderName::from_bytes(&name).is_ok(), "{byte}");
            assert_eq!(is_field_value(&value), HeaderValue::from_bytes(&value).is_ok(), "{byte}");
        }
    }

    #[test]
    fn field_lines_are_read_to_the_letter() {
        let line = Bytes::from_static(b"X-A: \t b c \t");
        let (name, value) = field(&line, &line).unwrap();
        assert_eq!((name.as_str(), value.as_bytes()), ("x-a", &b"b c"[..]));
        assert_eq!(check_field_line(b"x:"), Ok(1));
        assert_eq!(check_field_line(b" x: folded"), Err(Reject::Folding));
        assert_eq!(check_field_line(b"\tx: folded"), Err(Reject::Folding));
        for bad in [&b"x : y"[..], b": y", b"x", b"x\x01: y", b"x y: z", b"\xc3\xa4: y", b"x\"y: z", b"(x): z"] {
            assert_eq!(check_field_line(bad), Err(Reject::FieldName), "{bad:?}");
        }
        for bad in [&b"x: a\0b"[..], b"x: a\x7f", b"x: a\rb", b"x: \x1b[1m"] {
            assert_eq!(check_field_line(bad), Err(Reject::FieldValue), "{bad:?}");
        }
    }
}
