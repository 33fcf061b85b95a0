//! Addresses of peers that speak over a link. QUIC tells paths apart by address, so a peer's datagrams must have another one
//! over TCP than over UDP, and the real one must be seen from it: it is the peer's own, as IPv6, with a mark where link-local
//! addresses have the number of their interface. Pure.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

/// The mark. Interfaces have small numbers.
const OVER_TCP: u32 = 0x8000_0000;

/// The address under which QUIC knows the far end of a TCP connection.
pub(crate) fn over_tcp(peer: SocketAddr) -> SocketAddr {
    let ip = match peer.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    SocketAddrV6::new(ip, peer.port(), 0, OVER_TCP).into()
}

/// Whether it is one of ours.
pub(crate) fn is_over_tcp(address: SocketAddr) -> bool {
    matches!(address, SocketAddr::V6(address) if address.scope_id() & OVER_TCP != 0)
}

/// What people shall see of it.
pub(crate) fn real(address: SocketAddr) -> SocketAddr {
    if is_over_tcp(address) { SocketAddr::new(address.ip().to_canonical(), address.port()) } else { address }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_real_address_is_seen_through_the_mark_and_others_are_left_alone() {
        for text in ["10.1.2.3:4567", "[2001:db8::7]:4567"] {
            let peer: SocketAddr = text.parse().unwrap();
            let marked = over_tcp(peer);
            assert!(is_over_tcp(marked) && !is_over_tcp(peer) && marked != peer);
            assert_eq!((real(marked), real(peer)), (peer, peer));
        }
        // As a dual-stack listener shows an IPv4 peer.
        assert_eq!(real(over_tcp("[::ffff:10.1.2.3]:4567".parse().unwrap())), "10.1.2.3:4567".parse().unwrap());
        let link_local: SocketAddr = SocketAddrV6::new("fe80::1".parse().unwrap(), 1, 0, 3).into();
        assert!(!is_over_tcp(link_local) && real(link_local) == link_local);
    }
}
