//! The hub's call over a stream, as tonic wants it. No task drives it: whoever waits for the answer's head, and then for its messages,
//! also sends what is to be sent.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use hyper::body::{Body, Frame};
use tonic::codegen::Service;

use super::http2::{Broken, Client, Event};
use crate::stream::{RecvHalf, SendHalf, Stream};

/// Most bytes that are read at a time.
const CHUNK: usize = 16 * 1024;
/// While more than this waits to be sent, nothing is read: what is read asks for answers.
const MAX_WAITING: usize = 4 * 1024;
/// Reads without a word for the caller, before others of the thread have their turn.
const TURNS: usize = 8;

/// A stream that waits for its one call.
pub(super) struct Call(Option<Stream>);

impl Call {
    pub(super) fn on(stream: Stream) -> Self {
        Self(Some(stream))
    }
}

impl Service<http::Request<tonic::body::Body>> for Call {
    type Response = http::Response<Answer>;
    type Error = Broken;
    type Future = BoxFuture<'static, Result<Self::Response, Broken>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        Poll::Ready(if self.0.is_some() { Ok(()) } else { Err(Broken::Ended) })
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let talk = self.0.take().map(|stream| Talk::new(stream, request));
        Box::pin(async move {
            let mut talk = talk.ok_or(Broken::Ended)?;
            match poll_fn(|cx| talk.poll_event(cx)).await? {
                Event::Head(head) => Ok(head.map(|()| Answer(Some(talk)))),
                _ => Err(Broken::Protocol("an answer without a head")),
            }
        })
    }
}

/// A call under way.
struct Talk {
    recv: RecvHalf,
    send: SendHalf,
    client: Client,
    /// The request's body, until it has ended.
    body: Option<tonic::body::Body>,
    /// What the peer's windows have no room for.
    rest: Bytes,
    /// What the stream has no room for.
    unsent: Bytes,
    /// Why nothing can be sent any more. What has arrived is read all the same: it may say why.
    mute: Option<Broken>,
}

impl Talk {
    fn new(stream: Stream, request: http::Request<tonic::body::Body>) -> Self {
        let (head, body) = request.into_parts();
        let (recv, send) = stream.split();
        Self { recv, send, client: Client::new(&head), body: Some(body), rest: Bytes::new(), unsent: Bytes::new(), mute: None }
    }

    /// The next thing that the peer says. Sends meanwhile.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Broken>> {
        for _ in 0..TURNS {
            let event = self.client.next()?;
            self.poll_send(cx)?;
            if let Some(event) = event {
                return Poll::Ready(Ok(event));
            }
            if self.client.waiting() > MAX_WAITING {
                return self.pending();
            }
            match self.recv.poll_read_chunk(cx, CHUNK) {
                Poll::Ready(Ok(Some(chunk))) => self.client.feed(&chunk),
                Poll::Ready(Ok(None)) => return Poll::Ready(Err(self.client.cut_off())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Broken::Stream(error.to_string()))),
                Poll::Pending => return self.pending(),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Nothing more can be read now: a call that cannot send any more is over then.
    fn pending(&self) -> Poll<Result<Event, Broken>> {
        self.mute.clone().map_or(Poll::Pending, |broken| Poll::Ready(Err(broken)))
    }

    /// Sends as much as can be sent now.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<(), Broken> {
        while self.mute.is_none() {
            if self.unsent.is_empty() {
                self.unsent = self.client.unsent();
            }
            if !self.unsent.is_empty() {
                match self.send.poll_write_chunk(cx, &mut self.unsent) {
                    Poll::Ready(Ok(_)) => continue,
                    Poll::Ready(Err(error)) => self.mute = Some(Broken::Stream(error.to_string())),
                    Poll::Pending => {}
                }
                return Ok(());
            }
            if self.rest.is_empty() {
                let Some(body) = &mut self.body else { return Ok(()) };
                match Pin::new(body).poll_frame(cx) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(Some(Ok(frame))) => self.rest = frame.into_data().unwrap_or_default(),
                    Poll::Ready(Some(Err(status))) => return Err(Broken::Request(status.to_string())),
                    Poll::Ready(None) => {
                        self.body = None;
                        self.client.finish();
                    }
                }
                continue;
            }
            // What makes room is read, and wakes whoever waits for that.
            let room = self.client.room().min(self.rest.len());
            if room == 0 {
                return Ok(());
            }
            self.client.body(&self.rest.split_to(room));
        }
        Ok(())
    }

    /// Ends what can be ended without waiting.
    fn leave(mut self, cx: &mut Context<'_>) {
        self.client.leave();
        self.body = None;
        self.rest.clear();
        if self.poll_send(cx).is_ok() {
            self.send.finish();
        }
    }
}

/// The body of the answer.
pub(super) struct Answer(Option<Talk>);

impl Body for Answer {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Some(talk) = &mut self.0 else { return Poll::Ready(None) };
        let event = ready!(talk.poll_event(cx));
        let frame = match event {
            Ok(Event::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
            Ok(Event::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Ok(Event::End) => None,
            Ok(Event::Head(_)) => Some(Err(Broken::Protocol("a second head"))),
            Err(broken) => Some(Err(broken)),
        };
        let talk = self.0.take();
        if let (Some(talk), None | Some(Ok(_))) = (talk, &frame) {
            talk.leave(cx);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}
