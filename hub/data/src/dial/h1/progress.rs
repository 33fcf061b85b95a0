//! When a byte last moved on a connection, for those who wait for the next one.
//!
//! Most bytes come to somebody who waits for no more, so that the clock, 20 ns and more each time, is read when the moment is asked
//! for and not with every byte. Who asks does so as soon as nothing moves.

use tokio::time::Instant;

/// Whether bytes have moved since it was asked last, and when that was.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    last: Option<Instant>,
}

impl Progress {
    /// A byte has moved, or what waits begins anew.
    pub(crate) fn moved(&mut self) {
        self.last = None;
    }

    /// When that was; `now` is asked where it was since the last call.
    pub(crate) fn last(&mut self, now: impl FnOnce() -> Instant) -> Instant {
        *self.last.get_or_insert_with(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_moment_stays_until_something_moves() {
        let start = Instant::now();
        let at = |seconds| move || start + Duration::from_secs(seconds);
        let mut progress = Progress::default();
        assert_eq!([1, 2].map(|now| progress.last(at(now))), [start + Duration::from_secs(1); 2]);
        progress.moved();
        assert_eq!([3, 4].map(|now| progress.last(at(now))), [start + Duration::from_secs(3); 2]);
    }
}
