//! How fast to send: Cubic, except that losses which no queue explains do not slow a long path down.
//!
//! Cubic takes every loss for a full queue and answers by sending less; what it gave up it wins back in some round trips. Where a
//! round trip is long and one packet in a hundred is lost by itself (radio, a bad link), it never gets there. A full queue shows in
//! the round trip as well, or in many losses; where neither does, the loss is repaired and nothing else. The same bound on losses
//! as in BBR version 2, in its spirit; short paths are Cubic's, which is back there before anybody notices.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn_proto::RttEstimator;
use quinn_proto::congestion::{Controller, ControllerFactory, ControllerMetrics, Cubic, CubicConfig};

/// Paths with a shorter round trip are left to Cubic alone.
const LONG: Duration = Duration::from_millis(5);

/// A round trip this much above the shortest one, or by a quarter, has a queue in it.
const QUEUE: Duration = Duration::from_millis(5);

/// Part of the bytes lost, lately, from which on losses count as congestion whatever the round trip.
const MUCH: f64 = 0.03;

/// "Lately" fades over so many packets.
const MEMORY: f64 = 512.0;

/// Tells losses that a queue explains from others.
#[derive(Debug, Clone, Copy)]
struct Judge {
    packet: f64,
    /// Shortest and usual round trip; none before the first answer.
    round_trip: Option<(Duration, Duration)>,
    lost: f64,
}

impl Judge {
    fn new(mtu: u16) -> Self {
        Self { packet: f64::from(mtu), round_trip: None, lost: 0.0 }
    }

    fn fade(&mut self, bytes: u64) -> f64 {
        let part = (bytes as f64 / (self.packet * MEMORY)).min(1.0);
        self.lost *= 1.0 - part;
        part
    }

    fn acked(&mut self, bytes: u64, shortest: Duration, usual: Duration) {
        self.fade(bytes);
        self.round_trip = Some((shortest, usual));
    }

    /// Whether a loss says that too much was sent.
    fn is_congestion(&mut self, bytes: u64) -> bool {
        self.lost += self.fade(bytes);
        let Some((shortest, usual)) = self.round_trip else { return true };
        shortest < LONG || usual > shortest + (shortest / 4).max(QUEUE) || self.lost > MUCH
    }
}

/// See the module.
#[derive(Debug, Clone)]
struct Patient {
    cubic: Cubic,
    judge: Judge,
}

impl Controller for Patient {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.cubic.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.judge.acked(bytes, rtt.min(), rtt.get());
        self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest: Option<u64>) {
        self.cubic.on_end_acks(now, in_flight, app_limited, largest);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent_congestion: bool, lost_bytes: u64) {
        // Without lost bytes it is a router's own word (ECN).
        if lost_bytes == 0 || self.judge.is_congestion(lost_bytes) || is_persistent_congestion {
            self.cubic.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.judge.packet = f64::from(new_mtu);
        self.cubic.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.cubic.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        self.cubic.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// Makes one for each path.
#[derive(Debug, Default)]
pub(crate) struct PatientConfig(Arc<CubicConfig>);

impl ControllerFactory for PatientConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Patient { cubic: Cubic::new(Arc::clone(&self.0), now, current_mtu), judge: Judge::new(current_mtu) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MTU: u16 = 1452;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// How many of a thousand losses count as congestion, where one packet in `every` is lost.
    fn counted(every: usize, shortest: Duration, usual: Duration) -> usize {
        let mut judge = Judge::new(MTU);
        let lost = |number: usize| number % every == every - 1;
        (0..1000 * every)
            .filter(|number| match lost(*number) {
                true => judge.is_congestion(MTU.into()),
                false => {
                    judge.acked(MTU.into(), shortest, usual);
                    false
                }
            })
            .count()
    }

    #[test]
    fn a_loss_in_a_hundred_on_a_long_path_without_a_queue_is_no_congestion() {
        assert_eq!(counted(100, ms(50), ms(52)), 0);
        assert_eq!(counted(50, ms(20), ms(24)), 0);
    }

    #[test]
    fn a_queue_many_losses_and_a_short_path_are_left_to_cubic() {
        assert_eq!(counted(100, ms(50), ms(64)), 1000, "the round trip has a queue in it");
        assert_eq!(counted(100, ms(2), ms(2)), 1000, "the path is short");
        assert!(counted(20, ms(50), ms(50)) > 950, "one packet in twenty is too much");
        assert!(Judge::new(MTU).is_congestion(u64::from(MTU)), "before any answer nothing is known");
    }

    #[test]
    fn a_burst_that_loses_half_of_a_flight_is_congestion_at_once() {
        let mut judge = Judge::new(MTU);
        judge.acked(100 * u64::from(MTU), ms(50), ms(50));
        assert!(judge.is_congestion(40 * u64::from(MTU)));
    }
}
