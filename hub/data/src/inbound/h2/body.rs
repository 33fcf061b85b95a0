//! Hop `inbound`: the body of an HTTP/2 request. The client may send more as the outbound half takes what came.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::RecvStream;
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};

use super::answer::Answer;
use crate::admission::fields;
use crate::body::BodyError;
use crate::exchange::Interim as _;

pub(super) struct RequestBody {
    recv: RecvStream,
    /// Bytes still to come, where they were declared; `h2` checks that they do.
    left: Option<u64>,
    /// Present while the client waits for 100 (Continue).
    waits: Option<Answer>,
    data_ended: bool,
    ended: bool,
}

impl RequestBody {
    pub(super) fn new(recv: RecvStream, length: Option<u64>, waits: Option<Answer>) -> Self {
        let ended = recv.is_end_stream();
        Self { recv, left: length, waits, data_ended: false, ended }
    }

    fn send_continue(&mut self) {
        if let Some(answer) = self.waits.take() {
            let mut go = Response::new(());
            *go.status_mut() = StatusCode::CONTINUE;
            answer.send(0, go);
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let failed = |error: h2::Error| Poll::Ready(Some(Err(BodyError::Client(error.to_string()))));
        if !this.data_ended {
            match this.recv.poll_data(cx) {
                Poll::Pending => {
                    this.send_continue();
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(data))) => {
                    this.waits = None;
                    this.left = this.left.map(|left| left.saturating_sub(data.len() as u64));
                    // The outbound half asks for a frame when it has room for one.
                    if let Err(error) = this.recv.flow_control().release_capacity(data.len()) {
                        return failed(error);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Poll::Ready(Some(Err(error))) => return failed(error),
                Poll::Ready(None) => this.data_ended = true,
            }
        }
        match this.recv.poll_trailers(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => failed(error),
            Poll::Ready(Ok(trailers)) => {
                this.ended = true;
                let mut trailers = trailers.unwrap_or_default();
                fields::filter_trailers(&mut trailers);
                Poll::Ready((!trailers.is_empty()).then(|| Ok(Frame::trailers(trailers))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || (self.recv.is_end_stream() && !self.data_ended)
    }

    fn size_hint(&self) -> SizeHint {
        match self.left {
            Some(left) => SizeHint::with_exact(left),
            None => SizeHint::new(),
        }
    }
}
