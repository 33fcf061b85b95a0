//! Hop: forward. The clocks of a whole request and of each try, and what they do not govern: streams.
//!
//! A clock ends a wait, never a transfer that moves. It does not run while the client still sends a body that streams, and it
//! ends with the head of an answer that streams: both are governed by idle progress alone. A body streams if its length is
//! unknown or above what is kept for another try; event streams and gRPC answers always do.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::{HeaderMap, header};
use http_body::SizeHint;
use tokio::time::{Instant, sleep_until};

use crate::dial::upload::Meter;

/// A clock that never strikes.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long something may take that began at some moment.
pub(super) struct Clock {
    from: Instant,
    limit: Duration,
    /// The request's body, where it streams.
    upload: Option<Rc<Meter>>,
}

impl Clock {
    /// A clock for what began at `from`; `upload` is the request's body.
    pub(super) fn new(limit: Duration, from: Instant, upload: Option<Rc<Meter>>) -> Self {
        Self { from, limit, upload: upload.filter(|meter| meter.streams) }
    }

    /// When it strikes, as far as is known now.
    pub(super) fn due(&self) -> Option<Instant> {
        let from = match &self.upload {
            None => self.from,
            Some(upload) => upload.ended.get()?.max(self.from),
        };
        Some(from + self.limit)
    }
}

/// What comes of `future` before the clock strikes; then `None`, with the future still there for its owner to drop.
pub(super) async fn within<F: Future + Unpin>(clock: &Clock, mut future: F) -> Option<F::Output> {
    let mut timer = pin!(sleep_until(clock.due().unwrap_or(clock.from + NEVER)));
    poll_fn(|cx| {
        if let Poll::Ready(output) = std::pin::Pin::new(&mut future).poll(cx) {
            return Poll::Ready(Some(output));
        }
        // Whatever ends the upload is part of the future, so that its end is seen here at once.
        let Some(due) = clock.due() else { return Poll::Pending };
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        timer.as_mut().poll(cx).map(|()| None)
    })
    .await
}

/// Whether the body of an answer streams. `kept` bytes are kept of a request for another try.
pub(super) fn streams(headers: &HeaderMap, size: &SizeHint, kept: usize) -> bool {
    let always = |kind: &[u8]| {
        let starts = |with: &[u8]| kind.len() >= with.len() && kind[..with.len()].eq_ignore_ascii_case(with);
        starts(b"text/event-stream") || starts(b"application/grpc")
    };
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| always(kind.as_bytes())) || size.exact().is_none_or(|bytes| bytes > kept as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_clock_of_an_upload_that_streams_starts_with_its_end() {
        let upload = Rc::new(Meter { streams: true, ..Meter::default() });
        let begun = Instant::now();
        let clock = Clock::new(Duration::from_secs(5), begun, Some(Rc::clone(&upload)));
        let sending = async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            upload.ended.set(Some(Instant::now()));
            std::future::pending::<()>().await;
        };
        assert!(within(&clock, pin!(sending)).await.is_none());
        assert_eq!(begun.elapsed().as_secs(), 65);
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_body_does_not_stop_the_clock() {
        let upload = Rc::new(Meter::default());
        let clock = Clock::new(Duration::from_secs(5), Instant::now(), Some(upload));
        let begun = Instant::now();
        assert!(within(&clock, pin!(std::future::pending::<()>())).await.is_none());
        assert_eq!(begun.elapsed().as_secs(), 5);
        assert_eq!(within(&clock, pin!(async { 7 })).await, Some(7));
    }

    #[test]
    fn event_streams_grpc_and_all_of_unknown_or_great_length_stream() {
        let of = |kind: &'static str, size: SizeHint| {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, kind.parse().unwrap())]);
            streams(&headers, &size, 100)
        };
        assert!(!of("text/html", SizeHint::with_exact(100)) && of("text/html", SizeHint::with_exact(101)));
        assert!(of("text/html", SizeHint::default()) && of("Text/Event-Stream; charset=utf-8", SizeHint::with_exact(1)));
        assert!(of("application/grpc+proto", SizeHint::with_exact(1)) && !streams(&HeaderMap::new(), &SizeHint::with_exact(0), 100));
    }
}
