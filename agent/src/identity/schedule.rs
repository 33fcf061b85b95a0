//! When a certificate is renewed, when its end is worth a warning, and when it is no longer shown. Pure.

use std::time::{Duration, SystemTime};

/// How long after its end a certificate may still be used: clocks differ.
pub const GRACE: Duration = Duration::from_secs(60);

/// The moments in a certificate's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// Renewal is due: at about two thirds.
    pub renew: SystemTime,
    /// A certificate that is still the same is worth a warning: at five sixths.
    pub warn: SystemTime,
    /// Nothing is served with it any more.
    pub stop: SystemTime,
    /// Shortest and longest wait between attempts.
    pub backoff: (Duration, Duration),
}

impl Schedule {
    /// The schedule of a certificate; `random` in 0..1 spreads many agents that joined together.
    pub fn of(not_before: SystemTime, not_after: SystemTime, random: f64) -> Self {
        let life = not_after.duration_since(not_before).unwrap_or_default();
        let share = |part: f64| not_before + life.mul_f64(part);
        Self {
            renew: share(0.62 + 0.1 * random.clamp(0.0, 1.0)),
            warn: share(5.0 / 6.0),
            stop: not_after + GRACE,
            backoff: ((life / 2000).min(Duration::from_secs(5)), (life / 50).min(Duration::from_secs(600))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_renewed_around_two_thirds_warned_of_at_20_hours_and_over_a_minute_after_its_end() {
        let start = SystemTime::UNIX_EPOCH;
        let hours = |hours: u64| start + Duration::from_secs(hours * 3600);
        for random in [0.0, 0.5, 1.0] {
            let schedule = Schedule::of(start, hours(24), random);
            assert!(schedule.renew > hours(14) && schedule.renew < hours(18), "{schedule:?}");
            assert_eq!((schedule.warn, schedule.stop), (hours(20), hours(24) + GRACE));
        }
        assert_eq!(Schedule::of(start, start, 0.5).stop, start + GRACE);
    }
}
