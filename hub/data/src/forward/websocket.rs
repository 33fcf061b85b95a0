//! Hop: forward. Carries a WebSocket's bytes both ways after 101, in constant memory, until both ends have finished.
//!
//! Counts as work under way on its endpoint until it ends; drain waits for it and cuts it at the deadline.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{HeaderMap, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until};

use super::record::Record;
use crate::dial::inflight::InFlight;
use crate::exchange::{Raw, WebSocket};
use crate::reply::Failure;
use crate::shard::ShardRef;

/// How long the client's half may take to hand over its bytes after the 101.
const HAND_OVER: Duration = Duration::from_secs(10);

/// Bytes of each direction under way.
const BUFFER: usize = 16 * 1024;

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

/// One direction.
struct Pump {
    buffer: Box<[u8]>,
    from: usize,
    to: usize,
    moved: u64,
    read_all: bool,
    finished: bool,
}

impl Pump {
    fn new() -> Self {
        Self { buffer: vec![0; BUFFER].into(), from: 0, to: 0, moved: 0, read_all: false, finished: false }
    }

    /// Moves what can be moved; `Ok` once the end was passed on. Marks progress.
    fn poll(&mut self, cx: &mut Context<'_>, from: &mut dyn Raw, to: &mut dyn Raw, progress: &mut Instant) -> Poll<io::Result<()>> {
        let (mut from, mut to) = (Pin::new(from), Pin::new(to));
        while !self.finished {
            if self.from == self.to && !self.read_all {
                let mut buffer = ReadBuf::new(&mut self.buffer);
                match from.as_mut().poll_read(cx, &mut buffer) {
                    Poll::Pending => {
                        ready!(to.as_mut().poll_flush(cx))?;
                        return Poll::Pending;
                    }
                    Poll::Ready(read) => read?,
                }
                (self.from, self.to) = (0, buffer.filled().len());
                self.read_all = self.to == 0;
                *progress = Instant::now();
            }
            while self.from < self.to {
                let n = ready!(to.as_mut().poll_write(cx, &self.buffer[self.from..self.to]))?;
                if n == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.from += n;
                self.moved += n as u64;
                *progress = Instant::now();
            }
            if self.read_all {
                ready!(to.as_mut().poll_shutdown(cx))?;
                self.finished = true;
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Copies until both directions ended; returns how, and the bytes from and to the client.
pub(crate) async fn splice(client: &mut dyn Raw, workload: &mut dyn Raw, idle: Option<Duration>) -> (Result<(), Failure>, u64, u64) {
    let (mut up, mut down) = (Pump::new(), Pump::new());
    let mut progress = Instant::now();
    let timer = sleep_until(progress + idle.unwrap_or(Duration::from_secs(365 * 24 * 3600)));
    tokio::pin!(timer);
    let end = std::future::poll_fn(|cx| {
        let sent = up.poll(cx, client, workload, &mut progress);
        let received = down.poll(cx, workload, client, &mut progress);
        match (sent, received) {
            (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => return Poll::Ready(Err(crate::dial::broken(&error))),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(Ok(())),
            _ => {}
        }
        while let Some(idle) = idle
            && timer.as_mut().poll(cx).is_ready()
        {
            if progress + idle <= Instant::now() {
                return Poll::Ready(Err(Failure::WorkloadIdle));
            }
            timer.as_mut().reset(progress + idle);
        }
        Poll::Pending
    })
    .await;
    (end, up.moved, down.moved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_is_proved_as_in_rfc_6455() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
