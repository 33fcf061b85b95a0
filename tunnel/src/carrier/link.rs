//! A link: one TLS connection over TCP that carries datagrams both ways, as an endpoint's socket sees it and as a task drives it.
//!
//! Owns two bounded buffers. What the socket sends waits in one; when that is full, the socket is told to come again. What came
//! waits in the other; when that is full, nothing more is read, and TCP slows the peer down. A link whose connection stands still
//! for [`STALL`] loses what it is given, so that it cannot hold up a tunnel that has moved elsewhere.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use figspan_proto::name::SpiffeId;
use figspan_quic::RecvMeta;
use futures_util::task::AtomicWaker;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::frame::{self, Deframer};

/// What may wait to be written, in bytes, before the socket is told to come again; one send may exceed it. With as much
/// under way in TLS and in the kernel, a sign of life waits for about 100 KiB: 80 ms at 10 Mbit/s.
const OUT: usize = 32 * 1024;

/// What may wait to be taken in, in bytes, before no more is read.
const IN: usize = 64 * 1024;

/// What rustls and the kernel may each hold unsent, in bytes.
const UNSENT: usize = 32 * 1024;

/// Bytes of one read: one TLS record.
const READ: usize = 16 * 1024;

/// Datagrams of one link taken at a time, so that links take turns.
const TURN: usize = 8;

/// After this long without progress of a write, datagrams are lost. Slower than 256 kbit/s looks the same, and QUIC's congestion
/// control deals with it as with any slow network.
const STALL: Duration = Duration::from_secs(1);

/// After this long without progress of a write the link is given up.
const DEAD: Duration = Duration::from_secs(10);

/// After this long without a whole datagram the link is closed: a tunnel has one every 400 ms.
pub(crate) const IDLE: Duration = Duration::from_secs(15);

/// What became of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    Taken,
    /// Not taken; [`Link::poll_room`] says when.
    Full,
    /// The link is gone, or stands still.
    Lost,
}

/// One link; shared by the socket and the task that drives it.
#[derive(Debug)]
pub(crate) struct Link {
    /// Where QUIC shall think its datagrams come from.
    from: SocketAddr,
    /// Our address, where datagrams shall carry it.
    local: Option<IpAddr>,
    /// Whom TLS has proven at the other end.
    peer: Option<SpiffeId>,
    out: Mutex<Out>,
    come: Mutex<Come>,
    /// Whole datagrams that came.
    datagrams: AtomicU64,
    ended: CancellationToken,
}

#[derive(Debug, Default)]
struct Out {
    frames: BytesMut,
    stalled: bool,
    writer: Option<Waker>,
    /// Connections that wait for room.
    waiting: Vec<Waker>,
}

#[derive(Debug, Default)]
struct Come {
    deframer: Deframer,
    /// Whether the link is in the queue of [`Arrivals`].
    queued: bool,
    reader: Option<Waker>,
}

