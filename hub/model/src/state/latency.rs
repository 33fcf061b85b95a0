//! How long an endpoint's answers take lately, as one atomic that all shards may write.
//!
//! A moving average that rises at once and falls in [`FALL`]: a slow answer is news, a fast one has to be repeated. Without
//! samples it falls too, so that an endpoint which once was slow is tried again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::moment::Moment;

/// Time in which an old value loses all but 1/e of its weight. Long beside one answer, short beside an operator's patience;
/// look at the shares of a slow endpoint before changing it.
pub const FALL: Duration = Duration::from_secs(10);

/// What a failure counts as, at least: far above usual answers, so that one that fails fast does not look fast.
pub const PENALTY: Duration = Duration::from_secs(1);

/// The average. High half: microseconds as `f32`; low half: milliseconds of its moment, which wrap after 49 days.
#[derive(Debug, Default)]
pub struct Latency(AtomicU64);

impl Latency {
    /// Takes in an answer that took so long. Of two shards that write at once one may lose its sample.
    pub fn answered(&self, took: Duration, now: Moment) {
        let old = self.0.load(Ordering::Relaxed);
        let sample = took.as_secs_f32() * 1e6;
        let value = match faded(old, now) {
            Some((old, left)) if sample < old => old * left + sample * (1.0 - left),
            _ => sample,
        };
        // A lost race is a lost sample.
        let _ = self.0.compare_exchange(old, pack(value, now), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Takes in a failure on the endpoint's side.
    pub fn failed(&self, took: Duration, now: Moment) {
        self.answered(took.max(PENALTY), now);
    }

    /// The average, in microseconds; `None` before the first sample.
    pub fn micros(&self, now: Moment) -> Option<f32> {
        faded(self.0.load(Ordering::Relaxed), now).map(|(value, left)| value * left)
    }
}

/// The value as it was, and the part of it that is left by now.
fn faded(packed: u64, now: Moment) -> Option<(f32, f32)> {
    if packed == 0 {
        return None;
    }
    let value = f32::from_bits((packed >> 32) as u32);
    let age = (now.millis() as u32).wrapping_sub(packed as u32);
    // Another shard's clock reading may be a little ahead of ours.
    let age = if age > u32::MAX / 2 { 0 } else { age };
    Some((value, (-(age as f32) / (FALL.as_millis() as f32)).exp()))
}

fn pack(micros: f32, now: Moment) -> u64 {
    // Zero means "no sample", which 1 us at the moment 0 is not.
    (u64::from(micros.max(1.0).to_bits()) << 32) | u64::from(now.millis() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_millis(1 + 1000 * seconds)
    }

    #[test]
    fn it_rises_at_once_and_falls_slowly() {
        let latency = Latency::default();
        assert_eq!(latency.micros(at(0)), None);
        latency.answered(Duration::from_millis(10), at(0));
        latency.answered(Duration::from_millis(100), at(0));
        assert_eq!(latency.micros(at(0)), Some(100_000.0));
        latency.answered(Duration::from_millis(10), at(1));
        let after = latency.micros(at(1)).unwrap();
        assert!((80_000.0..100_000.0).contains(&after), "{after}");
    }

    #[test]
    fn a_quick_failure_does_not_look_fast_and_is_forgotten_in_time() {
        let latency = Latency::default();
        latency.failed(Duration::from_millis(1), at(0));
        assert_eq!(latency.micros(at(0)), Some(1e6));
        assert!(latency.micros(at(60)).unwrap() < 5_000.0);
    }

    #[test]
    fn a_clock_that_is_ahead_does_no_harm() {
        let latency = Latency::default();
        latency.answered(Duration::from_millis(5), at(10));
        assert_eq!(latency.micros(at(9)), Some(5_000.0));
    }
}
