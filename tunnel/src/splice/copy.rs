//! One direction of a splice.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{tcp, unix};
use tokio_util::io::poll_read_buf;

use crate::stream::{RecvHalf, SendHalf, StreamError};

/// Least and most bytes of one read. A buffer is made when there is something to read and grows with what comes, so that an
/// idle connection holds none. What the least one reads is copied to memory of its own size: answers are a few hundred bytes.
const READ: std::ops::RangeInclusive<usize> = 4 * 1024..=64 * 1024;
/// Most chunks of a stream given to one write: a chunk is a packet's worth, so this fills about 44 KiB.
const CHUNKS: usize = 32;
/// A direction without a byte for this long counts as idle: before writing on, see whether the workload has closed, though it
/// was not the one that spoke last.
const QUIET: Duration = Duration::from_millis(20);

/// How a direction ended.
#[derive(Debug)]
pub(super) enum Flow {
    /// In good order, and the other side was told.
    Ended,
    /// A TCP connection or Unix socket failed.
    Tcp(#[allow(dead_code, reason = "shown by Debug in failing tests")] io::Error),
    /// The stream failed.
    Stream(StreamError),
}

impl From<io::Error> for Flow {
    fn from(error: io::Error) -> Self {
        Self::Tcp(error)
    }
}

impl From<StreamError> for Flow {
    fn from(error: StreamError) -> Self {
        Self::Stream(error)
    }
}

/// Counts and times of a splice, written by both directions: one task runs both, so that nobody writes at the same time.
#[derive(Debug)]
pub(super) struct Progress {
    start: Instant,
    from_tcp: AtomicU64,
    to_tcp: AtomicU64,
    /// Bytes taken from the stream, written to TCP or not.
    taken: AtomicU64,
    /// Microseconds after `start`, of the last byte in either direction.
    last: AtomicU64,
    /// The same, of the last byte from TCP.
    last_from_tcp: AtomicU64,
}

impl Progress {
    pub(super) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self { start: Instant::now(), from_tcp: zero(), to_tcp: zero(), taken: zero(), last: zero(), last_from_tcp: zero() }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(super) fn moved(&self, from_tcp: bool, count: usize) {
        let now = self.now();
        self.last.store(now, Ordering::Relaxed);
        let counter = if from_tcp {
            self.last_from_tcp.store(now, Ordering::Relaxed);
            &self.from_tcp
        } else {
            &self.to_tcp
        };
        add(counter, count);
    }

    pub(super) fn in_count(&self) -> u64 {
        self.from_tcp.load(Ordering::Relaxed)
    }

    pub(super) fn out_count(&self) -> u64 {
        self.to_tcp.load(Ordering::Relaxed)
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    fn since(&self, at: &AtomicU64) -> Duration {
        Duration::from_micros(self.now().saturating_sub(at.load(Ordering::Relaxed)))
    }

    /// Whether the next byte to TCP begins something new there: a request on a kept connection, as a rule. The last byte came
    /// from TCP, or nothing has moved for a while.
    fn begins(&self) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        last == self.last_from_tcp.load(Ordering::Relaxed) || self.since(&self.last) > QUIET
    }

    /// How long ago the last byte came from TCP; for ever, if none did.
    pub(super) fn since_from_tcp(&self) -> Duration {
        if self.in_count() == 0 { Duration::MAX } else { self.since(&self.last_from_tcp) }
    }

    /// Completes once neither direction has moved a byte for that long.
    pub(super) async fn idle(&self, limit: Option<Duration>) {
        let Some(limit) = limit else { return std::future::pending().await };
        while let Some(rest) = limit.checked_sub(self.since(&self.last)).filter(|rest| !rest.is_zero()) {
            tokio::time::sleep(rest).await;
        }
    }
}

/// Adds without a lock of the processor's: there is one writer.
fn add(counter: &AtomicU64, count: usize) {
    counter.store(counter.load(Ordering::Relaxed) + count as u64, Ordering::Relaxed);
}

/// The writing half of a socket.
pub(super) trait WriteSide: AsyncWrite + Unpin {
    /// Whether the peer's end of file, or a failure, is already waiting in the socket.
    fn ended(&self) -> bool;
}

impl WriteSide for tcp::WriteHalf<'_> {
    fn ended(&self) -> bool {
        ended(&socket2::SockRef::from(self.as_ref()))
    }
}

impl WriteSide for unix::WriteHalf<'_> {
    fn ended(&self) -> bool {
        ended(&socket2::SockRef::from(self.as_ref()))
    }
}

/// Reads a socket in buffers that fit what comes.
struct Reader<R> {
    tcp: R,
    size: usize,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    fn new(tcp: R) -> Self {
        Self { tcp, size: *READ.start() }
    }

