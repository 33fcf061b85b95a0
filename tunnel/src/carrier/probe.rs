//! Whether UDP passes to a hub and back, as far as a tunnel's transport depends on it.

use std::net::SocketAddr;
use std::time::Duration;

use crate::knock::{SMALLEST, knock};

/// How long one knock, of three packets, waits, beside two round trips.
const PATIENCE: Duration = Duration::from_millis(300);

/// Knocks without an answer from which on UDP counts as blocked. At 30 % loss each way 1 trial in 50 ends wrongly; it is only
/// made when nothing at all has come for a second.
pub(crate) const UNANSWERED: u32 = 2;

/// Knocks until an answer comes, or so many knocks had none. Cancel-safe.
pub(crate) async fn answers(hub: SocketAddr, knocks: u32, rtt: Duration) -> bool {
    for _ in 0..knocks {
        // Refused by ICMP is as good as unanswered: a firewall may do that as well.
        if knock(hub, &[SMALLEST], PATIENCE + 2 * rtt).await.is_ok() {
            return true;
        }
    }
    false
}
