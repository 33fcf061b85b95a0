//! Open-loop load: requests leave at a fixed rate whatever comes back; every answer is checked, and joined with the ledger at the end.
//!
//! Half are GET, half POST with a body. From when each left and ended it is told how long a fault went unnoticed, and how long after
//! its end the first request was served.

use std::fmt;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Namespace, Shop};
use crate::web::Connection;

/// Requests that may be under way at once.
const CLIENTS: usize = 64;

/// Failed requests that are told one by one where a test fails.
const TOLD: usize = 64;

/// One request and what came of it.
#[derive(Debug, Clone)]
struct Outcome {
    target: String,
    post: bool,
    sent: Instant,
    ended: Instant,
    /// The status; 0 if the connection broke.
    status: u16,
    /// Whether the answer is whole and its own, or says why there is none.
    sound: bool,
    reason: String,
}

/// Load that runs until it is stopped.
#[derive(Debug)]
pub struct Load {
    start: Instant,
    outcomes: Arc<Mutex<Vec<Outcome>>>,
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts so many requests a second from a namespace to a listener.
    pub fn start(from: &Namespace, web: SocketAddr, rate: u64) -> Self {
        // No two loads of a run ask for the same.
        static LOADS: AtomicU64 = AtomicU64::new(0);
        let load = LOADS.fetch_add(1, Ordering::SeqCst);
        let (outcomes, stop, next) = (Arc::default(), Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let start = Instant::now();
        let client = |_| {
            let (outcomes, stop, next): (Arc<Mutex<Vec<Outcome>>>, _, _) = (Arc::clone(&outcomes), Arc::clone(&stop), Arc::clone(&next));
            std::thread::spawn(move || {
                let mut connection = None;
                while !stop.load(Ordering::SeqCst) {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    let due = start + Duration::from_micros(number * 1_000_000 / rate);
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    let outcome = one(&mut connection, web, load, number);
                    outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
                }
            })
        };
        // Threads are born in the namespace of the thread that starts them.
        let clients = from.inside(|| (0..CLIENTS).map(client).collect());
        Self { start, outcomes, stop, clients }
    }

    /// Lets it run.
    pub fn run_for(&self, time: Duration) {
        std::thread::sleep(time);
    }

    /// Waits for a request that left after a moment and was served; how long after that moment it ended.
    pub fn served_after(&self, moment: Instant, deadline: Duration) -> Duration {
        self.first(moment, deadline, "a request is served", |outcome| outcome.status == 200 && outcome.sent >= moment)
    }

    /// Waits for a request that was answered with a failure after a moment; how long after it.
    pub fn failed_after(&self, moment: Instant, deadline: Duration) -> Duration {
        self.first(moment, deadline, "a failure is told", |outcome| outcome.status != 200)
    }

    fn first(&self, moment: Instant, deadline: Duration, what: &str, wanted: impl Fn(&Outcome) -> bool) -> Duration {
        let mut first = None;
        crate::process::eventually(what, deadline, || {
            let outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
            first =
                outcomes.iter().filter(|outcome| outcome.ended >= moment && wanted(outcome)).map(|outcome| outcome.ended - moment).min();
            first.is_some()
        });
        first.unwrap_or_default()
    }

    /// Ends it and joins what clients saw with what the workloads did.
    pub fn stop(self, shops: &[&Shop]) -> Report {
        self.stop.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.join().expect("a client of the load does not panic");
        }
        let mut outcomes = std::mem::take(&mut *self.outcomes.lock().unwrap_or_else(PoisonError::into_inner));
        outcomes.sort_by_key(|outcome| outcome.sent);
        let mut report = Report { sent: outcomes.len(), ..Report::default() };
        for outcome in outcomes {
            let rows: usize = shops.iter().map(|shop| shop.count(&outcome.target)).sum();
            let served = outcome.status == 200;
            report.served += usize::from(served);
            report.failed += usize::from(!served);
            report.failed_get += usize::from(!served && !outcome.post);
            report.lost += usize::from(served && rows == 0);
            report.duplicate += usize::from(outcome.post && rows > 1);
            // 503 promises that the request went nowhere.
            report.phantom += usize::from(outcome.status == 503 && outcome.post && rows > 0);
            report.unsound += usize::from(!outcome.sound);
            if served {
                report.slowest = report.slowest.max(outcome.ended - outcome.sent);
                continue;
            }
            if report.when.len() < TOLD {
                let (left, took) = (outcome.sent - self.start, outcome.ended - outcome.sent);
                report.when.push(format!("{:.3} s after the start, for {} ms: {}", left.as_secs_f64(), took.as_millis(), outcome.reason));
            }
            if !report.reasons.contains(&outcome.reason) && report.reasons.len() < 8 {
                report.reasons.push(outcome.reason);
            }
        }
        report
    }
}

