//! Hop `inbound`: one request and its answer on an HTTP/2 connection.

use std::cell::RefCell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{self, HeaderMap};
use http::{Method, Request, Response, StatusCode, response};
use http_body::Body as _;
use tokio::sync::oneshot;

use super::answer::{Answer, strip};
use super::body::RequestBody;
use super::websocket::{self, Upgraded};
use crate::admission::framing::content_length;
use crate::admission::host::LastAsked;
use crate::admission::request::{Admitted, Asked, admit, expects_continue};
use crate::admission::{Marks, Reject, fields};
use crate::body::Body;
use crate::client::Client;
use crate::exchange::{Inbound, Informational, Pause, WebSocket};
use crate::inbound::{Serve, broken, date, pong, refusal};

/// The client reset the stream, or the connection is gone.
struct Gone;

/// Answers a request, whose path may have had a `fragment`; `true` when the client reset it.
pub(super) async fn serve<S: Serve>(
    request: Request<RecvStream>,
    fragment: bool,
    respond: SendResponse<Bytes>,
    client: &Rc<Client>,
    last: &LastAsked,
    service: &S,
) -> bool {
    let method = request.method().clone();
    let answer: Answer = Rc::new(RefCell::new(Some(respond)));
    let mut upgrade = None;
    let opened = if fragment { Err(Reject::Target) } else { open(request, &answer, client, last, service, &mut upgrade) };
    let response = match opened {
        Err(reject) => {
            service.refused(client, reject);
            refusal(reject)
        }
        Ok(None) => pong(),
        Ok(Some(inbound)) => match wait_for(pin!(service.serve(inbound)), &answer).await {
            Ok(response) => response,
            Err(Gone) => return true,
        },
    };
    let Some(respond) = answer.borrow_mut().take() else { return false };
    match (response.status(), upgrade) {
        (StatusCode::SWITCHING_PROTOCOLS, Some(upgrade)) => switch(respond, response, upgrade).await,
        (status, _) if status.is_informational() => send(respond, broken(), &method).await.is_err(),
        _ => send(respond, response, &method).await.is_err(),
    }
}

/// What a handshake needs once it is answered.
struct Upgrade {
    recv: RecvStream,
    sender: oneshot::Sender<Upgraded>,
}

/// Admits a request; `None` where the hub answers by itself.
fn open<S: Serve>(
    request: Request<RecvStream>,
    answer: &Answer,
    client: &Rc<Client>,
    last: &LastAsked,
    service: &S,
    upgrade: &mut Option<Upgrade>,
) -> Result<Option<Inbound>, Reject> {
    let routing = service.routing();
    let (mut head, recv) = request.into_parts();
    if head.headers.len() > routing.limits.header_count {
        return Err(Reject::TooManyFields);
    }
    let websocket = match (head.method == Method::CONNECT, head.extensions.remove::<h2::ext::Protocol>()) {
        (false, None) => false,
        (true, Some(protocol)) if protocol.as_str().eq_ignore_ascii_case("websocket") => true,
        _ => return Err(Reject::Connect),
    };
    if websocket {
        websocket::as_get(&mut head)?;
    }
    content_length(&head.headers)?;
    let marks = Marks::of(&head.headers);
    if marks.has(Marks::CONNECTION.and(Marks::TRANSFER_ENCODING).and(Marks::UPGRADE)) {
        return Err(Reject::Connection);
    }
    let waits = expects_continue(&head.headers, marks)?;
    join_cookies(&mut head.headers);
    let target = Bytes::copy_from_slice(head.uri.path_and_query().map_or("", |path| path.as_str()).as_bytes());
    let authority = head.uri.authority().map(|authority| authority.as_str());
    let asked = Asked { method: &head.method, target: &target, authority, headers: &mut head.headers, marks, last };
    let Admitted::Forward { uri, client } = admit(asked, client, &routing.proxies, &routing.reserved)? else { return Ok(None) };
    let informational = Informational::new(Rc::<RefCell<_>>::clone(answer), 0);
    let mut body = Body::Empty;
    let mut wish = None;
    if websocket {
        let (sender, receiver) = oneshot::channel();
        *upgrade = Some(Upgrade { recv, sender });
        wish = Some(WebSocket { client_io: Box::pin(websocket::client_io(receiver)) });
    } else {
        let length = content_length(&head.headers)?;
        body = Body::stream(RequestBody::new(recv, length, waits.then(|| Rc::clone(answer))));
    }
    let mut request = Request::new(body);
    *request.method_mut() = head.method;
    *request.uri_mut() = uri;
    *request.version_mut() = http::Version::HTTP_2;
    *request.headers_mut() = head.headers;
    Ok(Some(Inbound { request, client, informational, websocket: wish }))
}

