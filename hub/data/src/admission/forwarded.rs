//! Hop `admission`: who the client is, and how the workload hears of it (X-Forwarded-*; Forwarded, RFC 7239).
//!
//! A peer's word counts only where its address is trusted. Addresses are walked from the right: each was written by the peer
//! to its right, so the first one that is not trusted is the client, and what stands left of it is hearsay and is dropped. An
//! entry that is no address ends the walk. X-Forwarded-* is read before Forwarded.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};

use super::host::Authority;
use super::syntax::trim;
use crate::client::Client;
use figspan_model::routing::{ForwardedHeaders, Proxies};

/// X-Forwarded-For.
pub const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// X-Forwarded-Proto.
pub const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// X-Forwarded-Host.
pub const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// X-Forwarded-Port.
pub const PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
/// The agent whose process called, where a service is called from a VM. figspan's own: no client can write it.
pub const AGENT: HeaderName = HeaderName::from_static("x-figspan-agent");

/// Most proxies in a row that are believed.
const HOPS: usize = 16;

/// What trusted proxies said.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Addresses from the client to the last proxy but the peer, in the order in which they are written.
    pub chain: Vec<SocketAddr>,
    /// `http` or `https`.
    pub proto: Option<&'static str>,
    /// The authority that the client asked for.
    pub host: Option<Authority>,
    /// The port that it asked.
    pub port: Option<u16>,
}

/// Whether an address belongs to a trusted proxy. IPv4 in IPv6 counts as IPv4.
pub fn is_trusted(address: IpAddr, proxies: &Proxies) -> bool {
    let address = address.to_canonical();
    proxies.trusted.iter().any(|net| net.contains(&address))
}

/// Reads what a trusted peer said and takes it out of the headers. Never to be asked about others.
pub fn take(headers: &mut HeaderMap, proxies: &Proxies) -> Told {
    let mut told = Told::default();
    let forwarded = joined(headers, &FORWARDED);
    let elements: Vec<Element> = split_quoted(&forwarded, ',').map(Element::parse).collect();
    let nodes: Vec<Option<SocketAddr>> = match headers.contains_key(FOR) {
        true => joined(headers, &FOR).split(',').map(node).collect(),
        false => elements.iter().map(|element| element.node).collect(),
    };
    for node in nodes.into_iter().rev().take(HOPS) {
        let Some(address) = node else { break };
        told.chain.push(address);
        if !is_trusted(address.ip(), proxies) {
            break;
        }
    }
    told.chain.reverse();
    let last = elements.into_iter().next_back().unwrap_or_default();
    let rightmost =
        |name: &HeaderName| joined(headers, name).rsplit(',').next().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    told.proto = rightmost(&PROTO).as_deref().and_then(proto).or(last.proto);
    told.host = rightmost(&HOST).and_then(|host| Authority::parse(host.as_bytes()).ok()).or(last.host);
    told.port = rightmost(&PORT).and_then(|port| port.parse().ok());
    for name in [&FOR, &PROTO, &HOST, &PORT, &FORWARDED] {
        headers.remove(name);
    }
    told
}

