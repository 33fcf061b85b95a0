//! Looks at a stream that something else owns.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use figspan_proto::reset::Reset;

use super::state::Shared;

/// Looks at a stream that something else (hyper, h2) owns. Cheap clone. A probe keeps the tunnel's connection open, so do not
/// keep one longer than the work that it belongs to.
#[derive(Debug)]
pub struct StreamProbe(Arc<Shared>);

impl Clone for StreamProbe {
    fn clone(&self) -> Self {
        Self::new(&self.0)
    }
}

impl Drop for StreamProbe {
    fn drop(&mut self) {
        self.0.probes.fetch_sub(1, Ordering::AcqRel);
    }
}

impl StreamProbe {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        shared.probes.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(shared))
    }

    /// Bytes given to the stream for sending so far, preamble included.
    pub fn written(&self) -> u64 {
        self.0.written.load(Ordering::Acquire)
    }

    /// What the peer said about the stream's end so far (RESET_STREAM or STOP_SENDING), if anything. Where it said both, the
    /// one with more in it.
    pub fn fate(&self) -> Option<Reset> {
        self.0.fate()
    }

    /// The same, waiting at most that long for word to arrive; returns early when the tunnel is lost.
    pub async fn fate_within(&self, wait: Duration) -> Option<Reset> {
        let told = self.0.told.notified();
        tokio::pin!(told);
        told.as_mut().enable();
        if let Some(fate) = self.fate() {
            return Some(fate);
        }
        let word = async {
            tokio::select! {
                Some(_) = self.0.stopped() => {}
                () = told => {}
                _ = self.0.connection.closed() => {}
            }
        };
        let _ = tokio::time::timeout(wait, word).await;
        self.fate()
    }

    /// Whether the tunnel under it is gone.
    pub fn tunnel_lost(&self) -> bool {
        self.0.connection.is_ended()
    }

    /// Resets the stream from outside, whoever owns it; the owner's pending reads and writes fail.
    pub fn reset(&self, reset: Reset) {
        self.0.reset(reset);
    }
}
