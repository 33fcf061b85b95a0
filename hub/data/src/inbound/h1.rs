//! Hop `inbound`: HTTP/1.1 (and 1.0) with clients.
//!
//! One reader decides where each message ends: the bytes of a head go through `admission` and nowhere else, and the body is cut
//! by the same rules, so no second parser can see another request in them. Requests of one connection are answered one after
//! the other. What the outbound half gets wrong, or a backend cuts short, ends as a reset connection, never as a clean end.
//!
//! A connection closes after an answer when the client or a drain says so, when the request's body was not read to its end
//! (its rest cannot be told from a next request), and after each refusal. The answer says so wherever it can be known by then;
//! a body that is still on its way is waited for a little.

mod body;
mod encode;
mod exchange;
mod outgoing;
mod send;
mod upgrade;
mod wire;

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use figspan_model::routing::Limits;
use figspan_tunnel::drain::Drain;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use super::{Opening, Serve, head_limits, refusal};
use crate::admission::head::{self, HeadScan, RequestHead, Side};
use crate::admission::host::LastAsked;
use crate::admission::{HeadLimits, Reject};
use crate::alarm::TaskAlarm;
use crate::client::Client;
use crate::inbound::socket::Socket;
use crate::metrics::Limit;
use crate::spare;
use exchange::Exchange;
use wire::{Next, Shared, Wire};

/// How long a drain leaves an idle connection open: a request that is on its way gets its answer and `Connection: close`
/// instead of a closed door. Longer than any sane round trip, short beside the drain's deadline.
const DRAIN_GRACE: Duration = Duration::from_secs(1);

/// How long, and how many bytes, a closing connection still listens, so that bytes which cross our last answer do not make the
/// kernel reset the connection before the client has read it (RFC 9112, section 9.6).
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 256 * 1024;

/// Serves a connection until it ends, closes or becomes a WebSocket that ended.
pub(super) async fn run<T, S>(socket: Socket<T>, opening: Opening, client: Rc<Client>, service: Rc<S>)
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    S: Serve,
{
    let wire = Wire::new(socket, opening.held);
    let drain = service.drain();
    let next = {
        let forced = pin!(drain.forced());
        let serving = pin!(serve(&wire, &client, &service, drain, opening.alarm));
        match futures_util::future::select(serving, forced).await {
            futures_util::future::Either::Left((next, _)) => next,
            futures_util::future::Either::Right(_) => Next::Abort,
        }
    };
    let socket = {
        let mut wire = wire.borrow_mut();
        // What is there may belong to a body that a workload still takes after its answer.
        if wire.held.is_empty() {
            spare::give_buffer(std::mem::take(&mut wire.held));
        }
        wire.socket.take()
    };
    let Some(socket) = socket else { return };
    match next {
        Next::Abort => socket.abort(),
        Next::Part if socket.ends_in_order() => {}
        Next::Keep | Next::Close | Next::Part => close(socket).await,
    }
}

async fn serve<T, S>(wire: &Shared<T>, client: &Rc<Client>, service: &Rc<S>, drain: &Drain, mut alarm: TaskAlarm) -> Next
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    S: Serve,
{
    let mut stopping = pin!(drain.stopping());
    let last = LastAsked::default();
    let mut first = true;
    loop {
        let (limits, waiting) = {
            let routing = service.routing();
            (head_limits(&routing.limits), Waiting::new(&routing.limits, first, drain.is_stopping()))
        };
        let head = match read_head(wire, limits, waiting, &mut alarm, stopping.as_mut()).await {
            Ok(Some(head)) => head,
            Ok(None) => return Next::Close,
            Err(HeadError::Idle) => {
                service.limited(if first { Limit::HeaderTime } else { Limit::KeepAlive });
                return Next::Close;
            }
            Err(HeadError::Gone) => return Next::Abort,
            Err(HeadError::Refused(reject)) => return refuse(wire, client, service, reject).await,
        };
        first = false;
        let opened = Exchange::open(wire, client, &service.routing(), &last, head);
        let exchange = match opened {
            Ok(exchange) => exchange,
            Err(reject) => return refuse(wire, client, service, reject).await,
        };
        match exchange.run(client, service.as_ref(), drain).await {
            Next::Keep => {}
            next => return next,
        }
    }
}

