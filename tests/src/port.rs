//! Ports that nobody else is given meanwhile. A port that the kernel chose is the kernel's again as soon as its socket closes:
//! the next connection of any test may have it, and what wanted to come back there cannot.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use rand::RngExt;
use socket2::{Domain, Socket, Type};

/// Below what kernels choose from (`net.ipv4.ip_local_port_range`), above what well-known services use.
const OURS: std::ops::Range<u16> = 12_000..32_000;

/// An address of the loopback at which nothing is bound, over TCP or UDP, and that the kernel gives to nobody: for what is bound later,
/// or again, or by a program that cannot say which port it was given.
pub fn kept() -> SocketAddr {
    kept_on(Ipv4Addr::LOCALHOST)
}

/// The same on an address of this machine.
pub fn kept_on(address: Ipv4Addr) -> SocketAddr {
    let mut random = rand::rng();
    let drawn = std::iter::repeat_with(|| SocketAddr::from((address, random.random_range(OURS)))).take(1000);
    let free = |at: &SocketAddr| TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok();
    drawn.into_iter().find(free).expect("one of a thousand ports is free")
}

/// A TCP address that refuses connections for as long as this lives. Whoever asks for it by name may listen there.
#[derive(Debug)]
pub struct Refusing {
    /// Where.
    pub address: SocketAddr,
    /// Bound, and not listening.
    _held: Socket,
}

impl Refusing {
    /// Somewhere on the loopback.
    pub fn anywhere() -> Self {
        let held = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        held.set_reuse_address(true).expect("a socket option");
        held.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("loopback");
        let address = held.local_addr().ok().and_then(|address| address.as_socket()).expect("bound");
        Self { address, _held: held }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn who_holds_an_address_that_refuses_may_listen_there_again_and_again() {
        let refusing = Refusing::anywhere();
        for _ in 0..2 {
            assert_eq!(TcpStream::connect(refusing.address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
            let listener = TcpListener::bind(refusing.address).unwrap();
            assert!(TcpStream::connect(listener.local_addr().unwrap()).is_ok());
        }
    }

    #[test]
    fn a_kept_port_is_bound_over_tcp_and_udp() {
        let address = kept();
        let (_tcp, _udp) = (TcpListener::bind(address).unwrap(), UdpSocket::bind(address).unwrap());
        assert!(OURS.contains(&address.port()) && kept() != address);
    }
}
