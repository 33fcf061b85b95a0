//! Closed loop: each connection asks again as soon as it has its answer. For throughput and CPU per request.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::wire::Wire;
use super::{Done, together};

/// `connections` ask for `path`, whose body has `length` bytes, for a while.
pub fn closed(address: SocketAddr, path: &'static str, length: usize, connections: usize, time: Duration) -> anyhow::Result<Done> {
    posted(address, path, 0, length, connections, time)
}

/// The same with a body of `sent` bytes in every request.
pub fn posted(
    address: SocketAddr,
    path: &'static str,
    sent: usize,
    length: usize,
    connections: usize,
    time: Duration,
) -> anyhow::Result<Done> {
    let end = Instant::now() + time;
    together((0..connections).map(|_| async move {
        let (mut wire, mut done) = (Wire::connect(address, path, sent).await?, Done::new());
        while Instant::now() < end {
            let start = Instant::now();
            let bytes = wire.ask(length).await?;
            done.note(start.elapsed(), bytes);
        }
        Ok(done)
    }))
}

/// The same until `count` answers have come in all, not for a while.
pub fn exactly(address: SocketAddr, path: &'static str, length: usize, connections: usize, count: u64) -> anyhow::Result<Done> {
    let left = Rc::new(Cell::new(count));
    together((0..connections).map(|_| {
        let left = Rc::clone(&left);
        async move {
            let (mut wire, mut done) = (Wire::connect(address, path, 0).await?, Done::new());
            while left.get() > 0 {
                left.set(left.get() - 1);
                let start = Instant::now();
                let bytes = wire.ask(length).await?;
                done.note(start.elapsed(), bytes);
            }
            Ok(done)
        }
    }))
}