async fn refuse<T, S>(wire: &Shared<T>, client: &Client, service: &Rc<S>, reject: Reject) -> Next
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    S: Serve,
{
    service.refused(client, reject);
    send::answer_and_close(wire, refusal(reject)).await
}

enum HeadError {
    /// Nothing came for as long as a connection may idle.
    Idle,
    Gone,
    Refused(Reject),
}

/// Until when the next head may let the connection wait.
struct Waiting {
    idle: Instant,
    header_time: Duration,
    head: Option<Instant>,
    stopping: bool,
}

impl Waiting {
    fn new(limits: &Limits, first: bool, stopping: bool) -> Self {
        // A connection that never asked anything has less claim to stay than one that did.
        let idle = match (stopping, first) {
            (true, _) => DRAIN_GRACE,
            (false, true) => limits.header_time,
            (false, false) => limits.keep_alive,
        };
        Self { idle: Instant::now() + idle, header_time: limits.header_time, head: None, stopping }
    }

    fn deadline(&mut self, fresh: bool) -> Instant {
        match fresh {
            true => self.idle,
            false => *self.head.get_or_insert_with(|| Instant::now() + self.header_time),
        }
    }
}

/// Reads the next head; `None` when the connection ended, or a drain's grace was over, before its first byte.
async fn read_head<T, F>(
    wire: &Shared<T>,
    limits: HeadLimits,
    mut waiting: Waiting,
    alarm: &mut TaskAlarm,
    mut stopping: Pin<&mut F>,
) -> Result<Option<RequestHead>, HeadError>
where
    T: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = ()>,
{
    let mut scan = HeadScan::new(Side::Request);
    std::future::poll_fn(move |cx| {
        let mut wire = wire.borrow_mut();
        let fresh = loop {
            if let Some(head) = head::take_request(&mut wire.held, &mut scan, limits).map_err(HeadError::Refused)? {
                return Poll::Ready(Ok(Some(head)));
            }
            let fresh = scan.is_fresh(wire.held.len());
            match wire.poll_more(cx) {
                Poll::Ready(Ok(0)) if fresh => return Poll::Ready(Ok(None)),
                Poll::Ready(Ok(0)) | Poll::Ready(Err(_)) => return Poll::Ready(Err(HeadError::Gone)),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => {
                    if wire.held.is_empty() {
                        // An idle connection holds no buffer, or a small one.
                        spare::give_buffer(std::mem::take(&mut wire.held));
                        wire.out.rest();
                    }
                    break fresh;
                }
            }
        };
        if !waiting.stopping && stopping.as_mut().poll(cx).is_ready() {
            waiting.stopping = true;
            waiting.idle = waiting.idle.min(Instant::now() + DRAIN_GRACE);
        }
        match alarm.poll(waiting.deadline(fresh), cx) {
            Poll::Ready(()) if fresh && waiting.stopping => Poll::Ready(Ok(None)),
            Poll::Ready(()) if fresh => Poll::Ready(Err(HeadError::Idle)),
            Poll::Ready(()) => Poll::Ready(Err(HeadError::Refused(Reject::HeadTimeout))),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Ends our side, then listens a little. The buffer is none of a connection's that lives.
async fn close<T: AsyncRead + AsyncWrite + Unpin>(mut socket: Socket<T>) {
    let lingering = async {
        socket.shutdown().await?;
        let mut waste = [0; 4096];
        let mut read = 0;
        while read < LINGER_BYTES {
            match socket.read(&mut waste).await? {
                0 => break,
                n => read += n,
            }
        }
        io::Result::Ok(())
    };
    // Whatever happens here, the answer is out and the connection is done.
    let _ = tokio::time::timeout(LINGER, lingering).await;
}

#[cfg(test)]
mod tests;
