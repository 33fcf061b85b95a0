//! The reader of heads agrees with a slow one that looks at one byte at a time and knows no shortcut, on good heads, on heads with
//! a few bytes wrong, and on heads of pieces in any order: on what is refused and why, and on all that is read.

use http::header::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::admission::marks::Marks;

const LIMITS: HeadLimits = HeadLimits { bytes: 400, count: 6 };

/// A head as the slow reader has it: its length, its first line's words but a reason, its fields.
type Slow = (usize, Vec<Vec<u8>>, (HeaderMap, Marks));

fn slow(side: Side, bytes: &[u8]) -> Result<Option<Slow>, Reject> {
    let (mut start, mut fields, mut line, mut skipped) = (None, Vec::new(), Vec::new(), false);
    for (at, &byte) in bytes.iter().enumerate().take(LIMITS.bytes) {
        line.push(byte);
        if byte != b'\n' {
            continue;
        }
        let text = line.strip_suffix(b"\r\n").ok_or(Reject::LineEnd)?.to_vec();
        line.clear();
        if text.is_empty() && start.is_none() && side == Side::Request && !skipped {
            skipped = true;
            continue;
        }
        if text.contains(&b'\r') {
            return Err(Reject::LineEnd);
        }
        match start {
            None => start = Some(slow_start(side, &text)?),
            Some(start) if text.is_empty() => return Ok(Some((at + 1, start, slow_section(&fields)))),
            Some(_) if fields.len() == LIMITS.count => return Err(Reject::TooManyFields),
            Some(_) => fields.push(slow_field(&text)?),
        }
    }
    match (bytes.len() < LIMITS.bytes, start, side) {
        (true, _, _) => Ok(None),
        (false, None, Side::Request) => Err(Reject::TargetTooLong),
        _ => Err(Reject::HeadTooLarge),
    }
}

fn slow_start(side: Side, line: &[u8]) -> Result<Vec<Vec<u8>>, Reject> {
    let most = if side == Side::Request { usize::MAX } else { 3 };
    let words: Vec<_> = line.splitn(most, |&byte| byte == b' ').map(<[u8]>::to_vec).collect();
    let version = |word: &[u8]| match String::from_utf8_lossy(word).strip_prefix("HTTP/").map(|rest| rest.chars().collect::<Vec<_>>()) {
        Some(rest) if rest == ['1', '.', '0'] || rest == ['1', '.', '1'] => Ok(()),
        Some(rest) if matches!(rest[..], [a, '.', b] if a.is_ascii_digit() && b.is_ascii_digit()) => Err(Reject::Version),
        _ => Err(Reject::StartLine),
    };
    match (side, &words[..]) {
        (Side::Request, [method, target, last]) => {
            if method.is_empty() || !method.iter().all(|&byte| slow_token(byte)) || target.is_empty() {
                return Err(Reject::StartLine);
            }
            version(last)?;
            if method == b"CONNECT" {
                return Err(Reject::Connect);
            }
        }
        (Side::Response, [first, rest @ ..]) => {
            version(&line[..line.len().min(8)])?;
            let ([status, reason @ ..], 8) = (rest, first.len()) else { return Err(Reject::StartLine) };
            let status: u16 = match &status[..] {
                [a, b, c] if [a, b, c].iter().all(|digit| digit.is_ascii_digit()) => String::from_utf8_lossy(status).parse().unwrap(),
                _ => return Err(Reject::StartLine),
            };
            let good = |reason: &Vec<u8>| reason.iter().all(|&byte| slow_text(byte));
            if !(100..600).contains(&status) || !reason.iter().all(good) {
                return Err(Reject::StartLine);
            }
        }
        _ => return Err(Reject::StartLine),
    }
    Ok(words.into_iter().take(if side == Side::Request { 3 } else { 2 }).collect())
}

fn slow_field(line: &[u8]) -> Result<(String, Vec<u8>), Reject> {
    if matches!(line[0], b' ' | b'\t') {
        return Err(Reject::Folding);
    }
    let mut parts = line.splitn(2, |&byte| byte == b':');
    let (Some(name), Some(value)) = (parts.next(), parts.next()) else { return Err(Reject::FieldName) };
    if name.is_empty() || !name.iter().all(|&byte| slow_token(byte)) {
        return Err(Reject::FieldName);
    }
    if !value.iter().all(|&byte| slow_text(byte)) {
        return Err(Reject::FieldValue);
    }
    let value: Vec<u8> = value.iter().copied().skip_while(|byte| b" \t".contains(byte)).collect();
    let end = value.iter().rposition(|byte| !b" \t".contains(byte)).map_or(0, |last| last + 1);
    Ok((String::from_utf8_lossy(name).to_ascii_lowercase(), value[..end].to_vec()))
}

fn slow_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn slow_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// The map and the marks of these fields.
fn slow_section(fields: &[(String, Vec<u8>)]) -> (HeaderMap, Marks) {
    let says = |word: &str| {
        let lines = fields.iter().filter(|(name, _)| name == "connection");
        let text = lines.map(|(_, value)| String::from_utf8_lossy(value).to_ascii_lowercase()).collect::<Vec<_>>().join(",");
        text.split(',').any(|item| item.trim_matches([' ', '\t']) == word)
    };
    let plain = |value: &[u8]| value.eq_ignore_ascii_case(b"close") || value.eq_ignore_ascii_case(b"keep-alive");
    let told = fields.iter().all(|(name, value)| name != "connection" || plain(value));
    let mut headers = HeaderMap::new();
    for (name, value) in fields.iter().filter(|(name, _)| !(told && name == "connection")) {
        headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value).unwrap());
    }
    let mark = |mark, set: bool| if set { mark } else { Marks::NONE };
    let marks = Marks::of(&headers).and(mark(Marks::CLOSE, says("close"))).and(mark(Marks::KEEP_ALIVE, says("keep-alive")));
    (headers, marks)
}

