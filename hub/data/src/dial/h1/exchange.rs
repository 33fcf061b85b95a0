//! Hop: forward -> backend. One HTTP/1.1 exchange up to the response head: sends, listens, and knows which clock runs.
//!
//! Which clock: while the request is being sent, `idle` since the last byte either way; once it is sent, `first_byte`. When
//! it fails, the agent is asked how much it delivered; without its word a request that left may have been seen.

use std::future::poll_fn;
use std::task::{Poll, ready};
use std::time::Duration;

use figspan_model::routing::{Limits, Timeouts};
use figspan_tunnel::StreamError;
use http::{HeaderMap, Response, StatusCode, request};
use tokio::time::Instant;

use super::head::Head;
use super::{ReadError, SendError, Shared};
use crate::dial::upload::Upload;
use crate::dial::{FATE_WAIT, Fault, SILENCE_CHECK, judge};
use crate::reply::Failure;

/// How long the body of `Expect: 100-continue` is held back for the workload's word (RFC 9110, section 10.1.1).
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// How long a response may still come after the workload stopped reading the request.
const LAST_WORD: Duration = Duration::from_secs(1);

/// A clock that never strikes.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Whether somebody who is heard of could take over from a tunnel that has been silent since then.
pub type Leave<'a> = dyn Fn(std::time::Instant) -> bool + 'a;

/// What an exchange needs to know.
pub struct Terms<'a> {
    /// Bounds on the response head.
    pub limits: &'a Limits,
    /// Clocks.
    pub timeouts: &'a Timeouts,
    /// Whether the request asks for a WebSocket.
    pub upgrade: bool,
    /// Asked when this endpoint's tunnel has gone silent.
    pub leave: &'a Leave<'a>,
    /// Hands on a 1xx.
    pub informational: &'a dyn Fn(Response<()>),
}

/// How an exchange came to its response head.
pub struct Begun {
    /// The final head, or a 101.
    pub head: Head,
    /// Whether all of the request was sent.
    pub sent: bool,
}

/// Sends the request and waits for the head of the final response.
pub async fn exchange(wire: &Shared, parts: &request::Parts, upload: &mut Upload, terms: &Terms<'_>) -> Result<Begun, Fault> {
    {
        let mut wire = wire.borrow_mut();
        wire.begin(parts, upload.length(), terms.upgrade);
        wire.hold = !upload.is_done() && expects(&parts.headers);
    }
    let head_limits = super::head::limits(terms.limits);
    let tunnelled = wire.borrow().trace.is_tunnel();
    let (mut sent, mut broken) = (Stage::Ahead, Stage::Ahead);
    // The first time that something is waited for: the clock is not read before.
    let (mut begun, mut looked) = (None, None);
    let outcome = poll_fn(|cx| {
        let mut wire = wire.borrow_mut();
        loop {
            if !sent.is_reached() && !broken.is_reached() {
                match wire.poll_send(cx, upload) {
                    Poll::Pending => {}
                    Poll::Ready(Ok(())) => sent = Stage::Reached,
                    Poll::Ready(Err(SendError::Client(failure))) => return Poll::Ready(Err(ReadError::Protocol(failure))),
                    Poll::Ready(Err(SendError::Io(_))) => broken = Stage::Reached,
                }
            }
            match wire.poll_head(cx, &parts.method, terms.upgrade, head_limits) {
                Poll::Ready(Ok(head)) if head.status == StatusCode::SWITCHING_PROTOCOLS || !head.status.is_informational() => {
                    return Poll::Ready(Ok(head));
                }
                Poll::Ready(Ok(head)) => {
                    if head.status == StatusCode::CONTINUE {
                        // The inbound half says 100 to the client when the body is first asked for, which is now.
                        wire.hold = false;
                    } else {
                        inform(terms, head.status, head.headers);
                    }
                    continue;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
            let now = Instant::now();
            let (begun, looked) = (*begun.get_or_insert(now), looked.get_or_insert(now));
            let due = if let Some(at) = broken.at(now) {
                at + LAST_WORD
            } else if wire.hold {
                begun + CONTINUE_WAIT
            } else if let Some(at) = sent.at(now) {
                at + terms.timeouts.first_byte.unwrap_or(NEVER)
            } else {
                wire.progress.last(|| now) + terms.timeouts.idle.unwrap_or(NEVER)
            };
            let wake = if tunnelled { due.min(*looked + SILENCE_CHECK) } else { due };
            ready!(wire.alarm.poll(wake, cx));
            *looked = Instant::now();
            if due > *looked {
                if wire.trace.suspect_since().is_some_and(terms.leave) {
                    return Poll::Ready(Err(ReadError::Protocol(Failure::TunnelSilent)));
                }
                continue;
            }
            if std::mem::take(&mut wire.hold) {
                // A workload that knows nothing of Expect: the body goes after all.
                wire.progress.moved();
                continue;
            }
            return Poll::Ready(Err(ReadError::Protocol(match (broken.is_reached(), sent.is_reached()) {
                (true, _) => Failure::WorkloadClosed,
                (false, true) => Failure::FirstByteTimeout,
                (false, false) if wire.starved => Failure::ClientIdle,
                (false, false) => Failure::WorkloadIdle,
            })));
        }
    })
    .await;
    match outcome {
        Ok(head) => Ok(Begun { head, sent: sent.is_reached() }),
        Err(error) => Err(fault(wire, error).await),
    }
}

/// How far an exchange is, and since when: since something was first waited for there.
#[derive(Clone, Copy)]
enum Stage {
    Ahead,
    Reached,
    Since(Instant),
}

impl Stage {
    fn is_reached(self) -> bool {
        !matches!(self, Self::Ahead)
    }

    /// Since when it is reached; `now` where nothing was waited for yet.
    fn at(&mut self, now: Instant) -> Option<Instant> {
        if let Self::Reached = self {
            *self = Self::Since(now);
        }
        match *self {
            Self::Since(at) => Some(at),
            Self::Ahead | Self::Reached => None,
        }
    }
}

fn expects(headers: &HeaderMap) -> bool {
    headers.get(http::header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

fn inform(terms: &Terms<'_>, status: StatusCode, headers: HeaderMap) {
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    (terms.informational)(response);
}

/// What went wrong, and whether the workload may have seen the request.
async fn fault(wire: &Shared, error: ReadError) -> Fault {
    let (trace, start, wrote) = {
        let wire = wire.borrow();
        (wire.trace.clone(), wire.start(), wire.wrote())
    };
    match error {
        ReadError::Protocol(failure @ (Failure::ClientBody | Failure::ClientIdle)) => Fault::seen(failure),
        ReadError::Protocol(Failure::WorkloadClosed) => judge(&trace, start, wrote, Failure::WorkloadClosed, FATE_WAIT).await,
        ReadError::Protocol(failure) if wrote => Fault::seen(failure),
        ReadError::Protocol(failure) => Fault::unseen(failure),
        ReadError::Eof if wire.borrow().ended_before() => Fault::unseen(Failure::WorkloadClosed),
        ReadError::Eof => judge(&trace, start, wrote, Failure::WorkloadClosed, FATE_WAIT).await,
        ReadError::Io(error) => match StreamError::of(&error) {
            Some(StreamError::Lost(_)) => judge(&trace, start, wrote, Failure::TunnelLost, Duration::ZERO).await,
            _ => judge(&trace, start, wrote, Failure::WorkloadReset, FATE_WAIT).await,
        },
    }
}
