//! Hop: forward -> dial -> backend. HTTP/1.1 towards a workload, one exchange at a time on one open way.
//!
//! Our own client half, because three things must be exact that a general client hides: which byte of the stream a request
//! began with (so that the agent's word decides whether it was seen), that a response is read strictly, and that a connection
//! is reused only after a whole request *and* a whole response. No task and no channel: the request's own future drives it.

pub mod body;
pub mod decode;
pub mod encode;
pub mod exchange;
pub mod head;
mod progress;
mod read;

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use figspan_proto::reset::{Reason, Reset};
use http::request;
use tokio::io::AsyncWrite as _;
use tokio::time::Instant;

use super::Way;
use super::io::{Io, Trace};
use super::part::Part;
use super::pool::{Ear, Reusable};
use super::upload::Upload;
use crate::admission::head::HeadScan;
use crate::alarm::Alarm;
use crate::limit::backend::Permit;
use crate::reply::Failure;
use crate::scratch;
use progress::Progress;
pub use read::ReadError;

/// Body parts up to this size are copied behind what is already to be written, so that head and body leave together; larger
/// ones are written from where they lie.
const COPY_BELOW: usize = 8 * 1024;

/// Room for the next head, of a request and of its answer, that an idle connection keeps; more is given back.
const KEPT: usize = 2 * 1024;

/// An HTTP/1.1 connection to a workload, shared by the halves of one exchange on the shard's thread.
pub type Shared = Rc<RefCell<Wire>>;

/// Why sending stopped.
#[derive(Debug)]
pub enum SendError {
    /// The client's side.
    Client(Failure),
    /// The way to the workload; the answer may still come.
    Io(io::Error),
}

/// An HTTP/1.1 connection to a workload.
pub struct Wire {
    io: Io,
    /// What is known of the bytes.
    pub trace: Trace,
    /// The tunnel that carries it, if any.
    pub tunnel: Option<u64>,
    /// The client whose authentication it is bound to (NTLM, Negotiate).
    pub bound: Option<u64>,
    /// Its room at the backend.
    permit: Option<Permit>,
    /// When a byte last moved.
    pub(crate) progress: Progress,
    /// The clock of the present exchange, or of its body.
    pub(crate) alarm: Alarm,
    /// Set once pooled; tells the pool.
    ear: Option<Ear>,
    input: BytesMut,
    /// Most that the input held in the present exchange.
    held: usize,
    scan: HeadScan,
    out: BytesMut,
    data: Bytes,
    framing: encode::Framing,
    /// Position of the present request's first byte.
    start: u64,
    /// Bytes written so far.
    written: u64,
    /// Whether the io took a byte of the present request.
    wrote: bool,
    /// The whole request is encoded.
    encoded: bool,
    /// The body is held back until the workload says 100.
    pub hold: bool,
    /// The present request waits for its client.
    pub starved: bool,
    /// The exchange was given up; wakes a task that still uploads.
    abandoned: bool,
    uploader: Option<Waker>,
}

impl Wire {
    /// Over an open way.
    pub fn new(way: Way) -> Self {
        let Way { io, trace, tunnel, permit } = way;
        Self {
            io,
            trace,
            tunnel,
            permit,
            bound: None,
            progress: Progress::default(),
            alarm: Alarm::default(),
            ear: None,
            input: BytesMut::new(),
            held: 0,
            scan: head::scan(),
            out: BytesMut::new(),
            data: Bytes::new(),
            framing: encode::Framing::None,
            start: 0,
            written: 0,
            wrote: false,
            encoded: true,
            hold: false,
            starved: false,
            abandoned: false,
            uploader: None,
        }
    }

    /// Begins a request: its head waits to be sent.
    pub fn begin(&mut self, parts: &request::Parts, length: Option<u64>, upgrade: bool) {
        self.start = if self.trace.probe().is_some() { self.trace.position() } else { self.written };
        self.wrote = false;
        self.out.clear();
        self.framing = encode::head(&mut self.out, parts, length, upgrade);
        self.encoded = matches!(self.framing, encode::Framing::None | encode::Framing::Length(0));
        self.progress.moved();
    }

