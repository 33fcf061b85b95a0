use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

use super::*;

fn proxied(source: &str, destination: &str) -> ProxyHeader {
    ProxyHeader::Proxied { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    [&SIGNATURE[..], &[command, family], &(body.len() as u16).to_be_bytes(), body].concat()
}

const FOUR: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 2, 0x12, 0x34, 0x00, 0x50];

#[test]
fn both_versions_are_read_and_what_follows_is_left() {
    for (bytes, header) in [
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 4660 80\r\n".to_vec(), proxied("192.0.2.1:4660", "192.0.2.2:80")),
        (b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n".to_vec(), proxied("[2001:db8::1]:1", "[2001:db8::2]:65535")),
        (b"PROXY UNKNOWN\r\n".to_vec(), ProxyHeader::Local),
        (b"PROXY UNKNOWN ffff::1 whatever 1 2\r\n".to_vec(), ProxyHeader::Local),
        (v2(0x21, 0x11, &FOUR), proxied("192.0.2.1:4660", "192.0.2.2:80")),
        (v2(0x21, 0x11, &[&FOUR[..], &[4, 0, 1, 9]].concat()), proxied("192.0.2.1:4660", "192.0.2.2:80")),
        (v2(0x21, 0x21, &[[0; 15].as_slice(), &[1], &[0; 15], &[2], &[0, 1, 0, 2]].concat()), proxied("[::1]:1", "[::2]:2")),
        (v2(0x20, 0x00, &[]), ProxyHeader::Local),
        (v2(0x20, 0x11, &FOUR), ProxyHeader::Local),
        (v2(0x21, 0x31, &[0; 216]), ProxyHeader::Local),
    ] {
        let more = [&bytes[..], b"GET / HTTP/1.1"].concat();
        assert_eq!(parse(&more), Ok(Some((header, bytes.len()))), "{bytes:?}");
        for length in 0..bytes.len() {
            assert_eq!(parse(&bytes[..length]), Ok(None), "{bytes:?}");
        }
    }
}

#[test]
fn anything_else_is_refused() {
    let long = format!("PROXY TCP4 {}\r\n", "1".repeat(100));
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
        b"PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n",
        b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
        b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
        b"PROXY TCP4 192.0.2.999 192.0.2.2 1 2\r\n",
        b"PROXY \r\n",
        long.as_bytes(),
        &v2(0x11, 0x11, &FOUR),
        &v2(0x22, 0x11, &FOUR),
        &v2(0x21, 0x41, &FOUR),
        &v2(0x21, 0x11, &FOUR[..11]),
        &v2(0x21, 0x11, &[0; MAX_V2]),
    ] {
        assert!(parse(bytes).is_err(), "{bytes:?}");
    }
}

#[tokio::test]
async fn the_reader_takes_the_header_and_not_one_byte_more() {
    for header in
        [b"PROXY TCP4 192.0.2.1 192.0.2.2 4660 80\r\n".to_vec(), b"PROXY UNKNOWN\r\n".to_vec(), v2(0x21, 0x11, &FOUR), v2(0x20, 0, &[])]
    {
        let (mut near, mut far) = tokio::io::duplex(4096);
        far.write_all(&[&header[..], b"rest"].concat()).await.unwrap();
        drop(far);
        read(&mut near).await.unwrap();
        let mut rest = String::new();
        near.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "rest");
    }
    assert!(read(&mut &b"PROXY TCP4"[..]).await.is_err());
    assert!(read(&mut &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..]).await.is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_change_its_mind(bytes in proptest::collection::vec(any::<u8>(), 0..120), signed in any::<bool>()) {
        let bytes = if signed { [&SIGNATURE[..], &bytes].concat() } else { [b"PROXY ", &bytes[..]].concat() };
        fuzz_proxy(&bytes);
    }
}
