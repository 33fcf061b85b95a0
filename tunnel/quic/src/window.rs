//! How much a connection may hold of what it was given to send and that is not acknowledged.
//!
//! As much as its path can hold, and little more: what waits for longer than it takes to send has left the processor's cache by
//! then, and is fetched from memory to be sent. Streams that share a connection share this.

use std::time::Duration;

use crate::state::{Core, State};

/// The most, in bytes; what a connection begins with, while its path is not known.
pub const SEND_WINDOW: u64 = 8 * 1024 * 1024;

/// The least, in bytes: what a processor's second cache holds, as a rule.
const LEAST: u64 = 2 * 1024 * 1024;

/// What a path is taken to carry, in bytes a second: 10 Gbit/s, more than one thread can encrypt.
const RATE: u64 = 1_250_000_000;

/// Datagrams and flights after which the path is looked at again.
const EVERY: u64 = 256;

/// Fits the window of a connection that sends to its path, from time to time.
pub(crate) fn fit(core: &Core, state: &mut State) {
    if core.passed().wrapping_sub(state.fitted) >= EVERY {
        state.fitted = core.passed();
        state.proto.set_send_window(of_path(state.proto.stats().path.min_rtt));
    }
}

/// Two round trips' worth, so that acknowledgements may come late.
fn of_path(shortest: Duration) -> u64 {
    let nanos = u64::try_from(shortest.as_nanos()).unwrap_or(u64::MAX);
    (nanos.saturating_mul(2).saturating_mul(RATE) / 1_000_000_000).clamp(LEAST, SEND_WINDOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_paths_have_what_a_cache_holds_and_long_ones_all() {
        assert_eq!(of_path(Duration::ZERO), LEAST);
        assert_eq!(of_path(Duration::from_micros(200)), LEAST);
        assert_eq!(of_path(Duration::from_millis(2)), 5_000_000);
        for millis in [4, 50, 60_000] {
            assert_eq!(of_path(Duration::from_millis(millis)), SEND_WINDOW);
        }
        assert_eq!(of_path(Duration::MAX), SEND_WINDOW);
    }
}
