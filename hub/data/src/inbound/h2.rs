//! Hop `inbound`: HTTP/2 with clients.
//!
//! The `h2` crate frames; what a request may be is decided by `admission`, as for HTTP/1. Each request is a task of its own,
//! owned by the shard's drain. A backend's failure within a body ends as RST_STREAM, a client's reset cancels the request.
//! Floods are bounded: streams, header bytes, windows, and resets beyond what finished requests pay for (CVE-2023-44487).

mod answer;
mod body;
mod refusals;
mod request;
mod watched;
mod websocket;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use figspan_model::routing::Limits;
use figspan_tunnel::drain::Drain;
use h2::server::{Connection, SendResponse};
use h2::{Ping, PingPong, Reason, RecvStream};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};

use super::Serve;
use super::socket::Socket;
use crate::admission::fragment::Fragments;
use crate::admission::host::LastAsked;
use crate::client::Client;
use crate::metrics::Limit;
use watched::Watched;

/// Window of a stream: a fast upload on a path of 20 ms reaches 100 Mbit/s. Times the streams of a connection it is never
/// reached, as the connection's own window is smaller.
const STREAM_WINDOW: u32 = 256 * 1024;

/// Window of a connection: the most that one client can make the hub hold of request bodies.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Bytes of a response that wait for a slow client, per stream.
const SEND_BUFFER: usize = 256 * 1024;

/// Streams that a client may reset before we have seen their request.
const UNSEEN_RESETS: usize = 20;

/// How often a client is asked whether it is still there. Twice without an answer, it is not.
const PING: Duration = Duration::from_secs(20);

/// How long an ended or idle connection may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

type H2<T> = Connection<Watched<T>, Bytes>;

/// What the requests of one connection share.
struct Load {
    active: Cell<usize>,
    idle_since: Cell<Instant>,
    /// Resets by the client that no finished request has paid for.
    resets: Cell<usize>,
    task: RefCell<Option<Waker>>,
    last: LastAsked,
}

impl Load {
    fn begin(&self) {
        self.active.set(self.active.get() + 1);
    }

    fn end(&self, reset: bool) {
        self.active.set(self.active.get() - 1);
        self.idle_since.set(Instant::now());
        self.resets.set(if reset { self.resets.get() + 1 } else { self.resets.get().saturating_sub(1) });
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }
}

/// Serves a connection to its end.
pub(super) async fn run<T, S>(socket: Socket<T>, client: Rc<Client>, limits: Limits, service: Rc<S>, drain: Drain)
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    S: Serve,
{
    let fragments = Rc::new(RefCell::new(Fragments::new(limits.header_bytes)));
    let told = Rc::clone(&service);
    let watched = Watched::new(socket, Rc::clone(&fragments), Box::new(move |limit| told.limited(limit)));
    let handshake = h2::server::Builder::new()
        .max_concurrent_streams(limits.h2_streams)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(UNSEEN_RESETS)
        .max_local_error_reset_streams(Some(limits.h2_resets))
        .enable_connect_protocol()
        .handshake::<_, Bytes>(watched);
    let connection = match tokio::time::timeout(limits.header_time, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(_)) => return,
        Err(_) => return service.limited(Limit::HeaderTime),
    };
    let load = Rc::new(Load {
        active: Cell::new(0),
        idle_since: Cell::new(Instant::now()),
        resets: Cell::new(0),
        task: RefCell::default(),
        last: LastAsked::default(),
    });
    let mut driver = Driver::new(connection, limits, Rc::clone(&load));
    let (mut leaving, mut stopping, mut forced) = (pin!(drain.leaving()), pin!(drain.stopping()), pin!(drain.forced()));
    loop {
        let event = std::future::poll_fn(|cx| driver.poll(cx, leaving.as_mut(), stopping.as_mut(), forced.as_mut())).await;
        match event {
            Event::Request(request, respond) => {
                driver.served = true;
                load.begin();
                let fragment = fragments.borrow_mut().take(request.body().stream_id().as_u32());
                let (client, service, load) = (Rc::clone(&client), Rc::clone(&service), Rc::clone(&load));
                drain.spawn_local(async move {
                    let reset = Box::pin(request::serve(*request, fragment, respond, &client, &load.last, service.as_ref())).await;
                    load.end(reset);
                });
            }
            Event::Leave => driver.leave(),
            Event::Idle => {
                service.limited(if driver.served { Limit::KeepAlive } else { Limit::HeaderTime });
                driver.leave();
            }
            Event::Flood => {
                service.limited(Limit::H2Resets);
                tracing::info!(listener = %client.listener, "HTTP/2 client resets too many streams; connection closed");
                driver.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                driver.leave_by(Instant::now() + GOODBYE);
            }
            Event::Gone => return,
        }
    }
}

