//! Hop `inbound`: the body of an HTTP/1 request, read as the outbound half asks for it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite};

use super::wire::{Progress, Shared, Wire};
use crate::admission::chunked::{Chunked, Step};
use crate::admission::{Framing, HeadLimits, Reject, fields};
use crate::body::BodyError;

#[derive(Debug)]
enum Left {
    Bytes(u64),
    Chunked(Box<Chunked>),
    Nothing,
}

pub(super) struct RequestBody<T: AsyncRead + AsyncWrite + Unpin> {
    wire: Shared<T>,
    left: Left,
}

impl<T: AsyncRead + AsyncWrite + Unpin> RequestBody<T> {
    /// The body that follows a head of that framing; `None` where nothing follows. What has come of it already is checked, so
    /// that a request whose framing is seen to be bad is never begun.
    pub(super) fn open(wire: &Shared<T>, framing: Framing, limits: HeadLimits) -> Result<Option<Self>, Reject> {
        let left = match framing {
            Framing::Length(length @ 1..) => Left::Bytes(length),
            Framing::Chunked => {
                let chunked = Chunked::new(limits);
                look_ahead(chunked.clone(), &wire.borrow().held)?;
                Left::Chunked(Box::new(chunked))
            }
            _ => return Ok(None),
        };
        wire.borrow_mut().body = Progress::Reading;
        Ok(Some(Self { wire: wire.clone(), left }))
    }

    /// Takes the next frame from bytes that have come; `Pending` where more must be read.
    fn next(left: &mut Left, wire: &mut Wire<T>) -> Result<Option<Option<Frame<Bytes>>>, Reject> {
        match left {
            Left::Nothing => Ok(Some(None)),
            Left::Bytes(_) if wire.held.is_empty() => Ok(None),
            Left::Bytes(bytes) => {
                let take = usize::try_from(*bytes).unwrap_or(usize::MAX).min(wire.held.len());
                *bytes -= take as u64;
                let data = wire.held.split_to(take).freeze();
                if *bytes == 0 {
                    *left = Left::Nothing;
                    wire.body = Progress::Done;
                }
                Ok(Some(Some(Frame::data(data))))
            }
            Left::Chunked(chunked) => {
                let (framing, step) = chunked.step(&wire.held)?;
                wire.held.advance(framing);
                match step {
                    Step::More => Ok(None),
                    Step::Data(length) => Ok(Some(Some(Frame::data(wire.held.split_to(length).freeze())))),
                    Step::End(mut trailers) => {
                        *left = Left::Nothing;
                        wire.body = Progress::Done;
                        fields::filter_trailers(&mut trailers);
                        Ok(Some((!trailers.is_empty()).then(|| Frame::trailers(trailers))))
                    }
                }
            }
        }
    }
}

fn look_ahead(mut chunked: Chunked, mut held: &[u8]) -> Result<(), Reject> {
    while !held.is_empty() {
        match chunked.step(held)? {
            (framing, Step::Data(data)) => held = &held[framing + data..],
            (_, Step::More | Step::End(_)) => break,
        }
    }
    Ok(())
}

impl<T: AsyncRead + AsyncWrite + Unpin> Body for RequestBody<T> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let mut wire = this.wire.borrow_mut();
        loop {
            match Self::next(&mut this.left, &mut wire) {
                Ok(Some(frame)) => {
                    if wire.body == Progress::Done {
                        // From here on the connection's task watches the reading side.
                        wire.wake();
                    }
                    return Poll::Ready(frame.map(Ok));
                }
                Ok(None) => {}
                Err(reject) => {
                    wire.refused = Some(reject);
                    return Poll::Ready(Some(Err(BodyError::Client(reject.reason().to_owned()))));
                }
            }
            wire.send_continue();
            match ready!(wire.poll_fill(cx)) {
                Ok(0) => return Poll::Ready(Some(Err(BodyError::Client("the connection ended within the body".to_owned())))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(BodyError::Client(error.to_string())))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.left, Left::Nothing)
    }

    fn size_hint(&self) -> SizeHint {
        match self.left {
            Left::Bytes(left) => SizeHint::with_exact(left),
            Left::Chunked(_) => SizeHint::new(),
            Left::Nothing => SizeHint::with_exact(0),
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Drop for RequestBody<T> {
    /// What has come already is passed over, so that a small body which nobody wanted does not cost the connection.
    fn drop(&mut self) {
        let mut wire = self.wire.borrow_mut();
        while wire.body == Progress::Reading {
            match Self::next(&mut self.left, &mut wire) {
                Ok(Some(_)) => {}
                Ok(None) => wire.body = Progress::Abandoned,
                Err(reject) => {
                    wire.refused = Some(reject);
                    wire.body = Progress::Abandoned;
                }
            }
        }
        wire.wake();
    }
}
