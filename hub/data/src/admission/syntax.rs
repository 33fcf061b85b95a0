//! Hop `admission`: the character classes and the one field line of RFC 9110, section 5, and RFC 9112, section 5.

use super::reject::Reject;

/// For each byte whether a token may hold it.
static IN_TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let c = byte as u8;
        table[byte] = c.is_ascii_alphanumeric()
            || matches!(c, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~');
        byte += 1;
    }
    table
};

/// The length of the token at the front of the bytes.
pub(super) fn token(bytes: &[u8]) -> usize {
    bytes.iter().position(|&byte| !IN_TOKEN[usize::from(byte)]).unwrap_or(bytes.len())
}

/// Whether the bytes are a token (RFC 9110, section 5.6.2).
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && token(bytes) == bytes.len()
}

/// The length of the front of the bytes that has no control character but the tab.
pub(super) fn text(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(block) = bytes[at..].first_chunk() {
        match controls(u64::from_le_bytes(*block)) {
            0 => at += block.len(),
            found => {
                at += (found.trailing_zeros() / 8) as usize;
                if bytes[at] != b'\t' {
                    return at;
                }
                at += 1;
            }
        }
    }
    let rest = &bytes[at..];
    at + rest.iter().position(|&byte| is_control(byte)).unwrap_or(rest.len())
}

/// Eight bytes at once: the highest bit of each control character, the tab included. Exact up to the first one, in the order
/// of the bytes; behind it a borrow may show others.
fn controls(word: u64) -> u64 {
    let other = word ^ every(0x7f);
    let below_space = word.wrapping_sub(every(b' ')) & !word;
    let delete = other.wrapping_sub(every(1)) & !other;
    (below_space | delete) & every(0x80)
}

/// Eight times that byte.
pub(super) const fn every(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

fn is_control(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t') || byte == 0x7f
}

/// Whether the bytes have no control character but the tab.
pub fn is_field_value(bytes: &[u8]) -> bool {
    text(bytes) == bytes.len()
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

/// The length of the field line at the front of the bytes, line end included, where it is there whole and good.
pub(super) fn field_line(bytes: &[u8]) -> Option<usize> {
    let name = token(bytes);
    let value = bytes[name..].strip_prefix(b":").filter(|_| name > 0)?;
    let length = text(value);
    value[length..].starts_with(b"\r\n").then_some(name + 1 + length + 2)
}

/// Checks one field line without its line end; returns the length of the name.
pub fn check_field_line(line: &[u8]) -> Result<usize, Reject> {
    if let [b' ' | b'\t', ..] = line {
        return Err(Reject::Folding);
    }
    let name = token(line);
    match &line[name..] {
        [b':', value @ ..] if name > 0 => {
            if is_field_value(value) {
                Ok(name)
            } else {
                Err(Reject::FieldValue)
            }
        }
        _ => Err(Reject::FieldName),
    }
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
    use http::{HeaderName, HeaderValue};

    #[test]
    fn the_types_of_http_hold_what_is_checked_and_nothing_else() {
        for byte in 0..=u8::MAX {
            let (name, value) = ([b'x', byte, b'y'], [b'x', byte, b'y']);
            assert_eq!(is_token(&name), HeaderName::from_bytes(&name).is_ok(), "{byte}");
            assert_eq!(is_field_value(&value), HeaderValue::from_bytes(&value).is_ok(), "{byte}");
        }
    }

    #[test]
    fn a_control_character_is_found_wherever_it_stands() {
        for length in 0..70 {
            assert!(is_field_value(&vec![b'x'; length]));
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    let mut value = vec![b'x'; length];
                    value[at] = byte;
                    assert_eq!(is_field_value(&value), byte == b'\t' || !(byte < b' ' || byte == 0x7f), "{byte} at {at} of {length}");
                }
            }
        }
    }

    #[test]
    fn field_lines_are_read_to_the_letter() {
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
