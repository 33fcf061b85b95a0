//! Hop: forward. Carries a WebSocket's bytes both ways after 101, in constant memory, until both ends have finished.
//!
//! Counts as work under way on its endpoint until it ends; drain waits for it and cuts it at the deadline.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{HeaderMap, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::record::Record;
use super::splice::splice;
use crate::dial::inflight::InFlight;
use crate::exchange::{Raw, WebSocket};
use crate::reply::Failure;
use crate::shard::ShardRef;

/// How long the client's half may take to hand over its bytes after the 101.
const HAND_OVER: Duration = Duration::from_secs(10);

/// Splices client and workload in a task of its own.
pub fn carry(
    shard: &ShardRef,
    websocket: WebSocket,
    mut workload: Box<dyn Raw>,
    in_flight: InFlight,
    idle: Option<Duration>,
    mut record: Record,
) {
    let forced = shard.drain.clone();
    shard.drain.spawn_local(async move {
        let Ok(Ok(mut client)) = tokio::time::timeout(HAND_OVER, websocket.client_io).await else { return };
        let (end, up, down) = tokio::select! {
            end = splice(&mut *client, &mut *workload, idle) => end,
            () = forced.forced() => (Err(Failure::HubDeadline), 0, 0),
        };
        record.received_more(up);
        record.sent(down);
        match end {
            Ok(()) => record.complete(),
            Err(failure) => record.broke(failure),
        }
        drop(in_flight);
    });
}

/// Turns the 200 of an extended CONNECT into the 101 that the client's half expects (RFC 8441, section 5).
pub fn answer_for(asked: &HeaderMap, response: &mut Response<()>) {
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    if let Some(key) = asked.get("sec-websocket-key")
        && let Ok(accept) = http::HeaderValue::from_str(&accept(key.as_bytes()))
    {
        response.headers_mut().insert("sec-websocket-accept", accept);
    }
}

/// The proof that a server has understood the handshake (RFC 6455, section 4.2.2). SHA-1 is the protocol's, and guards nothing.
pub fn accept(key: &[u8]) -> String {
    use base64::Engine as _;
    use figspan_tunnel::digest::sha1_of_websocket;
    let joined = [key, b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    base64::engine::general_purpose::STANDARD.encode(sha1_of_websocket(&joined))
}

/// A way on which some bytes were read too early.
pub struct Begun<T> {
    first: Bytes,
    io: T,
}

impl<T> Begun<T> {
    /// `first` is read before what `io` brings.
    pub fn new(first: Bytes, io: T) -> Self {
        Self { first, io }
    }

    /// The way itself.
    pub fn io(&self) -> &T {
        &self.io
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Begun<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let n = self.first.len().min(buf.remaining());
        buf.put_slice(&self.first[..n]);
        self.first.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Begun<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_is_proved_as_in_rfc_6455() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
