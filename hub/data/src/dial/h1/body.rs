//! Hop: backend -> forward. The body of an HTTP/1.1 response, read as its client takes it.
//!
//! Ends cleanly only where the framing says so; then, and only if the whole request was sent, the connection goes back to the
//! pool. Dropped before its end (the client went away), it resets the stream so that the workload stops.

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use figspan_proto::reset::Reason;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use super::decode::{Decoder, Piece};
use super::{ReadError, Shared};
use crate::dial::inflight::InFlight;
use crate::dial::pool::{Key, Pool};
use crate::reply::Failure;

/// Where a connection goes after its response.
pub struct Home {
    /// The pool.
    pub pool: Rc<Pool<Shared>>,
    /// Its place there.
    pub key: Key,
    /// Most idle connections of that place.
    pub most: usize,
    /// How long it may idle.
    pub idle_time: Duration,
}

/// The body of a response.
pub struct ResponseBody {
    wire: Option<Shared>,
    decoder: Decoder,
    home: Option<Home>,
    idle: Option<Duration>,
    in_flight: InFlight,
}

impl ResponseBody {
    /// `home` is `None` where the connection must not be used again.
    pub fn new(wire: Shared, decoder: Decoder, home: Option<Home>, idle: Option<Duration>, in_flight: InFlight) -> Self {
        let mut body = Self { wire: Some(wire), decoder, home, idle, in_flight };
        if body.decoder.ended() {
            body.release();
        }
        body
    }

    /// The whole exchange is over: keep the connection or end it.
    fn release(&mut self) {
        let Some(wire) = self.wire.take() else { return };
        match self.home.take() {
            Some(home) if wire.borrow().buffered() == 0 => home.pool.put(home.key, self.in_flight.state(), wire, home.most, home.idle_time),
            // Nothing may follow a response unasked; what does is dropped with its connection.
            Some(_) => wire.borrow_mut().abandon(Reason::Malformed),
            None if Rc::strong_count(&wire) == 1 => wire.borrow_mut().finish(),
            // Somebody still uploads; the connection ends with that.
            None => {}
        }
    }

    fn fail(&mut self, failure: Failure) -> Failure {
        if let Some(wire) = self.wire.take() {
            wire.borrow_mut().abandon(Reason::Cancelled);
        }
        failure
    }

    /// Reads no more; the workload hears that nobody wants the rest.
    pub fn cancel(&mut self) {
        if let Some(wire) = self.wire.take() {
            wire.borrow_mut().abandon(Reason::Cancelled);
        }
    }

    /// The next frame; `None` at a clean end.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let Some(wire) = &self.wire else { return Poll::Ready(None) };
        let polled = wire.borrow_mut().poll_piece(cx, &mut self.decoder);
        match polled {
            Poll::Pending => self.poll_idle(cx).map(|failure| Some(Err(self.fail(failure)))),
            Poll::Ready(Ok(Piece::Data(data))) => {
                if self.decoder.ended() {
                    self.release();
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Poll::Ready(Ok(Piece::Trailers(trailers))) => {
                self.release();
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Poll::Ready(Ok(Piece::End | Piece::More)) => {
                self.release();
                Poll::Ready(None)
            }
            Poll::Ready(Err(ReadError::Protocol(failure))) => Poll::Ready(Some(Err(self.fail(failure)))),
            Poll::Ready(Err(ReadError::Eof)) => Poll::Ready(Some(Err(self.fail(Failure::Incomplete)))),
            Poll::Ready(Err(ReadError::Io(error))) => {
                let failure = crate::dial::broken(&error);
                Poll::Ready(Some(Err(self.fail(failure))))
            }
        }
    }

    /// Ready when nothing has moved, in either direction, for the idle time.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Failure> {
        let (Some(idle), Some(wire)) = (self.idle, &self.wire) else { return Poll::Pending };
        let mut wire = wire.borrow_mut();
        let due = wire.progress.last(Instant::now) + idle;
        wire.alarm.poll(due, cx).map(|()| Failure::WorkloadIdle)
    }

    /// Whether the end was reached.
    pub fn is_end(&self) -> bool {
        self.wire.is_none()
    }

    /// The count of work under way.
    pub fn in_flight(&self) -> InFlight {
        self.in_flight.clone()
    }

    /// Bytes still to come, where that is known.
    pub fn size_hint(&self) -> SizeHint {
        self.decoder.remaining().map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    /// All that is left, if it has arrived already: small answers then need no streaming body.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        let left = usize::try_from(self.decoder.remaining()?).ok()?;
        let Some(wire) = &self.wire else { return Some(Bytes::new()) };
        if wire.borrow().buffered() < left {
            return None;
        }
        let piece = wire.borrow_mut().take_buffered(&mut self.decoder);
        self.release();
        Some(piece)
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if let Some(wire) = self.wire.take() {
            wire.borrow_mut().abandon(Reason::ClientGone);
        }
    }
}
