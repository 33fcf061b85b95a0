//! Open loop: requests leave at their time, whatever the answers take. A request that had to wait for its connection counts from the time
//! it was due, so that a stall is not hidden (coordinated omission).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::front::Front;
use super::wire::{Asked, Wire};
use super::{Done, together};

/// `rate` requests a second over `connections`, for a while.
pub fn paced(
    address: SocketAddr,
    path: &'static str,
    length: usize,
    connections: usize,
    rate: u32,
    time: Duration,
) -> anyhow::Result<Done> {
    let begin = Instant::now() + Duration::from_millis(50);
    let each = Duration::from_secs_f64(connections as f64 / f64::from(rate));
    let asked = Asked { path, sent: 0, kept: true };
    together((0..connections).map(|number| async move {
        let (mut wire, mut done) = (Wire::connect(&Front::Plain(address), asked).await?, Done::new());
        let mut due = begin + each.mul_f64(number as f64 / connections as f64);
        while due < begin + time {
            // The timer's grain is a millisecond: who is early waits, and then counts from when it asked.
            let late = Instant::now().checked_duration_since(due);
            if late.is_none() {
                tokio::time::sleep_until(due.into()).await;
            }
            let since = if late.is_some() { due } else { Instant::now() };
            let bytes = wire.ask(length).await?;
            done.note(since.elapsed(), bytes);
            due += each;
        }
        Ok(done)
    }))
}
