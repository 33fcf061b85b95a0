//! An endpoint, as its handles and the driver share it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use quinn_proto::{ConnectionHandle, ServerConfig, Transmit, VarInt};
use tokio::sync::Notify;

use crate::Map;
use crate::socket::Socket;
use crate::state::{Core, Outbox};

/// Answers without a connection (refusals, Retry, resets) that wait for the socket; more are dropped, as the network may.
const ANSWERS: usize = 64;

/// An endpoint, as its handles and the driver share it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) state: Mutex<State>,
    pub(crate) outbox: Arc<Outbox>,
    /// An attempt has come, or the endpoint was closed.
    pub(crate) attempted: Notify,
    /// No connection is left.
    pub(crate) idle: Notify,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) proto: quinn_proto::Endpoint,
    /// What attempts are accepted with.
    pub(crate) server: Option<Arc<ServerConfig>>,
    pub(crate) socket: Arc<dyn Socket>,
    /// The socket before a change of it, as long as nothing has come over the new one.
    pub(crate) former: Option<Arc<dyn Socket>>,
    pub(crate) connections: Map<ConnectionHandle, Arc<Core>>,
    pub(crate) attempts: VecDeque<quinn_proto::Incoming>,
    /// Answers without a connection.
    pub(crate) answers: VecDeque<(Transmit, Vec<u8>)>,
    /// What connections were closed with; no more are taken.
    pub(crate) closed: Option<(VarInt, Bytes)>,
    /// No handle is left.
    pub(crate) forsaken: bool,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(crate) fn answer(&mut self, transmit: Transmit, contents: Vec<u8>) {
        if self.answers.len() < ANSWERS {
            self.answers.push_back((transmit, contents));
        }
    }
}

impl Shared {
    /// Takes up a connection; the driver begins with its first flight.
    pub(crate) fn carry(&self, state: &mut State, key: ConnectionHandle, proto: quinn_proto::Connection) -> Arc<Core> {
        let core = Core::new(key, proto, &self.outbox);
        state.connections.insert(key, Arc::clone(&core));
        core.send_soon();
        core
    }
}
