//! Knocks at a hub's UDP port, without TLS: does a packet get there and back, and how large may it be?
//!
//! A packet of a QUIC version that nobody speaks must be answered by any QUIC server with the versions that it does (RFC 9000,
//! sections 5.2.2 and 6), from no state at all. So it measures the path alone: no certificate, clock or limit has a say. Sends a
//! few packets with "do not fragment" set and is bounded in time; believes nothing but answers to its own random ids.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::Instant;

use crate::transport;

/// The smallest packet that a server answers (RFC 9000, section 14.1), and the smallest that a path must carry.
pub const SMALLEST: u16 = 1200;
/// How often each size is tried: once may be lost.
const ROUNDS: u32 = 3;
/// A version that is reserved to be unknown (RFC 9000, section 15).
const NO_VERSION: [u8; 4] = [0x1a, 0x2a, 0x3a, 0x4a];
/// Bytes of each connection id.
const ID: usize = 8;

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// The largest packet that was answered, in bytes of UDP payload.
    pub largest: u16,
    /// The shortest time to an answer.
    pub rtt: Duration,
}

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub enum Silence {
    /// Not a word: a firewall on the way out or back, a wrong address, or a machine that is off.
    #[error("no answer within {0:?}")]
    Nothing(Duration),
    /// The machine is there and says that nobody listens on that port.
    #[error("nobody listens on that port")]
    Refused,
    /// The system would not send it.
    #[error("{0}")]
    Unsent(io::Error),
}

/// Sends a packet of each size up to three times, spread over `patience`, and returns as soon as all sizes are answered.
pub async fn knock(address: SocketAddr, sizes: &[u16], patience: Duration) -> Result<Heard, Silence> {
    let socket = transport::udp_towards(address).map_err(Silence::Unsent)?;
    // Sets, beside what carries tunnels need, "do not fragment" and "ignore what the kernel thinks of the path".
    figspan_quic::prepare(&socket).map_err(Silence::Unsent)?;
    let socket = UdpSocket::from_std(socket).map_err(Silence::Unsent)?;
    socket.connect(address).await.map_err(Silence::Unsent)?;
    let mark: [u8; ID - 2] = rand::random();
    let start = Instant::now();
    let mut heard: Option<Heard> = None;
    let mut open: Vec<u16> = sizes.to_vec();
    for round in 0..ROUNDS {
        let sent = Instant::now();
        for &size in &open {
            match socket.send(&packet(mark, size)).await {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Err(Silence::Refused),
                // Larger than the first hop carries: an answer about the path too.
                Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {}
                Err(error) => return heard.ok_or(Silence::Unsent(error)),
            }
        }
        let until = start + patience * (round + 1) / ROUNDS;
        let mut answer = [0; 256];
        while let Ok(received) = tokio::time::timeout_at(until, socket.recv(&mut answer)).await {
            match received {
                Ok(length) => {
                    let Some(size) = answered(&answer[..length], mark) else { continue };
                    open.retain(|open| *open != size);
                    let rtt = sent.elapsed();
                    let before = heard.unwrap_or(Heard { largest: size, rtt });
                    heard = Some(Heard { largest: before.largest.max(size), rtt: before.rtt.min(rtt) });
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Err(Silence::Refused),
                // ICMP of many kinds shows here; only silence to the end is silence.
                Err(_) => {}
            }
            if open.is_empty() {
                break;
            }
        }
        if open.is_empty() {
            break;
        }
    }
    heard.ok_or(Silence::Nothing(patience))
}

/// A long header (RFC 8999, section 5.1) with the size in our own id, and zeros up to that size.
fn packet(mark: [u8; ID - 2], size: u16) -> Vec<u8> {
    let mut packet = vec![0xc0];
    packet.extend(NO_VERSION);
    packet.push(ID as u8);
    packet.extend(rand::random::<[u8; ID]>());
    packet.push(ID as u8);
    packet.extend(mark);
    packet.extend(size.to_be_bytes());
    packet.resize(usize::from(size.max(SMALLEST)), 0);
    packet
}

/// The size that an answer is about (RFC 8999, section 6): version 0, towards our id.
fn answered(bytes: &[u8], mark: [u8; ID - 2]) -> Option<u16> {
    let (head, rest) = bytes.split_at_checked(6)?;
    let id = rest.get(..ID)?;
    let ours = head[0] & 0x80 != 0 && head[1..5] == [0; 4] && usize::from(head[5]) == ID && id[..ID - 2] == mark;
    ours.then(|| u16::from_be_bytes([id[ID - 2], id[ID - 1]]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Authority;

    #[tokio::test]
    async fn a_hub_answers_every_size_and_a_closed_port_says_so() {
        let endpoint = Authority::new().endpoints(1).remove(0);
        let address = endpoint.local_address().unwrap();
        let heard = knock(address, &[SMALLEST, transport::MTU], Duration::from_secs(3)).await.unwrap();
        assert_eq!(heard.largest, transport::MTU);

        let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(matches!(knock(closed, &[SMALLEST], Duration::from_secs(3)).await, Err(Silence::Refused)));
    }

    #[tokio::test]
    async fn silence_is_told_and_foreign_words_are_not_believed() {
        let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = peer.local_addr().unwrap();
        let liar = async {
            let mut packet = [0; 1500];
            loop {
                let (length, from) = peer.recv_from(&mut packet).await.unwrap();
                // What was sent, as it came; and a version negotiation towards somebody else.
                peer.send_to(&packet[..length], from).await.unwrap();
                peer.send_to(&[&[0x80, 0, 0, 0, 0, 8][..], &[7; 17]].concat(), from).await.unwrap();
            }
        };
        let patience = Duration::from_millis(300);
        tokio::select! {
            () = liar => {}
            heard = knock(address, &[SMALLEST], patience) => assert!(matches!(heard, Err(Silence::Nothing(_))), "{heard:?}"),
        }
    }
}
