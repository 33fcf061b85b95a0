//! A histogram that one thread fills and the scrape reads: fixed buckets, no lock.

use figspan_model::state::Own;

/// Upper bounds in seconds: OpenTelemetry's advice for `http.server.request.duration`, with 1 and 2.5 ms added below, where
/// answers of a healthy workload in the same data centre lie.
pub const BOUNDS: [f64; 16] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// Durations, counted by bucket.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Own; BOUNDS.len() + 1],
    /// Microseconds, so that the sum is one integer addition.
    sum: Own,
}

impl Histogram {
    /// Counts a duration.
    pub fn observe(&self, seconds: f64) {
        let index = BOUNDS.partition_point(|bound| *bound < seconds);
        self.buckets[index].add(1);
        self.sum.add((seconds * 1e6) as u64);
    }

    /// Adds what was counted to `total`.
    pub fn add_to(&self, total: &mut Total) {
        for (sum, bucket) in total.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.value();
        }
        total.sum += self.sum.value() as f64 / 1e6;
    }
}

/// A sum of histograms.
#[derive(Debug, Clone, Default)]
pub struct Total {
    buckets: [u64; BOUNDS.len() + 1],
    /// Seconds.
    pub sum: f64,
}

impl Total {
    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Upper bound and count of each bucket, as the encoder wants them (not yet cumulative).
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        BOUNDS.iter().copied().chain([f64::INFINITY]).zip(self.buckets).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_bucket_whose_bound_it_does_not_exceed() {
        let histogram = Histogram::default();
        for seconds in [0.001, 0.0011, 60.0] {
            histogram.observe(seconds);
        }
        let mut total = Total::default();
        histogram.add_to(&mut total);
        histogram.add_to(&mut total);
        assert_eq!((total.buckets[0], total.buckets[1], total.buckets[16], total.count()), (2, 2, 2, 6));
        assert!((total.sum - 120.0042).abs() < 1e-3);
    }
}