enum Event {
    Request(Box<Request<RecvStream>>, SendResponse<Bytes>),
    /// Time to go: nothing new, the rest finishes.
    Leave,
    /// No request for as long as a connection may idle.
    Idle,
    /// Too many resets.
    Flood,
    /// The connection is over.
    Gone,
}

struct Driver<T> {
    connection: H2<T>,
    limits: Limits,
    load: Rc<Load>,
    pings: Option<PingPong>,
    awaits_pong: bool,
    next_ping: Pin<Box<Sleep>>,
    idle: Pin<Box<Sleep>>,
    /// Whether any request came.
    served: bool,
    leaving: bool,
    flooded: bool,
    /// The hub is a lame duck, or worse.
    asked_to_leave: bool,
    stopped: bool,
    /// When a leaving connection is cut although it has not said goodbye.
    cut: Option<Pin<Box<Sleep>>>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Driver<T> {
    fn new(mut connection: H2<T>, limits: Limits, load: Rc<Load>) -> Self {
        let pings = connection.ping_pong();
        let idle = Box::pin(tokio::time::sleep(limits.header_time));
        Self {
            connection,
            limits,
            load,
            pings,
            awaits_pong: false,
            next_ping: Box::pin(tokio::time::sleep(PING)),
            idle,
            served: false,
            leaving: false,
            flooded: false,
            asked_to_leave: false,
            stopped: false,
            cut: None,
        }
    }

    fn leave(&mut self) {
        self.leaving = true;
        self.connection.graceful_shutdown();
    }

    fn leave_by(&mut self, deadline: Instant) {
        self.leaving = true;
        self.flooded = true;
        self.cut = Some(Box::pin(tokio::time::sleep_until(deadline)));
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        leaving: Pin<&mut impl Future<Output = ()>>,
        stopping: Pin<&mut impl Future<Output = ()>>,
        forced: Pin<&mut impl Future<Output = ()>>,
    ) -> Poll<Event> {
        match self.connection.poll_accept(cx) {
            Poll::Ready(Some(Ok((request, respond)))) => return Poll::Ready(Event::Request(Box::new(request), respond)),
            Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Event::Gone),
            Poll::Pending => {}
        }
        self.load.task.replace(Some(cx.waker().clone()));
        if self.load.resets.get() > self.limits.h2_resets && !self.flooded {
            return Poll::Ready(Event::Flood);
        }
        // Each of these is asked only until it has answered.
        if forced.poll(cx).is_ready() || self.poll_pings(cx).is_ready() || self.poll_cut(cx).is_ready() {
            return Poll::Ready(Event::Gone);
        }
        self.asked_to_leave = self.asked_to_leave || leaving.poll(cx).is_ready();
        // A connection that was made since gets its first request in: many clients ask again at once when they are told to leave
        // before they asked anything, and would do so until the lame duck ends.
        if self.asked_to_leave && self.served && !self.leaving {
            return Poll::Ready(Event::Leave);
        }
        if !self.stopped && stopping.poll(cx).is_ready() {
            self.stopped = true;
            if !self.leaving {
                return Poll::Ready(Event::Leave);
            }
        }
        if !self.leaving && self.poll_idle(cx).is_ready() {
            return Poll::Ready(Event::Idle);
        }
        Poll::Pending
    }

    /// Ready when the client has not answered for two intervals.
    fn poll_pings(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(pings) = &mut self.pings else { return Poll::Pending };
        while let Poll::Ready(pong) = pings.poll_pong(cx) {
            self.awaits_pong = false;
            if pong.is_err() {
                return Poll::Pending;
            }
        }
        while self.next_ping.as_mut().poll(cx).is_ready() {
            if self.awaits_pong {
                return Poll::Ready(());
            }
            self.awaits_pong = pings.send_ping(Ping::opaque()).is_ok();
            self.next_ping.as_mut().reset(Instant::now() + PING);
        }
        Poll::Pending
    }

    /// Ready when no request has been under way for long enough.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let allowed = if self.served { self.limits.keep_alive } else { self.limits.header_time };
        while self.idle.as_mut().poll(cx).is_ready() {
            let deadline = self.load.idle_since.get() + allowed;
            if self.load.active.get() == 0 && deadline <= Instant::now() {
                return Poll::Ready(());
            }
            self.idle.as_mut().reset(deadline.max(Instant::now() + self.limits.header_time));
        }
        Poll::Pending
    }

    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.leaving && self.cut.is_none() && self.load.active.get() == 0 {
            self.cut = Some(Box::pin(tokio::time::sleep(GOODBYE)));
        }
        match &mut self.cut {
            // A request that came before GOAWAY did still has its time.
            Some(cut) if self.load.active.get() == 0 || self.flooded => cut.as_mut().poll(cx),
            _ => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests;