fn agrees(bytes: &[u8], piece: usize) {
    for side in [Side::Request, Side::Response] {
        let expected = slow(side, bytes);
        let verdict = expected.as_ref().map(|head| head.as_ref().map(|head| head.0)).map_err(|reject| *reject);
        assert_eq!(HeadScan::new(side).scan(bytes, LIMITS), verdict, "{side:?}");
        let (mut scan, mut seen) = (HeadScan::new(side), Ok(None));
        for end in (0..bytes.len()).step_by(piece).chain([bytes.len()]) {
            seen = scan.scan(&bytes[..end], LIMITS);
            if seen != Ok(None) {
                break;
            }
        }
        assert_eq!(seen, verdict, "{side:?} in pieces of {piece}");
        assert_eq!(taken(side, bytes, bytes.len().max(1)), expected, "{side:?} taken at once");
        assert_eq!(taken(side, bytes, piece), expected, "{side:?} taken in pieces of {piece}");
    }
}

/// What the reader takes from bytes that come in pieces, as the slow one has it.
fn taken(side: Side, bytes: &[u8], piece: usize) -> Result<Option<Slow>, Reject> {
    let (mut scan, mut held) = (HeadScan::new(side), BytesMut::new());
    for part in bytes.chunks(piece) {
        held.extend_from_slice(part);
        let before = held.len();
        let version = |version| if version == Version::HTTP_11 { b"HTTP/1.1".to_vec() } else { b"HTTP/1.0".to_vec() };
        let (start, headers, marks) = match side {
            Side::Request => match take_request(&mut held, &mut scan, LIMITS)? {
                Some(head) => (vec![head.method.as_str().into(), head.target.to_vec(), version(head.version)], head.headers, head.marks),
                None => continue,
            },
            Side::Response => match take_response(&mut held, &mut scan, LIMITS)? {
                Some(head) => (vec![version(head.version), head.status.as_str().into()], head.headers, head.marks),
                None => continue,
            },
        };
        assert!(scan.is_new(), "stands before the next head");
        return Ok(Some((before - held.len(), start, (headers, marks))));
    }
    Ok(None)
}

const LINES: [&str; 28] = [
    "Host: shop.example:8080\r\n",
    "User-Agent: curl/8.14.1\r\n",
    "accept: */*\r\n",
    "Connection: keep-alive\r\n",
    "connection: CLOSE\r\n",
    "Connection: x-a, close\t,\tKeep-Alive\r\n",
    "Connection:\r\n",
    "Connection: Upgrade\r\n",
    "Upgrade: websocket\r\n",
    "Content-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "TE: trailers\r\n",
    "Keep-Alive: timeout=5\r\n",
    "Expect: 100-continue\r\n",
    "Authorization: Basic eDp5\r\n",
    "Proxy: x\r\n",
    "X-Forwarded-For: 192.0.2.7\r\n",
    "X_Forwarded_For: 192.0.2.7\r\n",
    "X-Figspan-Pin: x\r\n",
    "X-A-Name-That-Is-Longer-Than-All-Names-Of-Any-List: \t some value of its own \t \r\n",
    "Set-Cookie: a=b; Path=/\r\n",
    "Set-Cookie: c=\u{e4}\tand a value that goes on for longer than a few words of the processor do\r\n",
    "e:\r\n",
    "e: 1234567\r\n",
    "e: 12345678\r\n",
    " folded\r\n",
    "no colon\r\n",
    "space : x\r\n",
];

const STARTS: [&str; 12] = [
    "GET /200 HTTP/1.1\r\n",
    "\r\nPOST /a?b=c HTTP/1.0\r\n",
    "OPTIONS * HTTP/1.1\r\n",
    "CONNECT a:1 HTTP/1.1\r\n",
    "GET / HTTP/2.0\r\n",
    "GET  / HTTP/1.1\r\n",
    "G@T / HTTP/1.1\r\n",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.0 404 Not \t Found\r\n",
    "HTTP/1.1 204\r\n",
    "HTTP/1.1 600 X\r\n",
    "HTTP/3.0 200 OK\r\n",
];

/// Bytes that mean something somewhere, and some that do not.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![prop::sample::select(&b"\r\n\t :,/.-_\0\x7f\x80\xffaZ19"[..]), any::<u8>()]
}

fn head() -> impl Strategy<Value = Vec<u8>> {
    let lines = prop::collection::vec(prop::sample::select(&LINES[..]), 0..8);
    (prop::sample::select(&STARTS[..]), lines, prop::sample::select(&["\r\n", "\r\nbody\r\n", "\n", "\r", ""][..]))
        .prop_map(|(start, lines, end)| [start, &lines.concat(), end].concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn on_heads_of_good_and_bad_lines(bytes in head(), piece in 1usize..60) {
        agrees(&bytes, piece);
    }

    #[test]
    fn on_heads_with_a_few_bytes_wrong(
        mut bytes in head(),
        wrong in prop::collection::vec((any::<prop::sample::Index>(), byte(), 0..3), 1..4),
        piece in 1usize..60,
    ) {
        for (at, byte, how) in wrong {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => {}
            }
        }
        agrees(&bytes, piece);
    }

    #[test]
    fn on_bytes_in_any_order(bytes in prop::collection::vec(byte(), 0..60), start in prop::sample::select(&STARTS[..]), piece in 1usize..20) {
        agrees(&bytes, piece);
        agrees(&[start.as_bytes(), &bytes, b"\r\n\r\n"].concat(), piece);
        agrees(&[start.as_bytes(), b"x:", &bytes, b"\r\n\r\n"].concat(), piece);
    }
}
