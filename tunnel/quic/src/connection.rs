//! The handle of a connection, and what it waits for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn_proto::{ConnectionError, ConnectionStats, Dir, StreamId, VarInt};
use tokio::sync::Notify;

use crate::recv::RecvStream;
use crate::send::SendStream;
use crate::state::{Core, Handle};

/// A connection. Clones share it, and streams keep it open; when the last of them is dropped it is closed with code 0.
#[derive(Debug, Clone)]
pub struct Connection(Arc<Handle>);

impl Connection {
    fn core(&self) -> &Arc<Core> {
        &self.0.0
    }

    /// Waits until the handshake is over.
    pub(crate) async fn established(core: Arc<Core>) -> Result<Self, ConnectionError> {
        // From here on a dropped future closes the connection.
        let connection = Self(Arc::new(Handle(core)));
        let core = &connection.0.0;
        wait(&core.settled, || {
            let state = core.lock();
            match &state.error {
                Some(error) => Some(Err(error.clone())),
                None => state.connected.then_some(Ok(())),
            }
        })
        .await?;
        Ok(connection)
    }

    /// Opens a bidirectional stream; waits while the peer allows no more. The peer hears of it with the first byte. Cancel-safe.
    pub async fn open_bi(&self) -> Result<(SendStream, RecvStream), ConnectionError> {
        let core = self.core();
        let id = wait(&core.available, || {
            let mut state = core.lock();
            match &state.error {
                Some(error) => Some(Err(error.clone())),
                None => state.proto.streams().open(Dir::Bi).map(Ok),
            }
        })
        .await?;
        Ok(self.halves(id))
    }

    /// The next bidirectional stream that the peer opened. Cancel-safe.
    pub async fn accept_bi(&self) -> Result<(SendStream, RecvStream), ConnectionError> {
        let core = self.core();
        let id = wait(&core.opened, || {
            let mut state = core.lock();
            match (state.proto.streams().accept(Dir::Bi), &state.error) {
                (Some(id), _) => Some(Ok(id)),
                (None, Some(error)) => Some(Err(error.clone())),
                (None, None) => None,
            }
        })
        .await?;
        // The peer may be owed credit for the next one.
        core.send_soon();
        Ok(self.halves(id))
    }

    fn halves(&self, id: StreamId) -> (SendStream, RecvStream) {
        (SendStream::new(Arc::clone(&self.0), id), RecvStream::new(Arc::clone(&self.0), id))
    }

    /// Waits for the end. Cancel-safe.
    pub async fn closed(&self) -> ConnectionError {
        let core = self.core();
        wait(&core.settled, || core.lock().error.clone()).await
    }

    /// Why it ended, if it did.
    pub fn close_reason(&self) -> Option<ConnectionError> {
        if self.is_ended() { self.core().lock().error.clone() } else { None }
    }

    /// Whether it has ended. One atomic read.
    pub fn is_ended(&self) -> bool {
        self.0.is_ended()
    }

    /// Closes it and all its streams at once; the peer hears code and reason.
    pub fn close(&self, code: VarInt, reason: &[u8]) {
        self.core().close(code, Bytes::copy_from_slice(reason));
    }

    /// The peer's UDP address as of now.
    pub fn remote_address(&self) -> SocketAddr {
        self.core().lock().proto.remote_address()
    }

    /// Round trip, smoothed.
    pub fn rtt(&self) -> Duration {
        self.core().lock().proto.rtt()
    }

    /// When a datagram last came from the peer; not later than it was there to be read.
    pub fn heard(&self) -> Instant {
        self.core().lock().heard
    }

    /// A number that changes with each datagram that comes and each flight that goes: where it has not, nothing else has moved.
    pub fn passed(&self) -> u64 {
        self.core().passed()
    }

    /// Counters.
    pub fn stats(&self) -> ConnectionStats {
        self.core().lock().proto.stats()
    }

    /// What the handshake settled, of the crypto layer's own type; `None` before.
    pub fn handshake_data(&self) -> Option<Box<dyn std::any::Any>> {
        self.core().lock().proto.crypto_session().handshake_data()
    }

    /// What the peer proved about itself, of the crypto layer's own type.
    pub fn peer_identity(&self) -> Option<Box<dyn std::any::Any>> {
        self.core().lock().proto.crypto_session().peer_identity()
    }

    /// Sets how many bidirectional streams the peer may have open.
    pub fn set_max_concurrent_bi_streams(&self, count: VarInt) {
        self.core().lock().proto.set_max_concurrent_streams(Dir::Bi, count);
        self.core().send_soon();
    }

    /// Sets how many bytes all streams together may hold unread.
    pub fn set_receive_window(&self, window: VarInt) {
        self.core().lock().proto.set_receive_window(window);
        self.core().send_soon();
    }
}

/// Waits until `look` finds what it looks for; looks again after each notification. Cancel-safe.
async fn wait<T>(notify: &Notify, mut look: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(found) = look() {
            return found;
        }
        let mut notified = std::pin::pin!(notify.notified());
        // Enabled before the second look, so that nothing is missed between that look and the wait.
        notified.as_mut().enable();
        if let Some(found) = look() {
            return found;
        }
        notified.await;
    }
}
