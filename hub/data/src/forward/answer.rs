//! Hop: dial -> forward -> inbound. A workload's answer on its way to the client.
//!
//! What breaks off ends as an error of the body, never as its end: the inbound half then resets the client's connection or
//! stream (RELIABILITY: "truncated as success" is 0).

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::record::Record;
use crate::body::BodyError;
use crate::dial::inflight::InFlight;
use crate::dial::upload::Upload;
use crate::dial::{h1, h2};
use crate::exchange::Raw;
use crate::filters::{Coded, Encoder, Filtered, Frames};
use crate::reply::Failure;
use crate::shard::ShardRef;

/// What a workload answered.
pub enum Answer {
    /// All of it has arrived.
    Whole {
        /// Its head.
        head: Response<()>,
        /// Its body.
        body: Bytes,
        /// The count of work under way, which ends here.
        in_flight: InFlight,
    },
    /// The body is still to come.
    Streaming {
        /// Its head.
        head: Response<()>,
        /// Its body.
        body: Source,
        /// What is still to be sent of the request.
        rest: Rest,
    },
    /// 101: bytes both ways from here.
    Upgraded {
        /// The 101 for the client.
        head: Response<()>,
        /// The workload's bytes.
        io: Box<dyn Raw>,
        /// The count of work under way.
        in_flight: InFlight,
    },
}

impl Answer {
    /// Its status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Whole { head, .. } | Self::Streaming { head, .. } | Self::Upgraded { head, .. } => head.status(),
        }
    }

    /// Its head.
    pub fn head(&self) -> &Response<()> {
        match self {
            Self::Whole { head, .. } | Self::Streaming { head, .. } | Self::Upgraded { head, .. } => head,
        }
    }

    /// Drops an answer that no client will see. What of its body has not come is not read: the workload hears of it.
    pub fn refuse(self) {
        if let Self::Streaming { mut body, .. } = self {
            body.cancel();
        }
    }

    /// The same as its rule's filters make it: another body in place of an error's, and another head.
    pub fn filtered(self, filtered: &Filtered<'_>) -> Self {
        let mut answer = match self {
            Self::Whole { mut head, body, in_flight } => {
                let body = filtered.replaced(&mut head).unwrap_or(body);
                Self::Whole { head, body, in_flight }
            }
            // The workload's own body is not waited for, nor what it did not read of the request.
            Self::Streaming { mut head, body, rest } => match filtered.replaced(&mut head) {
                Some(replaced) => Self::Whole { head, body: replaced, in_flight: body.in_flight() },
                None => Self::Streaming { head, body, rest },
            },
            upgraded @ Self::Upgraded { .. } => upgraded,
        };
        filtered.head(answer.headers_mut());
        answer
    }

    /// The fields of its head.
    pub fn headers_mut(&mut self) -> &mut http::HeaderMap {
        match self {
            Self::Whole { head, .. } | Self::Streaming { head, .. } | Self::Upgraded { head, .. } => head.headers_mut(),
        }
    }
}

/// Where a streaming body comes from.
pub enum Source {
    /// HTTP/1.1.
    H1(h1::body::ResponseBody),
    /// HTTP/2.
    H2(Box<h2::body::ResponseBody>),
    /// Either of them, compressed.
    Coded(Box<Coded<Self>>),
}

/// The part of a request that was not sent when its answer came.
pub enum Rest {
    /// Nothing.
    Nothing,
    /// On an HTTP/1.1 connection, which ends with it.
    H1(h1::Shared, InFlight),
    /// On an HTTP/2 stream.
    H2(h2::exchange::SharedSender, InFlight),
}

impl Rest {
    /// Sends it in a task of its own: an early answer does not end an upload.
    pub fn spawn(self, shard: &ShardRef, upload: Upload) {
        match self {
            Self::Nothing => {}
            Self::H1(wire, in_flight) => shard.drain.spawn_local(async move {
                h1::upload_rest(wire, upload).await;
                drop(in_flight);
            }),
            Self::H2(sender, in_flight) => shard.drain.spawn_local(async move {
                h2::exchange::upload_rest(sender, upload).await;
                drop(in_flight);
            }),
        }
    }
}

impl Source {
    /// The next frame; `None` at a clean end.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        match self {
            Self::H1(body) => body.poll_next(cx),
            Self::H2(body) => body.poll_next(cx),
            Self::Coded(body) => body.poll_next(cx),
        }
    }

    /// Reads no more.
    pub fn cancel(&mut self) {
        match self {
            Self::H1(body) => body.cancel(),
            // Dropping it cancels the stream.
            Self::H2(_) => {}
            Self::Coded(body) => body.source().cancel(),
        }
    }

    /// Bytes still to come, where that is known.
    pub fn size_hint(&self) -> SizeHint {
        match self {
            Self::H1(body) => body.size_hint(),
            Self::H2(body) => body.size_hint(),
            Self::Coded(_) => SizeHint::default(),
        }
    }

    fn is_end(&self) -> bool {
        match self {
            Self::H1(body) => body.is_end(),
            Self::H2(body) => body.is_end(),
            Self::Coded(body) => body.is_end(),
        }
    }

    /// The count of work under way that the body holds.
    fn in_flight(&self) -> InFlight {
        match self {
            Self::H1(body) => body.in_flight(),
            Self::H2(body) => body.in_flight(),
            Self::Coded(body) => body.get().in_flight(),
        }
    }

    /// The same, compressed on its way where there is an encoder.
    #[must_use]
    pub fn coded(self, encoder: Option<Encoder>) -> Self {
        match encoder {
            Some(encoder) => Self::Coded(Box::new(Coded::new(self, encoder))),
            None => self,
        }
    }
}

impl Frames for Source {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        Self::poll_next(self, cx)
    }
}

/// A streaming answer, counted.
pub struct Tracked {
    source: Source,
    deadline: Option<(Pin<Box<Sleep>>, Failure)>,
    record: Record,
    done: bool,
}

impl Tracked {
    /// `deadline` is the end of the request's time, if it has one, and what it means.
    pub fn new(source: Source, deadline: Option<(Instant, Failure)>, record: Record) -> Self {
        Self { source, deadline: deadline.map(|(at, failure)| (Box::pin(sleep_until(at)), failure)), record, done: false }
    }

    fn end(&mut self, failure: Option<Failure>) {
        self.done = true;
        match failure {
            Some(failure) => self.record.broke(failure),
            None => self.record.complete(),
        }
    }
}

impl Body for Tracked {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.done {
            return Poll::Ready(None);
        }
        let polled = match this.source.poll_next(cx) {
            Poll::Pending => match this.deadline.as_mut() {
                Some((deadline, failure)) => deadline.as_mut().poll(cx).map(|()| Some(Err(*failure))),
                None => Poll::Pending,
            },
            ready => ready,
        };
        match polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                this.end(None);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    this.record.passed(data);
                }
                if this.source.is_end() {
                    this.end(None);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(failure))) => {
                this.end(Some(failure));
                Poll::Ready(Some(Err(BodyError::Backend(failure.as_str().to_owned()))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.done
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}
