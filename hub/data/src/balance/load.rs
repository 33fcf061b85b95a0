//! How much an endpoint has to do, compared with another one. Pure arithmetic over what is counted anyway.

use figspan_model::moment::Moment;
use figspan_model::state::EndpointState;

/// How much lower a load must be to count as lower. Below it, weights decide: a difference of microseconds between idle
/// endpoints must not move all traffic to one of them.
const CLEARLY: f32 = 0.8;

/// Microseconds below which answers count as equally fast: what is faster than a network is noise, or forgotten.
const FLOOR: f32 = 100.0;

/// Requests under way and the time of answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    /// Requests under way, for an endpoint of mean weight.
    under_way: f32,
    /// Lately, in microseconds.
    latency: Option<f32>,
}

impl Load {
    /// The load of an endpoint whose weight is so many times the mean.
    pub(super) fn of(state: &EndpointState, weight: f32, now: Moment) -> Self {
        Self { under_way: state.in_flight.sum() as f32 / weight.max(f32::MIN_POSITIVE), latency: state.latency.micros(now) }
    }

    /// Whether it is clearly less. Where one has no answers yet, both count as equally fast.
    pub(super) fn is_less_than(&self, other: &Self) -> bool {
        let (own, others) = match (self.latency, other.latency) {
            (Some(own), Some(others)) => (own.max(FLOOR), others.max(FLOOR)),
            _ => (1.0, 1.0),
        };
        (self.under_way + 1.0) * own < (other.under_way + 1.0) * others * CLEARLY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(under_way: f32, latency: Option<f32>) -> Load {
        Load { under_way, latency }
    }

    #[test]
    fn work_and_slowness_both_count_and_small_differences_do_not() {
        let busy = load(9.0, Some(1000.0));
        assert!(load(3.0, Some(1000.0)).is_less_than(&busy));
        assert!(!load(9.0, Some(900.0)).is_less_than(&busy));
        assert!(load(9.0, Some(100.0)).is_less_than(&busy));
        assert!(!load(9.0, Some(1.0)).is_less_than(&load(9.0, Some(90.0))));
        assert!(!load(3.0, Some(1e6)).is_less_than(&busy));
    }

    #[test]
    fn one_without_answers_is_compared_by_work_alone() {
        assert!(load(0.0, None).is_less_than(&load(1.0, Some(1.0))));
        assert!(!load(1.0, None).is_less_than(&load(1.0, Some(1e6))));
    }
}
