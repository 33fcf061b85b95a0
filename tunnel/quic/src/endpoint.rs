//! One end of many connections: what others hold of it.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use quinn_proto::{ClientConfig, ConnectError, ConnectionError, ConnectionId, EndpointConfig, ServerConfig, TransportConfig, VarInt};
use tokio::sync::Notify;

use crate::Map;
use crate::connection::Connection;
use crate::driver::Driver;
use crate::shared::{Shared, State};
use crate::socket::Socket;

/// A handle to an endpoint. When the last one is dropped, connections go on; the driver ends with the last of them.
#[derive(Debug)]
pub struct Endpoint(Arc<Shared>);

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.0.lock().forsaken = true;
        self.0.outbox.driver.wake();
    }
}

impl Endpoint {
    /// An endpoint on a socket, and the driver that its runtime has to run: nothing happens without it. Call it inside a tokio
    /// runtime with time.
    pub fn new(config: EndpointConfig, server: Option<ServerConfig>, socket: Arc<dyn Socket>) -> (Self, Driver) {
        let payload = config.get_max_udp_payload_size();
        let server = server.map(Arc::new);
        let proto = quinn_proto::Endpoint::new(Arc::new(config), server.clone(), !socket.may_fragment(), None);
        let state = State {
            proto,
            server,
            socket,
            former: None,
            connections: Map::default(),
            attempts: VecDeque::new(),
            answers: VecDeque::new(),
            closed: None,
            forsaken: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), outbox: Arc::default(), attempted: Notify::new(), idle: Notify::new() });
        let driver = Driver::new(Arc::clone(&shared), usize::try_from(payload).unwrap_or(usize::MAX));
        (Self(shared), driver)
    }

    /// The socket's address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.lock().socket.local_addr()
    }

    /// Connects to a server; done when the handshake is. Dropped before, the connection is closed.
    pub fn connect(
        &self,
        config: ClientConfig,
        address: SocketAddr,
        server_name: &str,
    ) -> Result<impl Future<Output = Result<Connection, ConnectionError>> + Send + use<>, ConnectError> {
        let mut state = self.0.lock();
        if state.closed.is_some() {
            return Err(ConnectError::EndpointStopping);
        }
        let (key, proto) = state.proto.connect(Instant::now(), config, address, server_name)?;
        Ok(Connection::established(self.0.carry(&mut state, key, proto)))
    }

    /// The next connection attempt; `None` once the endpoint is closed. Cancel-safe.
    pub async fn accept(&self) -> Option<Incoming> {
        loop {
            let mut attempted = std::pin::pin!(self.0.attempted.notified());
            attempted.as_mut().enable();
            {
                let mut state = self.0.lock();
                if let Some(attempt) = state.attempts.pop_front() {
                    return Some(Incoming { attempt: Some(attempt), endpoint: Arc::clone(&self.0) });
                }
                if state.closed.is_some() {
                    return None;
                }
            }
            attempted.await;
        }
    }

    /// Closes all connections and takes no more.
    pub fn close(&self, code: VarInt, reason: &[u8]) {
        let reason = Bytes::copy_from_slice(reason);
        let connections: Vec<_> = {
            let mut state = self.0.lock();
            state.closed = Some((code, reason.clone()));
            state.connections.values().cloned().collect()
        };
        connections.iter().for_each(|core| core.close(code, reason.clone()));
        self.0.attempted.notify_waiters();
        self.0.outbox.driver.wake();
    }

    /// Waits until every connection has said its last word and forgotten its peer (three probe timeouts after a close).
    pub async fn wait_idle(&self) {
        loop {
            let mut idle = std::pin::pin!(self.0.idle.notified());
            idle.as_mut().enable();
            if self.0.lock().connections.is_empty() {
                return;
            }
            idle.await;
        }
    }

    /// Connections that are not yet forgotten.
    pub fn open_connections(&self) -> usize {
        self.0.lock().connections.len()
    }

    /// Goes on with another socket, as after a change of network; the old one is listened to until something comes over the new
    /// one.
    pub fn rebind(&self, socket: Arc<dyn Socket>) {
        let connections: Vec<_> = {
            let mut state = self.0.lock();
            state.former = Some(std::mem::replace(&mut state.socket, socket));
            state.connections.values().cloned().collect()
        };
        for core in connections {
            core.lock().proto.local_address_changed();
            core.send_soon();
        }
        self.0.outbox.driver.wake();
    }
}

/// A connection attempt. Dropped, it is refused.
#[derive(Debug)]
pub struct Incoming {
    /// Taken when it is decided.
    attempt: Option<quinn_proto::Incoming>,
    endpoint: Arc<Shared>,
}

impl Incoming {
    fn attempt(&self) -> &quinn_proto::Incoming {
        self.attempt.as_ref().expect("only a decision takes it, and a decision takes self")
    }

    /// Where it comes from.
    pub fn remote_address(&self) -> SocketAddr {
        self.attempt().remote_address()
    }

    /// The connection id with which the peer's first packet came.
    pub fn first_id(&self) -> ConnectionId {
        *self.attempt().orig_dst_cid()
    }

    /// Whether the peer has proven that it receives what is sent to its address.
    pub fn remote_address_validated(&self) -> bool {
        self.attempt().remote_address_validated()
    }

    /// Takes it on, with a configuration of its own for the transport; done when the handshake is.
    pub fn accept(
        mut self,
        transport: Option<TransportConfig>,
    ) -> Result<impl Future<Output = Result<Connection, ConnectionError>> + Send + use<>, ConnectionError> {
        let attempt = self.attempt.take().expect("only a decision takes it, and a decision takes self");
        let mut contents = Vec::new();
        let mut state = self.endpoint.lock();
        let config = transport.zip(state.server.as_deref().cloned()).map(|(transport, mut server)| {
            server.transport_config(Arc::new(transport));
            Arc::new(server)
        });
        match state.proto.accept(attempt, Instant::now(), &mut contents, config) {
            Ok((key, proto)) => Ok(Connection::established(self.endpoint.carry(&mut state, key, proto))),
            Err(error) => {
                if let Some(transmit) = error.response {
                    state.answer(transmit, contents);
                    self.endpoint.outbox.driver.wake();
                }
                Err(error.cause)
            }
        }
    }

    /// Refuses it.
    pub fn refuse(self) {}

    /// Asks the peer to prove its address first (RFC 9000, section 8.1.2); refuses it where that was done already.
    pub fn retry(mut self) {
        let attempt = self.attempt.take().expect("only a decision takes it, and a decision takes self");
        let mut contents = Vec::new();
        let mut state = self.endpoint.lock();
        let transmit = match state.proto.retry(attempt, &mut contents) {
            Ok(transmit) => transmit,
            Err(error) => {
                contents.clear();
                state.proto.refuse(error.into_incoming(), &mut contents)
            }
        };
        state.answer(transmit, contents);
        self.endpoint.outbox.driver.wake();
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            let mut contents = Vec::new();
            let mut state = self.endpoint.lock();
            let transmit = state.proto.refuse(attempt, &mut contents);
            state.answer(transmit, contents);
            self.endpoint.outbox.driver.wake();
        }
    }
}
