//! Long downloads, one or several at a time.

use std::net::SocketAddr;
use std::time::Instant;

use super::front::Front;
use super::wire::{Asked, Wire};
use super::{Done, together};

/// `streams` connections download `path`, whose body has `length` bytes, once.
pub fn bulk(address: SocketAddr, path: &'static str, length: usize, streams: usize) -> anyhow::Result<Done> {
    let asked = Asked { path, sent: 0, kept: true };
    together((0..streams).map(|_| async move {
        let (mut wire, mut done) = (Wire::connect(&Front::Plain(address), asked).await?, Done::new());
        let start = Instant::now();
        let bytes = wire.ask(length).await?;
        done.note(start.elapsed(), bytes);
        Ok(done)
    }))
}
