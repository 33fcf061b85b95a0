//! Writes PROXY protocol headers, version 2 (haproxy's proxy-protocol.txt, section 2.2). Pure.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2; the connection was made for somebody else.
const PROXY: u8 = 0x21;
/// Version 2; the connection is the sender's own, and has no addresses to tell.
const LOCAL: u8 = 0x20;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// The header for a connection of `client` to `server`; without both, one that says nothing about addresses.
pub(super) fn header(client: Option<SocketAddr>, server: Option<SocketAddr>) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    let (Some(client), Some(server)) = (client, server) else {
        header.extend([LOCAL, 0, 0, 0]);
        return header;
    };
    match (client.ip().to_canonical(), server.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            header.extend([PROXY, TCP4, 0, 12]);
            header.extend(from.octets());
            header.extend(to.octets());
        }
        // One family holds for both addresses, so a mixed pair is written as IPv6.
        (from, to) => {
            header.extend([PROXY, TCP6, 0, 36]);
            header.extend(v6(from).octets());
            header.extend(v6(to).octets());
        }
    }
    header.extend(client.port().to_be_bytes());
    header.extend(server.port().to_be_bytes());
    header
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn headers_are_those_of_the_specification() {
        let signature = "0d0a0d0a000d0a515549540a";
        let v4 = header(Some("192.0.2.1:4660".parse().unwrap()), Some("198.51.100.2:443".parse().unwrap()));
        assert_eq!(hex(&v4), format!("{signature}2111000cc0000201c6336402123401bb"));
        let v6 = header(Some("[2001:db8::1]:1".parse().unwrap()), Some("[2001:db8::2]:2".parse().unwrap()));
        assert_eq!(
            hex(&v6),
            format!("{signature}21210024{}{}00010002", "20010db8000000000000000000000001", "20010db8000000000000000000000002")
        );
        let mixed = header(Some("192.0.2.1:1".parse().unwrap()), Some("[2001:db8::2]:2".parse().unwrap()));
        assert_eq!(
            hex(&mixed),
            format!("{signature}21210024{}{}00010002", "00000000000000000000ffffc0000201", "20010db8000000000000000000000002")
        );
        let mapped = header(Some("[::ffff:192.0.2.1]:1".parse().unwrap()), Some("198.51.100.2:2".parse().unwrap()));
        assert_eq!(mapped[13], TCP4);
        assert_eq!(hex(&header(None, Some("198.51.100.2:443".parse().unwrap()))), format!("{signature}20000000"));
    }
}
