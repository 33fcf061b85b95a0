use super::*;
use proptest::prelude::*;

fn taken(input: &mut BytesMut, method: &Method, limits: &Limits) -> Result<Option<Head>, Failure> {
    take(input, &mut scan(), method, false, super::limits(limits))
}

fn read(text: &str) -> Result<Option<Head>, Failure> {
    taken(&mut BytesMut::from(text), &Method::GET, &Limits::default())
}

fn refused(text: &str) {
    assert_eq!(read(text).err(), Some(Failure::Malformed), "{text:?}");
}

#[test]
fn a_plain_head_is_read_and_leaves_the_body() {
    let mut input = BytesMut::from("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A:  b c \t\r\n\r\nhello");
    let head = taken(&mut input, &Method::GET, &Limits::default()).unwrap().unwrap();
    assert_eq!((head.status, head.framing, head.keep_alive), (StatusCode::OK, Framing::Length(5), true));
    assert_eq!(head.headers["x-a"], "b c");
    assert_eq!(&input[..], b"hello");
}

#[test]
fn an_incomplete_head_is_waited_for() {
    assert!(read("HTTP/1.1 200 OK\r\nContent-Len").unwrap().is_none());
}

#[test]
fn ambiguous_framing_is_refused() {
    refused("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n");
    refused("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n");
    refused("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n");
    refused("HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n");
    refused("HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n");
    refused("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n");
    refused("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n");
    refused("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n");
    refused("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n");
    refused("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    refused("HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n");
}

#[test]
fn malformed_lines_are_refused() {
    refused("HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\n");
    refused("HTTP/1.1 200 OK\n\n");
    refused("HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n");
    refused("HTTP/1.1 200 OK\r\nA : b\r\n\r\n");
    refused("HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n");
    refused("HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n");
    refused("HTTP/1.1 200 OK\r\n: b\r\n\r\n");
    refused("HTTP/1.1 200 OK\r\nno colon\r\n\r\n");
    refused("HTTP/2 200 OK\r\n\r\n");
    refused("HTTP/1.1  200 OK\r\n\r\n");
    refused("HTTP/1.1 20 OK\r\n\r\n");
    refused("HTTP/1.1 999 X\r\n\r\n");
    refused("\r\nHTTP/1.1 200 OK\r\n\r\n");
}

#[test]
fn bodies_end_where_the_request_and_status_say() {
    let head = |method: Method, text: &str| taken(&mut BytesMut::from(text), &method, &Limits::default()).unwrap().unwrap();
    assert_eq!(head(Method::HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n").framing, Framing::None);
    assert_eq!(head(Method::GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n").framing, Framing::None);
    assert_eq!(head(Method::GET, "HTTP/1.1 204 No Content\r\n\r\n").framing, Framing::None);
    let until_close = head(Method::GET, "HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!((until_close.framing, until_close.keep_alive), (Framing::UntilClose, false));
    assert!(!head(Method::GET, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n").keep_alive);
    assert!(!head(Method::GET, "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n").keep_alive);
    assert!(head(Method::GET, "HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n").keep_alive);
}

#[test]
fn fields_of_the_connection_go_no_further() {
    let head = read("HTTP/1.1 200 OK\r\nConnection: x-secret, keep-alive\r\nKeep-Alive: timeout=5\r\nX-Secret: 1\r\nX-Open: 2\r\n\r\n");
    let headers = head.unwrap().unwrap().headers;
    assert_eq!(headers.keys().map(http::HeaderName::as_str).collect::<Vec<_>>(), ["x-open"]);
}

#[test]
fn heads_above_the_limits_are_refused() {
    let limits = Limits { header_bytes: 64, header_count: 2, ..Limits::default() };
    let take = |text: &str| taken(&mut BytesMut::from(text), &Method::GET, &limits).err();
    assert_eq!(take("HTTP/1.1 200 OK\r\na: 1\r\nb: 2\r\nc: 3\r\n\r\n"), Some(Failure::TooManyFields));
    assert_eq!(take(&format!("HTTP/1.1 200 OK\r\na: {}", "x".repeat(64))), Some(Failure::HeadTooLarge));
    assert_eq!(take("HTTP/1.1 200 OK\r\na: 1\r\nb: 2\r\n\r\n"), None);
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = taken(&mut BytesMut::from(&bytes[..]), &Method::GET, &Limits::default());
        let mut framed = BytesMut::from("HTTP/1.1 200 OK\r\n");
        framed.extend_from_slice(&bytes);
        framed.extend_from_slice(b"\r\n\r\n");
        let _ = taken(&mut framed, &Method::GET, &Limits::default());
    }
}
