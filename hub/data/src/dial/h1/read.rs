//! Hop: backend -> dial. What a workload says, read from its connection: heads through the thread's scratch room, bodies as they lie
//! where much lies together, else in buffers of their own.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Method;
use tokio_util::io::poll_read_buf;

use super::head::{self, Head};
use super::{Wire, decode};
use crate::admission::HeadLimits;
use crate::reply::Failure;
use crate::scratch;

/// Bytes asked for in one read. A QUIC stream rarely has more at once; larger buffers only cost memory per connection.
const READ: usize = 16 * 1024;

/// Bytes that lie together and are this many are handed on where they lie: to copy them costs more than one piece more. Below, as on
/// paths of 1,500 bytes, joining them does.
const WHOLE: usize = 4 * 1024;

/// Why no response head came.
#[derive(Debug)]
pub enum ReadError {
    /// What came breaks HTTP.
    Protocol(Failure),
    /// The peer ended in good order, before or within a head.
    Eof,
    /// The way broke.
    Io(io::Error),
}

impl Wire {
    /// Reads the next response head, 1xx included.
    pub fn poll_head(&mut self, cx: &mut Context<'_>, method: &Method, upgrade: bool, limits: HeadLimits) -> Poll<Result<Head, ReadError>> {
        loop {
            if !self.input.is_empty()
                && let Some(head) = head::take(&mut self.input, &mut self.scan, method, upgrade, limits).map_err(ReadError::Protocol)?
            {
                return Poll::Ready(Ok(head));
            }
            if ready!(self.poll_more(cx)).map_err(ReadError::Io)? == 0 {
                return Poll::Ready(Err(if self.input.is_empty() { ReadError::Eof } else { ReadError::Protocol(Failure::Incomplete) }));
            }
        }
    }

    /// Takes the next piece of a body.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>, decoder: &mut decode::Decoder) -> Poll<Result<decode::Piece, ReadError>> {
        loop {
            match decoder.take(&mut self.input).map_err(ReadError::Protocol)? {
                decode::Piece::More => {}
                piece => return Poll::Ready(Ok(piece)),
            }
            let mut filled = false;
            if let Some(most) = decoder.plain() {
                if let Some(chunk) = ready!(self.poll_whole(cx, most)).map_err(ReadError::Io)? {
                    decoder.took(chunk.len() as u64);
                    return Poll::Ready(Ok(decode::Piece::Data(chunk)));
                }
                filled = !self.input.is_empty();
            }
            if !filled && ready!(self.poll_fill(cx)).map_err(ReadError::Io)? == 0 {
                decoder.eof().map_err(ReadError::Protocol)?;
                return Poll::Ready(Ok(decode::Piece::End));
            }
        }
    }

    /// Bytes of a body as they lie, at most that many. `None`: they are in the buffer now, or to be read into it.
    fn poll_whole(&mut self, cx: &mut Context<'_>, most: u64) -> Poll<io::Result<Option<Bytes>>> {
        let Some(stream) = self.io.stream() else { return Poll::Ready(Ok(None)) };
        let mut chunk = ready!(stream.poll_read_chunk(cx, usize::MAX))?.unwrap_or_default();
        self.progress.moved();
        if chunk.len() >= WHOLE {
            // What follows the body unasked must be seen when it ends.
            let rest = chunk.split_off(usize::try_from(most).unwrap_or(usize::MAX).min(chunk.len()));
            self.input.extend_from_slice(&rest);
            self.held = self.held.max(self.input.len());
            return Poll::Ready(Ok(Some(chunk)));
        }
        if !chunk.is_empty() {
            self.reserve();
            self.input.extend_from_slice(&chunk);
            // What has come besides; how it ends, if it does, the next read says again.
            let _ = poll_read_buf(Pin::new(&mut self.io), cx, &mut self.input);
        }
        Poll::Ready(Ok(None))
    }

    /// Bytes read that nobody has taken.
    pub fn buffered(&self) -> usize {
        self.input.len()
    }

    /// Takes the rest of a body of known length that lies in the buffer whole.
    pub fn take_buffered(&mut self, decoder: &mut decode::Decoder) -> Bytes {
        match decoder.take(&mut self.input) {
            Ok(decode::Piece::Data(data)) => data,
            _ => Bytes::new(),
        }
    }

    /// Reads behind what is held, without a buffer of this connection's own while nothing comes.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let n = ready!(scratch::poll_read(Pin::new(&mut self.io), cx, &mut self.input))?;
        self.held = self.held.max(self.input.len());
        self.progress.moved();
        Poll::Ready(Ok(n))
    }

    /// Makes room for a part of a body.
    fn reserve(&mut self) {
        self.held = READ;
        self.input.reserve(READ);
    }

    /// Reads a body's bytes.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.reserve();
        let n = ready!(poll_read_buf(Pin::new(&mut self.io), cx, &mut self.input))?;
        self.progress.moved();
        Poll::Ready(Ok(n))
    }
}
