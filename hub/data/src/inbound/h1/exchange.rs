//! Hop `inbound`: one request and its answer on an HTTP/1 connection.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use figspan_model::routing::Routing;
use figspan_tunnel::drain::Drain;
use http::header::{self, HeaderMap};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::{Body as _, Frame};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

use super::body::RequestBody;
use super::encode::{self, Connection, Sending};
use super::wire::{Continue, Progress, Shared};
use crate::admission::request::{Admitted, Asked, admit, asks_for_websocket, expects_continue};
use crate::admission::syntax::list;
use crate::admission::{Reject, fields, framing, head};
use crate::body::{Body, BodyError};
use crate::client::Client;
use crate::exchange::{Inbound, Pause, Raw, WebSocket};
use crate::inbound::socket::Socket;
use crate::inbound::{Serve, broken, date, head_limits, pong, refusal};

/// Bytes that may wait to be written before the response's body is asked for more. One full window of a fast local client.
const WRITE_AHEAD: usize = 64 * 1024;

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Keep,
    Close,
    Abort,
}

/// A request that was admitted.
pub(super) struct Exchange<T: AsyncRead + AsyncWrite + Unpin> {
    wire: Shared<T>,
    method: Method,
    version: Version,
    /// Whether the client lets the connection live on.
    keeps: bool,
    /// `None`: the hub answers by itself.
    inbound: Option<Inbound>,
    /// Gives the connection to the WebSocket.
    upgrade: Option<oneshot::Sender<Upgraded<T>>>,
}

impl<T: AsyncRead + AsyncWrite + Unpin + 'static> Exchange<T> {
    /// Admits the request whose head this is.
    pub(super) fn open(wire: &Shared<T>, client: &Rc<Client>, routing: &Routing, head: Bytes) -> Result<Self, Reject> {
        let mut head = head::request(&head)?;
        let framing = framing::of_request(head.version, &head.headers)?;
        let websocket = asks_for_websocket(&head.method, head.version, &head.headers, framing)?;
        let keeps = keeps_alive(head.version, &head.headers);
        let waits = expects_continue(&head.headers)? && head.version == Version::HTTP_11;
        let asked = Asked { method: &head.method, target: &head.target, authority: None, headers: &mut head.headers };
        let admitted = admit(asked, client, &routing.proxies)?;
        let number = {
            let mut wire = wire.borrow_mut();
            wire.exchange += 1;
            wire.interim = head.version == Version::HTTP_11;
            wire.expects = if waits { Continue::Wanted } else { Continue::Settled };
            wire.body = Progress::Done;
            wire.refused = None;
            wire.exchange
        };
        let body = RequestBody::open(wire, framing, head_limits(&routing.limits))?.map_or(Body::Empty, Body::stream);
        let (method, version) = (head.method.clone(), head.version);
        let (mut upgrade, mut inbound) = (None, None);
        if let Admitted::Forward { uri, client } = admitted {
            let mut request = Request::new(body);
            *request.method_mut() = head.method;
            *request.uri_mut() = uri;
            *request.version_mut() = head.version;
            *request.headers_mut() = head.headers;
            let websocket = websocket.then(|| {
                let (sender, receiver) = oneshot::channel();
                upgrade = Some(sender);
                WebSocket { client_io: Box::pin(client_io(receiver)) }
            });
            let interim = Rc::clone(wire);
            let informational = Rc::new(move |response: Response<()>| interim.borrow_mut().send_interim(number, &response));
            inbound = Some(Inbound { request, client, informational, websocket });
        }
        Ok(Self { wire: wire.clone(), method, version, keeps, inbound, upgrade })
    }

    /// Gets the answer and sends it.
    pub(super) async fn run<S: Serve>(mut self, service: &S, drain: &Drain) -> Next {
        let response = match self.inbound.take() {
            None => pong(),
            Some(inbound) => match self.wait_for(service.serve(inbound)).await {
                Ok(response) => response,
                Err(_) => return Next::Abort,
            },
        };
        let refused = self.wire.borrow().refused;
        let response = match (response.status(), refused) {
            (_, Some(reject)) => {
                service.refused(reject);
                refusal(reject)
            }
            (StatusCode::SWITCHING_PROTOCOLS, None) => match self.upgrade.take() {
                Some(upgrade) => return self.switch(&response, upgrade).await,
                None => broken(),
            },
            (status, None) if status.is_informational() => broken(),
            (_, None) => response,
        };
        let stays = self.keeps && !drain.is_stopping() && refused.is_none();
        send(&self.wire, response, &self.method, self.version, stays).await
    }

    /// Waits for the answer; sends 1xx responses meanwhile. Fails when the client is gone.
    async fn wait_for(&self, answer: impl Future<Output = Response<Body>>) -> io::Result<Response<Body>> {
        // On the heap: it holds everything that happens between here and the workload.
        let mut answer = Box::pin(answer);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(response) = answer.as_mut().poll(cx) {
                return Poll::Ready(Ok(response));
            }
            let mut wire = self.wire.borrow_mut();
            wire.register(cx);
            if let Poll::Ready(Err(error)) = wire.poll_flush(cx) {
                return Poll::Ready(Err(error));
            }
            match wire.poll_watch(cx) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            }
        })
        .await
    }

    /// Sends 101 and gives the connection away; returns when the WebSocket has ended, so that it counts as a connection.
    async fn switch(self, response: &Response<Body>, upgrade: oneshot::Sender<Upgraded<T>>) -> Next {
        let mut parts = Response::new(()).into_parts().0;
        parts.status = response.status();
        parts.headers.clone_from(response.headers());
        {
            let mut wire = self.wire.borrow_mut();
            wire.interim = false;
            wire.out.write(|out| encode::head(out, &parts, Sending::Nothing, Connection::Upgrades));
        }
        if flush(&self.wire).await.is_err() {
            return Next::Abort;
        }
        let (alive, ended) = oneshot::channel();
        let upgraded = {
            let mut wire = self.wire.borrow_mut();
            let Some(socket) = wire.socket.take() else { return Next::Abort };
            Upgraded { socket, first: wire.held.split().freeze(), _alive: alive }
        };
        // Nobody waits for it: then it is dropped, and closed by that.
        let _ = upgrade.send(upgraded);
        let _ = ended.await;
        Next::Close
    }
}

