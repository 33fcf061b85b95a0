//! Hop `inbound`: a client's HTTP connection, from its first byte to its last answer.
//!
//! Which version a client speaks is seen from its first bytes (HTTP/2 with prior knowledge) or was agreed by ALPN. Both halves
//! end in [`Serve`], which the shard implements: an admitted request goes in, one final response comes out.

pub(crate) mod date;
pub mod h1;
pub mod h2;
pub mod socket;

use std::future::Future;
use std::io;
use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::BytesMut;
use figspan_model::routing::{Limits, Routing};
use figspan_tunnel::drain::Drain;
use http::{HeaderValue, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::admission::{HeadLimits, Reject};
use crate::alarm::TaskAlarm;
use crate::body::Body;
use crate::client::Client;
use crate::exchange::{Inbound, Outbound};
use crate::metrics::Limit;
use crate::reply::{PROXY_STATUS, REASON_HEADER};
use crate::scratch;
use socket::Socket;

/// What the inbound half needs of its shard.
pub trait Serve: 'static {
    /// What the newest configuration says. Not to be kept over a wait: that keeps all of its picture.
    fn routing(&self) -> impl Deref<Target = Routing>;
    /// The owner of connections and requests.
    fn drain(&self) -> &Drain;
    /// Hears of each request that was refused before it was one.
    fn refused(&self, client: &Client, reject: Reject);
    /// Hears of each bound that a connection reached, other than by a refused request.
    fn limited(&self, limit: Limit);
    /// Answers an admitted request. Dropped when the client goes away.
    fn serve(&self, inbound: Inbound) -> impl Future<Output = Outbound>;
}

/// How a client's HTTP version is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoken {
    /// By its first bytes.
    Unknown,
    /// By ALPN: HTTP/1.1.
    Http1,
    /// By ALPN: HTTP/2.
    Http2,
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves one connection to its end, or until drain forces it.
pub async fn run<T, S>(mut socket: Socket<T>, client: Client, spoken: Spoken, service: Rc<S>)
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    S: Serve,
{
    let client = Rc::new(client);
    let mut opening = Opening::default();
    let http2 = match spoken {
        Spoken::Http1 => false,
        Spoken::Http2 => true,
        Spoken::Unknown => {
            let deadline = Instant::now() + service.routing().limits.header_time;
            match opening.has_preface(&mut socket, deadline).await {
                Ok(Some(http2)) => http2,
                Ok(None) => return service.limited(Limit::HeaderTime),
                // Nothing, or too little to tell: there is no request to answer.
                Err(_) => return,
            }
        }
    };
    if http2 {
        socket.unread(opening.held.freeze());
        let (limits, drain) = (service.routing().limits.clone(), service.drain().clone());
        Box::pin(h2::run(socket, client, limits, service, drain)).await;
    } else {
        Box::pin(h1::run(socket, opening, client, service)).await;
    }
}

/// What a connection begins with: the bytes that said what it speaks, and the timer that it waited for them with.
#[derive(Default)]
struct Opening {
    held: BytesMut,
    alarm: TaskAlarm,
}

impl Opening {
    /// Whether the first bytes are HTTP/2's. Bytes that differ early decide early; `None` when they took too long.
    async fn has_preface<T: AsyncRead + Unpin>(&mut self, socket: &mut Socket<T>, deadline: Instant) -> io::Result<Option<bool>> {
        std::future::poll_fn(|cx| {
            loop {
                let Poll::Ready(read) = scratch::poll_read(Pin::new(&mut *socket), cx, &mut self.held)? else {
                    return self.alarm.poll(deadline, cx).map(|()| Ok(None));
                };
                let length = self.held.len().min(PREFACE.len());
                let differs = self.held[..length] != PREFACE[..length];
                if differs || length == PREFACE.len() || read == 0 {
                    return Poll::Ready(Ok(Some(!differs && length == PREFACE.len())));
                }
            }
        })
        .await
    }
}

pub(crate) fn head_limits(limits: &Limits) -> HeadLimits {
    HeadLimits { bytes: limits.header_bytes, count: limits.header_count }
}

/// The answer to a request that was refused (Proxy-Status: RFC 9209).
pub fn refusal(reject: Reject) -> Response<Body> {
    let mut response = Response::new(Body::Full(format!("{}\n", reject.reason()).into()));
    *response.status_mut() = reject.status();
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(REASON_HEADER, HeaderValue::from_static(reject.reason()));
    if let Ok(value) = HeaderValue::try_from(format!("figspan; error=http_request_error; details=\"{}\"", reject.reason())) {
        headers.insert(PROXY_STATUS, value);
    }
    response
}

/// The hub's own answer to `OPTIONS *`.
pub(crate) fn pong() -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(http::header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH"));
    response
}

/// The answer of the hub where the outbound half breaks its contract.
pub(crate) fn broken() -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response.headers_mut().insert(PROXY_STATUS, HeaderValue::from_static("figspan; error=http_protocol_error"));
    response
}

#[cfg(test)]
pub(crate) mod testing;
