//! Hop: forward -> backend. One HTTP/2 exchange up to the response head, with the same clocks as `h1::exchange`.
//!
//! REFUSED_STREAM and a GOAWAY below our stream say "not processed" (RFC 9113, sections 8.7 and 6.8): these may go elsewhere
//! with any method. For everything else that breaks, the agent's word decides, else it counts as seen.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::uri::Scheme;
use http::{HeaderValue, Method, Request, Response, Uri, Version, header, request};
use tokio::time::{Instant, sleep_until};

use super::Lease;
use crate::dial::h1::exchange::Terms;
use crate::dial::part::Part;
use crate::dial::upload::Upload;
use crate::dial::{FATE_WAIT, Fault, SILENCE_CHECK, judge};
use crate::reply::Failure;

/// A clock that never strikes.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// The sending half of an exchange; shared with a task when the response comes before the request is sent.
pub struct Sender {
    stream: SendStream<Bytes>,
    data: Bytes,
    ended: bool,
    starved: bool,
    progress: Instant,
    abandoned: bool,
    uploader: Option<Waker>,
}

/// Shared on the shard's thread.
pub type SharedSender = Rc<RefCell<Sender>>;

/// Why sending stopped.
pub enum SendError {
    /// The client's side.
    Client(Failure),
    /// The stream; the answer may still come.
    Stream,
}

impl Sender {
    fn poll_send(&mut self, cx: &mut Context<'_>, upload: &mut Upload) -> Poll<Result<(), SendError>> {
        loop {
            while !self.data.is_empty() {
                let room = match ready!(poll_room(&mut self.stream, cx, self.data.len())) {
                    Ok(room) => room,
                    Err(_) => return Poll::Ready(Err(SendError::Stream)),
                };
                let piece = self.data.split_to(room);
                self.stream.send_data(piece, false).map_err(|_| SendError::Stream)?;
                self.progress = Instant::now();
            }
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            if self.stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(SendError::Stream));
            }
            self.starved = true;
            let part = ready!(upload.poll_part(cx)).transpose().map_err(|_| SendError::Client(Failure::ClientBody))?;
            self.starved = false;
            match part {
                Some(Part::Data(data)) => self.data = data,
                Some(Part::Trailers(trailers)) => {
                    self.ended = true;
                    self.stream.send_trailers(trailers).map_err(|_| SendError::Stream)?;
                }
                None => {
                    self.ended = true;
                    self.stream.send_data(Bytes::new(), true).map_err(|_| SendError::Stream)?;
                }
            }
        }
    }

    /// When a byte last left.
    pub fn progress(&self) -> Instant {
        self.progress
    }

    /// Gives the exchange up.
    pub fn abandon(&mut self, reason: Reason) {
        self.abandoned = true;
        self.stream.send_reset(reason);
        if let Some(waker) = self.uploader.take() {
            waker.wake();
        }
    }

    /// Takes the stream apart, for bytes both ways.
    pub fn into_stream(self) -> SendStream<Bytes> {
        self.stream
    }
}

/// Room for up to `want` bytes, at least one. Asks only where none is left: h2 wakes for growth, not for what was granted.
pub(super) fn poll_room(stream: &mut SendStream<Bytes>, cx: &mut Context<'_>, want: usize) -> Poll<Result<usize, h2::Error>> {
    stream.reserve_capacity(want);
    while stream.capacity() == 0 {
        match ready!(stream.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Poll::Ready(Err(error)),
            None => return Poll::Ready(Err(Reason::STREAM_CLOSED.into())),
        }
    }
    Poll::Ready(Ok(stream.capacity().min(want)))
}

/// How an exchange came to its response head.
pub struct Begun {
    /// The final response.
    pub response: Response<RecvStream>,
    /// The sending half.
    pub sender: SharedSender,
    /// Whether all of the request was sent.
    pub sent: bool,
}

