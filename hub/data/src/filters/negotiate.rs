//! Which coding a client gets (RFC 9110, section 12.5.3), and which answers may be coded at all. Pure.

use figspan_model::routing::{Coding, Compression};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::dial::h1::head::has;

/// The coding that a client likes best of those offered; ties go by the order of the offer. `None`: the body as it is.
pub(super) fn coding(offered: &[Coding], headers: &HeaderMap) -> Option<Coding> {
    let mut likes = [None; Coding::ALL.len()];
    let (mut any, mut identity) = (None, None);
    for line in headers.get_all(header::ACCEPT_ENCODING) {
        for element in line.as_bytes().split(|byte| *byte == b',') {
            let mut parts = element.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let name = parts.next().unwrap_or_default();
            // A broken weight is no wish.
            let Some(quality) = parts.find_map(weight).unwrap_or(Some(1000)) else { continue };
            let place = match name {
                b"*" => &mut any,
                _ if name.eq_ignore_ascii_case(b"identity") => &mut identity,
                _ if name.eq_ignore_ascii_case(b"x-gzip") => &mut likes[Coding::Gzip as usize],
                _ => match Coding::ALL.iter().find(|coding| name.eq_ignore_ascii_case(coding.as_str().as_bytes())) {
                    Some(coding) => &mut likes[*coding as usize],
                    None => continue,
                },
            };
            *place = Some(quality);
        }
    }
    let liked = |coding: &Coding| likes[*coding as usize].or(any).unwrap_or(0);
    let mut best: Option<(Coding, u16)> = None;
    for coding in offered {
        let quality = liked(coding);
        if quality > best.map_or(0, |(_, quality)| quality) {
            best = Some((*coding, quality));
        }
    }
    best.filter(|(_, quality)| identity.is_none_or(|identity| *quality >= identity)).map(|(coding, _)| coding)
}

/// `q=0.5` in thousandths: `None` for another parameter, `Some(None)` for a weight that is none.
fn weight(parameter: &[u8]) -> Option<Option<u16>> {
    let text = std::str::from_utf8(parameter).ok()?;
    let (name, value) = text.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, rest) = value.trim().split_once('.').unwrap_or((value.trim(), ""));
    if !matches!(whole, "0" | "1") || rest.len() > 3 || !rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(None);
    }
    let thousandths: u16 = format!("{rest:0<3}").parse().unwrap_or(0);
    Some(match (whole, thousandths) {
        ("1", 1..) => None,
        ("1", _) => Some(1000),
        _ => Some(thousandths),
    })
}