    /// Position of the present request's first byte behind the preamble.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Whether a service that ended its side in good order had taken none of the present request: its FIN acknowledges what
    /// it received, and bytes received but not read would have made it a reset.
    pub fn ended_before(&self) -> bool {
        match &self.io {
            Io::Tcp(tcp) => figspan_tunnel::splice::bytes_acked(tcp).is_some_and(|acked| acked <= self.start),
            Io::Tunnel(_) | Io::Tls(_) => false,
        }
    }

    /// Whether any byte of the present request left.
    pub fn wrote(&self) -> bool {
        self.wrote
    }

    /// Sends the request as far as the client's body and the way allow. Ready when all of it is with the way.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, upload: &mut Upload) -> Poll<Result<(), SendError>> {
        loop {
            self.starved = false;
            while !self.encoded && !self.hold && self.data.is_empty() && self.out.len() < COPY_BELOW {
                match upload.poll_part(cx) {
                    Poll::Pending => {
                        self.starved = true;
                        break;
                    }
                    Poll::Ready(part) => self.encode(part.transpose().map_err(|_| SendError::Client(Failure::ClientBody))?)?,
                }
            }
            ready!(self.poll_drain(cx)).map_err(SendError::Io)?;
            if self.encoded {
                return Poll::Ready(Ok(()));
            }
            if self.starved || self.hold {
                return Poll::Pending;
            }
        }
    }

    fn encode(&mut self, part: Option<Part>) -> Result<(), SendError> {
        let wrong_length = || Err(SendError::Client(Failure::ClientBody));
        match (&mut self.framing, part) {
            (encode::Framing::None, _) => self.encoded = true,
            (encode::Framing::Length(left), Some(Part::Data(data))) => {
                let Some(rest) = left.checked_sub(data.len() as u64) else { return wrong_length() };
                *left = rest;
                self.encoded = rest == 0;
                self.append(data);
            }
            (encode::Framing::Length(0), None | Some(Part::Trailers(_))) => self.encoded = true,
            (encode::Framing::Length(_), _) => return wrong_length(),
            (encode::Framing::Chunked, Some(Part::Data(data))) => {
                encode::chunk_size(&mut self.out, data.len());
                self.append(data);
            }
            (encode::Framing::Chunked, Some(Part::Trailers(trailers))) => {
                encode::last_chunk(&mut self.out, Some(&trailers));
                self.encoded = true;
            }
            (encode::Framing::Chunked, None) => {
                encode::last_chunk(&mut self.out, None);
                self.encoded = true;
            }
        }
        Ok(())
    }

    fn append(&mut self, data: Bytes) {
        let chunked = self.framing == encode::Framing::Chunked;
        if data.len() <= COPY_BELOW {
            self.out.extend_from_slice(&data);
            if chunked {
                self.out.extend_from_slice(b"\r\n");
            }
        } else {
            self.data = data;
        }
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() || !self.data.is_empty() {
            let from_out = !self.out.is_empty();
            let n = ready!(self.poll_write(cx, from_out))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.wrote = true;
            self.written += n as u64;
            self.progress.moved();
            if !from_out && self.data.is_empty() && self.framing == encode::Framing::Chunked {
                self.out.extend_from_slice(b"\r\n");
            }
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Writes from `out`, or from `data`, and cuts off what was taken.
    fn poll_write(&mut self, cx: &mut Context<'_>, from_out: bool) -> Poll<io::Result<usize>> {
        if !from_out {
            if let Some(stream) = self.io.begun() {
                return stream.poll_write_chunk(cx, &mut self.data).map_err(Into::into);
            }
            let n = ready!(Pin::new(&mut self.io).poll_write(cx, &self.data))?;
            self.data.advance(n);
            return Poll::Ready(Ok(n));
        }
        if self.out.capacity() <= KEPT
            && let Some(stream) = self.io.begun()
        {
            // The buffer gets its room back when the peer has acknowledged these: as a rule before the next request. A larger one
            // would hide in what is left of it.
            let mut bytes = self.out.split().freeze();
            let polled = stream.poll_write_chunk(cx, &mut bytes);
            self.out.extend_from_slice(&bytes);
            return polled.map_err(Into::into);
        }
        let n = ready!(Pin::new(&mut self.io).poll_write(cx, &self.out))?;
        self.out.advance(n);
        Poll::Ready(Ok(n))
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.input.is_empty() || self.trace.probe().is_some_and(|probe| probe.tunnel_lost() || probe.fate().is_some()) {
            return Poll::Ready(());
        }
        match scratch::poll_read(Pin::new(&mut self.io), cx, &mut self.input) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(_) => Poll::Ready(()),
        }
    }

    fn rest(&mut self) {
        if std::mem::take(&mut self.held) > KEPT {
            self.input = BytesMut::new();
        }
        self.out.clear();
        if self.out.capacity() > KEPT {
            self.out = BytesMut::new();
        }
        self.scan = head::scan();
        if !self.trace.is_tunnel() {
            // Set for long; until then it would hold the task that polled it last. Over tunnels it strikes soon.
            self.alarm = Alarm::default();
        }
    }

    /// Ends our side in good order, as far as that goes without waiting.
    pub fn finish(&mut self) {
        let _ = Pin::new(&mut self.io).poll_shutdown(&mut Context::from_waker(Waker::noop()));
    }

    /// Gives the exchange up; the peer hears why.
    pub fn abandon(&mut self, reason: Reason) {
        if let Some(probe) = self.trace.probe() {
            probe.reset(Reset::not_delivered(reason));
        }
        self.abandoned = true;
        if let Some(waker) = self.uploader.take() {
            waker.wake();
        }
    }

    /// Bytes after a 101, and what came with it.
    pub fn into_parts(self) -> (Io, Bytes, Option<Permit>) {
        (self.io, self.input.freeze(), self.permit)
    }
}