fn one(connection: &mut Option<Connection>, web: SocketAddr, load: u64, number: u64) -> Outcome {
    let (target, post) = (format!("/work/{load}/{number}"), number % 2 == 1);
    let body = if post { format!("body-{number}-").repeat(1 + (number % 100) as usize) } else { String::new() };
    let sent = Instant::now();
    let link = connection.take().map_or_else(|| TcpStream::connect(web).map(Connection::of), Ok);
    let mut link = match link {
        Ok(link) => link,
        // Nobody was asked.
        Err(error) => {
            return Outcome { target, post, sent, ended: Instant::now(), status: 0, sound: true, reason: format!("no hub: {error}") };
        }
    };
    let method = if post { "POST" } else { "GET" };
    link.send(&format!("{method} {target} HTTP/1.1\r\nhost: shop.example\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
    let answer = link.answer(true);
    let ended = Instant::now();
    let (status, sound, reason) = match answer {
        Ok(answer) if answer.status() == 200 => {
            let own = answer.text() == format!("{target} {body}");
            *connection = Some(link);
            (200, own, "an answer to something else".to_owned())
        }
        // A failure that the hub explains (RFC 9209).
        Ok(answer) => {
            (answer.status(), !answer.field("proxy-status").is_empty(), format!("{} {}", answer.status(), answer.field("figspan-reason")))
        }
        Err(error) => (0, false, format!("the hub's connection broke: {error}")),
    };
    Outcome { target, post, sent, ended, status, sound, reason }
}

/// The whole load, at its end.
#[derive(Debug, Default)]
pub struct Report {
    /// Requests.
    pub sent: usize,
    /// Answered with 200.
    pub served: usize,
    /// Not answered so.
    pub failed: usize,
    /// Of those, requests that may be repeated.
    pub failed_get: usize,
    /// Answered so, and the workload knows nothing of it.
    pub lost: usize,
    /// Not safe to repeat, and repeated.
    pub duplicate: usize,
    /// Said not to have been sent, and done.
    pub phantom: usize,
    /// Wrong answers, and failures without a reason.
    pub unsound: usize,
    /// The longest that a request took that was served.
    pub slowest: Duration,
    /// What the hub said about failures.
    pub reasons: Vec<String>,
    /// The first of those that failed: when they left, how long they took, and why.
    pub when: Vec<String>,
}

impl Report {
    /// The promise that holds under every fault: nothing lost, twice, done but denied, wrong or unexplained.
    pub fn assert_honest(&self) {
        assert_eq!((self.lost, self.duplicate, self.phantom, self.unsound), (0, 0, 0, 0), "{self}");
        assert!(self.sent > 20, "{self}");
    }

    /// The stronger one: nobody noticed anything.
    pub fn assert_unharmed(&self) {
        self.assert_honest();
        assert_eq!(self.failed, 0, "{self}\n{}", self.when.join("\n"));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} sent, {} failed ({} GET), lost {}, twice {}, phantom {}, unexplained {}",
            self.sent, self.failed, self.failed_get, self.lost, self.duplicate, self.phantom, self.unsound
        )?;
        write!(f, ", slowest {} ms", self.slowest.as_millis())?;
        if self.reasons.is_empty() { Ok(()) } else { write!(f, " {:?}", self.reasons) }
    }
}
