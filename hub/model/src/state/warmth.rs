//! How long an endpoint has been taking work: what slow start goes by. Kept with its identity, so that no reload restarts it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::moment::Moment;

/// The part of its weight with which a cold endpoint begins, in 1/[`Warmth::FULL`]: enough to warm up, too little to hurt.
const FLOOR: u64 = 102;

/// Since when an endpoint takes work; from the beginning of time unless said.
#[derive(Debug, Default)]
pub struct Warmth(AtomicU64);

impl Warmth {
    /// A whole part.
    pub const FULL: u32 = 1024;

    /// The endpoint takes work again, or for the first time.
    pub fn begin(&self, now: Moment) {
        self.0.store(now.millis(), Ordering::Relaxed);
    }

    /// The same, where nobody has said it yet.
    pub fn begin_once(&self, now: Moment) {
        // Whoever said it first is right.
        let _ = self.0.compare_exchange(0, now.millis(), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Takes back what was said: the endpoint is away, and its next begin counts.
    pub fn end(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// The part of its weight with which it takes part `over` such a time, in 1/[`Warmth::FULL`]: from a tenth up to all.
    pub fn part(&self, over: Duration, now: Moment) -> u32 {
        let begun = Moment::from_millis(self.0.load(Ordering::Relaxed));
        let (age, over) = (now.since(begun).as_millis(), over.as_millis().max(1));
        if begun == Moment::NEVER || age >= over {
            return Self::FULL;
        }
        let part = u64::try_from(u128::from(Self::FULL) * age / over).unwrap_or(FLOOR).max(FLOOR);
        u32::try_from(part).unwrap_or(Self::FULL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_grows_from_a_tenth_to_all() {
        let (warmth, over) = (Warmth::default(), Duration::from_secs(10));
        let at = |millis: u64| Moment::from_millis(1000 + millis);
        assert_eq!(warmth.part(over, at(0)), Warmth::FULL, "nothing said");
        warmth.begin(at(0));
        let parts: Vec<u32> = (0..=10).map(|second| warmth.part(over, at(second * 1000))).collect();
        assert_eq!((parts[0], parts[5], parts[10]), (102, 512, 1024));
        assert!(parts.is_sorted());
        warmth.begin_once(at(9000));
        assert_eq!(warmth.part(over, at(9000)), parts[9], "the first word counts");
        warmth.end();
        warmth.begin_once(at(20_000));
        assert_eq!(warmth.part(over, at(20_000)), 102);
    }
}