    /// The next bytes; empty at the end.
    async fn next(&mut self) -> io::Result<Bytes> {
        loop {
            // Polled rather than tried: a read that leaves room in the buffer then counts as "nothing more has come", which spares
            // the next one from asking the kernel for that, and a fast peer does not keep this thread from everybody else.
            match poll_fn(|cx| self.poll_read(cx)).await {
                Ok(bytes) => {
                    if bytes.len() == self.size {
                        self.size = (self.size * 4).min(*READ.end());
                    } else if bytes.len() < self.size / 8 {
                        self.size = (self.size / 2).max(*READ.start());
                    }
                    return Ok(bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let tcp = Pin::new(&mut self.tcp);
        if self.size == *READ.start() {
            let mut room = [MaybeUninit::uninit(); *READ.start()];
            let mut room = ReadBuf::uninit(&mut room);
            ready!(tcp.poll_read(cx, &mut room))?;
            return Poll::Ready(Ok(Bytes::copy_from_slice(room.filled())));
        }
        let mut buffer = BytesMut::with_capacity(self.size);
        ready!(poll_read_buf(tcp, cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.freeze()))
    }
}

/// TCP to stream, `first` before anything else. At the end of file the stream is finished, if wanted.
pub(super) async fn tcp_to_stream(
    tcp: impl AsyncRead + Unpin,
    send: &mut SendHalf,
    finish: bool,
    first: Bytes,
    progress: &Progress,
) -> Flow {
    let copy = async {
        if !first.is_empty() {
            progress.moved(true, first.len());
            send.write_chunk(first).await?;
        }
        let mut reader = Reader::new(tcp);
        loop {
            let bytes = reader.next().await?;
            if bytes.is_empty() {
                return Ok(());
            }
            progress.moved(true, bytes.len());
            let mut write = pin!(send.write_chunk(bytes));
            if let Poll::Ready(written) = futures_util::poll!(write.as_mut()) {
                written?;
                continue;
            }
            write.await?;
            // A write that had to wait is a sign of life too.
            progress.moved(true, 0);
        }
    };
    let copied: Result<(), Flow> = copy.await;
    match copied {
        Ok(()) => {
            if finish {
                send.finish();
            }
            Flow::Ended
        }
        Err(flow) => flow,
    }
}

/// Stream to TCP. At the end of the stream, TCP's sending side is shut down. With `look`, a workload that has closed after its
/// last word gets no more bytes, but for a GET or HEAD: this direction then waits for ever, and the other one reports the end.
/// Between this look and the write lie microseconds, in which alone bytes can still meet a workload that has just shut down its
/// side and whose kernel acknowledges them.
pub(super) async fn stream_to_tcp(recv: &mut RecvHalf, mut tcp: impl WriteSide, look: bool, progress: &Progress) -> Flow {
    let copy = async {
        let mut chunks: [Bytes; CHUNKS] = std::array::from_fn(|_| Bytes::new());
        loop {
            let Some(count) = recv.read_chunks(&mut chunks).await? else {
                tcp.shutdown().await?;
                return Ok(());
            };
            let total: usize = chunks[..count].iter().map(Bytes::len).sum();
            add(&progress.taken, total);
            if look && progress.begins() && !is_safe(&chunks[0]) && tcp.ended() {
                std::future::pending::<()>().await;
            }
            let mut done = 0;
            while done < count {
                let mut written = match &chunks[done..count] {
                    // As a rule, and the kernel's shorter way.
                    [chunk] => tcp.write(chunk).await?,
                    chunks => {
                        let mut slices = [IoSlice::new(&[]); CHUNKS];
                        slices.iter_mut().zip(chunks).for_each(|(slice, chunk)| *slice = IoSlice::new(chunk));
                        tcp.write_vectored(&slices[..chunks.len()]).await?
                    }
                };
                if written == 0 {
                    return Err(Flow::Tcp(io::ErrorKind::WriteZero.into()));
                }
                progress.moved(false, written);
                while done < count && written >= chunks[done].len() {
                    written -= chunks[done].len();
                    chunks[done] = Bytes::new();
                    done += 1;
                }
                if written > 0 {
                    chunks[done].advance(written);
                }
            }
        }
    };
    let copied: Result<(), Flow> = copy.await;
    copied.err().unwrap_or(Flow::Ended)
}

/// TCP to TCP, `first` before anything else; `from` says which counter is this direction's.
pub(super) async fn tcp_to_tcp(
    from: impl AsyncRead + Unpin,
    mut to: impl WriteSide,
    first: Bytes,
    progress: &Progress,
    is_from: bool,
) -> Flow {
    let copy = async {
        let mut reader = Reader::new(from);
        let mut bytes = first;
        loop {
            while bytes.has_remaining() {
                let written = to.write_buf(&mut bytes).await?;
                if written == 0 {
                    return Err(io::Error::from(io::ErrorKind::WriteZero));
                }
                progress.moved(is_from, written);
            }
            bytes = reader.next().await?;
            if bytes.is_empty() {
                return to.shutdown().await;
            }
        }
    };
    match copy.await {
        Ok(()) => Flow::Ended,
        Err(error) => Flow::Tcp(error),
    }
}

/// Whether a request begins here that the hub asks again where it meets a workload's end (RFC 9110, section 9.2.1): that is seldom,
/// and to look before each would be the fifth part of all calls of the system that a request takes.
fn is_safe(request: &[u8]) -> bool {
    request.starts_with(b"GET ") || request.starts_with(b"HEAD ")
}

/// Whether the peer's end of file, or a failure, is already waiting in the socket.
fn ended(socket: &socket2::Socket) -> bool {
    let mut byte = [MaybeUninit::uninit()];
    match socket.peek(&mut byte) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}
