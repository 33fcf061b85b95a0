//! Hop `inbound`: one HTTP/1 connection's two directions, shared on its thread by the connection's task, the request's body and
//! the way for 1xx responses.
//!
//! Only the connection's task writes to the socket; others put bytes into the queue and wake it. Only one side reads at a
//! time: the body while there is one, the connection's task before and after.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
use http::Response;
use tokio::io::{AsyncRead, AsyncWrite};

use super::encode;
use super::outgoing::Outgoing;
use crate::admission::Reject;
use crate::exchange::Interim;
use crate::inbound::socket::Socket;
use crate::scratch;

/// Room for one read. Four times the usual head; a body's chunk as large as a TLS record.
const READ: usize = 16 * 1024;

/// Bytes of later requests that are read ahead while one is answered. The kernel holds the rest back.
pub(super) const READ_AHEAD: usize = 16 * 1024;

/// Most bytes of 1xx responses that wait for a slow client; more are dropped, as they may be.
const INTERIM: usize = 64 * 1024;

pub(super) type Shared<T> = Rc<RefCell<Wire<T>>>;

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Keep,
    Close,
    /// Close without waiting for the client: it said that it sends nothing more.
    Part,
    Abort,
}

/// Whether the client waits for 100 (Continue).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Continue {
    /// It does not, or it has been told.
    Settled,
    /// It does.
    Wanted,
}

/// What became of the request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Somebody reads it, or will.
    Reading,
    /// It was read to its end, or there was none.
    Done,
    /// It was dropped before its end.
    Abandoned,
}

pub(super) struct Wire<T> {
    /// `None` once the connection has gone to a WebSocket or was closed.
    pub(super) socket: Option<Socket<T>>,
    pub(super) held: BytesMut,
    /// The client has ended its side.
    pub(super) ended: bool,
    pub(super) out: Outgoing,
    pub(super) task: Option<Waker>,
    /// Number of the exchange under way; an older exchange's handles have no effect.
    pub(super) exchange: u64,
    /// Whether 1xx responses may still be sent.
    pub(super) interim: bool,
    pub(super) expects: Continue,
    pub(super) body: Progress,
    /// What was wrong with the body.
    pub(super) refused: Option<Reject>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Wire<T> {
    /// `held` was read before.
    pub(super) fn new(socket: Socket<T>, held: BytesMut) -> Shared<T> {
        Rc::new(RefCell::new(Self {
            socket: Some(socket),
            held,
            ended: false,
            out: Outgoing::default(),
            task: None,
            exchange: 0,
            interim: false,
            expects: Continue::Settled,
            body: Progress::Done,
            refused: None,
        }))
    }

    /// Reads once behind what is held, without a buffer of this connection's own while nothing comes; 0 at the client's end of
    /// file. For heads; [`Wire::poll_fill`] is for bodies.
    pub(super) fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(socket) = &mut self.socket else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        if self.ended {
            return Poll::Ready(Ok(0));
        }
        let read = ready!(scratch::poll_read(Pin::new(socket), cx, &mut self.held))?;
        self.ended = read == 0;
        Poll::Ready(Ok(read))
    }

    /// Reads once into `held`; 0 at the client's end of file.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(socket) = &mut self.socket else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        if self.ended {
            return Poll::Ready(Ok(0));
        }
        self.held.reserve(READ);
        let read = ready!(tokio_util::io::poll_read_buf(Pin::new(socket), cx, &mut self.held))?;
        self.ended = read == 0;
        Poll::Ready(Ok(read))
    }

    /// Sends what waits.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Some(socket) => self.out.poll_flush(socket, cx),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Looks at the reading side while a request is answered: reads ahead a little, and fails when the client has gone. A client
    /// that has ended its side counts as gone: nearly always it is (a closed tab, a timeout), and its request would go on to
    /// hold a workload, and a drain, for nobody. Other gateways do the same.
    pub(super) fn poll_watch(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.body == Progress::Done && !self.ended && self.held.len() < READ_AHEAD {
            match self.poll_more(cx) {
                Poll::Ready(read) => drop(read?),
                Poll::Pending => break,
            }
        }
        if self.ended && self.held.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    pub(super) fn register(&mut self, cx: &Context<'_>) {
        match &mut self.task {
            Some(task) => task.clone_from(cx.waker()),
            None => self.task = Some(cx.waker().clone()),
        }
    }

    pub(super) fn wake(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    /// Tells the client to send its body, once, if it waits for that and no answer has begun.
    pub(super) fn send_continue(&mut self) {
        if self.expects == Continue::Wanted && self.interim {
            self.expects = Continue::Settled;
            self.out.write(|out| out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n"));
            self.wake();
        }
    }

    /// Sends a 1xx response of the workload, if it may still be sent.
    fn send_interim(&mut self, exchange: u64, response: &Response<()>) {
        let status = response.status();
        if self.exchange != exchange || !self.interim || !status.is_informational() || status == http::StatusCode::SWITCHING_PROTOCOLS {
            return;
        }
        if status == http::StatusCode::CONTINUE {
            return self.send_continue();
        }
        if self.out.len() < INTERIM {
            self.out.write(|out| encode::interim(out, response));
            self.wake();
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Interim for RefCell<Wire<T>> {
    fn send(&self, exchange: u64, response: Response<()>) {
        self.borrow_mut().send_interim(exchange, &response);
    }
}
