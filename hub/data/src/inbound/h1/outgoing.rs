//! Hop `inbound`: bytes on their way to a client. Small pieces are gathered, large ones are sent without a copy.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;

/// From here on a piece is worth a slot of its own in a vectored write; below, a copy is cheaper.
const LARGE: usize = 4 * 1024;

/// Room that is made first: a head and a small body. More comes by doubling.
const HEAD: usize = 512;

/// Most bytes gathered at once after which a resting connection keeps the room for them.
const ROOM: usize = 2 * 1024;

/// Slices in one write.
const SLICES: usize = 16;

/// A queue of bytes.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    queue: VecDeque<Bytes>,
    tail: BytesMut,
    length: usize,
    written: u64,
    /// Most bytes that lay in `tail` since the connection rested.
    largest: usize,
}

impl Outgoing {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Bytes that the client's kernel has taken so far.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Where heads and other small pieces are written.
    pub(super) fn write(&mut self, write: impl FnOnce(&mut BytesMut)) {
        if self.tail.capacity() == 0 {
            self.tail.reserve(HEAD);
        }
        let before = self.tail.len();
        write(&mut self.tail);
        self.length += self.tail.len() - before;
        self.largest = self.largest.max(self.tail.len());
    }

    pub(super) fn push(&mut self, bytes: Bytes) {
        if bytes.len() < LARGE {
            self.write(|tail| tail.extend_from_slice(&bytes));
            return;
        }
        self.length += bytes.len();
        if !self.tail.is_empty() {
            self.queue.push_back(self.tail.split().freeze());
        }
        self.queue.push_back(bytes);
    }

    /// Keeps no more room than most answers need: nothing waits, and nothing may come for long.
    pub(super) fn rest(&mut self) {
        if self.is_empty() && std::mem::take(&mut self.largest) > ROOM {
            self.tail = BytesMut::new();
        }
    }

    /// Writes all and flushes.
    pub(super) fn poll_flush(&mut self, io: &mut (impl AsyncWrite + Unpin), cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !self.is_empty() {
            let written = if self.queue.is_empty() {
                ready!(Pin::new(&mut *io).poll_write(cx, &self.tail))?
            } else {
                let empty: &[u8] = &[];
                let mut slices = [IoSlice::new(empty); SLICES];
                let pieces = self.queue.iter().map(|bytes| &bytes[..]).chain([&self.tail[..]]);
                let count = slices.iter_mut().zip(pieces).map(|(slot, piece)| *slot = IoSlice::new(piece)).count();
                ready!(Pin::new(&mut *io).poll_write_vectored(cx, &slices[..count]))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        Pin::new(io).poll_flush(cx)
    }

    fn advance(&mut self, mut written: usize) {
        self.length -= written;
        self.written += written as u64;
        while let Some(first) = self.queue.front_mut() {
            let take = written.min(first.len());
            first.advance(take);
            written -= take;
            if !first.is_empty() {
                return;
            }
            self.queue.pop_front();
        }
        self.tail.advance(written);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_rests_keeps_room_for_a_head_and_no_more() {
        let mut out = Outgoing::default();
        for (bytes, kept) in [(200, true), (3 * ROOM, false), (200, true)] {
            out.push(vec![b'x'; bytes / 2].into());
            out.write(|tail| tail.extend_from_slice(&vec![b'x'; bytes / 2]));
            out.rest();
            assert_eq!(out.len(), bytes, "nothing is lost by it");
            out.write(|tail| tail.reserve(9 * ROOM));
            out.advance(bytes);
            out.rest();
            assert!(out.is_empty());
            assert_eq!(out.tail.capacity() > 0, kept, "{bytes}");
        }
    }
}