/// Links that have datagrams for one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    queue: Mutex<VecDeque<Arc<Link>>>,
    any: AtomicBool,
    taker: AtomicWaker,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    pub(crate) fn new(from: SocketAddr, local: Option<IpAddr>, peer: Option<SpiffeId>) -> Arc<Self> {
        Arc::new(Self {
            from,
            local,
            peer,
            out: Mutex::default(),
            come: Mutex::default(),
            datagrams: AtomicU64::new(0),
            ended: CancellationToken::new(),
        })
    }

    /// Where QUIC thinks its datagrams come from.
    pub(crate) fn from(&self) -> SocketAddr {
        self.from
    }

    /// Whom TLS has proven at the other end; `None` for one that joins.
    pub(crate) fn peer(&self) -> Option<&SpiffeId> {
        self.peer.as_ref()
    }

    /// Ends it.
    pub(crate) fn close(&self) {
        self.ended.cancel();
        let waiting = std::mem::take(&mut lock(&self.out).waiting);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Waits for its end. Cancel-safe.
    pub(crate) async fn closed(&self) {
        self.ended.cancelled().await;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Sends one or more datagrams of `segment` bytes, the last perhaps shorter.
    pub(super) fn send(&self, contents: &[u8], segment: Option<usize>) -> Sent {
        let mut out = lock(&self.out);
        if out.stalled || self.is_closed() {
            return Sent::Lost;
        }
        if out.frames.len() >= OUT {
            return Sent::Full;
        }
        for datagram in contents.chunks(segment.unwrap_or(contents.len()).max(1)) {
            frame::append(&mut out.frames, datagram);
        }
        if let Some(writer) = out.writer.take() {
            writer.wake();
        }
        Sent::Taken
    }

    /// Waits until a datagram would be taken, or lost.
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        let mut out = lock(&self.out);
        if out.stalled || out.frames.len() < OUT || self.is_closed() {
            return Poll::Ready(());
        }
        if !out.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            out.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Takes what waits to be written, in exchange for an empty buffer.
    fn poll_outgoing(&self, cx: &Context<'_>, chunk: &mut BytesMut) -> Poll<()> {
        let waiting = {
            let mut out = lock(&self.out);
            if out.frames.is_empty() {
                out.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            std::mem::swap(&mut out.frames, chunk);
            std::mem::take(&mut out.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
        Poll::Ready(())
    }

    fn stall(&self, stalled: bool) {
        let waiting = {
            let mut out = lock(&self.out);
            out.stalled = stalled;
            if stalled {
                // Old by the time it would arrive; QUIC sends again what matters.
                out.frames.clear();
            }
            std::mem::take(&mut out.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    fn poll_space(&self, cx: &Context<'_>) -> Poll<()> {
        let mut come = lock(&self.come);
        if come.deframer.held() < IN {
            return Poll::Ready(());
        }
        come.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether the link has to be queued now.
    fn came(&self, bytes: &[u8]) -> bool {
        let mut come = lock(&self.come);
        come.deframer.push(bytes);
        !std::mem::replace(&mut come.queued, true)
    }

    /// Takes datagrams; returns how many, and whether there may be more.
    fn take(&self, bufs: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> (usize, bool) {
        let mut come = lock(&self.come);
        let mut taken = 0;
        let room = bufs.len().min(meta.len());
        while taken < room.min(TURN) {
            match come.deframer.next(&mut bufs[taken]) {
                Ok(Some(len)) => {
                    meta[taken] = RecvMeta { addr: self.from, len, stride: len, ecn: None, dst_ip: self.local };
                    taken += 1;
                }
                Ok(None) => break,
                Err(frame::BadFrame) => {
                    drop(come);
                    self.close();
                    return (taken, false);
                }
            }
        }
        if let Some(reader) = come.reader.take() {
            reader.wake();
        }
        self.datagrams.fetch_add(taken as u64, Ordering::Relaxed);
        let more = taken == TURN || taken == room;
        come.queued = more;
        (taken, more)
    }
}

impl Arrivals {
    /// Whether any link has something. One atomic read.
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// The task to wake when something comes.
    pub(super) fn register(&self, cx: &Context<'_>) {
        self.taker.register(cx.waker());
    }

    fn add(&self, link: &Arc<Link>) {
        lock(&self.queue).push_back(Arc::clone(link));
        self.any.store(true, Ordering::Release);
        self.taker.wake();
    }

    /// Takes datagrams from the links in turn.
    pub(super) fn take(&self, bufs: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> usize {
        let mut taken = 0;
        let mut queue = lock(&self.queue);
        while taken < bufs.len().min(meta.len()) {
            let Some(link) = queue.pop_front() else { break };
            let (count, more) = link.take(&mut bufs[taken..], &mut meta[taken..]);
            taken += count;
            if more {
                queue.push_back(link);
            }
        }
        self.any.store(!queue.is_empty(), Ordering::Release);
        taken
    }
}

/// What a TCP connection needs for this.
pub(crate) fn prepare(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let socket = SockRef::from(tcp);
    socket.set_tcp_notsent_lowat(UNSENT as u32)?;
    socket.set_tcp_user_timeout(Some(DEAD))
}

/// Bytes that rustls may hold.
pub(crate) const TLS_BUFFER: usize = UNSENT;

/// Carries datagrams until either side ends the link, or breaks it; returns why. Ends the link when dropped.
pub(crate) async fn carry<IO: AsyncRead + AsyncWrite>(link: Arc<Link>, arrivals: Arc<Arrivals>, io: IO) -> String {
    let _ending = Ending(Arc::clone(&link));
    let (read, write) = tokio::io::split(io);
    tokio::select! {
        ended = reading(&link, &arrivals, read) => ended,
        ended = writing(&link, write) => ended,
        () = link.closed() => "closed by this side".to_owned(),
    }
}

struct Ending(Arc<Link>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.close();
    }
}

async fn reading(link: &Arc<Link>, arrivals: &Arrivals, mut io: impl AsyncRead + Unpin) -> String {
    let mut bytes = vec![0; READ];
    let (mut datagrams, mut until) = (0, Instant::now() + IDLE);
    loop {
        poll_fn(|cx| link.poll_space(cx)).await;
        let length = match tokio::time::timeout_at(until, io.read(&mut bytes)).await {
            Ok(Ok(0)) => return "closed by the peer".to_owned(),
            Ok(Ok(length)) => length,
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return format!("no datagram came for {} s", IDLE.as_secs()),
        };
        if link.came(&bytes[..length]) {
            arrivals.add(link);
        }
        let now = link.datagrams.load(Ordering::Relaxed);
        if std::mem::replace(&mut datagrams, now) != now {
            until = Instant::now() + IDLE;
        }
    }
}

async fn writing(link: &Link, mut io: impl AsyncWrite + Unpin) -> String {
    let mut chunk = BytesMut::new();
    loop {
        poll_fn(|cx| link.poll_outgoing(cx, &mut chunk)).await;
        let mut rest: &[u8] = &chunk;
        while !rest.is_empty() {
            match progress(link, io.write(rest)).await {
                Ok(length) => rest = &rest[length.min(rest.len())..],
                Err(why) => return why,
            }
        }
        if let Err(why) = progress(link, io.flush()).await {
            return why;
        }
        chunk.clear();
    }
}

/// Waits for one step of a write.
async fn progress<T>(link: &Link, step: impl Future<Output = io::Result<T>>) -> Result<T, String> {
    let mut step = std::pin::pin!(step);
    let done = match tokio::time::timeout(STALL, step.as_mut()).await {
        Ok(done) => done,
        Err(_) => {
            link.stall(true);
            let done = tokio::time::timeout(DEAD, step).await.map_err(|_| format!("nothing could be sent for {} s", DEAD.as_secs()))?;
            link.stall(false);
            done
        }
    };
    done.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
