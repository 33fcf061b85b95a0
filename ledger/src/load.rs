//! Requests at a fixed rate, whatever the answers take (an open loop).
//!
//! Latency counts from the moment at which a request was due, so that a stall shows in every request that it held up. What
//! came of each request is kept for the join; per stage there are counts and a histogram.

mod exchange;
mod jar;
mod mix;
mod pool;
mod record;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use http::HeaderValue;
use tokio::task::LocalSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

pub use mix::Mix;
pub use record::{Recorder, Stage};

/// Most requests under way. Beyond that the hub is stuck, and more would only hide where.
const MAX_UNDER_WAY: usize = 4096;

/// How long the last requests may take once the load is stopped.
const LAST_ANSWERS: Duration = Duration::from_secs(40);

/// What to send where.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where to connect.
    pub address: SocketAddr,
    /// The `Host` to ask for.
    pub host: HeaderValue,
    /// The path of every request.
    pub path: String,
    /// Requests per second, above 0.
    pub rate: u32,
    /// Which requests, where our own workloads answer: then they carry an id. `None`: GETs, and any answer will do.
    pub own: Option<Mix>,
    /// Whether every outcome is kept for the join; else only the counts.
    pub keep: bool,
    /// How many requests; `None`: until told to stop.
    pub most: Option<u64>,
}

/// A running load.
#[derive(Debug)]
pub struct Load {
    recorder: Arc<Mutex<Recorder>>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Starts sending.
    pub fn start(target: Target) -> anyhow::Result<Self> {
        let recorder = Arc::new(Mutex::new(Recorder::new(target.keep)));
        let stop = CancellationToken::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start a runtime")?;
        let (into, ended) = (Arc::clone(&recorder), stop.clone());
        let run = move || LocalSet::new().block_on(&runtime, send(Rc::new(target), into, ended));
        let thread = std::thread::Builder::new().name("load".to_owned()).spawn(run).context("cannot start a thread")?;
        Ok(Self { recorder, stop, thread: Some(thread) })
    }

    /// Looks at what was recorded. Short work only: the load waits meanwhile.
    pub fn with<T>(&self, look: impl FnOnce(&mut Recorder) -> T) -> T {
        look(&mut self.recorder.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether all requests of a bounded load have ended.
    pub fn is_done(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Sends no more, waits for the last answers, and hands over the record.
    pub fn finish(mut self) -> Recorder {
        self.end();
        std::mem::take(&mut *self.recorder.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn end(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

async fn send(target: Rc<Target>, recorder: Arc<Mutex<Recorder>>, stop: CancellationToken) {
    let under_way = Rc::new(Cell::new(0_usize));
    let pool = Rc::new(pool::Pool::new(Rc::clone(&target)));
    let started = Instant::now();
    let mut due = tokio::time::interval(Duration::from_secs(1) / target.rate);
    due.set_missed_tick_behavior(MissedTickBehavior::Burst);
    // Ids of two runs against one workload must not meet.
    let first: u64 = rand::random::<u64>() & !0xffff_ffff;
    let mut number = 0_u64;
    while target.most.is_none_or(|most| number < most) {
        let Some(at) = stop.run_until_cancelled(due.tick()).await else { break };
        let lock = || recorder.lock().unwrap_or_else(PoisonError::into_inner);
        if under_way.get() >= MAX_UNDER_WAY {
            lock().held_back();
            continue;
        }
        let ask = mix::ask(target.own, first + number, number);
        let stage = lock().begin();
        number += 1;
        under_way.set(under_way.get() + 1);
        let (pool, recorder, under_way) = (Rc::clone(&pool), Arc::clone(&recorder), Rc::clone(&under_way));
        // The thread's LocalSet owns the requests; the loop below waits for them.
        tokio::task::spawn_local(async move {
            let mut done = exchange::exchange(&pool, &ask).await;
            done.sent.time = (at - started, started.elapsed());
            recorder.lock().unwrap_or_else(PoisonError::into_inner).end(stage, done, at.elapsed());
            under_way.set(under_way.get() - 1);
        });
    }
    let deadline = Instant::now() + LAST_ANSWERS;
    while under_way.get() > 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[cfg(test)]
mod tests;
