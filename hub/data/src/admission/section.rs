//! Hop `admission`: a field section, read from its bytes (RFC 9110, section 5; RFC 9112, section 5).
//!
//! Values share the bytes of the message. What the scan has passed is read here once more only where a type of `http` asks for
//! it, so bytes that no scan has seen are refused for the same reasons.

use bytes::Bytes;
use http::HeaderValue;
use http::header::HeaderMap;

use super::connection;
use super::marks::Marks;
use super::names;
use super::reject::Reject;
use super::syntax::{text, trim};
use crate::spare;

/// Fields that a request has more once it is admitted: four X-Forwarded-*, for a Host. A map that must grow is allocated twice.
pub(super) const ADMITTED: usize = 3;

/// Most fields for which room is made at once; maps with more grow as they are read.
const RESERVED: usize = 128;

/// Reads a head's field section of at most `count` fields up to and including its empty line, with its marks. A Connection that
/// says but close or keep-alive is told by its marks and not in the map, from which it would be taken again; where it says more,
/// all of its lines are there. `more` fields will be added.
pub(super) fn of_head(whole: &Bytes, rest: &[u8], count: usize, more: usize) -> Result<(HeaderMap, Marks), Reject> {
    let (headers, marks, left_out) = read(whole, rest, count, more, true)?;
    if left_out && marks.has(Marks::CONNECTION) {
        return read(whole, rest, count, more, false).map(|(headers, marks, _)| (headers, marks));
    }
    Ok((headers, marks))
}

/// Reads a trailer section, whose fields are counted, up to and including its empty line.
pub(super) fn of_trailers(section: &Bytes) -> Result<HeaderMap, Reject> {
    read(section, section, usize::MAX, 0, false).map(|(headers, _, _)| headers)
}

/// Also says whether a Connection was left out.
fn read(whole: &Bytes, mut rest: &[u8], mut count: usize, more: usize, leave_out: bool) -> Result<(HeaderMap, Marks, bool), Reject> {
    let mut headers = spare::map(|| (lines(rest) + more).min(RESERVED));
    let (mut marks, mut left_out) = (Marks::NONE, false);
    loop {
        if rest.starts_with(b"\r\n") {
            return Ok((headers, marks, left_out));
        }
        count = count.checked_sub(1).ok_or(Reject::TooManyFields)?;
        let (name, mark, length) = names::take(rest).ok_or(Reject::FieldName)?;
        let value = rest[length..].strip_prefix(b":").ok_or(Reject::FieldName)?;
        let (value, next) = value.split_at(text(value));
        rest = next.strip_prefix(b"\r\n").ok_or(Reject::FieldValue)?;
        let value = trim(value);
        let mark = if mark == Marks::CONNECTION { connection::said(value) } else { mark };
        marks = marks.and(mark);
        if leave_out && matches!(mark, Marks::CLOSE | Marks::KEEP_ALIVE) {
            left_out = true;
            continue;
        }
        let value = HeaderValue::from_maybe_shared(whole.slice_ref(value)).map_err(|_| Reject::FieldValue)?;
        headers.try_append(name, value).map_err(|_| Reject::TooManyFields)?;
    }
}

/// The number of field lines, or a guess where it is so large that room for them is made as they come.
fn lines(section: &[u8]) -> usize {
    // In bytes, of which many are counted at once.
    usize::from(section.iter().fold(0u8, |lines, &byte| lines.wrapping_add(u8::from(byte == b'\n')))).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_says_little_is_told_by_its_marks_alone() {
        let read = |text: &'static str| of_head(&Bytes::from_static(text.as_bytes()), text.as_bytes(), 9, 0).unwrap();
        let (headers, marks) = read("X-A: \t b c \t\r\nConnection: close\r\nconnection: Keep-Alive\r\n\r\n");
        assert_eq!((headers.len(), &headers["x-a"], marks), (1, &HeaderValue::from_static("b c"), Marks::CLOSE.and(Marks::KEEP_ALIVE)));
        let (headers, marks) = read("Connection: close\r\nConnection: x-a\r\n\r\n");
        assert_eq!(headers.get_all("connection").iter().collect::<Vec<_>>(), ["close", "x-a"]);
        assert_eq!(marks, Marks::CLOSE.and(Marks::CONNECTION));
    }

    #[test]
    fn bytes_that_no_scan_has_seen_are_refused_too() {
        for bad in [
            "",
            "x: y",
            "x: y\r\n",
            "x: y\n\r\n",
            "x : y\r\n\r\n",
            ": y\r\n\r\n",
            " x: y\r\n\r\n",
            "x\r\n\r\n",
            "x: \0\r\n\r\n",
            "x: a\rb\r\n\r\n",
        ] {
            assert!(of_trailers(&Bytes::from_static(bad.as_bytes())).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn more_fields_than_room_was_made_for_are_read() {
        let section = Bytes::from((0..300).map(|name| format!("x-{name}: y\r\n")).chain(["\r\n".into()]).collect::<String>());
        assert_eq!(of_trailers(&section).unwrap().len(), 300);
    }
}
