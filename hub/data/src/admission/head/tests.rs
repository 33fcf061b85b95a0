use proptest::prelude::*;

use super::*;

const LIMITS: HeadLimits = HeadLimits { bytes: 256, count: 4 };

fn scan(side: Side, bytes: &[u8]) -> Result<Option<usize>, Reject> {
    HeadScan::new(side).scan(bytes, LIMITS)
}

/// The verdict when bytes come in pieces of that length.
fn in_pieces(side: Side, bytes: &[u8], piece: usize) -> Result<Option<usize>, Reject> {
    let mut scan = HeadScan::new(side);
    let mut end = 0;
    loop {
        end = (end + piece).min(bytes.len());
        match scan.scan(&bytes[..end], LIMITS) {
            Ok(None) if end < bytes.len() => {}
            verdict => return verdict,
        }
    }
}

#[test]
fn heads_end_at_their_first_empty_line() {
    assert_eq!(scan(Side::Request, b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest"), Ok(Some(27)));
    assert_eq!(scan(Side::Request, b"\r\nGET / HTTP/1.1\r\n\r\n"), Ok(Some(20)));
    assert_eq!(scan(Side::Request, b"GET / HTTP/1.1\r\nHost: a\r\n\r"), Ok(None));
    assert_eq!(scan(Side::Response, b"HTTP/1.1 200 OK\r\n\r\n"), Ok(Some(19)));
    let head = Bytes::from_static(b"\r\nPOST /a?b HTTP/1.0\r\nHost:  a \r\nX:\r\n\r\n");
    let head = request(&head, 2).unwrap();
    assert_eq!((head.method, &head.target[..], head.version), (Method::POST, &b"/a?b"[..], Version::HTTP_10));
    assert_eq!((&head.headers["host"], head.headers["x"].len()), (&"a".parse::<http::HeaderValue>().unwrap(), 0));
}

#[test]
fn bounds_hold_to_the_byte() {
    let exact = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(LIMITS.bytes - 23));
    assert_eq!(exact.len(), LIMITS.bytes);
    assert_eq!(scan(Side::Request, exact.as_bytes()), Ok(Some(LIMITS.bytes)));
    let over = exact.replacen('a', "aa", 1);
    assert_eq!(scan(Side::Request, over.as_bytes()), Err(Reject::HeadTooLarge));
    assert_eq!(scan(Side::Request, format!("GET /{}", "a".repeat(LIMITS.bytes)).as_bytes()), Err(Reject::TargetTooLong));
    assert_eq!(scan(Side::Response, "H".repeat(LIMITS.bytes).as_bytes()), Err(Reject::HeadTooLarge));
    assert_eq!(scan(Side::Request, b"GET / HTTP/1.1\r\na:\r\nb:\r\nc:\r\nd:\r\n\r\n"), Ok(Some(34)));
    assert_eq!(scan(Side::Request, b"GET / HTTP/1.1\r\na:\r\nb:\r\nc:\r\nd:\r\ne:\r\n\r\n"), Err(Reject::TooManyFields));
}

#[test]
fn status_lines_are_read_to_the_letter() {
    for (line, status) in [("HTTP/1.1 200 OK", 200), ("HTTP/1.0 404 Not \t Found", 404), ("HTTP/1.1 599 ", 599), ("HTTP/1.1 204", 204)] {
        let head = Bytes::from(format!("{line}\r\n\r\n"));
        assert_eq!(response(&head, 2).unwrap().status, status, "{line}");
    }
    for (line, reject) in [
        ("HTTP/1.1  200 OK", Reject::StartLine),
        ("HTTP/1.1 20 OK", Reject::StartLine),
        ("HTTP/1.1 2000 OK", Reject::StartLine),
        ("HTTP/1.1 099 OK", Reject::StartLine),
        ("HTTP/1.1 600 OK", Reject::StartLine),
        ("HTTP/1.1 +20 OK", Reject::StartLine),
        ("HTTP/1.1\t200 OK", Reject::StartLine),
        ("HTTP/2.0 200 OK", Reject::Version),
        ("HTTP/1.1 200 O\x01K", Reject::StartLine),
        ("ICY 200 OK", Reject::StartLine),
        ("", Reject::StartLine),
    ] {
        assert_eq!(scan(Side::Response, format!("{line}\r\n\r\n").as_bytes()), Err(reject), "{line:?}");
    }
}

proptest! {
    #[test]
    fn the_verdict_does_not_depend_on_the_split(text in "(\r\n)?(GET|P|HTTP/1.1) [/a2]{0,9} (HTTP/1.1|200|)(\r\n|\n|\r)([a-c]:? ?[\t -z\x00\r]{0,40}(\r\n|\n)){0,6}(\r\n)?[a-z]{0,300}", piece in 1usize..40) {
        for side in [Side::Request, Side::Response] {
            prop_assert_eq!(in_pieces(side, text.as_bytes(), piece), scan(side, text.as_bytes()));
        }
    }

    #[test]
    fn what_was_scanned_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(Some(length)) = scan(Side::Request, &bytes) {
            prop_assert!(request(&Bytes::copy_from_slice(&bytes[..length]), LIMITS.count).is_ok());
        }
        let framed = [b"GET / HTTP/1.1\r\nx:", &bytes[..], b"\r\n\r\n"].concat();
        if let Ok(Some(length)) = scan(Side::Request, &framed) {
            prop_assert!(request(&Bytes::copy_from_slice(&framed[..length]), LIMITS.count).is_ok());
        }
    }
}