/// Whether the answer is one that the rule compresses for clients who like that, so that caches must tell them apart.
pub(super) fn eligible(compression: &Compression, status: StatusCode, head: &HeaderMap, length: Option<u64>) -> bool {
    let bodiless = status.is_informational()
        || [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::PARTIAL_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
    // Whoever signed or numbered the bytes means these bytes.
    let bound = ["content-encoding", "content-range", "content-digest", "content-md5", "digest", "repr-digest", "signature"];
    if bodiless || bound.iter().any(|name| head.contains_key(*name)) || has(head, header::CACHE_CONTROL, b"no-transform") {
        return false;
    }
    let Some(media) = head.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let media = media.split(';').next().unwrap_or_default().trim();
    let never = media.eq_ignore_ascii_case("text/event-stream")
        || media.get(..16).is_some_and(|start| start.eq_ignore_ascii_case("application/grpc"))
        || media.get(..10).is_some_and(|start| start.eq_ignore_ascii_case("multipart/"));
    !never && length.is_none_or(|length| length >= compression.min_bytes) && compression.content_types.iter().any(|known| known.fits(media))
}

/// Says in the head that the body is coded, or that it could have been.
pub(super) fn describe(head: &mut HeaderMap, coding: Option<Coding>) {
    if !has(head, header::VARY, b"*") && !has(head, header::VARY, b"accept-encoding") {
        head.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
    let Some(coding) = coding else { return };
    head.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()));
    head.remove(header::CONTENT_LENGTH);
    head.remove(header::ACCEPT_RANGES);
    if let Some(tag) = head.get(header::ETAG)
        && !tag.as_bytes().starts_with(b"W/")
    {
        // The bytes differ now, so only a weak comparison holds (RFC 9110, section 8.8.3.3).
        match HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()) {
            Ok(weak) => drop(head.insert(header::ETAG, weak)),
            Err(_) => drop(head.remove(header::ETAG)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use figspan_model::routing::MediaPattern;
    use proptest::prelude::*;

    fn accept(line: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_str(line).unwrap());
        headers
    }

    #[test]
    fn the_client_weighs_first_and_the_offer_breaks_ties() {
        use Coding::{Brotli, Gzip, Zstd};
        for (line, wanted) in [
            ("gzip, deflate, br, zstd", Some(Zstd)),
            ("gzip;q=1.0, br;q=0.9", Some(Gzip)),
            ("GZIP ; Q=0.5", Some(Gzip)),
            ("x-gzip", Some(Gzip)),
            ("*", Some(Zstd)),
            ("*;q=0.1, zstd;q=0", Some(Brotli)),
            ("identity, gzip;q=0.5", None),
            ("identity;q=0.5, gzip", Some(Gzip)),
            ("identity;q=0", None),
            ("gzip;q=0", None),
            ("gzip;q=0.000", None),
            ("gzip;q=2", None),
            ("gzip;q=-1, br", Some(Brotli)),
            ("deflate", None),
            ("", None),
        ] {
            assert_eq!(coding(&Coding::ALL, &accept(line)), wanted, "{line}");
        }
        assert_eq!(coding(&[Gzip, Zstd], &accept("zstd, gzip, br")), Some(Gzip));
        assert_eq!(coding(&Coding::ALL, &HeaderMap::new()), None, "silence is no wish");
    }

    fn compression() -> Compression {
        let pattern = |before: &str, after: Option<&str>| MediaPattern { before: before.into(), after: after.map(str::to_owned) };
        let content_types = vec![pattern("text/", Some("")), pattern("application/", Some("+json"))];
        Compression { codings: Coding::ALL.to_vec(), min_bytes: 100, content_types }
    }

    fn fits(status: u16, fields: &[(&'static str, &'static str)], length: Option<u64>) -> bool {
        let head = fields.iter().map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value))).collect();
        eligible(&compression(), StatusCode::from_u16(status).unwrap(), &head, length)
    }

    #[test]
    fn what_may_not_be_coded_is_left_alone() {
        let html = ("content-type", "Text/HTML; charset=utf-8");
        assert!(fits(200, &[html], None) && fits(404, &[html], Some(100)) && fits(200, &[("content-type", "application/ld+json")], None));
        assert!(!fits(200, &[html], Some(99)), "tiny");
        assert!(!fits(206, &[html], None) && !fits(204, &[html], None) && !fits(304, &[html], None));
        for field in [
            ("content-encoding", "br"),
            ("content-range", "bytes 0-1/2"),
            ("cache-control", "public, No-Transform"),
            ("content-digest", "sha-256=:x:"),
        ] {
            assert!(!fits(200, &[html, field], None), "{field:?}");
        }
        for media in ["text/event-stream", "TEXT/event-stream; x", "application/grpc+json", "application/grpc-web+json", "image/png", ""] {
            assert!(!fits(200, &[("content-type", media)], None), "{media}");
        }
        assert!(!fits(200, &[], None), "who knows what it is");
    }

    #[test]
    fn a_coded_answer_says_so_and_its_tag_is_weak() {
        let mut head = HeaderMap::new();
        for (name, value) in [("etag", "\"a\""), ("content-length", "5"), ("accept-ranges", "bytes"), ("vary", "cookie")] {
            head.insert(name, HeaderValue::from_static(value));
        }
        describe(&mut head, Some(Coding::Gzip));
        describe(&mut head, None);
        let mut lines: Vec<String> = head.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        assert_eq!(lines, ["content-encoding: gzip", "etag: W/\"a\"", "vary: accept-encoding", "vary: cookie"]);
    }

    proptest! {
        #[test]
        fn no_wish_makes_it_panic_or_offer_what_is_refused(line in "[a-z*;=q.0-9, -]{0,40}") {
            let coding = coding(&Coding::ALL, &accept(&line));
            if let Some(coding) = coding {
                prop_assert!(line.contains(coding.as_str()) || line.contains('*'));
            }
        }
    }
}
