use proptest::prelude::*;

use super::*;

const LIMITS: HeadLimits = HeadLimits { bytes: 1024, count: 20 };

fn answers(asked: &[(Method, bool)], bytes: &[u8]) -> (Result<(), Reject>, Responses) {
    let mut stream = Responses::new(LIMITS);
    for (method, upgrade) in asked {
        stream.asked(method.clone(), *upgrade);
    }
    (stream.feed(bytes), stream)
}

#[test]
fn messages_are_told_apart_on_a_whole_connection() {
    let mut stream = Requests::new(LIMITS);
    stream.feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nGETPOST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(stream.heads() == 3 && stream.is_between());
    stream.feed(b"G").unwrap();
    assert!(!stream.is_between());
    assert_eq!(Requests::new(LIMITS).feed(b"GET / HTTP/1.1\r\n\r\n"), Err(Reject::Host));
    assert_eq!(Requests::new(LIMITS).feed(b"GET /a%2fb HTTP/1.1\r\nHost: a\r\n\r\n"), Err(Reject::AmbiguousPath));
}

#[test]
fn responses_belong_to_requests() {
    let get = (Method::GET, false);
    let (verdict, stream) = answers(
        &[get.clone(), (Method::HEAD, false)],
        b"HTTP/1.1 103 X\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
    );
    assert!(verdict.is_ok() && stream.is_idle() && stream.may_end());
    let (verdict, _) = answers(std::slice::from_ref(&get), b"HTTP/1.1 204 No\r\n\r\nHTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(verdict, Err(Reject::StartLine), "bytes that nobody asked for");
    let (verdict, stream) = answers(std::slice::from_ref(&get), b"HTTP/1.1 200 OK\r\n\r\nuntil close");
    assert!(verdict.is_ok() && !stream.is_idle() && stream.may_end());
    let (verdict, stream) = answers(std::slice::from_ref(&get), b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort");
    assert!(verdict.is_ok() && !stream.is_idle() && !stream.may_end());
    let (verdict, stream) = answers(&[(Method::GET, true)], b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x05hello");
    assert!(verdict.is_ok() && !stream.is_idle());
    for garbage in [
        &b"HTTP/1.1 101 Switching Protocols\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        b"HTTP/1.1 200 OK\nX: a\n\n",
        b"HTTP/1.1 200 OK\r\nX: a\0\r\n\r\n",
        b"HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.0 103 Early\r\n\r\n",
        b"\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"<html>\n",
    ] {
        assert!(answers(std::slice::from_ref(&get), garbage).0.is_err(), "{garbage:?}");
    }
}

proptest! {
    #[test]
    fn requests_have_one_verdict(text in "((GET|POST) /[a.%2e/]{0,8} HTTP/1.[01]\r\n(Host: a\r\n)?((Content-Length: [0-9]|Transfer-Encoding: chunked|x: y)\r\n){0,2}\r\n[0-9a\r\n]{0,12}){0,4}") {
        fuzz_request(text.as_bytes());
    }

    #[test]
    fn responses_have_one_verdict(text in "(HTTP/1.[01] (200|204|101|103) ?[a-z]{0,3}\r\n((Content-Length: [0-9]|Transfer-Encoding: chunked|x: y)\r\n){0,2}\r\n[0-9a\r\n]{0,12}){0,4}") {
        fuzz_response(text.as_bytes());
    }

    #[test]
    fn any_bytes_have_one_verdict(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        fuzz_request(&bytes);
        fuzz_response(&bytes);
    }
}
