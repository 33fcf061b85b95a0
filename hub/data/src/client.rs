//! Who a client is: what its connection shows, corrected by proxies that are trusted.

pub mod proxy;

use std::cell::OnceCell;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use figspan_proto::name::AgentName;
use http::HeaderValue;
use proxy::ProxyHeader;

/// A client's connection, as the workload shall hear of it.
#[derive(Debug, Clone)]
pub struct Client {
    /// The TCP peer.
    pub peer: SocketAddr,
    /// The client's own address: the peer, or what a trusted proxy said (PROXY protocol or forwarded headers).
    pub address: SocketAddr,
    /// The client's address as a header value, written once for all its requests.
    pub shown: HeaderValue,
    /// The same with its port, as the log shows it; written with the first line.
    pub(crate) logged: OnceCell<Box<str>>,
    /// The address that it called.
    pub local: SocketAddr,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// SNI, lower case.
    pub server_name: Option<Arc<str>>,
    /// The listener's name.
    pub listener: Arc<str>,
    /// Unique within the process; isolates pooled streams where authentication is bound to a connection (NTLM, Negotiate).
    pub connection: u64,
    /// The backend that this request asks for; nothing is proven yet.
    pub pin: Option<HeaderValue>,
    /// The agent whose process this is, by its certificate; none for clients of listeners.
    pub agent: Option<HeaderValue>,
    /// Where that process calls from, as its agent says. For the log alone.
    pub process: Option<SocketAddr>,
}

static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

impl Client {
    /// A client that has just connected; `proxied` is what a trusted proxy said before anything else.
    pub fn connected(listener: Arc<str>, peer: SocketAddr, local: SocketAddr, proxied: Option<ProxyHeader>) -> Self {
        let (address, local) = match proxied {
            Some(ProxyHeader::Proxied { source, destination }) => (source, destination),
            Some(ProxyHeader::Local) | None => (canonical(peer), local),
        };
        let connection = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        let shown = shown(address);
        Self {
            peer: canonical(peer),
            address,
            shown,
            logged: OnceCell::new(),
            local: canonical(local),
            scheme: "http",
            server_name: None,
            listener,
            connection,
            pin: None,
            agent: None,
            process: None,
        }
    }

    /// A process on the VM of an agent: its address is the tunnel's, and none of its words on who it is counts.
    pub fn calling(listener: Arc<str>, agent: &AgentName, tunnel: SocketAddr, process: Option<SocketAddr>) -> Self {
        let name = HeaderValue::from_str(agent.as_str()).expect("names are ASCII");
        Self { agent: Some(name), process, ..Self::connected(listener, tunnel, tunnel, None) }
    }

    /// Its own address as the log shows it.
    pub fn logged(&self) -> &str {
        self.logged.get_or_init(|| self.address.to_string().into())
    }

    /// The agent's name.
    pub fn agent(&self) -> Option<&str> {
        self.agent.as_ref().and_then(|name| name.to_str().ok())
    }

    /// The same connection, for a client that trusted proxies named.
    #[must_use]
    pub fn named(&self, address: SocketAddr, scheme: &'static str) -> Self {
        Self { address, shown: shown(address), logged: OnceCell::new(), scheme, ..self.clone() }
    }

    /// The same client after a TLS handshake.
    #[must_use]
    pub fn over_tls(self, server_name: Option<String>) -> Self {
        Self { scheme: "https", server_name: server_name.map(Arc::from), ..self }
    }
}

fn shown(address: SocketAddr) -> HeaderValue {
    let mut text = Shown { text: [0; 39], length: 0 };
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => text.octets(ip.octets()),
        IpAddr::V6(ip) => write!(text, "{ip}").expect("no address is longer"),
    }
    // With its count from the beginning, as each request has a share.
    HeaderValue::from_maybe_shared(Bytes::from_owner(text)).expect("addresses are ASCII")
}

/// An IP address as text, of which most are IPv4 and written without the machinery of formats.
struct Shown {
    /// Room for the longest, which is one of IPv6.
    text: [u8; 39],
    length: u8,
}

impl Shown {
    fn octets(&mut self, octets: [u8; 4]) {
        for octet in octets {
            let dot = if self.length == 0 { "" } else { "." };
            self.write_str(dot).and_then(|()| self.write_str(itoa::Buffer::new().format(octet))).expect("no address is longer");
        }
    }
}

impl Write for Shown {
    fn write_str(&mut self, more: &str) -> std::fmt::Result {
        let room = self.text.get_mut(usize::from(self.length)..).and_then(|rest| rest.get_mut(..more.len())).ok_or(std::fmt::Error)?;
        room.copy_from_slice(more.as_bytes());
        self.length += more.len() as u8;
        Ok(())
    }
}

impl AsRef<[u8]> for Shown {
    fn as_ref(&self) -> &[u8] {
        &self.text[..usize::from(self.length)]
    }
}

/// IPv4 in IPv6 as IPv4, so that a dual-stack listener shows what an IPv4 one would.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_as_the_library_shows_it() {
        let longest = "1111:2222:3333:4444:5555:6666:7777:8888";
        for (ip, text) in [
            ("0.0.0.0", "0.0.0.0"),
            ("10.0.200.7", "10.0.200.7"),
            ("255.255.255.255", "255.255.255.255"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            (longest, longest),
        ] {
            assert_eq!(shown(SocketAddr::new(ip.parse().unwrap(), 1)), text, "{ip}");
        }
    }
}
