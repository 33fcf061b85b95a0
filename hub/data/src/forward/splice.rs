//! Hop: forward | tcp | call. Copies bytes both ways between two ways that are open, until both ends have finished.
//!
//! In constant memory, of which a connection has none while nobody speaks: bytes are read where all of a shard's are, go from there
//! to the other side, and only what that does not take at once waits here.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::time::{Instant, sleep_until};

use crate::exchange::Raw;
use crate::reply::Failure;
use crate::scratch;
use crate::spare;

/// Copies until both directions ended; returns how, and the bytes from and to the client.
pub(crate) async fn splice(client: &mut dyn Raw, workload: &mut dyn Raw, idle: Option<Duration>) -> (Result<(), Failure>, u64, u64) {
    let (mut up, mut down) = (Pump::default(), Pump::default());
    let mut progress = Instant::now();
    let mut timer = pin!(sleep_until(progress + idle.unwrap_or(Duration::from_secs(365 * 24 * 3600))));
    let end = std::future::poll_fn(|cx| {
        let sent = up.poll(cx, client, workload, &mut progress);
        let received = down.poll(cx, workload, client, &mut progress);
        match (sent, received) {
            (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => return Poll::Ready(Err(crate::dial::broken(&error))),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(Ok(())),
            _ => {}
        }
        while let Some(idle) = idle
            && timer.as_mut().poll(cx).is_ready()
        {
            if progress + idle <= Instant::now() {
                return Poll::Ready(Err(Failure::WorkloadIdle));
            }
            timer.as_mut().reset(progress + idle);
        }
        Poll::Pending
    })
    .await;
    (end, up.moved, down.moved)
}

/// One direction.
#[derive(Default)]
struct Pump {
    /// What was read and not yet written: one read's worth at most.
    waits: BytesMut,
    moved: u64,
    read_all: bool,
    finished: bool,
}

impl Pump {
    /// Moves what can be moved; `Ok` once the end was passed on. Marks progress.
    fn poll(&mut self, cx: &mut Context<'_>, from: &mut dyn Raw, to: &mut dyn Raw, progress: &mut Instant) -> Poll<io::Result<()>> {
        let (mut from, mut to) = (Pin::new(from), Pin::new(to));
        while !self.finished {
            if self.waits.is_empty() && !self.read_all {
                let Poll::Ready(passed) = scratch::poll_pass(from.as_mut(), to.as_mut(), cx, &mut self.waits)? else {
                    if self.waits.capacity() > 0 {
                        spare::give_buffer(std::mem::take(&mut self.waits));
                    }
                    ready!(to.as_mut().poll_flush(cx))?;
                    return Poll::Pending;
                };
                self.read_all = passed.read == 0;
                self.moved += passed.written as u64;
                *progress = Instant::now();
            }
            while !self.waits.is_empty() {
                let n = ready!(to.as_mut().poll_write(cx, &self.waits))?;
                if n == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.waits.advance(n);
                self.moved += n as u64;
                *progress = Instant::now();
            }
            if self.read_all {
                ready!(to.as_mut().poll_shutdown(cx))?;
                self.finished = true;
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test]
    async fn all_bytes_arrive_in_order_however_narrow_the_way_is() {
        let sent: Vec<u8> = (0..400_000u32).map(|number| ((number * 7919) >> 8) as u8).collect();
        for narrow in [1, 100, 70_000] {
            let ((mut client, mut near), (mut far, mut workload)) = (duplex(64 * 1024), duplex(narrow));
            let amount = sent.len().min(narrow * 9_000);
            let sent = &sent[..amount];
            let splicing = splice(&mut near, &mut far, None);
            let asking = async {
                let (mut read, mut write) = tokio::io::split(&mut client);
                let mut heard = Vec::new();
                tokio::join!(async { write.write_all(sent).await.and(write.shutdown().await).unwrap() }, async {
                    read.read_to_end(&mut heard).await.unwrap()
                });
                heard
            };
            let echoing = async {
                let (mut read, mut write) = tokio::io::split(&mut workload);
                tokio::io::copy(&mut read, &mut write).await.unwrap();
                write.shutdown().await.unwrap();
            };
            let ((end, up, down), heard, ()) = tokio::join!(splicing, asking, echoing);
            assert!(end.is_ok() && heard == sent, "{narrow}");
            assert_eq!((up, down), (amount as u64, amount as u64));
        }
    }

    #[tokio::test]
    async fn a_direction_that_is_silent_holds_no_buffer() {
        let ((mut client, mut near), (mut far, mut workload)) = (duplex(64 * 1024), duplex(8));
        let (mut pump, mut progress) = (Pump::default(), Instant::now());
        let mut polled = async || {
            let polled = futures_util::poll!(std::future::poll_fn(|cx| pump.poll(cx, &mut near, &mut far, &mut progress)));
            assert!(polled.is_pending());
            (pump.waits.len(), pump.waits.capacity() > 0)
        };
        assert_eq!(polled().await, (0, false), "nobody has spoken");
        client.write_all(b"twelve bytes").await.unwrap();
        assert_eq!(polled().await, (4, true), "eight have gone");
        let mut heard = [0; 12];
        workload.read_exact(&mut heard[..8]).await.unwrap();
        assert_eq!(polled().await, (0, false), "all have gone");
        workload.read_exact(&mut heard[8..]).await.unwrap();
        assert_eq!(&heard, b"twelve bytes");
    }
}
