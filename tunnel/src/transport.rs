//! QUIC's constants: congestion, windows, stream limits, buffers, MTU. One place, each with its reason.
//!
//! Numbers are choices; measure on the bed of tests/bench before changing one. Must never grow a knob that nobody has needed.

use std::io;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::sync::{Arc, Once};
use std::time::Duration;

use figspan_quic::{LastWord, SEND_WINDOW};
use quinn_proto::{MtuDiscoveryConfig, TransportConfig, VarInt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::congestion::PatientConfig;

/// How long a handshake may take, dial to proven identity. UDP that is blocked shows by this running out.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// An agent speaks at least this often. The hub speaks more often ([`HUB_KEEP_ALIVE`]), so this timer fires only towards a hub that
/// has gone silent: because a NAT on the way has forgotten its mapping, as a rule, and this word tells the hub where the agent is
/// now. It must come well before the hub takes the tunnel to be suspect ([`SUSPECT_AFTER`]); with 1 s, an idle agent counted
/// as silent for up to 100 ms after each change of its address.
pub const AGENT_KEEP_ALIVE: Duration = Duration::from_millis(500);

/// A hub asks a silent agent for a sign of life this often. With [`SUSPECT_AFTER`] it decides how soon a dead agent is noticed;
/// measure CPU with 1,000 idle tunnels before lowering it (2.5 datagrams a second each way per tunnel).
pub const HUB_KEEP_ALIVE: Duration = Duration::from_millis(400);

/// A tunnel from which nothing came for this long, or nothing that answers, plus two round trips, is suspect: two unanswered signs of life and their
/// probes. It is not closed, since loss may be a burst of 2 s; it only is the last choice until it speaks again.
pub const SUSPECT_AFTER: Duration = Duration::from_millis(900);

/// How often tunnels are looked at for silence, all of an endpoint in one go.
pub const SILENCE_SAMPLE: Duration = Duration::from_millis(100);

/// A tunnel dies after this long without a word. quinn-proto's 30 s kept a moved flow dead for 34.7 s; with 5 s it is 5.7 s. Less would
/// close tunnels in bursts of loss (2 s in 10) and bring reconnect storms.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// Streams that an agent may have open towards the hub: identity renewal and a few more. Each allowed stream costs the hub
/// memory even when idle (40 KiB per tunnel at 16, 123 KiB at 1,000).
pub const STREAMS_FROM_AGENT: u32 = 16;

/// The same for an agent that may call services, each connection of which is a stream. Others are not given them, for the
/// memory that they cost (about 60 KiB per tunnel).
pub const CALLS_FROM_AGENT: u32 = 512;

/// Streams that a hub may have open towards an agent: one per connection to a workload, on each tunnel. An agent has few
/// tunnels, so it can afford the memory that a hub cannot.
pub const STREAMS_FROM_HUB: u32 = 1000;

/// What one stream may hold unread: bandwidth times delay of 80 Mbit/s at 200 ms, or 1.6 Gbit/s at 10 ms.
pub const STREAM_WINDOW: u32 = 2 * 1024 * 1024;

/// What one tunnel may hold unread over all streams: four streams at full speed, and a bound on what a peer can make us store
/// (quinn-proto's default is none).
pub const TUNNEL_WINDOW: u32 = 8 * 1024 * 1024;

/// The same before the peer's identity is known: enough for a join, little for an attacker.
pub const STRANGER_WINDOW: u32 = 128 * 1024;

/// Round trip assumed before it is measured: the first retransmission of a lost handshake packet comes after 300 ms instead of
/// 1 s (RFC 9002 assumes 333 ms), and a path slower than that only costs one spurious packet.
pub const INITIAL_RTT: Duration = Duration::from_millis(100);

/// Largest UDP payload that an ordinary network is expected to carry: Ethernet, less IPv6 and UDP.
pub const MTU: u16 = 1452;

/// How long a dial waits for an answer over UDP before it tries TCP as well. A handshake takes two round trips; the first lost
/// packet of one is sent again after 300 ms.
pub const TCP_AFTER: Duration = Duration::from_secs(1);

/// Largest UDP payload that is ever tried: jumbo frames of 9,000 bytes, less IPv6 and UDP. Clouds carry 8,900 to 9,001.
pub const MTU_CAP: u16 = 8952;

/// Least UDP payload that a path must carry (RFC 9000, section 14).
const MTU_LEAST: u16 = 1200;

/// Wanted size of each UDP socket buffer, in bytes. The kernel's default costs 22 % of throughput and 28 % of CPU per GB.
pub const SOCKET_BUFFER: usize = 4 * 1024 * 1024;

/// What the hub's end allows and does. MTU discovery goes up to `mtu` bytes of UDP payload.
pub(crate) fn hub(mtu: u16) -> TransportConfig {
    let mut config = both(mtu);
    config
        .max_concurrent_bidi_streams(STREAMS_FROM_AGENT.into())
        .keep_alive_interval(Some(HUB_KEEP_ALIVE))
        .receive_window(STRANGER_WINDOW.into());
    config
}

/// What the agent's end allows and does. MTU discovery goes up to `mtu` bytes of UDP payload.
pub(crate) fn agent(mtu: u16) -> TransportConfig {
    let mut config = both(mtu);
    config
        .max_concurrent_bidi_streams(STREAMS_FROM_HUB.into())
        .keep_alive_interval(Some(AGENT_KEEP_ALIVE))
        .receive_window(TUNNEL_WINDOW.into());
    config
}

/// Congestion control is quinn-proto's Cubic with more patience on long paths; its BBR lost in the measurements. Without fair queuing, streams go out in the
/// order of their writes, which saves 13 % of CPU per GB. Unidirectional streams and datagrams are not part of the protocol.
fn both(mtu: u16) -> TransportConfig {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(mtu);
    let idle = u32::try_from(IDLE_TIMEOUT.as_millis()).map_or(VarInt::MAX, VarInt::from_u32);
    let mut config = TransportConfig::default();
    config
        .max_concurrent_uni_streams(0u32.into())
        .max_idle_timeout(Some(idle.into()))
        .stream_receive_window(STREAM_WINDOW.into())
        .send_window(SEND_WINDOW)
        .send_fairness(false)
        .initial_rtt(INITIAL_RTT)
        .mtu_discovery_config(Some(discovery))
        .congestion_controller_factory(Arc::new(LastWord::around(Arc::new(PatientConfig::default()))))
        .datagram_receive_buffer_size(None);
    config
}

/// Largest UDP payload worth trying towards an address: what the route's link carries, as far as this machine knows, and at most
/// [`MTU_CAP`]. What the path carries is found by discovery.
pub(crate) fn mtu_towards(remote: SocketAddr) -> io::Result<u16> {
    // An IPv4 address in IPv6's clothes has IPv4's headers.
    let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
    let (any, headers): (SocketAddr, u32) = match remote.is_ipv6() {
        true => (([0u16; 8], 0).into(), 48),
        false => (([0u8; 4], 0).into(), 28),
    };
    let socket = UdpSocket::bind(any)?;
    // Connecting sends nothing, it only asks for the route.
    socket.connect(remote)?;
    let link = if remote.is_ipv6() { rustix::net::sockopt::ipv6_mtu(&socket) } else { rustix::net::sockopt::ip_mtu(&socket) };
    let payload = link.map_or(u32::from(MTU), |link| link.saturating_sub(headers));
    Ok(u16::try_from(payload).unwrap_or(u16::MAX).clamp(MTU_LEAST, MTU_CAP))
}

/// Opens a UDP socket with the buffers that tunnels want, not yet bound.
pub(crate) fn udp(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // Where the system insists on IPv6 only, IPv4 has a socket of its own.
        let _ = socket.set_only_v6(false);
    }
    enlarge(&socket)?;
    Ok(socket)
}

