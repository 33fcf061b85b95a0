//! Connections of the load: HTTP/1.1 kept alive, and a few of HTTP/2 that all share.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use http::Request;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::Target;
use super::jar::Jar;
use crate::chunks::Chunks;
use crate::local::Local;

/// Idle HTTP/1.1 connections kept.
const MAX_IDLE: usize = 64;

/// HTTP/2 connections; each carries up to 100 streams at once.
const MULTIPLEXED: usize = 4;

/// Connections to the hub.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) target: Rc<Target>,
    pub(super) jar: Jar,
    idle: RefCell<Vec<http1::SendRequest<Chunks>>>,
    multiplexed: RefCell<[Option<http2::SendRequest<Chunks>>; MULTIPLEXED]>,
    next: Cell<usize>,
}

/// A connection for one request.
pub(super) enum Sender {
    H1(http1::SendRequest<Chunks>),
    H2(http2::SendRequest<Chunks>),
}

impl Sender {
    pub(super) async fn send(&mut self, request: Request<Chunks>) -> Result<http::Response<Incoming>, TrySendError<Request<Chunks>>> {
        match self {
            Self::H1(sender) => sender.try_send_request(request).await,
            Self::H2(sender) => sender.try_send_request(request).await,
        }
    }
}

impl Pool {
    pub(super) fn new(target: Rc<Target>) -> Self {
        Self { target, jar: Jar::default(), idle: RefCell::default(), multiplexed: RefCell::default(), next: Cell::default() }
    }

    /// A connection; `fresh`: one that nobody has used.
    pub(super) async fn connection(&self, h2: bool, fresh: bool) -> std::io::Result<Sender> {
        if h2 { self.h2(fresh).await.map(Sender::H2) } else { self.h1(fresh).await.map(Sender::H1) }
    }

    async fn h1(&self, fresh: bool) -> std::io::Result<http1::SendRequest<Chunks>> {
        if let Some(sender) = self.idle().filter(|_| !fresh) {
            return Ok(sender);
        }
        let (sender, connection) = http1::handshake(self.connect().await?).await.map_err(std::io::Error::other)?;
        // The thread's LocalSet owns the connection; it ends when the sender is dropped.
        tokio::task::spawn_local(connection);
        Ok(sender)
    }

    fn idle(&self) -> Option<http1::SendRequest<Chunks>> {
        let mut idle = self.idle.borrow_mut();
        while let Some(sender) = idle.pop() {
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    async fn h2(&self, fresh: bool) -> std::io::Result<http2::SendRequest<Chunks>> {
        let at = self.next.get();
        self.next.set((at + 1) % MULTIPLEXED);
        let kept = self.multiplexed.borrow()[at].clone().filter(|sender| !fresh && !sender.is_closed());
        let mut sender = match kept {
            Some(sender) => sender,
            None => {
                let (sender, connection) = http2::handshake(Local, self.connect().await?).await.map_err(std::io::Error::other)?;
                tokio::task::spawn_local(connection);
                self.multiplexed.borrow_mut()[at] = Some(sender.clone());
                sender
            }
        };
        sender.ready().await.map_err(std::io::Error::other)?;
        Ok(sender)
    }

    async fn connect(&self) -> std::io::Result<TokioIo<TcpStream>> {
        let stream = TcpStream::connect(self.target.address).await?;
        stream.set_nodelay(true)?;
        Ok(TokioIo::new(stream))
    }

    /// Keeps a connection whose answer was read to its end.
    pub(super) async fn keep(&self, sender: Sender) {
        if let Sender::H1(mut sender) = sender
            && sender.ready().await.is_ok()
            && self.idle.borrow().len() < MAX_IDLE
        {
            self.idle.borrow_mut().push(sender);
        }
    }
}
