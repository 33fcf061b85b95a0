//! Hop: backend -> forward. The body of an HTTP/2 response, with its trailers, read as its client takes it.
//!
//! h2 itself refuses a body that disagrees with its Content-Length. Dropped before its end, it cancels the stream.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use super::Lease;
use super::exchange::SharedSender;
use crate::admission::fields;
use crate::alarm::Alarm;
use crate::dial::inflight::InFlight;
use crate::reply::Failure;

/// The body of a response.
pub struct ResponseBody {
    stream: RecvStream,
    sender: SharedSender,
    length: Option<u64>,
    data_ended: bool,
    ended: bool,
    idle: Option<Duration>,
    progress: Instant,
    alarm: Alarm,
    _lease: Lease,
    in_flight: InFlight,
}

impl ResponseBody {
    /// `length` is the declared one.
    pub fn new(
        stream: RecvStream,
        sender: SharedSender,
        length: Option<u64>,
        idle: Option<Duration>,
        lease: Lease,
        in_flight: InFlight,
    ) -> Self {
        let ended = stream.is_end_stream();
        Self {
            stream,
            sender,
            length,
            data_ended: ended,
            ended,
            idle,
            progress: Instant::now(),
            alarm: Alarm::default(),
            _lease: lease,
            in_flight,
        }
    }

    /// The next frame; `None` at a clean end.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if !self.data_ended {
            match self.stream.poll_data(cx) {
                Poll::Pending => return self.poll_idle(cx).map(|failure| Some(Err(self.fail(failure)))),
                Poll::Ready(Some(Ok(data))) => {
                    self.progress = Instant::now();
                    // Fails only on a stream that is closed already.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    self.length = self.length.map(|left| left.saturating_sub(data.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(self.broken(&error)))),
                Poll::Ready(None) => self.data_ended = true,
            }
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => {
                self.ended = true;
                let trailers = trailers.map(|mut trailers| {
                    fields::filter_trailers(&mut trailers);
                    trailers
                });
                Poll::Ready(trailers.filter(|trailers| !trailers.is_empty()).map(|trailers| Ok(Frame::trailers(trailers))))
            }
            Err(error) => Poll::Ready(Some(Err(self.broken(&error)))),
        }
    }

    fn broken(&mut self, error: &h2::Error) -> Failure {
        let failure = match error.get_io() {
            Some(io) => crate::dial::broken(io),
            None if error.is_remote() => Failure::WorkloadReset,
            None => Failure::Malformed,
        };
        self.fail(failure)
    }

    fn fail(&mut self, failure: Failure) -> Failure {
        self.ended = true;
        self.sender.borrow_mut().abandon(Reason::CANCEL);
        failure
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Failure> {
        let Some(idle) = self.idle else { return Poll::Pending };
        let due = self.progress.max(self.sender.borrow().progress()) + idle;
        self.alarm.poll(due, cx).map(|()| Failure::WorkloadIdle)
    }

    /// Whether the end was reached.
    pub fn is_end(&self) -> bool {
        self.ended
    }

    /// The count of work under way.
    pub fn in_flight(&self) -> InFlight {
        self.in_flight.clone()
    }

    /// Bytes still to come, where that is known.
    pub fn size_hint(&self) -> SizeHint {
        if self.ended {
            return SizeHint::with_exact(0);
        }
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if !self.ended {
            self.sender.borrow_mut().abandon(Reason::CANCEL);
        }
    }
}
