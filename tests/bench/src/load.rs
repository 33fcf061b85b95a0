//! The loads. Each is bounded in time, runs on one thread, and fails loudly on any answer that is not what was asked for: a
//! benchmark of errors is worth nothing.

mod bulk;
mod closed;
mod echo;
mod front;
mod h2;
pub mod idle;
mod paced;
mod wire;

use std::time::Duration;

use hdrhistogram::Histogram;

pub use bulk::bulk;
pub use closed::{closed, exactly, fresh, posted};
pub use echo::{bytes, messages};
pub use front::{Client, Front};
pub use h2::{calls, requests};
pub use paced::paced;

/// No load lasts longer: a chain that would need more is not worth the others' time.
const LONGEST: Duration = Duration::from_secs(90);

/// What a load did.
#[derive(Debug, Clone)]
pub struct Done {
    /// Answers.
    pub count: u64,
    /// Bytes of bodies.
    pub bytes: u64,
    /// From the first request to the last answer.
    pub took: Duration,
    /// Of each answer, in microseconds.
    pub latency: Histogram<u64>,
    /// Connections that took up a TLS session from before, where each request has its own.
    pub resumed: u64,
}

impl Done {
    fn new() -> Self {
        Self {
            count: 0,
            bytes: 0,
            took: Duration::ZERO,
            latency: Histogram::new_with_bounds(1, 60_000_000, 3).expect("constant bounds"),
            resumed: 0,
        }
    }

    fn note(&mut self, took: Duration, bytes: usize) {
        self.count += 1;
        self.bytes += bytes as u64;
        self.latency.saturating_record(took.as_micros().max(1) as u64);
    }

    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.bytes += other.bytes;
        self.latency.add(&other.latency).expect("the same bounds");
        self.resumed += other.resumed;
    }

    /// Answers per second.
    pub fn rate(&self) -> f64 {
        self.count as f64 / self.took.as_secs_f64()
    }

    /// Milliseconds below which that part of the answers lies.
    pub fn quantile(&self, part: f64) -> f64 {
        self.latency.value_at_quantile(part) as f64 / 1000.0
    }
}

/// Runs clients on one thread until all end; the sum of what they did.
fn together<F>(clients: impl IntoIterator<Item = F>) -> anyhow::Result<Done>
where
    F: Future<Output = anyhow::Result<Done>> + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async move {
        let start = std::time::Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for client in clients {
            tasks.spawn_local(client);
        }
        let all = async {
            let mut sum = Done::new();
            while let Some(done) = tasks.join_next().await {
                sum.add(&done??);
            }
            sum.took = start.elapsed();
            Ok(sum)
        };
        tokio::time::timeout(LONGEST, all).await.unwrap_or_else(|_| Err(anyhow::anyhow!("not done within {} s", LONGEST.as_secs())))
    })
}