/// Turns the request's head into one for HTTP/2. `protocol` makes it an extended CONNECT (RFC 8441).
fn convert(parts: &request::Parts, secure: bool, protocol: Option<h2::ext::Protocol>) -> Result<Request<()>, Failure> {
    let mut uri = parts.uri.clone().into_parts();
    uri.scheme = Some(if secure { Scheme::HTTPS } else { Scheme::HTTP });
    let mut request = Request::new(());
    *request.method_mut() = if protocol.is_some() { Method::CONNECT } else { parts.method.clone() };
    *request.uri_mut() = Uri::from_parts(uri).map_err(|_| Failure::Malformed)?;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = parts.headers.clone();
    let headers = request.headers_mut();
    for name in [header::HOST, header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::TE, header::EXPECT] {
        headers.remove(name);
    }
    if parts.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        // Servers of gRPC look for it to know that no proxy on the way drops trailers.
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if let Some(protocol) = protocol {
        headers.remove("sec-websocket-key");
        headers.remove(header::CONTENT_LENGTH);
        request.extensions_mut().insert(protocol);
    }
    Ok(request)
}

/// Sends the request and waits for the head of the final response.
pub async fn exchange(lease: &Lease, parts: &request::Parts, upload: &mut Upload, secure: bool, terms: &Terms<'_>) -> Result<Begun, Fault> {
    let trace = &lease.link().trace;
    let Some(send) = lease.sender() else { return Err(Fault::unseen(Failure::GoingAway)) };
    let begun = Instant::now();
    let mut send = match tokio::time::timeout(terms.timeouts.connect, send.ready()).await {
        Ok(Ok(send)) => send,
        Ok(Err(_)) => {
            lease.retire();
            return Err(Fault::unseen(Failure::GoingAway));
        }
        Err(_) => return Err(Fault::unseen(Failure::QueueFull)),
    };
    let protocol = terms.upgrade.then(|| h2::ext::Protocol::from_static("websocket"));
    if protocol.is_some() && !send.is_extended_connect_protocol_enabled() {
        lease.link().settled(terms.timeouts.connect).await;
    }
    if protocol.is_some() && !send.is_extended_connect_protocol_enabled() {
        return Err(Fault::unseen(Failure::NoWebSocket));
    }
    let request = convert(parts, secure, protocol).map_err(Fault::unseen)?;
    let start = trace.position();
    let ended = !terms.upgrade && upload.is_done();
    let (answer, stream) = match send.send_request(request, ended) {
        Ok(both) => both,
        Err(error) if error.is_go_away() || error.is_io() => {
            lease.retire();
            return Err(Fault::unseen(Failure::GoingAway));
        }
        Err(_) => return Err(Fault::unseen(Failure::Malformed)),
    };
    drop(send);
    let sender = Rc::new(RefCell::new(Sender {
        stream,
        data: Bytes::new(),
        ended: ended || terms.upgrade,
        starved: false,
        progress: begun,
        abandoned: false,
        uploader: None,
    }));
    let mut asked = Asked { lease, number: lease.link().resets.sent(), answer: Some(answer), sender: Rc::clone(&sender) };
    let mut sent_at = None;
    let mut broken = false;
    let timer = sleep_until(begun + NEVER);
    tokio::pin!(timer);
    let mut armed = false;
    let (tunnelled, mut looked) = (trace.is_tunnel(), begun);
    let outcome = poll_fn(|cx| {
        loop {
            if sent_at.is_none() && !broken {
                match sender.borrow_mut().poll_send(cx, upload) {
                    Poll::Pending => {}
                    Poll::Ready(Ok(())) => sent_at = Some(Instant::now()),
                    Poll::Ready(Err(SendError::Client(failure))) => return Poll::Ready(Err(Broken::Clock(failure))),
                    Poll::Ready(Err(SendError::Stream)) => broken = true,
                }
            }
            while let Poll::Ready(Some(Ok(response))) = asked.poll_informational(cx) {
                if response.status() != http::StatusCode::CONTINUE {
                    (terms.informational)(response);
                }
            }
            if let Poll::Ready(response) = asked.poll(cx) {
                return Poll::Ready(response.map_err(Broken::Peer));
            }
            let due = match sent_at {
                Some(at) => at + terms.timeouts.first_byte.unwrap_or(NEVER),
                None => sender.borrow().progress + terms.timeouts.idle.unwrap_or(NEVER),
            };
            let wake = if tunnelled { due.min(looked + SILENCE_CHECK) } else { due };
            if !armed || timer.deadline() > wake {
                timer.as_mut().reset(wake);
                armed = true;
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            armed = false;
            looked = Instant::now();
            if trace.suspect_since().is_some_and(terms.leave) {
                return Poll::Ready(Err(Broken::Clock(Failure::TunnelSilent)));
            }
            if due <= looked {
                return Poll::Ready(Err(Broken::Clock(match sent_at {
                    Some(_) => Failure::FirstByteTimeout,
                    None if sender.borrow().starved => Failure::ClientIdle,
                    None => Failure::WorkloadIdle,
                })));
            }
        }
    })
    .await;
    match outcome {
        Ok(response) if response.headers().len() > terms.limits.header_count => {
            sender.borrow_mut().abandon(Reason::CANCEL);
            Err(Fault::seen(Failure::TooManyFields))
        }
        Ok(response) => Ok(Begun { response, sender, sent: sent_at.is_some() }),
        // Cancelled with what is dropped here.
        Err(Broken::Clock(failure)) => Err(Fault::seen(failure)),
        Err(Broken::Peer(error)) => {
            if !error.is_reset() {
                lease.retire();
            }
            Err(fault(&error, trace, start).await)
        }
    }
}

/// A request without an answer. Dropped, it is cancelled, at once or as soon as that cannot cost the others their connection.
struct Asked<'l> {
    lease: &'l Lease,
    number: u64,
    /// `None` once it has come, or the stream has failed.
    answer: Option<ResponseFuture>,
    sender: SharedSender,
}

