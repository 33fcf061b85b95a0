//! Hop agent **receive** -> forward -> workload: takes the streams that a hub opens, and reads for whom they are.
//!
//! A stream that is not taken on is reset with a reason and "nothing delivered", so that the hub tries elsewhere at once.
//! Bounded in everything that a hub decides: the preamble's size and time, streams at once, connections per uplink.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use figspan_proto::preamble::{MAX_LEN, Preamble, PreambleError};
use figspan_proto::reset::{Reason, Reset};
use figspan_tunnel::drain::Drain;
use figspan_tunnel::resolve::Resolver;
use figspan_tunnel::stream::{Stream, StreamError};

use crate::forward;
use crate::uplinks::Uplinks;

/// How long a hub may take to say what a stream is for; it travels with the first bytes, so this is generous.
const PREAMBLE_TIME: Duration = Duration::from_secs(5);

/// What all streams of an agent share.
#[derive(Debug)]
pub struct Receiver {
    uplinks: Arc<Uplinks>,
    resolver: Resolver,
    work: Drain,
    load: Load,
}

/// Streams of all uplinks together.
#[derive(Debug)]
pub struct Load {
    open: AtomicU64,
    limit: AtomicU64,
    refused: AtomicU64,
    taken: AtomicU64,
}

/// Why no preamble was read.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error(transparent)]
    Malformed(#[from] PreambleError),
    #[error(transparent)]
    Stream(#[from] StreamError),
}

impl Receiver {
    /// A receiver whose streams belong to `work`.
    pub fn new(uplinks: Arc<Uplinks>, resolver: Resolver, work: Drain, max_streams: u64) -> Self {
        let load =
            Load { open: AtomicU64::new(0), limit: AtomicU64::new(max_streams), refused: AtomicU64::new(0), taken: AtomicU64::new(0) };
        Self { uplinks, resolver, work, load }
    }

    /// Streams open now.
    pub fn open(&self) -> u64 {
        self.load.open.load(Ordering::Acquire)
    }

    /// Streams that were refused before they had an uplink.
    pub fn refused(&self) -> u64 {
        self.load.refused.load(Ordering::Relaxed)
    }

    /// Streams that hubs have opened so far, refused ones included.
    pub fn taken(&self) -> u64 {
        self.load.taken.load(Ordering::Acquire)
    }

    /// Changes how many streams may be open at once.
    pub fn set_limit(&self, max_streams: u64) {
        self.load.limit.store(max_streams, Ordering::Release);
    }

    /// Takes a stream on as a task of its own, on the current runtime.
    pub fn take(self: &Arc<Self>, mut stream: Stream) {
        self.load.taken.fetch_add(1, Ordering::AcqRel);
        // Counted before the task starts, so that no moment exists in which a stream is taken but not counted.
        if self.load.open.fetch_add(1, Ordering::AcqRel) >= self.load.limit.load(Ordering::Acquire) {
            self.load.open.fetch_sub(1, Ordering::AcqRel);
            self.refuse(&mut stream, Reason::Limit);
            return;
        }
        let place = Place(Arc::clone(self));
        self.work.spawn(async move {
            let this = &place.0;
            let probe = stream.probe();
            let given = AtomicBool::new(false);
            let cut = async {
                this.work.forced().await;
                // What the workload has seen by now is no longer known, so nobody may be told that it saw nothing; unless the
                // stream came so late that the workload was never asked. Said before the splice is dropped, which would say less.
                probe.reset(match given.load(Ordering::Relaxed) {
                    true => Reset { reason: Reason::DrainDeadline, delivered: Reset::MAX_DELIVERED },
                    false => Reset::not_delivered(Reason::Draining),
                });
            };
            tokio::select! {
                biased;
                () = this.carry(stream, &given) => {}
                () = cut => {}
            }
        });
    }

    /// Reads the preamble and gives the stream to its workload; `given` is set before the workload is asked.
    async fn carry(&self, mut stream: Stream, given: &AtomicBool) {
        let preamble = match tokio::time::timeout(PREAMBLE_TIME, read_preamble(&mut stream)).await {
            Ok(Ok(preamble)) => preamble,
            Ok(Err(Unread::Malformed(error))) => {
                tracing::debug!(%error, "stream refused");
                return self.refuse(&mut stream, Reason::BadPreamble);
            }
            // The hub gave the stream up before it was for anybody.
            Ok(Err(Unread::Stream(_))) => return,
            Err(_) => return self.refuse(&mut stream, Reason::BadPreamble),
        };
        let Some(uplink) = self.uplinks.find(&preamble.uplink) else {
            return self.refuse(&mut stream, Reason::UnknownUplink);
        };
        if self.work.is_stopping() {
            uplink.counts.fail(Reason::Draining);
            return stream.reset(Reset::not_delivered(Reason::Draining));
        }
        let Some(_open) = uplink.counts.enter(uplink.settings.max_connections) else {
            uplink.counts.fail(Reason::Limit);
            return stream.reset(Reset::not_delivered(Reason::Limit));
        };
        uplink.counts.streams.fetch_add(1, Ordering::Relaxed);
        given.store(true, Ordering::Relaxed);
        forward::forward(&uplink, &preamble, stream, &self.resolver).await;
    }

    fn refuse(&self, stream: &mut Stream, reason: Reason) {
        self.load.refused.fetch_add(1, Ordering::Relaxed);
        stream.reset(Reset::not_delivered(reason));
    }
}

/// One of the streams that may be open at once.
struct Place(Arc<Receiver>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.load.open.fetch_sub(1, Ordering::AcqRel);
    }
}

async fn read_preamble(stream: &mut Stream) -> Result<Preamble, Unread> {
    let mut field = [0; 2];
    stream.read_exact(&mut field).await?;
    let length = Preamble::length(field)?;
    let mut body = [0; MAX_LEN];
    let body = &mut body[..length];
    stream.read_exact(body).await?;
    Ok(Preamble::decode(body)?)
}

#[cfg(test)]
mod tests;
