//! Closed loop: each connection asks again as soon as it has its answer. For throughput and CPU per request.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::front::Front;
use super::wire::{Asked, Wire};
use super::{Done, together};

/// `connections` ask for `path`, whose body has `length` bytes, for a while.
pub fn closed(front: &Front, path: &'static str, length: usize, connections: usize, time: Duration) -> anyhow::Result<Done> {
    posted(front, path, 0, length, connections, time)
}

/// The same with a body of `sent` bytes in every request.
pub fn posted(front: &Front, path: &'static str, sent: usize, length: usize, connections: usize, time: Duration) -> anyhow::Result<Done> {
    let end = Instant::now() + time;
    let asked = Asked { path, sent, kept: true };
    together((0..connections).map(|_| {
        let front = front.clone();
        async move {
            let (mut wire, mut done) = (Wire::connect(&front, asked).await?, Done::new());
            while Instant::now() < end {
                let start = Instant::now();
                let bytes = wire.ask(length).await?;
                done.note(start.elapsed(), bytes);
            }
            Ok(done)
        }
    }))
}

/// `clients` ask for `path`, whose body has `length` bytes, on a connection for each request, for a while.
pub fn fresh(front: &Front, path: &'static str, length: usize, clients: usize, time: Duration) -> anyhow::Result<Done> {
    let end = Instant::now() + time;
    let asked = Asked { path, sent: 0, kept: false };
    together((0..clients).map(|_| {
        let front = front.of_one();
        async move {
            let mut done = Done::new();
            while Instant::now() < end {
                let start = Instant::now();
                let mut wire = Wire::connect(&front, asked).await?;
                let bytes = wire.ask(length).await?;
                done.resumed += u64::from(wire.resumed);
                wire.ended().await?;
                done.note(start.elapsed(), bytes);
            }
            Ok(done)
        }
    }))
}

/// Kept connections again, until `count` answers have come in all, not for a while.
pub fn exactly(address: SocketAddr, path: &'static str, length: usize, connections: usize, count: u64) -> anyhow::Result<Done> {
    let left = Rc::new(Cell::new(count));
    let asked = Asked { path, sent: 0, kept: true };
    together((0..connections).map(|_| {
        let left = Rc::clone(&left);
        async move {
            let (mut wire, mut done) = (Wire::connect(&Front::Plain(address), asked).await?, Done::new());
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
