//! Hop `admission`: how long a body is (RFC 9112, section 6.3), where it can be said in one way only.

use http::header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use http::{Method, StatusCode, Version};

use super::marks::Marks;
use super::reject::Reject;

/// Where a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// After that many bytes.
    Length(u64),
    /// After the last chunk and its trailer section.
    Chunked,
    /// Where the connection ends (responses only).
    UntilClose,
    /// There is none; the connection speaks another protocol from here on (101).
    Upgrade,
}

/// The body of a request.
pub fn of_request(version: Version, headers: &HeaderMap, marks: Marks) -> Result<Framing, Reject> {
    Ok(declared(version, headers, marks)?.unwrap_or(Framing::None))
}

/// The body of a response to a request of that method. `upgrade` says whether the request asked for an upgrade.
pub fn of_response(
    method: &Method,
    status: StatusCode,
    version: Version,
    headers: &HeaderMap,
    marks: Marks,
    upgrade: bool,
) -> Result<Framing, Reject> {
    let declared = declared(version, headers, marks)?;
    let bodiless = status.is_informational() || status == StatusCode::NO_CONTENT;
    if bodiless && declared == Some(Framing::Chunked) {
        return Err(Reject::TransferEncoding);
    }
    // Content-Length must not be there either, but `Content-Length: 0` often is and means what the status means.
    if bodiless && matches!(declared, Some(Framing::Length(1..))) {
        return Err(Reject::ContentLength);
    }
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return if upgrade { Ok(Framing::Upgrade) } else { Err(Reject::StartLine) };
    }
    if bodiless || status == StatusCode::NOT_MODIFIED || *method == Method::HEAD {
        return Ok(Framing::None);
    }
    Ok(declared.unwrap_or(Framing::UntilClose))
}

fn declared(version: Version, headers: &HeaderMap, marks: Marks) -> Result<Option<Framing>, Reject> {
    let length = if marks.has(Marks::CONTENT_LENGTH) { content_length(headers)? } else { None };
    if !marks.has(Marks::TRANSFER_ENCODING) {
        return Ok(length.map(Framing::Length));
    }
    let mut encodings = headers.get_all(TRANSFER_ENCODING).into_iter();
    let Some(encoding) = encodings.next() else { return Ok(length.map(Framing::Length)) };
    if length.is_some() {
        return Err(Reject::LengthAndEncoding);
    }
    if version != Version::HTTP_11 || encodings.next().is_some() || !encoding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err(Reject::TransferEncoding);
    }
    Ok(Some(Framing::Chunked))
}

/// The one Content-Length, if any: digits alone, once. No version of HTTP gives a list a meaning that is worth the risk.
pub fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Reject> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).into_iter();
    let Some(length) = lengths.next() else { return Ok(None) };
    // 19 digits always fit a u64.
    let digits = length.as_bytes();
    if lengths.next().is_some() || digits.is_empty() || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Reject::ContentLength);
    }
    Ok(Some(digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'))))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Lines<'l> = &'l [(&'static str, &'static str)];

    fn headers(lines: Lines<'_>) -> HeaderMap {
        lines.iter().map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))).collect()
    }

    fn request(version: Version, lines: Lines<'_>) -> Result<Framing, Reject> {
        let headers = headers(lines);
        of_request(version, &headers, Marks::of(&headers))
    }

    #[test]
    fn a_request_body_is_said_in_one_way_or_refused() {
        use Reject::{ContentLength as Cl, LengthAndEncoding as Both, TransferEncoding as Te};
        let (cl, te) = ("content-length", "transfer-encoding");
        let table: &[(Lines<'_>, Result<Framing, Reject>)] = &[
            (&[], Ok(Framing::None)),
            (&[(cl, "0")], Ok(Framing::Length(0))),
            (&[(cl, "0012")], Ok(Framing::Length(12))),
            (&[(cl, "9999999999999999999")], Ok(Framing::Length(9_999_999_999_999_999_999))),
            (&[(te, "chunked")], Ok(Framing::Chunked)),
            (&[(te, "Chunked")], Ok(Framing::Chunked)),
            (&[(cl, "5"), (te, "chunked")], Err(Both)),
            (&[(cl, "5"), (cl, "5")], Err(Cl)),
            (&[(cl, "5"), (cl, "6")], Err(Cl)),
            (&[(cl, "5, 5")], Err(Cl)),
            (&[(cl, "+5")], Err(Cl)),
            (&[(cl, "-5")], Err(Cl)),
            (&[(cl, "0x5")], Err(Cl)),
            (&[(cl, "5 5")], Err(Cl)),
            (&[(cl, "")], Err(Cl)),
            (&[(cl, "1e3")], Err(Cl)),
            (&[(cl, "99999999999999999999")], Err(Cl)),
            (&[(te, "chunked, chunked")], Err(Te)),
            (&[(te, "gzip, chunked")], Err(Te)),
            (&[(te, "chunked"), (te, "chunked")], Err(Te)),
            (&[(te, "identity")], Err(Te)),
            (&[(te, "xchunked")], Err(Te)),
            (&[(te, "")], Err(Te)),
            (&[(te, "chunked;q=1")], Err(Te)),
        ];
        for (lines, expected) in table {
            assert_eq!(request(Version::HTTP_11, lines), *expected, "{lines:?}");
        }
        assert_eq!(request(Version::HTTP_10, &[(te, "chunked")]), Err(Te));
    }

    #[test]
    fn a_response_body_depends_on_status_and_method() {
        let of = |method: Method, status: u16, lines: Lines<'_>, upgrade| {
            let headers = headers(lines);
            of_response(&method, StatusCode::from_u16(status).unwrap(), Version::HTTP_11, &headers, Marks::of(&headers), upgrade)
        };
        let length = &[("content-length", "5")][..];
        let chunked = &[("transfer-encoding", "chunked")][..];
        assert_eq!(of(Method::GET, 200, length, false), Ok(Framing::Length(5)));
        assert_eq!(of(Method::GET, 200, &[], false), Ok(Framing::UntilClose));
        assert_eq!(of(Method::GET, 200, chunked, false), Ok(Framing::Chunked));
        assert_eq!(of(Method::HEAD, 200, length, false), Ok(Framing::None));
        assert_eq!(of(Method::GET, 304, length, false), Ok(Framing::None));
        assert_eq!(of(Method::GET, 204, &[("content-length", "0")], false), Ok(Framing::None));
        assert_eq!(of(Method::GET, 204, length, false), Err(Reject::ContentLength));
        assert_eq!(of(Method::GET, 204, chunked, false), Err(Reject::TransferEncoding));
        assert_eq!(of(Method::GET, 103, &[], false), Ok(Framing::None));
        assert_eq!(of(Method::GET, 101, &[], true), Ok(Framing::Upgrade));
        assert_eq!(of(Method::GET, 101, &[], false), Err(Reject::StartLine));
        assert_eq!(
            of(Method::GET, 200, &[("content-length", "5"), ("transfer-encoding", "chunked")], false),
            Err(Reject::LengthAndEncoding)
        );
    }
}