impl Asked<'_> {
    fn poll_informational(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Response<()>, h2::Error>>> {
        self.answer.as_mut().map_or(Poll::Ready(None), |answer| answer.poll_informational(cx))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<RecvStream>, h2::Error>> {
        let Some(answer) = &mut self.answer else { return Poll::Pending };
        let response = ready!(Pin::new(answer).poll(cx));
        self.answer = None;
        if response.is_ok() {
            self.lease.link().resets.answered(self.number);
        }
        Poll::Ready(response)
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let Some(answer) = self.answer.take() else { return };
        let (number, sender) = (self.number, Rc::clone(&self.sender));
        if self.lease.link().resets.take(number) {
            sender.borrow_mut().abandon(Reason::CANCEL);
            return;
        }
        let (lease, tasks) = (self.lease.again(), self.lease.link().tasks.clone());
        let forced = tasks.clone();
        tasks.spawn_local(async move {
            let resets = &lease.link().resets;
            tokio::select! {
                answer = answer => if answer.is_ok() {
                    resets.answered(number);
                },
                () = resets.room(number) => {}
                () = forced.forced() => {}
            }
            sender.borrow_mut().abandon(Reason::CANCEL);
        });
    }
}

enum Broken {
    Clock(Failure),
    Peer(h2::Error),
}

async fn fault(error: &h2::Error, trace: &crate::dial::io::Trace, start: u64) -> Fault {
    // h2 gives a remote GOAWAY as the error of exactly those streams that are above its last id.
    if error.is_go_away() && error.is_remote() {
        return Fault::unseen(Failure::GoingAway);
    }
    if error.is_reset() && error.is_remote() {
        return match error.reason() {
            Some(Reason::REFUSED_STREAM) => Fault::unseen(Failure::StreamRefused),
            _ => Fault::seen(Failure::WorkloadReset),
        };
    }
    if error.is_io() {
        return judge(trace, start, true, Failure::WorkloadReset, FATE_WAIT).await;
    }
    Fault::seen(Failure::Malformed)
}

/// Sends the rest of a request whose response came early. The response has its own reader.
pub async fn upload_rest(sender: SharedSender, mut upload: Upload) {
    poll_fn(|cx| {
        let mut sender = sender.borrow_mut();
        if sender.abandoned {
            return Poll::Ready(());
        }
        sender.uploader = Some(cx.waker().clone());
        sender.poll_send(cx, &mut upload).map(|sent| {
            if let Err(SendError::Client(_)) = sent {
                sender.stream.send_reset(Reason::CANCEL);
            }
        })
    })
    .await;
}