/// Writes what the workload shall hear. `asked` is what the request asks for, with the Host field that said so, if it did.
pub fn write(
    headers: &mut HeaderMap,
    told: &Told,
    client: &Client,
    scheme: &'static str,
    asked: (&Authority, Option<HeaderValue>),
    which: ForwardedHeaders,
) {
    let (authority, host) = asked;
    let authority = told.host.as_ref().unwrap_or(authority);
    if matches!(which, ForwardedHeaders::XForwarded | ForwardedHeaders::Both) {
        // Mostly nothing was told, and the client's own address was written down when it connected.
        let list = if told.chain.is_empty() { Some(client.shown.clone()) } else { value(chain(&told.chain, client)) };
        let host = host.filter(|host| host == authority.as_str()).or_else(|| HeaderValue::from_str(authority.as_str()).ok());
        let port = match told.port.or(authority.port()) {
            None if scheme == "https" => HeaderValue::from_static("443"),
            None => HeaderValue::from_static("80"),
            Some(port) => port.into(),
        };
        set(headers, FOR, list);
        set(headers, PROTO, Some(HeaderValue::from_static(scheme)));
        set(headers, HOST, host);
        set(headers, PORT, Some(port));
    }
    if matches!(which, ForwardedHeaders::Forwarded | ForwardedHeaders::Both) {
        let mut list = String::with_capacity(80);
        for address in &told.chain {
            list.push_str(&format!("for={}, ", quoted(address.ip().to_canonical())));
        }
        let peer = client.address.ip().to_canonical();
        list.push_str(&format!("for={};host={};proto={scheme}", quoted(peer), quote_authority(authority)));
        if let Some(value) = value(list) {
            headers.insert(FORWARDED, value);
        }
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: Option<HeaderValue>) {
    match value {
        Some(value) => drop(headers.insert(name, value)),
        None => drop(headers.remove(name)),
    }
}

fn chain(chain: &[SocketAddr], client: &Client) -> String {
    let mut list = String::with_capacity(40);
    for address in chain {
        list.push_str(&address.ip().to_canonical().to_string());
        list.push_str(", ");
    }
    list.push_str(&client.address.ip().to_canonical().to_string());
    list
}

/// The authority that the client asked for, as [`write()`] told the workload of it.
pub fn asked(headers: &HeaderMap) -> Option<Authority> {
    if let Some(host) = headers.get(HOST) {
        return Authority::parse(host.as_bytes()).ok();
    }
    let forwarded = headers.get(FORWARDED)?.to_str().ok()?;
    split_quoted(forwarded, ',').last().and_then(|element| Element::parse(element).host)
}

fn value(text: String) -> Option<HeaderValue> {
    HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).ok()
}

/// A node of RFC 7239, section 6: IPv6 in brackets and quotes.
fn quoted(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("\"[{address}]\""),
    }
}

/// `:` and brackets are no token characters, so such authorities are quoted; names need nothing escaped.
fn quote_authority(authority: &Authority) -> String {
    let text = authority.as_str();
    if text.contains([':', '[']) { format!("\"{text}\"") } else { text.to_owned() }
}

fn proto(text: &str) -> Option<&'static str> {
    ["http", "https"].into_iter().find(|scheme| text.eq_ignore_ascii_case(scheme))
}

/// All lines of a field as one list; bytes that are not ASCII spoil the entry they are in.
fn joined(headers: &HeaderMap, name: &HeaderName) -> String {
    let lines: Vec<_> = headers.get_all(name).into_iter().map(|line| String::from_utf8_lossy(line.as_bytes())).collect();
    lines.join(",")
}

/// `1.2.3.4`, `1.2.3.4:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`; port 0 where none is given.
fn node(text: &str) -> Option<SocketAddr> {
    let text = text.trim();
    let bare = text.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, 0));
    let bracketed = || {
        let address: Ipv6Addr = text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()?;
        Some(SocketAddr::new(address.into(), 0))
    };
    bare.or_else(|| text.parse().ok()).or_else(bracketed)
}

#[derive(Debug, Default)]
struct Element {
    node: Option<SocketAddr>,
    proto: Option<&'static str>,
    host: Option<Authority>,
}

impl Element {
    fn parse(text: &str) -> Self {
        let mut element = Self::default();
        for pair in split_quoted(text, ';') {
            let Some((name, value)) = pair.split_once('=') else { continue };
            let value = std::str::from_utf8(trim(value.as_bytes())).unwrap_or_default();
            // Nothing that is read here can hold an escaped character, so a value with one is no value.
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
            match name.trim() {
                name if name.eq_ignore_ascii_case("for") => element.node = node(value),
                name if name.eq_ignore_ascii_case("proto") => element.proto = proto(value),
                name if name.eq_ignore_ascii_case("host") => element.host = Authority::parse(value.as_bytes()).ok(),
                _ => {}
            }
        }
        element
    }
}