impl Reusable for Shared {
    fn tunnel(&self) -> Option<u64> {
        self.borrow().tunnel
    }

    fn rest(&self) {
        self.borrow_mut().rest();
    }

    fn listen(&self, make: impl FnOnce() -> Ear) -> Poll<()> {
        let mut wire = self.borrow_mut();
        let ear = wire.ear.take().unwrap_or_else(make);
        let polled = ear.listen(|cx| wire.poll_idle(cx));
        wire.ear = Some(ear);
        polled
    }

    fn has_heard(&self) -> bool {
        self.borrow().ear.as_ref().is_none_or(Ear::has_heard)
    }

    fn look(&self) -> Poll<()> {
        self.borrow_mut().poll_idle(&mut Context::from_waker(Waker::noop()))
    }

    fn wanted(&self) -> bool {
        self.borrow().permit.as_ref().is_some_and(Permit::wanted)
    }

    fn finish(&self) {
        self.borrow_mut().finish();
    }
}

/// Sends the rest of a request whose response came early, then ends our side. The response has its own reader.
pub async fn upload_rest(wire: Shared, mut upload: Upload) {
    let sent = std::future::poll_fn(|cx| {
        let mut wire = wire.borrow_mut();
        if wire.abandoned {
            return Poll::Ready(None);
        }
        wire.uploader = Some(cx.waker().clone());
        let polled = wire.poll_send(cx, &mut upload);
        // Whoever waits for the answer asks when a byte last moved only as its time ends.
        wire.progress.last(Instant::now);
        polled.map(Some)
    })
    .await;
    match sent {
        Some(Ok(())) => wire.borrow_mut().finish(),
        // Half a request must not look like a whole one.
        Some(Err(SendError::Client(_))) => wire.borrow_mut().abandon(Reason::ClientGone),
        Some(Err(SendError::Io(_))) | None => {}
    }
}

#[cfg(test)]
mod tests;
