//! Hop: forward -> dial. A request's body that can be sent again: streamed to the workload while its beginning is kept.
//!
//! Kept are at most `replay_bytes`; beyond that the recording is dropped and the request has one try. Never waits for the
//! whole body before it sends the first byte.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http_body::{Body as _, Frame};
use tokio::time::Instant;

use super::part::Part;
use super::tee::Tee;
use crate::body::{Body, BodyError};

/// What is known of a body that its client sends, also after the upload itself is gone.
#[derive(Debug, Default)]
pub struct Meter {
    /// Bytes read from the client.
    pub bytes: Cell<u64>,
    /// When the client had sent all of it.
    pub ended: Cell<Option<Instant>>,
    /// All of it has come and is kept for another try.
    pub kept: Cell<bool>,
    /// It is no small thing that is sent at once: its length is unknown, or above what is kept for another try.
    pub streams: bool,
}

/// Whether a body can be sent from its beginning, whatever is still read of it.
#[derive(Debug)]
pub enum Kept {
    /// It is known to be small.
    Always,
    /// Once all of it has come, if it was small.
    Once(Option<Rc<Meter>>),
}

impl Kept {
    /// As of now.
    pub fn now(&self) -> bool {
        match self {
            Self::Always => true,
            Self::Once(meter) => meter.as_ref().is_some_and(|meter| meter.kept.get()),
        }
    }
}

/// A request's body, with what was read of it so far.
pub struct Upload {
    recording: Recording,
    /// Index of the next part for the present try.
    next: usize,
}

enum Recording {
    /// The usual: one try at a time.
    Own(Tape),
    /// Two tries at once, on one thread and in one task, read what whichever of them needed first.
    Shared(Rc<RefCell<Tape>>),
}

/// What was read of a body.
struct Tape {
    body: Body,
    kept: Vec<Part>,
    kept_bytes: usize,
    limit: usize,
    /// More was read than is kept.
    spilled: bool,
    ended: bool,
    length: Option<u64>,
    meter: Option<Rc<Meter>>,
    tees: Vec<Tee>,
}

impl Upload {
    /// Wraps a body of which at most `limit` bytes are kept.
    pub fn new(body: Body, limit: usize) -> Self {
        let length = body.size_hint().exact();
        let ended = body.is_end_stream();
        let streams = length.is_none_or(|length| length > limit as u64);
        let meter = (!ended).then(|| Rc::new(Meter { streams, ..Meter::default() }));
        let tape = Tape { body, kept: Vec::new(), kept_bytes: 0, limit, spilled: false, ended, length, meter, tees: Vec::new() };
        Self { recording: Recording::Own(tape), next: 0 }
    }

    fn look<T>(&self, at: impl FnOnce(&Tape) -> T) -> T {
        match &self.recording {
            Recording::Own(tape) => at(tape),
            Recording::Shared(tape) => at(&tape.borrow()),
        }
    }

    /// The same body from its beginning, for a second try beside this one. Only while [`Upload::fits`].
    pub fn fork(&mut self) -> Self {
        let tape = match std::mem::replace(&mut self.recording, Recording::Own(Tape::empty())) {
            Recording::Own(tape) => Rc::new(RefCell::new(tape)),
            Recording::Shared(tape) => tape,
        };
        self.recording = Recording::Shared(Rc::clone(&tape));
        Self { recording: Recording::Shared(tape), next: 0 }
    }

    /// Hands what is read from now on to another reader as well. Before the first part was read.
    pub fn tee(&mut self, tee: Tee) {
        match &mut self.recording {
            Recording::Own(tape) => tape.tees.push(tee),
            Recording::Shared(tape) => tape.borrow_mut().tees.push(tee),
        }
    }

    /// Its whole length in bytes, where the client declared it.
    pub fn length(&self) -> Option<u64> {
        self.look(|tape| tape.length)
    }

    /// What is known of it as it is read from the client, wherever it is sent from; none for an empty body.
    pub fn meter(&self) -> Option<Rc<Meter>> {
        self.look(|tape| tape.meter.clone())
    }

    /// Whether there is nothing (more) to send in this try.
    pub fn is_done(&self) -> bool {
        self.look(|tape| tape.ended && self.next == tape.kept.len())
    }

    /// Whether it can be sent from its beginning.
    pub fn replayable(&self) -> bool {
        self.look(|tape| !tape.spilled)
    }

    /// Whether all of it will be replayable, however far it is read.
    pub fn fits(&self) -> bool {
        self.look(|tape| !tape.spilled && tape.length.is_some_and(|length| length <= tape.limit as u64))
    }

    /// Whether all of it is replayable, to be asked while it is being sent.
    pub fn kept(&self) -> Kept {
        if self.fits() { Kept::Always } else { Kept::Once(self.meter()) }
    }

    /// Starts over for another try. Only while [`Upload::replayable`].
    pub fn rewind(&mut self) {
        self.next = 0;
    }

    /// No further try will follow: what is kept need not be.
    pub fn forget(&mut self) {
        match &mut self.recording {
            Recording::Own(tape) => tape.forget(self.next),
            Recording::Shared(tape) => tape.borrow_mut().forget(self.next),
        }
        self.next = 0;
    }