/// Splits at a separator that is not inside a quoted string.
fn split_quoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c| {
        let splits = c == separator && !quoted;
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        splits
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies() -> Proxies {
        Proxies { trusted: vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()], forwarded: ForwardedHeaders::Both }
    }

    fn take_from(lines: &[(&'static str, &'static str)], peer: &str) -> Told {
        let mut headers: HeaderMap =
            lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect();
        match is_trusted(peer.parse().unwrap(), &proxies()) {
            true => take(&mut headers, &proxies()),
            false => Told::default(),
        }
    }

    fn client(peer: &str) -> Client {
        let peer = peer.parse().unwrap();
        Client::connected("web".into(), peer, peer, None)
    }

    fn chain(told: &Told) -> Vec<String> {
        told.chain.iter().map(|address| address.ip().to_string()).collect()
    }

    #[test]
    fn only_a_trusted_peer_is_believed() {
        let lines = &[("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "https")];
        assert_eq!(take_from(lines, "192.0.2.1"), Told::default());
        let told = take_from(lines, "10.0.0.1");
        assert_eq!((chain(&told), told.proto), (vec!["1.2.3.4".to_owned()], Some("https")));
        assert_eq!(chain(&take_from(lines, "::ffff:10.0.0.1")), ["1.2.3.4"]);
    }

    #[test]
    fn the_walk_goes_from_the_right_and_ends_at_the_client() {
        assert_eq!(chain(&take_from(&[("x-forwarded-for", "6.6.6.6, 1.2.3.4, 10.0.0.2")], "10.0.0.1")), ["1.2.3.4", "10.0.0.2"]);
        assert_eq!(
            chain(&take_from(&[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "1.2.3.4,10.0.0.2")], "10.0.0.1")),
            ["1.2.3.4", "10.0.0.2"]
        );
        assert_eq!(chain(&take_from(&[("x-forwarded-for", "1.2.3.4, unknown, 10.0.0.2")], "10.0.0.1")), ["10.0.0.2"]);
        assert_eq!(chain(&take_from(&[("x-forwarded-for", "evil")], "10.0.0.1")), [""; 0]);
        assert_eq!(
            chain(&take_from(&[("forwarded", "for=6.6.6.6, for=\"[2001:db9::1]:80\";proto=https, for=10.0.0.3")], "10.0.0.1")),
            ["2001:db9::1", "10.0.0.3"]
        );
    }

    #[test]
    fn forwarded_is_read_with_quotes_and_written_with_them() {
        let told = take_from(&[("forwarded", "For=\"1.2.3.4:99\";Proto=HTTPS;Host=\"shop.example:81\";by=\"a,b;c\"")], "10.0.0.1");
        assert_eq!(told.chain, ["1.2.3.4:99".parse().unwrap()]);
        assert_eq!((told.proto, told.host.as_ref().map(Authority::as_str)), (Some("https"), Some("shop.example:81")));
        let mut headers = HeaderMap::new();
        let own = Authority::parse(b"hub.example").unwrap();
        write(&mut headers, &told, &client("[2001:db8::7]:9"), "https", (&own, None), ForwardedHeaders::Both);
        assert_eq!(headers["forwarded"], "for=1.2.3.4, for=\"[2001:db8::7]\";host=\"shop.example:81\";proto=https");
        assert_eq!(headers["x-forwarded-for"], "1.2.3.4, 2001:db8::7");
        assert_eq!(asked(&headers).unwrap().as_str(), "shop.example:81");
        assert_eq!(
            (&headers["x-forwarded-proto"], &headers["x-forwarded-host"], &headers["x-forwarded-port"]),
            (&"https".parse().unwrap(), &"shop.example:81".parse().unwrap(), &"81".parse().unwrap())
        );
        headers.remove(HOST);
        assert_eq!(asked(&headers).unwrap().as_str(), "shop.example:81");
    }

    #[test]
    fn what_is_said_without_proxies_is_what_the_connection_shows() {
        let mut headers = HeaderMap::new();
        let own = Authority::parse(b"hub.example").unwrap();
        let host = Some(HeaderValue::from_static("hub.example"));
        write(&mut headers, &Told::default(), &client("[::ffff:192.0.2.9]:9"), "http", (&own, host), ForwardedHeaders::XForwarded);
        assert_eq!(headers["x-forwarded-host"], "hub.example");
        assert_eq!((&headers["x-forwarded-for"], &headers["x-forwarded-port"]), (&"192.0.2.9".parse().unwrap(), &"80".parse().unwrap()));
        assert!(!headers.contains_key(FORWARDED));
    }
}
