//! A long way: what a host sends and hears takes its time, and some packets overtake others. The kernel hands each packet over
//! (NFQUEUE) and gets it back when its time has come.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nfq::{Message, Queue, Verdict};

use super::Namespace;

/// The queue's number; a namespace has its own.
const QUEUE: u16 = 1;
/// Most packets on their way; what comes on top is lost, as on any way.
const PACKETS: usize = 20_000;
/// How exactly times are kept.
const TICK: Duration = Duration::from_micros(500);
/// What passes through the queue, and where.
const RULES: [[&str; 3]; 2] = [["INPUT", "-i", "eth0"], ["OUTPUT", "-o", "eth0"]];

/// Lets go what is queued under `QUEUE` in one namespace when its time has come, until it is dropped.
#[derive(Debug)]
#[must_use = "nobody lets packets go when this is dropped"]
pub struct Late {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Late {
    /// In the namespace of the thread that calls it. Every packet takes `way`, give or take at most `jitter`.
    pub fn start(way: Duration, jitter: Duration) -> std::io::Result<Self> {
        let mut queue = Queue::open()?;
        queue.bind(QUEUE)?;
        queue.set_queue_max_len(QUEUE, u32::try_from(PACKETS).unwrap_or(u32::MAX))?;
        // Verdicts alone: what is in a packet is nobody's business.
        queue.set_copy_range(QUEUE, 64)?;
        queue.set_nonblocking(true);
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let thread = std::thread::spawn(move || carry(queue, way, jitter, &ended));
        Ok(Self { end, thread: Some(thread) })
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        self.end.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The way is long while this lives.
#[derive(Debug)]
#[must_use = "the way is short again when this is dropped"]
pub struct Delay<'a> {
    namespace: &'a Namespace,
    _late: Late,
}

impl<'a> Delay<'a> {
    /// Every packet takes `way` each way, give or take at most `jitter`.
    pub fn start(namespace: &'a Namespace, way: Duration, jitter: Duration) -> Self {
        let late = namespace.inside(|| Late::start(way, jitter).unwrap_or_else(|error| panic!("a queue of packets: {error}")));
        let delay = Self { namespace, _late: late };
        delay.rules("-A");
        delay
    }

    fn rules(&self, how: &str) {
        for [chain, direction, interface] in RULES {
            let number = QUEUE.to_string();
            self.namespace.run("iptables-legacy", &["-w", how, chain, direction, interface, "-j", "NFQUEUE", "--queue-num", &number]);
        }
    }
}

/// Lets packets go when their time has come.
fn carry(mut queue: Queue, way: Duration, jitter: Duration, end: &AtomicBool) {
    let mut under_way: BTreeMap<(Instant, u32), Message> = BTreeMap::new();
    let shortest = way.saturating_sub(jitter);
    while !end.load(Ordering::SeqCst) || !under_way.is_empty() {
        loop {
            match queue.recv() {
                Ok(packet) => {
                    let due = Instant::now() + shortest + (2 * jitter).mul_f64(rand::random());
                    under_way.insert((due, packet.get_packet_id()), packet);
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => break,
                Err(error) => panic!("a queue of packets: {error}"),
            }
        }
        let now = Instant::now();
        while let Some(first) = under_way.first_entry().filter(|first| first.key().0 <= now) {
            let mut packet = first.remove();
            packet.set_verdict(Verdict::Accept);
            queue.verdict(packet).unwrap_or_else(|error| panic!("a queue of packets: {error}"));
        }
        std::thread::sleep(TICK);
    }
}

impl Drop for Delay<'_> {
    fn drop(&mut self) {
        self.rules("-D");
    }
}