/// HTTP/2 clients may send one Cookie field for each pair; nobody else understands that (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut lines = headers.get_all(header::COOKIE).into_iter();
    if lines.next().is_none() || lines.next().is_none() {
        return;
    }
    let pairs: Vec<&[u8]> = headers.get_all(header::COOKIE).into_iter().map(http::HeaderValue::as_bytes).collect();
    if let Ok(joined) = http::HeaderValue::from_bytes(&pairs.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

async fn wait_for(mut answer: Pin<&mut impl Future<Output = Response<Body>>>, respond: &Answer) -> Result<Response<Body>, Gone> {
    std::future::poll_fn(|cx| {
        if let Poll::Ready(response) = answer.as_mut().poll(cx) {
            return Poll::Ready(Ok(response));
        }
        match respond.borrow_mut().as_mut().map(|respond| respond.poll_reset(cx)) {
            Some(Poll::Ready(_)) => Poll::Ready(Err(Gone)),
            _ => Poll::Pending,
        }
    })
    .await
}

async fn send(mut respond: SendResponse<Bytes>, response: Response<Body>, method: &Method) -> Result<(), Gone> {
    let (mut parts, body) = response.into_parts();
    strip(&mut parts.headers);
    date::stamp(&mut parts.headers);
    let bodiless = *method == Method::HEAD || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let declared = declare(&mut parts, &body, bodiless);
    let ends = bodiless || (body.is_end_stream() && declared.unwrap_or(0) == 0);
    let pause = Pause::of(&parts.extensions);
    let mut stream = respond.send_response(Response::from_parts(parts, ()), ends).map_err(|_| Gone)?;
    if ends { Ok(()) } else { send_body(&mut stream, body, declared, pause).await }
}

/// One Content-Length or none; returns how many bytes the body must have.
fn declare(parts: &mut response::Parts, body: &Body, bodiless: bool) -> Option<u64> {
    let Ok(length) = content_length(&parts.headers) else {
        parts.headers.remove(header::CONTENT_LENGTH);
        return None;
    };
    if length.is_none()
        && !bodiless
        && let Some(exact) = body.size_hint().exact()
    {
        parts.headers.insert(header::CONTENT_LENGTH, exact.into());
        return Some(exact);
    }
    length
}

async fn send_body(stream: &mut SendStream<Bytes>, body: Body, declared: Option<u64>, pause: Option<Duration>) -> Result<(), Gone> {
    let mut body = std::pin::pin!(body);
    let mut sent = 0;
    loop {
        let frame = std::future::poll_fn(|cx| {
            if let Poll::Ready(frame) = body.as_mut().poll_frame(cx) {
                return Poll::Ready(Ok(frame));
            }
            stream.poll_reset(cx).map(|_| Err(Gone))
        })
        .await?;
        let frame = match frame {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return fail(stream, &error.to_string()).await,
            None if declared.is_some_and(|length| sent < length) => return fail(stream, "fewer bytes than declared").await,
            None => return stream.send_data(Bytes::new(), true).map_err(|_| Gone),
        };
        match frame.into_data() {
            Ok(data) => {
                sent += data.len() as u64;
                if declared.is_some_and(|length| sent > length) {
                    return fail(stream, "more bytes than declared").await;
                }
                let last = body.is_end_stream();
                if last && declared.is_some_and(|length| sent < length) {
                    return fail(stream, "fewer bytes than declared").await;
                }
                send_data(stream, data, last, pause).await?;
                if last {
                    return Ok(());
                }
            }
            Err(frame) => {
                let Ok(mut trailers) = frame.into_trailers() else { continue };
                if declared.is_some_and(|length| sent < length) {
                    return fail(stream, "fewer bytes than declared").await;
                }
                fields::filter_trailers(&mut trailers);
                return stream.send_trailers(trailers).map_err(|_| Gone);
            }
        }
    }
}

/// Ends a response that cannot be finished so that nobody takes it for whole. A reset drops what waits to be sent: the
/// connection's task gets a turn before, so that the client sees whose answer broke off.
async fn fail(stream: &mut SendStream<Bytes>, error: &str) -> Result<(), Gone> {
    tracing::debug!(error, "response cut short; the client's stream is reset");
    tokio::task::yield_now().await;
    stream.send_reset(Reason::INTERNAL_ERROR);
    Ok(())
}

async fn send_data(stream: &mut SendStream<Bytes>, mut data: Bytes, last: bool, pause: Option<Duration>) -> Result<(), Gone> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let mut room = std::future::poll_fn(|cx: &mut Context<'_>| {
            if stream.capacity() > 0 {
                return Poll::Ready(Ok(stream.capacity()));
            }
            if stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(Gone));
            }
            match stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(0))) => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                Poll::Ready(Some(Ok(room))) => Poll::Ready(Ok(room)),
                Poll::Ready(Some(Err(_)) | None) => Poll::Ready(Err(Gone)),
                Poll::Pending => Poll::Pending,
            }
        });
        let room = match (futures_util::poll!(&mut room), pause) {
            (Poll::Ready(room), _) => room?,
            (Poll::Pending, None) => room.await?,
            // Only who waits needs a clock.
            (Poll::Pending, Some(pause)) => match tokio::time::timeout(pause, room).await {
                Ok(room) => room?,
                Err(_) => {
                    tracing::debug!("the client takes nothing of its answer; its stream is reset");
                    stream.send_reset(Reason::CANCEL);
                    return Err(Gone);
                }
            },
        };
        let piece = data.split_to(room.min(data.len()));
        stream.send_data(piece, last && data.is_empty()).map_err(|_| Gone)?;
    }
    Ok(())
}

/// Sends 200 for the workload's 101 and gives the stream away; returns when the WebSocket has ended.
async fn switch(mut respond: SendResponse<Bytes>, response: Response<Body>, upgrade: Upgrade) -> bool {
    let (mut parts, _) = response.into_parts();
    strip(&mut parts.headers);
    parts.status = StatusCode::OK;
    parts.headers.remove(header::SEC_WEBSOCKET_ACCEPT);
    parts.headers.remove(header::CONTENT_LENGTH);
    let Ok(send) = respond.send_response(Response::from_parts(parts, ()), false) else { return true };
    let (alive, ended) = oneshot::channel();
    // Nobody waits for it: then it is dropped, and reset by that.
    let _ = upgrade.sender.send(Upgraded::new(upgrade.recv, send, alive));
    let _ = ended.await;
    false
}
