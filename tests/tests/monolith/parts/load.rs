//! Open-loop load: requests leave at a fixed rate whatever comes back, and every answer is checked.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;

/// Where answers came from, since the last look.
#[derive(Debug, Default, Clone, Copy)]
pub struct Share {
    pub monolith: usize,
    pub orders: usize,
}

impl Share {
    pub fn total(&self) -> usize {
        self.monolith + self.orders
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "monolith {}, orders {}", self.monolith, self.orders)
    }
}

/// The whole load, at its end.
#[derive(Debug)]
pub struct Report {
    pub sent: usize,
    pub failed: usize,
    pub posts_to_monolith: usize,
    pub first_failures: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} requests, {} failed, {} POSTs answered by the monolith {:?}",
            self.sent, self.failed, self.posts_to_monolith, self.first_failures
        )
    }
}

#[derive(Default)]
struct Counts {
    sent: AtomicUsize,
    failed: AtomicUsize,
    monolith: AtomicUsize,
    orders: AtomicUsize,
    posts_to_monolith: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

/// Load that runs until it is stopped, at most five minutes.
pub struct Load {
    counts: Arc<Counts>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Load {
    pub fn start(web: &SocketAddr, get: &'static str, post: &'static str, per_second: u32) -> Self {
        let counts = Arc::new(Counts::default());
        let stop = Arc::new(AtomicBool::new(false));
        let (web, theirs, end) = (*web, Arc::clone(&counts), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut clock = tokio::time::interval(Duration::from_secs(1) / per_second);
                clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
                let idle = Arc::new(tokio::sync::Mutex::new(Vec::new()));
                let mut running = tokio::task::JoinSet::new();
                let started = Instant::now();
                while !end.load(Ordering::Relaxed) && started.elapsed() < Duration::from_secs(300) {
                    clock.tick().await;
                    let number = theirs.sent.fetch_add(1, Ordering::Relaxed);
                    let (counts, idle) = (Arc::clone(&theirs), Arc::clone(&idle));
                    running.spawn(async move {
                        let body = if number % 3 == 0 { Some(number * 37 % 40_000) } else { None };
                        let connection = idle.lock().await.pop();
                        let answer = tokio::time::timeout(Duration::from_secs(30), ask(web, connection, get, post, body)).await;
                        match answer.map_err(|_| "no answer in 30 s".to_owned()).flatten() {
                            Ok((connection, from_orders)) => {
                                idle.lock().await.push(connection);
                                let from = if from_orders { &counts.orders } else { &counts.monolith };
                                from.fetch_add(1, Ordering::Relaxed);
                                if !from_orders && body.is_some() {
                                    counts.posts_to_monolith.fetch_add(1, Ordering::Relaxed);
                                }
                            }
                            Err(why) => {
                                counts.failed.fetch_add(1, Ordering::Relaxed);
                                let mut failures = counts.failures.lock().unwrap();
                                if failures.len() < 5 {
                                    failures.push(why);
                                }
                            }
                        }
                    });
                    while running.try_join_next().is_some() {}
                }
                while running.join_next().await.is_some() {}
            });
        });
        Self { counts, stop, thread: Some(thread) }
    }

    pub fn run_for(&self, time: Duration) {
        std::thread::sleep(time);
    }

    pub fn take_share(&self) -> Share {
        Share { monolith: self.counts.monolith.swap(0, Ordering::Relaxed), orders: self.counts.orders.swap(0, Ordering::Relaxed) }
    }

    pub fn stop(mut self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        Report {
            sent: self.counts.sent.load(Ordering::Relaxed),
            failed: self.counts.failed.load(Ordering::Relaxed),
            posts_to_monolith: self.counts.posts_to_monolith.load(Ordering::Relaxed),
            first_failures: self.counts.failures.lock().unwrap().clone(),
        }
    }
}

type Connection = http1::SendRequest<Full<bytes::Bytes>>;

/// One request with a checked answer: the connection for the next one, and whether the extracted part answered.
async fn ask(web: SocketAddr, idle: Option<Connection>, get: &str, post: &str, body: Option<usize>) -> Result<(Connection, bool), String> {
    let mut connection = match idle {
        Some(connection) if !connection.is_closed() => connection,
        _ => {
            let tcp = tokio::net::TcpStream::connect(web).await.map_err(|error| format!("connect: {error}"))?;
            let (sender, driver) = http1::handshake(TokioIo::new(tcp)).await.map_err(|error| format!("handshake: {error}"))?;
            #[allow(clippy::disallowed_methods, reason = "the runtime of the load owns it and ends with it")]
            tokio::spawn(driver);
            sender
        }
    };
    let request = Request::builder().header("host", "shop.example");
    let request = match body {
        None => request.uri(get).body(Full::default()),
        Some(length) => request.method("POST").uri(post).body(Full::from(vec![b'x'; length])),
    };
    let request = request.map_err(|error| error.to_string())?;
    connection.ready().await.map_err(|error| format!("ready: {error}"))?;
    let answer = connection.send_request(request).await.map_err(|error| format!("request: {error}"))?;
    let (head, answer) = answer.into_parts();
    let text = answer.collect().await.map_err(|error| format!("body: {error}"))?.to_bytes();
    let text = String::from_utf8_lossy(&text);
    let right = match body {
        None => text.contains("Hello World!"),
        Some(length) => text.contains(&format!("Total bytes written = [{length}]")),
    };
    if head.status != 200 || !right {
        return Err(format!("{} {:?} {text:.80}", head.status, head.headers.get("proxy-status")));
    }
    Ok((connection, head.headers.get("x-served-by").is_some_and(|by| by == "orders")))
}
