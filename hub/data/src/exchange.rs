//! Where the inbound half (a client's connection) meets the outbound half (a backend): one admitted request, one answer.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use figspan_model::routing::Timeouts;
use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::body::Body;
use crate::client::Client;

/// Bytes both ways after a WebSocket handshake.
pub trait Raw: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Raw for T {}

/// A request that passed admission: canonical path, one valid Host (as the URI's authority), hop-by-hop fields gone, forwarded
/// headers set. Its URI is absolute (`scheme://authority/path?query`), whatever version the client spoke.
pub struct Inbound {
    /// The request. Extensions are ours alone.
    pub request: Request<Body>,
    /// Who asks.
    pub client: Rc<Client>,
    /// Hands a 1xx response (not 101) to the client at once.
    pub informational: Informational,
    /// Present where the client asks for a WebSocket (h1 `Upgrade: websocket`, h2 extended CONNECT).
    pub websocket: Option<WebSocket>,
}

/// Takes 1xx responses for the client of a connection.
pub trait Interim {
    /// Sends one that belongs to that exchange of the connection, if its time is not over.
    fn send(&self, exchange: u64, response: Response<()>);
}

/// The way of one exchange's 1xx responses. Shares what its connection has: most exchanges have none.
#[derive(Clone)]
pub struct Informational {
    to: Rc<dyn Interim>,
    exchange: u64,
}

impl Informational {
    /// Of the exchange with that number; connections that need no numbers give any.
    pub fn new(to: Rc<dyn Interim>, exchange: u64) -> Self {
        Self { to, exchange }
    }

    /// Sends one; what is no 1xx, or 101, is dropped.
    pub fn send(&self, response: Response<()>) {
        self.to.send(self.exchange, response);
    }
}

/// The client's bytes, once they are there.
pub type ClientIo = Pin<Box<dyn Future<Output = std::io::Result<Box<dyn Raw>>>>>;

/// A client's wish for a WebSocket. The request then is a GET with `Sec-WebSocket-*` fields, whatever the client spoke.
pub struct WebSocket {
    /// Resolves to the client's bytes after the inbound half has sent 101 (h1) or 200 (h2), which it does when the answer to
    /// the request is `101 Switching Protocols`.
    pub client_io: ClientIo,
}

/// In a response's extensions: how long the client may take nothing of the body (`None`: for ever). Without it, the default of
/// [`figspan_model::routing::Timeouts::idle`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause(pub Option<Duration>);

impl Pause {
    /// What holds for this response.
    pub fn of(extensions: &http::Extensions) -> Option<Duration> {
        extensions.get::<Self>().map_or(Timeouts::default().idle, |pause| pause.0)
    }
}

/// What the outbound half answers: a final response. 101 only when [`Inbound::websocket`] was there; the outbound half then
/// awaits `client_io` in a task of its own and splices.
pub type Outbound = Response<Body>;
