//! Hop `admission`: host and port, in one canonical spelling (RFC 9110, section 7.2; RFC 3986, section 3.2.2).
//!
//! Names are lower case, letters, digits, `-`, `_` and dots, at most 255 bytes, one final dot taken away; addresses are printed
//! as Rust prints them. Percent-encoded names, IPvFuture, zone ids, user information and empty ports are refused.

use std::cell::RefCell;
use std::net::Ipv6Addr;

use bytes::Bytes;
use http::uri;

use super::reject::Reject;

/// Most bytes of a name (RFC 1035, section 2.3.4).
const NAME: usize = 255;

/// A checked `host[:port]`; a copy shares its bytes.
#[derive(Debug, Clone)]
pub struct Authority {
    text: uri::Authority,
    host: usize,
    port: Option<u16>,
}

impl PartialEq for Authority {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Authority {}

impl Authority {
    /// Reads what a client wrote.
    pub fn parse(bytes: &[u8]) -> Result<Self, Reject> {
        let text = std::str::from_utf8(bytes).map_err(|_| Reject::Host)?;
        let (mut host, port) = if let Some(bracketed) = text.strip_prefix('[') {
            let (address, rest) = bracketed.split_once(']').ok_or(Reject::Host)?;
            let address: Ipv6Addr = address.parse().map_err(|_| Reject::Host)?;
            let port = match rest {
                "" => None,
                _ => Some(rest.strip_prefix(':').ok_or(Reject::Host)?),
            };
            (format!("[{address}]"), port)
        } else {
            let colon = memchr::memchr(b':', bytes);
            let (name, port) = colon.map_or((text, None), |colon| (&text[..colon], Some(&text[colon + 1..])));
            let mut host = String::with_capacity(text.len());
            host.push_str(checked(name)?);
            host.make_ascii_lowercase();
            (host, port)
        };
        let length = host.len();
        let number = port.map(port_of).transpose()?;
        if let Some(port) = port {
            host.push(':');
            // As numbers are written: without zeros in front.
            host.push_str(&port[port.bytes().take_while(|&digit| digit == b'0').count().min(port.len() - 1)..]);
        }
        let text = uri::Authority::from_maybe_shared(Bytes::from(host)).map_err(|_| Reject::Host)?;
        Ok(Self { text, host: length, port: number })
    }

    /// `host[:port]`.
    pub fn as_str(&self) -> &str {
        self.text.as_str()
    }

    /// The host alone; IPv6 addresses in brackets.
    pub fn host(&self) -> &str {
        &self.as_str()[..self.host]
    }

    /// The port, where one was written.
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

impl From<Authority> for uri::Authority {
    fn from(authority: Authority) -> Self {
        authority.text
    }
}

/// What a connection asked for last: nearly always what it asks for next, and then it is not read again.
#[derive(Debug, Default)]
pub struct LastAsked(RefCell<Option<Authority>>);

impl LastAsked {
    /// [`Authority::parse`].
    pub fn parse(&self, bytes: &[u8]) -> Result<Authority, Reject> {
        let mut last = self.0.borrow_mut();
        match &*last {
            // The one spelling is read as itself.
            Some(authority) if authority.as_str().as_bytes() == bytes => Ok(authority.clone()),
            _ => Ok(last.insert(Authority::parse(bytes)?).clone()),
        }
    }
}

/// For each byte whether a label may hold it.
static IN_LABEL: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'-' | b'_');
        byte += 1;
    }
    table
};

/// A name without its last dot.
fn checked(name: &str) -> Result<&str, Reject> {
    let name = name.strip_suffix('.').unwrap_or(name);
    // One pass over the bytes, and a label may not be empty.
    let mut before = b'.';
    for byte in name.bytes() {
        if !(IN_LABEL[usize::from(byte)] || (byte == b'.' && before != b'.')) {
            return Err(Reject::Host);
        }
        before = byte;
    }
    if name.len() > NAME || before == b'.' {
        return Err(Reject::Host);
    }
    Ok(name)
}

fn port_of(digits: &str) -> Result<u16, Reject> {
    if digits.is_empty() || digits.len() > 5 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Reject::Host);
    }
    digits.parse().map_err(|_| Reject::Host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_one_spelling_or_none() {
        for (raw, text, host, port) in [
            ("Shop.Example", "shop.example", "shop.example", None),
            ("shop.example.", "shop.example", "shop.example", None),
            ("shop.example.:8080", "shop.example:8080", "shop.example", Some(8080)),
            ("10.0.0.1:80", "10.0.0.1:80", "10.0.0.1", Some(80)),
            ("a:0080", "a:80", "a", Some(80)),
            ("[::1]:00000", "[::1]:0", "[::1]", Some(0)),
            ("[2001:DB8::0:1]:443", "[2001:db8::1]:443", "[2001:db8::1]", Some(443)),
            ("[::1]", "[::1]", "[::1]", None),
            ("my_service", "my_service", "my_service", None),
        ] {
            let last = LastAsked::default();
            // As it came, in its one spelling, and remembered.
            for raw in [raw, text, text, raw] {
                let authority = last.parse(raw.as_bytes()).unwrap();
                assert_eq!((authority.as_str(), authority.host(), authority.port()), (text, host, port));
            }
        }
        let long = format!("{}.example", "a".repeat(250));
        for bad in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a b",
            "a/b",
            "a@b",
            "user:pw@host",
            "a:",
            "a:x",
            "a:+1",
            "a:65536",
            "a:123456",
            "a:80:80",
            "a,b",
            "[::1",
            "::1",
            "[::1]x",
            "[::1]:",
            "[::1%eth0]",
            "[v1.x]",
            "a%2eb",
            "a#b",
            "a?b",
            "a\\b",
            "h\u{e4}",
            "*",
            "a;b",
            "a\tb",
            &long,
        ] {
            assert_eq!(Authority::parse(bad.as_bytes()), Err(Reject::Host), "{bad:?}");
            let last = LastAsked::default();
            assert_eq!(last.parse(b"a").unwrap().as_str(), "a");
            assert_eq!(last.parse(bad.as_bytes()), Err(Reject::Host), "{bad:?}");
        }
    }

    #[test]
    fn what_was_asked_for_before_is_not_what_is_asked_for_now() {
        let last = LastAsked::default();
        for text in ["a.example", "b.example", "a.example", "a.example:80", "a.example"] {
            assert_eq!(last.parse(text.as_bytes()).unwrap(), Authority::parse(text.as_bytes()).unwrap());
        }
    }
}
