//! Hop: forward -> dial. A request's body that can be sent again: streamed to the workload while its beginning is kept.
//!
//! Kept are at most `replay_bytes`; beyond that the recording is dropped and the request has one try. Never waits for the
//! whole body before it sends the first byte.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame};

use crate::body::{Body, BodyError};

/// A piece of an upload.
#[derive(Debug, Clone)]
pub enum Part {
    /// Bytes.
    Data(Bytes),
    /// Trailers, the last part.
    Trailers(HeaderMap),
}

/// A request's body, with what was read of it so far.
pub struct Upload {
    body: Body,
    kept: Vec<Part>,
    kept_bytes: usize,
    limit: usize,
    /// Index into `kept` of the next part for the present try.
    next: usize,
    /// More was read than is kept.
    spilled: bool,
    ended: bool,
    length: Option<u64>,
    received: Option<Rc<Cell<u64>>>,
}

impl Upload {
    /// Wraps a body of which at most `limit` bytes are kept.
    pub fn new(body: Body, limit: usize) -> Self {
        let length = body.size_hint().exact();
        let ended = body.is_end_stream();
        Self { body, kept: Vec::new(), kept_bytes: 0, limit, next: 0, spilled: false, ended, length, received: (!ended).then(Rc::default) }
    }

    /// Its whole length in bytes, where the client declared it.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Counts the bytes read from the client, wherever the body is sent from; none for an empty body.
    pub fn counter(&self) -> Option<Rc<Cell<u64>>> {
        self.received.clone()
    }

    /// Whether there is nothing (more) to send in this try.
    pub fn is_done(&self) -> bool {
        self.ended && self.next == self.kept.len()
    }

    /// Whether it can be sent from its beginning.
    pub fn replayable(&self) -> bool {
        !self.spilled
    }

    /// Whether all of it will be replayable, however far it is read.
    pub fn fits(&self) -> bool {
        !self.spilled && self.length.is_some_and(|length| length <= self.limit as u64)
    }

    /// Starts over for another try. Only while [`Upload::replayable`].
    pub fn rewind(&mut self) {
        self.next = 0;
    }

    /// No further try will follow: what is kept need not be.
    pub fn forget(&mut self) {
        self.kept.drain(..self.next);
        self.next = 0;
        self.limit = 0;
        self.spilled = true;
    }

    /// The next part of this try; `None` at the end.
    pub fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Part, BodyError>>> {
        if let Some(part) = self.kept.get(self.next) {
            let part = part.clone();
            self.next += 1;
            return Poll::Ready(Some(Ok(part)));
        }
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            let part = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => {
                    self.ended = true;
                    continue;
                }
                Some(Err(error)) => {
                    self.ended = true;
                    self.spilled = true;
                    return Poll::Ready(Some(Err(error)));
                }
                Some(Ok(frame)) => match frame.into_data().map_err(Frame::into_trailers) {
                    Ok(data) if data.is_empty() => continue,
                    Ok(data) => Part::Data(data),
                    Err(Ok(trailers)) => Part::Trailers(trailers),
                    Err(Err(_)) => continue,
                },
            };
            self.keep(&part);
            return Poll::Ready(Some(Ok(part)));
        }
    }

    fn keep(&mut self, part: &Part) {
        let size = match part {
            Part::Data(data) => data.len(),
            Part::Trailers(_) => 0,
        };
        if let Some(received) = &self.received {
            received.set(received.get() + size as u64);
        }
        if self.spilled {
            return;
        }
        if self.kept_bytes + size > self.limit {
            self.spilled = true;
            self.kept = Vec::new();
            self.next = 0;
            return;
        }
        self.kept_bytes += size;
        self.kept.push(part.clone());
        self.next = self.kept.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, StreamBody};
    use std::future::poll_fn;

    fn body(parts: &[&'static str]) -> Body {
        let frames: Vec<_> = parts.iter().map(|part| Ok(Frame::data(Bytes::from_static(part.as_bytes())))).collect();
        Body::stream(StreamBody::new(futures_util::stream::iter(frames)).map_err(|error: BodyError| error))
    }

    async fn drain(upload: &mut Upload) -> String {
        let mut text = String::new();
        while let Some(Ok(Part::Data(data))) = poll_fn(|cx| upload.poll_part(cx)).await {
            text.push_str(std::str::from_utf8(&data).unwrap());
        }
        text
    }

    #[tokio::test]
    async fn a_small_body_is_sent_again_from_its_beginning() {
        let mut upload = Upload::new(body(&["ab", "cd"]), 4);
        let _ = poll_fn(|cx| upload.poll_part(cx)).await;
        upload.rewind();
        assert_eq!(drain(&mut upload).await, "abcd");
        upload.rewind();
        assert_eq!(drain(&mut upload).await, "abcd");
        assert!(upload.is_done() && upload.replayable());
    }

    #[tokio::test]
    async fn a_body_past_the_limit_streams_once_and_keeps_nothing() {
        let mut upload = Upload::new(body(&["ab", "cd", "e"]), 4);
        assert_eq!(drain(&mut upload).await, "abcde");
        assert!(!upload.replayable() && upload.kept.is_empty());
    }

    #[tokio::test]
    async fn what_is_forgotten_still_streams_to_its_end() {
        let mut upload = Upload::new(body(&["ab", "cd"]), 100);
        let _ = poll_fn(|cx| upload.poll_part(cx)).await;
        upload.rewind();
        upload.forget();
        assert_eq!(drain(&mut upload).await, "abcd");
    }
}
