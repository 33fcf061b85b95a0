//! Hop `inbound`: WebSocket over HTTP/2 (RFC 8441). The client's CONNECT becomes the GET that workloads know, and the stream's DATA
//! frames become bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use http::header::{SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION};
use http::{HeaderValue, Method, request};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use crate::admission::Reject;
use crate::exchange::Raw;

/// Turns an extended CONNECT into a handshake. HTTP/2 has no Sec-WebSocket-Key, so the hub makes one.
pub(super) fn as_get(head: &mut request::Parts) -> Result<(), Reject> {
    if !head.headers.contains_key(SEC_WEBSOCKET_VERSION) {
        return Err(Reject::WebSocket);
    }
    head.method = Method::GET;
    let key = STANDARD.encode(rand::random::<[u8; 16]>());
    let key = HeaderValue::try_from(key).map_err(|_| Reject::WebSocket)?;
    head.headers.insert(SEC_WEBSOCKET_KEY, key);
    Ok(())
}

pub(super) async fn client_io(upgraded: oneshot::Receiver<Upgraded>) -> io::Result<Box<dyn Raw>> {
    match upgraded.await {
        Ok(upgraded) => Ok(Box::new(upgraded)),
        Err(_) => Err(io::Error::new(io::ErrorKind::NotConnected, "the client's stream ended before the handshake did")),
    }
}

/// A stream as bytes both ways. Dropped before it was shut down, it is reset.
pub(super) struct Upgraded {
    recv: RecvStream,
    send: SendStream<Bytes>,
    held: Bytes,
    shut: bool,
    /// Dropped with the rest, which the request's task sees.
    _alive: oneshot::Sender<()>,
}

impl Upgraded {
    pub(super) fn new(recv: RecvStream, send: SendStream<Bytes>, alive: oneshot::Sender<()>) -> Self {
        Self { recv, send, held: Bytes::new(), shut: false, _alive: alive }
    }
}

fn broken(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}

impl AsyncRead for Upgraded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.held.is_empty() {
            match ready!(this.recv.poll_data(cx)) {
                Some(Ok(data)) => this.held = data,
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let take = this.held.len().min(buf.remaining());
        buf.put_slice(&this.held[..take]);
        this.held.advance(take);
        this.recv.flow_control().release_capacity(take).map_err(broken)?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        this.send.reserve_capacity(bytes.len());
        while this.send.capacity() == 0 {
            if let Poll::Ready(reset) = this.send.poll_reset(cx) {
                return Poll::Ready(Err(reset.map_or_else(broken, |reason| broken(reason.into()))));
            }
            match ready!(this.send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let take = this.send.capacity().min(bytes.len());
        this.send.send_data(Bytes::copy_from_slice(&bytes[..take]), false).map_err(broken)?;
        Poll::Ready(Ok(take))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's task sends; its buffer is bounded by the window.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.shut, true) {
            self.send.send_data(Bytes::new(), true).map_err(broken)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Upgraded {
    fn drop(&mut self) {
        if !self.shut {
            self.send.send_reset(Reason::CANCEL);
        }
    }
}
