//! Workloads that keep a book: a row for each request with an id, written before it is answered, and an echo of what was written.
//!
//! Each runs on one thread of its own, so that nobody else's threads are disturbed, and speaks HTTP/1.1 and h2c on one port. It
//! answers people (requests without an id) with a page. Its [`Mood`] makes it slow, sick, crash, or drop its connections; `down`
//! ends it as a killed process ends, and `up` starts it again at the same address.

mod answer;
mod mood;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;

use crate::join::Ledger;
use crate::local::Local;

pub use mood::Mood;

/// Longest time that a client may take to send the head of a request.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// Longest time that a workload takes to come or go.
const TURN_TIME: Duration = Duration::from_secs(10);

/// A running workload; ends when dropped.
#[derive(Debug)]
pub struct Workload {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it counts.
    pub seen: Arc<Seen>,
    mood: Arc<Mood>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// What a workload counts for itself.
#[derive(Debug, Default)]
pub struct Seen {
    /// Requests that carried an id or came from people; health checks do not count.
    pub requests: AtomicU64,
}

impl Workload {
    /// Starts a workload under a name on 127.0.0.1; `instance` is told in its answers.
    pub fn start(name: &'static str, instance: &str, ledger: Arc<Ledger>) -> anyhow::Result<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), name, instance, ledger)
    }

    /// The same at another address of this machine, which should be nobody else's if the workload is to go down and come back:
    /// its port is free meanwhile.
    pub fn start_at(ip: IpAddr, name: &'static str, instance: &str, ledger: Arc<Ledger>) -> anyhow::Result<Self> {
        let listener = listen(SocketAddr::new(ip, 0)).with_context(|| format!("cannot open a port on {ip}"))?;
        let address = listener.local_addr().context("cannot learn a listener's address")?;
        let (stop, seen, mood) = (CancellationToken::new(), Arc::new(Seen::default()), Arc::new(Mood::default()));
        mood.now_listens(true);
        let about = answer::About { name, instance: instance.to_owned(), ledger, seen: Arc::clone(&seen), mood: Arc::clone(&mood) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start a runtime")?;
        let ended = stop.clone();
        let live = move || LocalSet::new().block_on(&runtime, live(listener, address, Rc::new(about), ended));
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(live).context("cannot start a thread")?;
        Ok(Self { address, seen, mood, stop, thread: Some(thread) })
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.seen.requests.load(Ordering::SeqCst)
    }

    /// How it behaves from now on.
    pub fn mood(&self) -> &Mood {
        &self.mood
    }

    /// Ends its listener and all its connections, as a killed process does; returns when new connections are refused.
    pub fn down(&self) {
        self.turn(true);
    }

    /// Listens again; returns when it does.
    pub fn up(&self) {
        self.turn(false);
    }

    fn turn(&self, down: bool) {
        self.mood.turn(down);
        let start = std::time::Instant::now();
        while self.mood.listens() == down {
            assert!(start.elapsed() < TURN_TIME, "{} does not turn {}", self.address, if down { "down" } else { "up" });
            std::thread::sleep(Duration::from_millis(1));
        }
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

fn listen(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Up and down in turn, until it is stopped.
async fn live(first: std::net::TcpListener, address: SocketAddr, about: Rc<answer::About>, stop: CancellationToken) {
    let mut listener = TcpListener::from_std(first).ok();
    loop {
        let life = stop.child_token();
        if let Some(listener) = listener.take() {
            about.mood.now_listens(true);
            tokio::select! {
                () = serve(listener, &about, &life) => {}
                () = about.mood.until(true) => {}
                () = stop.cancelled() => {}
            }
        }
        // Before anybody can see the connections end: what breaks off from here on is the workload's doing.
        life.cancel();
        tokio::task::yield_now().await;
        about.mood.now_listens(false);
        if stop.run_until_cancelled(about.mood.until(false)).await.is_none() {
            return;
        }
        while listener.is_none() && !stop.is_cancelled() {
            listener = listen(address).and_then(TcpListener::from_std).ok();
            if listener.is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

async fn serve(listener: TcpListener, about: &Rc<answer::About>, life: &CancellationToken) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: they come back.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (about, life) = (Rc::clone(about), life.clone());
        // The thread's LocalSet owns the connections: they end with it.
        tokio::task::spawn_local(async move {
            let _ = life.run_until_cancelled(connection(stream, about)).await;
        });
    }
}

/// Serves one connection, HTTP/1.1 or h2c as its first bytes say, until it ends or the workload's mood ends it.
async fn connection(stream: TcpStream, about: Rc<answer::About>) {
    let mut first = [0; 3];
    let h2 = matches!(stream.peek(&mut first).await, Ok(3)) && &first == b"PRI";
    let mood = Arc::clone(&about.mood);
    let service = service_fn(move |request| {
        let about = Rc::clone(&about);
        async move { answer::answer(&about, request).await }
    });
    let io = TokioIo::new(stream);
    if h2 {
        let _ = hyper::server::conn::http2::Builder::new(Local).timer(TokioTimer::new()).serve_connection(io, service).await;
        return;
    }
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    let mut connection = std::pin::pin!(server.serve_connection(io, service));
    tokio::select! {
        _ = connection.as_mut() => {}
        () = mood.bored() => {
            // An idle connection ends at once, maybe while a request is on its way to it.
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
