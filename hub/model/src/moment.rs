//! Moments on the process's steady clock, small enough for an atomic. Passed to whatever depends on time, so that tests say
//! what time it is.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// What moments are counted from. A constant of the process, not state: any instant would do.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A moment, in whole milliseconds; fits 42 bits, which is 139 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(u64);

impl Moment {
    /// Before every other moment: "not yet".
    pub const NEVER: Self = Self(0);

    const LAST: u64 = (1 << 42) - 1;

    /// The moment of an instant; those before the first call of all count as the first moment.
    pub fn of(instant: Instant) -> Self {
        let epoch = *EPOCH;
        Self::from_millis(u64::try_from(instant.saturating_duration_since(epoch).as_millis()).unwrap_or(Self::LAST).saturating_add(1))
    }

    /// So many milliseconds after [`Moment::NEVER`].
    pub const fn from_millis(millis: u64) -> Self {
        Self(if millis > Self::LAST { Self::LAST } else { millis })
    }

    /// Milliseconds after [`Moment::NEVER`].
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// How long after `earlier` it is; zero if it is not.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self::from_millis(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(Self::LAST)))
    }
}
