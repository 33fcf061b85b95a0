//! What a tunnel has carried and what its path did to it.

use quinn_proto::ConnectionStats;

/// Counters since the tunnel's start, and how its path is now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Statistics {
    /// Bytes of UDP payload sent.
    pub sent_bytes: u64,
    /// Bytes of UDP payload received.
    pub received_bytes: u64,
    /// Datagrams sent.
    pub sent_datagrams: u64,
    /// Datagrams received.
    pub received_datagrams: u64,
    /// Packets sent on the path of now.
    pub sent_packets: u64,
    /// Of those, packets lost.
    pub lost_packets: u64,
    /// Congestion window in bytes.
    pub congestion_window: u64,
    /// Times that the window was cut.
    pub congestion_events: u64,
    /// Times that large packets stopped getting through.
    pub black_holes: u64,
    /// Streams that the peer reset.
    pub resets_received: u64,
    /// Streams that this side reset.
    pub resets_sent: u64,
    /// Times that the peer's window for the whole tunnel was used up.
    pub blocked: u64,
}

impl From<ConnectionStats> for Statistics {
    fn from(stats: ConnectionStats) -> Self {
        Self {
            sent_bytes: stats.udp_tx.bytes,
            received_bytes: stats.udp_rx.bytes,
            sent_datagrams: stats.udp_tx.datagrams,
            received_datagrams: stats.udp_rx.datagrams,
            sent_packets: stats.path.sent_packets,
            lost_packets: stats.path.lost_packets,
            congestion_window: stats.path.cwnd,
            congestion_events: stats.path.congestion_events,
            black_holes: stats.path.black_holes_detected,
            resets_received: stats.frame_rx.reset_stream,
            resets_sent: stats.frame_tx.reset_stream,
            blocked: stats.frame_tx.data_blocked,
        }
    }
}
