//! What a request's client brings that can be hashed: its address, a header, a cookie, a query parameter, a claim. Pure.

use std::net::IpAddr;

use figspan_model::routing::HashOn;
use figspan_model::routing::matcher::query_value;
use http::{HeaderMap, HeaderName, header, request};
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

use crate::client::Client;
use crate::jwt::Verified;

/// The hash of what is asked for; `None` where the request does not have it. The same on all replicas and in all versions.
pub fn hash(on: &HashOn, request: &request::Parts, client: &Client, verified: &Verified<'_>) -> Option<u64> {
    let headers = &request.headers;
    match on {
        HashOn::ClientIp => Some(match client.address.ip() {
            IpAddr::V4(address) => xxh3_64(&address.octets()),
            IpAddr::V6(address) => xxh3_64(&address.octets()),
        }),
        HashOn::Header(name) => header(headers, name),
        HashOn::Cookie(name) => cookie(headers, name).map(xxh3_64),
        HashOn::Query(name) => query_value(request.uri.query()?, name).map(|value| xxh3_64(&value)),
        HashOn::Claim(name) => verified.claim(name).map(|value| xxh3_64(value.as_bytes())),
    }
}

/// The hash of all lines of a header, as if joined by ", ".
fn header(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let mut lines = headers.get_all(name).iter();
    let mut hash = Xxh3Default::new();
    hash.update(lines.next()?.as_bytes());
    for line in lines {
        hash.update(b", ");
        hash.update(line.as_bytes());
    }
    Some(hash.digest())
}

/// The value of a cookie; the first of its name (RFC 6265, section 4.2.1).
pub fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    cookies(headers, name).next()
}

/// The values of all cookies of that name, in their order.
pub fn cookies<'h>(headers: &'h HeaderMap, name: &str) -> impl Iterator<Item = &'h [u8]> {
    let pairs = headers.get_all(header::COOKIE).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(move |pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(address: &str) -> Client {
        let peer = "10.0.0.1:1".parse().unwrap();
        Client { address: address.parse().unwrap(), ..Client::connected("web".into(), peer, peer, None) }
    }

    fn of(on: &HashOn, uri: &str, lines: &[(&'static str, &str)]) -> Option<u64> {
        let mut request = http::Request::get(uri);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        hash(on, &request.body(()).unwrap().into_parts().0, &client("192.0.2.7:999"), &Verified::default())
    }

    #[test]
    fn each_source_gives_the_hash_of_its_value_or_nothing() {
        let ann = Some(xxh3_64(b"ann"));
        assert_eq!(of(&HashOn::ClientIp, "/", &[]), Some(xxh3_64(&[192, 0, 2, 7])));
        let header = HashOn::Header(HeaderName::from_static("x-user"));
        assert_eq!((of(&header, "/", &[("x-user", "ann")]), of(&header, "/", &[])), (ann, None));
        assert_eq!(of(&header, "/", &[("x-user", "ann"), ("x-user", "bob")]), Some(xxh3_64(b"ann, bob")));
        let cookie = HashOn::Cookie("u".into());
        assert_eq!(of(&cookie, "/", &[("cookie", "uu=1; u=ann; u=bob")]), ann);
        assert_eq!(of(&cookie, "/", &[("cookie", "a=1"), ("cookie", "u=ann")]), ann, "HTTP/2 splits cookies");
        assert_eq!(of(&cookie, "/", &[("cookie", "uu=ann")]), None);
        let query = HashOn::Query("user".into());
        assert_eq!((of(&query, "/?x=1&user=a%6En", &[]), of(&query, "/?x=1", &[])), (ann, None));
    }
}
