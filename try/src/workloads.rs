//! Our own workloads, for when none were given: a small monolith and an `orders` service, on loopback.
//!
//! They answer people with a page, and requests of our own load (which carry an id) with an echo of what they wrote to the
//! ledger before. Each runs on one thread of its own, so that the hub's threads are not disturbed.

mod answer;

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;

use crate::ledger::Ledger;

pub(crate) use answer::{BY, ID, RECEIVED, WROTE, id_text};

/// Longest time that a client may take to send the head of a request.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// A running workload; ends when dropped.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// What a workload counts for itself.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Requests that carried an id or came from people; health checks do not count.
    pub(crate) requests: AtomicU64,
}

impl Workload {
    /// Starts a workload under a name; `instance` is told in its answers.
    pub(crate) fn start(name: &'static str, instance: &str, ledger: Arc<Ledger>) -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot open a port on 127.0.0.1")?;
        listener.set_nonblocking(true).context("cannot set up a listener")?;
        let address = listener.local_addr().context("cannot learn a listener's address")?;
        let (stop, seen) = (CancellationToken::new(), Arc::new(Seen::default()));
        let about = answer::About { name, instance: instance.to_owned(), ledger, seen: Arc::clone(&seen) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start a runtime")?;
        let ended = stop.clone();
        let serve = move || LocalSet::new().block_on(&runtime, serve(listener, Rc::new(about), ended));
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(serve).context("cannot start a thread")?;
        Ok(Self { address, seen, stop, thread: Some(thread) })
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.seen.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: std::net::TcpListener, about: Rc<answer::About>, stop: CancellationToken) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let Ok((stream, _)) = accepted else {
            // Out of descriptors: they come back.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let about = Rc::clone(&about);
        let stop = stop.clone();
        // The thread's LocalSet owns the connections: they end with it.
        tokio::task::spawn_local(async move {
            let service = service_fn(move |request| {
                let about = Rc::clone(&about);
                async move { Ok::<_, Infallible>(answer::answer(&about, request).await) }
            });
            let mut server = hyper::server::conn::http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
            let connection = server.serve_connection(TokioIo::new(stream), service);
            let _ = stop.run_until_cancelled(connection).await;
        });
    }
}
