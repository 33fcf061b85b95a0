//! Lets the close of a connection through, whatever was sent before it.
//!
//! quinn-proto (0.11) holds a close back like data while data waits too and the congestion window is full. A connection that is closed
//! hears no acknowledgement, so that the word would never be said, and the peer would learn only from silence. RFC 9000, section 10.2
//! asks for the word; RFC 9002, section 7 excepts packets that nobody must acknowledge from the window.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use quinn_proto::RttEstimator;
use quinn_proto::congestion::{Controller, ControllerFactory, ControllerMetrics};

/// Makes controllers that are those of another factory until their connection closes.
pub struct LastWord(Arc<dyn ControllerFactory + Send + Sync>);

impl LastWord {
    /// Around that factory.
    pub fn around(factory: Arc<dyn ControllerFactory + Send + Sync>) -> Self {
        Self(factory)
    }

    /// From now on nothing holds back what this connection says.
    pub(crate) fn let_through(connection: &quinn_proto::Connection) {
        if let Ok(around) = connection.congestion_state().clone_box().into_any().downcast::<Around>() {
            around.closes.store(true, Ordering::Relaxed);
        }
    }
}

impl ControllerFactory for LastWord {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Around { inner: Arc::clone(&self.0).build(now, current_mtu), closes: Arc::default() })
    }
}

struct Around {
    inner: Box<dyn Controller>,
    /// Shared with the clones, since quinn-proto gives nothing else of a controller away.
    closes: Arc<AtomicBool>,
}

impl Controller for Around {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest: Option<u64>) {
        self.inner.on_end_acks(now, in_flight, app_limited, largest);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent_congestion: bool, lost_bytes: u64) {
        self.inner.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.inner.on_mtu_update(new_mtu);
    }

    /// Without an end, which is without pacing too, once the connection closes.
    fn window(&self) -> u64 {
        if self.closes.load(Ordering::Relaxed) { u64::MAX } else { self.inner.window() }
    }

    fn metrics(&self) -> ControllerMetrics {
        self.inner.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { inner: self.inner.clone_box(), closes: Arc::clone(&self.closes) })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
