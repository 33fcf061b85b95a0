//! Hop `inbound`: a final response on its way to an HTTP/1 client. It ends as declared, or visibly not at all.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderMap;
use http::{Method, Response, Version};
use http_body::{Body as _, Frame};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};

use super::encode::{self, Connection, Sending};
use super::wire::{Continue, Next, Progress, Shared};
use crate::admission::fields;
use crate::body::{Body, BodyError};
use crate::exchange::Pause;
use crate::inbound::date;
use crate::spare;

/// Bytes that may wait to be written before the response's body is asked for more. One full window of a fast local client.
const WRITE_AHEAD: usize = 64 * 1024;

/// How long a client may take to send the rest of a body that was answered early. It has its answer, so that only a next request
/// of its own is at stake; a client that sends no faster loses the connection with its body.
const BODY_REST: Duration = Duration::from_secs(2);

/// Answers without a request and closes.
pub(super) async fn answer_and_close<T: AsyncRead + AsyncWrite + Unpin>(wire: &Shared<T>, response: Response<Body>) -> Next {
    send(wire, response, &Method::GET, Version::HTTP_11, false).await
}

/// Sends a final response.
pub(super) async fn send<T: AsyncRead + AsyncWrite + Unpin>(
    wire: &Shared<T>,
    response: Response<Body>,
    method: &Method,
    version: Version,
    stays: bool,
) -> Next {
    let (mut parts, body) = response.into_parts();
    date::stamp(&mut parts.headers);
    let sending = encode::sending(&parts, &body, method, version);
    let connection = {
        let mut wire = wire.borrow_mut();
        wire.interim = false;
        let connection = match version {
            _ if !stays || sending == Sending::UntilClose || wire.body == Progress::Abandoned => Connection::Closes,
            // Who was told neither yes nor no may send the body or leave it out: nobody can tell it from a next request.
            _ if wire.body == Progress::Reading && wire.expects == Continue::Wanted => Connection::Closes,
            Version::HTTP_11 => Connection::Stays,
            _ => Connection::SaysItStays,
        };
        wire.out.write(|out| encode::head(out, &parts, sending, connection));
        connection
    };
    spare::give(parts.headers);
    let stall = Stall::new(Pause::of(&parts.extensions));
    let body = if sending == Sending::Nothing { Body::Empty } else { body };
    let sent = send_body(wire, body, sending, stall).await;
    if let Err(error) = sent {
        tracing::debug!(%error, "response cut short; the client's connection is reset");
        // What the socket takes at once, so that the client sees whose answer broke off; the reset drops the rest.
        let _ = std::future::poll_fn(|cx| Poll::Ready(wire.borrow_mut().poll_flush(cx))).await;
        return Next::Abort;
    }
    if connection == Connection::Closes { Next::Close } else { after_body(wire).await }
}

/// Keeps the connection, as the answer's head has promised, once the request's body has come whole: before, nobody knows where a
/// next request begins. A workload may answer before it has read the body, or without reading it.
async fn after_body<T: AsyncRead + AsyncWrite + Unpin>(wire: &Shared<T>) -> Next {
    let came = |progress| if progress == Progress::Done { Next::Keep } else { Next::Close };
    let progress = wire.borrow().body;
    if progress != Progress::Reading {
        return came(progress);
    }
    let settled = std::future::poll_fn(|cx| {
        let mut wire = wire.borrow_mut();
        if wire.body != Progress::Reading {
            return Poll::Ready(wire.body);
        }
        wire.register(cx);
        Poll::Pending
    });
    tokio::time::timeout(BODY_REST, settled).await.map_or(Next::Close, came)
}

pub(super) async fn flush<T: AsyncRead + AsyncWrite + Unpin>(wire: &Shared<T>) -> io::Result<()> {
    std::future::poll_fn(|cx| wire.borrow_mut().poll_flush(cx)).await
}

/// Sends a body to its end; fails where it ends early or late, or the client is gone.
async fn send_body<T: AsyncRead + AsyncWrite + Unpin>(
    wire: &Shared<T>,
    body: Body,
    sending: Sending,
    mut stall: Stall,
) -> Result<(), BodyError> {
    let mut body = std::pin::pin!(body);
    let mut sender = Sender { sending, sent: 0, ended: false };
    std::future::poll_fn(|cx| {
        loop {
            let mut pending = false;
            while !sender.ended && wire.borrow().out.len() < WRITE_AHEAD {
                // Not borrowed meanwhile: the body may lead back to this connection.
                match body.as_mut().poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => sender.frame(wire, frame)?,
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                    Poll::Ready(None) => sender.end(wire, None)?,
                    Poll::Pending => {
                        pending = true;
                        break;
                    }
                }
            }
            let mut wire = wire.borrow_mut();
            wire.register(cx);
            match wire.poll_flush(cx).map_err(gone)? {
                Poll::Ready(()) if sender.ended => return Poll::Ready(Ok(())),
                Poll::Ready(()) if !pending => {}
                flushed => {
                    wire.poll_watch(cx).map_err(gone)?;
                    if flushed.is_pending() && stall.poll(wire.out.written(), cx).is_ready() {
                        return Poll::Ready(Err(BodyError::Client("takes nothing of the answer".to_owned())));
                    }
                    return Poll::Pending;
                }
            }
        }
    })
    .await
}

/// Watches a client that does not take what is written.
struct Stall {
    pause: Option<Duration>,
    written: u64,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    fn new(pause: Option<Duration>) -> Self {
        Self { pause, written: u64::MAX, timer: None }
    }

    /// Ready when nothing more has been written for the whole pause. Asked only while something waits.
    fn poll(&mut self, written: u64, cx: &mut Context<'_>) -> Poll<()> {
        let Some(pause) = self.pause else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
        if self.written != written {
            self.written = written;
            timer.as_mut().reset(Instant::now() + pause);
        }
        timer.as_mut().poll(cx)
    }
}

fn gone(error: io::Error) -> BodyError {
    BodyError::Client(error.to_string())
}

struct Sender {
    sending: Sending,
    sent: u64,
    ended: bool,
}

impl Sender {
    fn frame<T>(&mut self, wire: &Shared<T>, frame: Frame<Bytes>) -> Result<(), BodyError>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        match frame.into_data() {
            Ok(data) if data.is_empty() => Ok(()),
            Ok(data) => {
                self.sent += data.len() as u64;
                if matches!(self.sending, Sending::Length(length) if self.sent > length) {
                    return Err(BodyError::Backend("more bytes than declared".to_owned()));
                }
                let mut wire = wire.borrow_mut();
                let chunked = self.sending == Sending::Chunked;
                if chunked {
                    wire.out.write(|out| encode::chunk_size(out, data.len()));
                }
                wire.out.push(data);
                if chunked {
                    wire.out.write(|out| out.extend_from_slice(b"\r\n"));
                }
                Ok(())
            }
            Err(frame) => match frame.into_trailers() {
                Ok(mut trailers) => {
                    fields::filter_trailers(&mut trailers);
                    self.end(wire, Some(&trailers))
                }
                Err(_) => Ok(()),
            },
        }
    }

    fn end<T: AsyncRead + AsyncWrite + Unpin>(&mut self, wire: &Shared<T>, trailers: Option<&HeaderMap>) -> Result<(), BodyError> {
        self.ended = true;
        match self.sending {
            Sending::Length(length) if self.sent < length => Err(BodyError::Backend("fewer bytes than declared".to_owned())),
            Sending::Chunked => {
                wire.borrow_mut().out.write(|out| encode::last_chunk(out, trailers));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
