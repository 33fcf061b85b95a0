//! Hop: forward -> dial. A second reader of a request's body that never holds the first one back.
//!
//! Parts are handed over as they pass, through a bounded channel. A reader that is too slow, or a body that is too long, breaks
//! the copy off: its reader gets an error and never a clean end.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use super::part::Part;
use crate::body::BodyError;

/// Parts that may wait for the reader. Their bytes are bounded by the longest body.
const PARTS: usize = 256;

/// The writing end.
pub struct Tee {
    to: mpsc::Sender<Option<Part>>,
    left: usize,
}

/// The reading end: a body.
pub struct Copied {
    from: mpsc::Receiver<Option<Part>>,
    length: Option<u64>,
    ended: bool,
}

/// Both ends for a body of at most `most` bytes; `length` is what the client declared.
pub fn tee(most: usize, length: Option<u64>) -> (Tee, Copied) {
    let (to, from) = mpsc::channel(PARTS);
    (Tee { to, left: most }, Copied { from, length, ended: false })
}

impl Tee {
    /// Hands a part over. `false`: the copy is broken off, and this end is of no more use.
    pub(super) fn offer(&mut self, part: &Part) -> bool {
        let Some(left) = self.left.checked_sub(part.size()) else { return false };
        self.left = left;
        self.to.try_send(Some(part.clone())).is_ok()
    }

    /// The body was whole.
    pub(super) fn end(self) {
        // Where it finds no place the reader hears of no end, and so of a broken copy.
        let _ = self.to.try_send(None);
    }
}

impl Body for Copied {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.from.poll_recv(cx).map(|piece| match piece {
            Some(Some(Part::Data(data))) => Some(Ok(Frame::data(data))),
            Some(Some(Part::Trailers(trailers))) => Some(Ok(Frame::trailers(trailers))),
            Some(None) => {
                self.ended = true;
                None
            }
            None => {
                self.ended = true;
                Some(Err(BodyError::Client("the copy was broken off".to_owned())))
            }
        })
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn part(text: &'static str) -> Part {
        Part::Data(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn a_copy_is_whole_or_breaks_off_visibly() {
        let (mut to, from) = tee(4, Some(4));
        assert!(to.offer(&part("ab")) && to.offer(&part("cd")));
        to.end();
        assert_eq!(from.collect().await.unwrap().to_bytes(), "abcd");

        let (mut to, from) = tee(3, None);
        assert!(to.offer(&part("ab")) && !to.offer(&part("cd")));
        drop(to);
        assert!(from.collect().await.is_err(), "too long");

        let (mut to, from) = tee(100_000, None);
        assert_eq!((0..1000).filter(|_| to.offer(&part("a"))).count(), PARTS);
        to.end();
        assert!(from.collect().await.is_err(), "too slow");
    }
}
