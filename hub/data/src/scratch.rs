//! Room for one read, once per shard thread.
//!
//! A connection that waits for a head holds no buffer of its own: bytes are read here and what came is copied behind what is
//! held. Heads and small bodies are a few hundred bytes, so that the copy costs less than the buffer which each connection would
//! otherwise allocate, or keep. Bodies that stream are read straight into buffers of their own.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};

use crate::exchange::Raw;
use crate::spare;

/// Most bytes of one read: four times the usual head, and what a TLS record carries.
const ROOM: usize = 16 * 1024;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; ROOM]);
}

/// Reads once and appends what came to `held`; 0 at the end of file. `io` must not read through here itself.
pub(crate) fn poll_read(io: Pin<&mut impl AsyncRead>, cx: &mut Context<'_>, held: &mut BytesMut) -> Poll<io::Result<usize>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut buf = ReadBuf::new(scratch);
        ready!(io.poll_read(cx, &mut buf))?;
        hold(held, buf.filled());
        Poll::Ready(Ok(buf.filled().len()))
    })
}

/// What one read brought, and how much of it was written at once.
pub(crate) struct Passed {
    /// Bytes; 0 at the end of file.
    pub(crate) read: usize,
    /// Bytes; the rest is held.
    pub(crate) written: usize,
}

/// Reads once, writes what `to` takes of it, and appends the rest to `held`, where nothing may wait yet. Neither may read through
/// here itself.
pub(crate) fn poll_pass(
    from: Pin<&mut dyn Raw>,
    to: Pin<&mut dyn Raw>,
    cx: &mut Context<'_>,
    held: &mut BytesMut,
) -> Poll<io::Result<Passed>> {
    debug_assert!(held.is_empty(), "it would be overtaken");
    SCRATCH.with_borrow_mut(|scratch| {
        let mut buf = ReadBuf::new(scratch);
        ready!(from.poll_read(cx, &mut buf))?;
        let read = buf.filled();
        if read.is_empty() {
            return Poll::Ready(Ok(Passed { read: 0, written: 0 }));
        }
        let written = match to.poll_write(cx, read) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(written) => written?,
            // It is asked again with what is held, and then wakes us.
            Poll::Pending => 0,
        };
        hold(held, &read[written..]);
        Poll::Ready(Ok(Passed { read: read.len(), written }))
    })
}

fn hold(held: &mut BytesMut, bytes: &[u8]) {
    // More than that would outgrow it, and gets a buffer of its size.
    if held.capacity() == 0 && (1..=spare::ROOM).contains(&bytes.len()) {
        *held = spare::buffer();
    }
    held.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_came_is_appended_and_nothing_more_is_held() {
        let (mut near, mut far) = tokio::io::duplex(64);
        let mut held = BytesMut::from(&b"GET "[..]);
        tokio::io::AsyncWriteExt::write_all(&mut far, b"/ HTTP/1.1").await.unwrap();
        let read = std::future::poll_fn(|cx| poll_read(Pin::new(&mut near), cx, &mut held)).await.unwrap();
        assert_eq!((read, &held[..]), (10, &b"GET / HTTP/1.1"[..]));
        let mut idle = BytesMut::new();
        let polled = futures_util::poll!(std::future::poll_fn(|cx| poll_read(Pin::new(&mut near), cx, &mut idle)));
        assert!(polled.is_pending() && idle.capacity() == 0);
        drop(far);
        assert_eq!(std::future::poll_fn(|cx| poll_read(Pin::new(&mut near), cx, &mut idle)).await.unwrap(), 0);
    }
}