    /// The next part of this try; `None` at the end.
    pub fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Part, BodyError>>> {
        match &mut self.recording {
            Recording::Own(tape) => tape.poll_part(&mut self.next, cx),
            Recording::Shared(tape) => tape.borrow_mut().poll_part(&mut self.next, cx),
        }
    }
}

impl Tape {
    fn empty() -> Self {
        Self {
            body: Body::Empty,
            kept: Vec::new(),
            kept_bytes: 0,
            limit: 0,
            spilled: false,
            ended: true,
            length: Some(0),
            meter: None,
            tees: Vec::new(),
        }
    }

    fn forget(&mut self, next: usize) {
        self.kept.drain(..next);
        self.limit = 0;
        self.spilled = true;
        if let Some(meter) = &self.meter {
            meter.kept.set(false);
        }
    }

    fn poll_part(&mut self, next: &mut usize, cx: &mut Context<'_>) -> Poll<Option<Result<Part, BodyError>>> {
        if let Some(part) = self.kept.get(*next) {
            let part = part.clone();
            *next += 1;
            return Poll::Ready(Some(Ok(part)));
        }
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            let part = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => {
                    self.end();
                    self.tees.drain(..).for_each(Tee::end);
                    continue;
                }
                Some(Err(error)) => {
                    self.spilled = true;
                    self.end();
                    self.tees.clear();
                    return Poll::Ready(Some(Err(error)));
                }
                Some(Ok(frame)) => match frame.into_data().map_err(Frame::into_trailers) {
                    Ok(data) if data.is_empty() => continue,
                    Ok(data) => Part::Data(data),
                    Err(Ok(trailers)) => Part::Trailers(trailers),
                    Err(Err(_)) => continue,
                },
            };
            *next = self.keep(&part);
            return Poll::Ready(Some(Ok(part)));
        }
    }

    fn end(&mut self) {
        self.ended = true;
        if let Some(meter) = &self.meter {
            meter.ended.set(Some(Instant::now()));
            meter.kept.set(!self.spilled);
        }
    }

    /// Records a part; the index of the one after it.
    fn keep(&mut self, part: &Part) -> usize {
        let size = part.size();
        self.tees.retain_mut(|tee| tee.offer(part));
        if let Some(meter) = &self.meter {
            meter.bytes.set(meter.bytes.get() + size as u64);
            if self.length == Some(meter.bytes.get()) {
                // Nobody may ask for the end after the last byte.
                meter.ended.set(Some(Instant::now()));
                self.tees.drain(..).for_each(Tee::end);
            }
        }
        if self.spilled {
            return self.kept.len();
        }
        if self.kept_bytes + size > self.limit {
            self.spilled = true;
            self.kept = Vec::new();
            return 0;
        }
        self.kept_bytes += size;
        self.kept.push(part.clone());
        self.kept.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
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
        assert!(!upload.replayable() && upload.look(|tape| tape.kept.is_empty()));
    }

    #[tokio::test]
    async fn what_is_forgotten_still_streams_to_its_end() {
        let mut upload = Upload::new(body(&["ab", "cd"]), 100);
        let _ = poll_fn(|cx| upload.poll_part(cx)).await;
        upload.rewind();
        upload.forget();
        assert_eq!(drain(&mut upload).await, "abcd");
    }

    #[tokio::test]
    async fn two_tries_at_once_both_read_all_of_it() {
        let mut first = Upload::new(body(&["ab", "cd"]), 100);
        let _ = poll_fn(|cx| first.poll_part(cx)).await;
        let mut second = first.fork();
        assert_eq!(drain(&mut second).await, "abcd");
        assert_eq!(drain(&mut first).await, "cd");
        drop(first);
        second.forget();
        assert!(second.is_done() && !second.replayable());
    }

    #[tokio::test]
    async fn the_meter_knows_a_stream_from_a_small_body_and_when_it_ended() {
        let upload = |text: &'static str, limit| Upload::new(Body::Full(Bytes::from_static(text.as_bytes())), limit);
        assert!(upload("", 4).meter().is_none());
        let mut small = upload("abcd", 4);
        let meter = small.meter().unwrap();
        assert!(!meter.streams && meter.ended.get().is_none());
        let _ = poll_fn(|cx| small.poll_part(cx)).await;
        assert!(meter.ended.get().is_some() && meter.bytes.get() == 4);
        assert!(upload("abcde", 4).meter().unwrap().streams);
        assert!(Upload::new(body(&["a"]), 4).meter().unwrap().streams);
    }

    #[tokio::test]
    async fn a_small_body_of_unknown_length_can_be_sent_again_once_all_of_it_has_come() {
        let mut small = Upload::new(body(&["ab", "cd"]), 4);
        let kept = small.kept();
        let _ = poll_fn(|cx| small.poll_part(cx)).await;
        assert!(!kept.now());
        drain(&mut small).await;
        assert!(kept.now());
        small.forget();
        assert!(!kept.now());
        let mut large = Upload::new(body(&["ab", "cd", "e"]), 4);
        let kept = large.kept();
        drain(&mut large).await;
        assert!(!kept.now());
        assert!(Upload::new(Body::Full(Bytes::from_static(b"abcd")), 4).kept().now());
    }
}
