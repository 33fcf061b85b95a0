//! How long to wait before the next attempt. Pure: randomness is an argument.

use std::time::Duration;

/// Exponential back-off with full jitter: each wait is drawn between the floor and a cap that doubles up to the ceiling, so
/// that many agents that lost the same hub do not come back in step.
#[derive(Debug, Clone)]
pub struct Backoff {
    floor: Duration,
    ceiling: Duration,
    cap: Duration,
}

impl Backoff {
    /// Waits of at least `floor` and never more than `ceiling`; the first cap is twice the floor.
    pub const fn new(floor: Duration, ceiling: Duration) -> Self {
        Self { floor, ceiling, cap: floor }
    }

    /// The next wait. `random` is uniform in 0..1 and given by the caller; what lies outside is clamped.
    pub fn next(&mut self, random: f64) -> Duration {
        self.cap = self.cap.saturating_mul(2).min(self.ceiling).max(self.floor);
        let random = if random.is_nan() { 1.0 } else { random.clamp(0.0, 1.0) };
        self.floor + (self.cap - self.floor).mul_f64(random)
    }

    /// Begins again at the floor, after success.
    pub fn reset(&mut self) {
        self.cap = self.floor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FLOOR: Duration = Duration::from_millis(100);
    const CEILING: Duration = Duration::from_secs(10);

    #[test]
    fn waits_grow_to_the_ceiling_and_start_over_after_success() {
        let mut backoff = Backoff::new(FLOOR, CEILING);
        let waits: Vec<_> = (0..10).map(|_| backoff.next(1.0)).collect();
        assert_eq!(waits[0], FLOOR * 2);
        assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(waits[9], CEILING);
        backoff.reset();
        assert_eq!(backoff.next(1.0), FLOOR * 2);
    }

    #[test]
    fn a_ceiling_below_the_floor_waits_the_floor() {
        assert_eq!(Backoff::new(CEILING, FLOOR).next(1.0), CEILING);
    }

    proptest! {
        #[test]
        fn every_wait_is_between_floor_and_ceiling(randoms in proptest::collection::vec(any::<f64>(), 1..80)) {
            let mut backoff = Backoff::new(FLOOR, CEILING);
            for random in randoms {
                let wait = backoff.next(random);
                prop_assert!(wait >= FLOOR && wait <= CEILING);
            }
        }
    }
}