/// Opens and binds a UDP socket for an agent, of the family of the address to be called. Without a route there, it fails at
/// once, so that an address family that the network does not have costs no timeout.
pub(crate) fn udp_towards(remote: SocketAddr) -> io::Result<UdpSocket> {
    mtu_towards(remote)?;
    let any: SocketAddr = if remote.is_ipv6() { ([0u16; 8], 0).into() } else { ([0u8; 4], 0).into() };
    // Not connected: its peer may move.
    let socket = udp(any)?;
    socket.bind(&any.into())?;
    Ok(socket.into())
}

/// Buffer sizes of a UDP socket as the kernel really gives them: (receive, send), in bytes.
pub fn buffers(socket: &UdpSocket) -> io::Result<(usize, usize)> {
    let socket = socket2::SockRef::from(socket);
    // Linux answers twice what was asked, to cover its own bookkeeping (socket(7)).
    Ok((socket.recv_buffer_size()? / 2, socket.send_buffer_size()? / 2))
}

fn enlarge(socket: &Socket) -> io::Result<()> {
    static WARNED: Once = Once::new();
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_send_buffer_size(SOCKET_BUFFER)?;
    let (receive, send) = (socket.recv_buffer_size()? / 2, socket.send_buffer_size()? / 2);
    if receive < SOCKET_BUFFER || send < SOCKET_BUFFER {
        WARNED.call_once(|| {
            tracing::warn!(
                receive,
                send,
                wanted = SOCKET_BUFFER,
                "the kernel gives UDP sockets smaller buffers than wanted; bulk transfers cost more CPU. \
                 Mend: sysctl -w net.core.rmem_max={SOCKET_BUFFER} net.core.wmem_max={SOCKET_BUFFER}"
            );
        });
    }
    Ok(())
}