/// Answers without a request and closes.
pub(super) async fn answer_and_close<T: AsyncRead + AsyncWrite + Unpin>(wire: &Shared<T>, response: Response<Body>) -> Next {
    send(wire, response, &Method::GET, Version::HTTP_11, false).await
}

/// Sends a final response.
async fn send<T: AsyncRead + AsyncWrite + Unpin>(
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
            Version::HTTP_11 => Connection::Stays,
            _ => Connection::SaysItStays,
        };
        wire.out.write(|out| encode::head(out, &parts, sending, connection));
        connection
    };
    let stall = Stall::new(Pause::of(&parts.extensions));
    let body = if sending == Sending::Nothing { Body::Empty } else { body };
    let sent = send_body(wire, body, sending, stall).await;
    if let Err(error) = sent {
        tracing::debug!(%error, "response cut short; the client's connection is reset");
        return Next::Abort;
    }
    // A body that is still being read has no known end for the next request to begin at.
    let read = wire.borrow().body == Progress::Done;
    if connection == Connection::Closes || !read { Next::Close } else { Next::Keep }
}

async fn flush<T: AsyncRead + AsyncWrite + Unpin>(wire: &Shared<T>) -> io::Result<()> {
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

fn keeps_alive(version: Version, headers: &HeaderMap) -> bool {
    let says = |option: &'static [u8]| list(headers, header::CONNECTION).any(|name| name.eq_ignore_ascii_case(option));
    !says(b"close") && (version == Version::HTTP_11 || says(b"keep-alive"))
}

/// A connection that speaks WebSocket from here on.
struct Upgraded<T> {
    socket: Socket<T>,
    first: Bytes,
    /// Dropped with the rest, which the connection's task sees.
    _alive: oneshot::Sender<()>,
}

async fn client_io<T: AsyncRead + AsyncWrite + Unpin + 'static>(upgraded: oneshot::Receiver<Upgraded<T>>) -> io::Result<Box<dyn Raw>> {
    match upgraded.await {
        Ok(upgraded) => Ok(Box::new(upgraded)),
        Err(_) => Err(io::Error::new(io::ErrorKind::NotConnected, "the client's connection ended before the handshake did")),
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Upgraded<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.socket).poll_read(cx, buf);
        }
        let take = self.first.len().min(buf.remaining());
        buf.put_slice(&self.first.split_to(take));
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Upgraded<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
