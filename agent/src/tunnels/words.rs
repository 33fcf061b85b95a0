//! What the log says of tunnels that begin and end.

use std::net::SocketAddr;
use std::time::Duration;

use figspan_proto::reset::Close;
use figspan_tunnel::{Closed, Transport};

use super::Live;

/// Differences of the clocks from which on a log line is due; certificates bear 5 minutes.
const SKEW_WORTH_A_WORD: Duration = Duration::from_secs(30);

/// A tunnel is up.
pub(super) fn up(live: &Live, address: SocketAddr) {
    let (replica, shard) = (&live.replica, live.shard);
    let carried = live.tunnel.carried();
    let by = if carried.transport == Transport::Tcp { format!(", over TCP: {}", carried.why) } else { String::new() };
    let (transport, shards) = (carried.transport, live.shards);
    tracing::info!(%replica, shard, %address, %transport, "tunnel to hub {replica} shard {} of {shards} at {address} is up{by}", shard + 1);
    if live.skew_ms.unsigned_abs() > SKEW_WORTH_A_WORD.as_millis() as u64 {
        let (seconds, side) = (live.skew_ms.unsigned_abs() / 1000, if live.skew_ms > 0 { "ahead of" } else { "behind" });
        tracing::warn!(%replica, "this VM's clock is {seconds} s {side} that of hub {replica}; set one of them right (NTP) before certificates fail");
    }
}

/// How a tunnel ended, and what to do about it.
pub(super) fn why(closed: &Closed) -> String {
    let mend = match closed.close {
        Some(Close::Revoked) => "this agent was revoked; ask for a new grant and run `figspan-agent join --again`",
        Some(Close::Identity) => "the hub does not accept this agent's certificate; see `figspan-agent doctor`",
        Some(Close::Version) => "hub and agent have no common version of the protocol; upgrade the older",
        Some(Close::Limit) => "the hub has as many tunnels as it allows; raise its limit, or lower tunnels_per_hub",
        Some(Close::Leaving) => "the hub's replica ends",
        Some(Close::Done) => "in good order",
        Some(Close::Replaced) => "a newer tunnel took its place",
        _ => return closed.detail.clone(),
    };
    mend.to_owned()
}

/// What an error says but for its numbers: the time in one is another at each attempt.
pub(super) fn gist(error: &str) -> String {
    error.split(|c: char| c.is_ascii_digit()).collect()
}
