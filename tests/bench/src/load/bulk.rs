//! Long downloads, one or several at a time.

use std::net::SocketAddr;
use std::time::Instant;

use super::wire::Wire;
use super::{Done, together};

/// `streams` connections download `path`, whose body has `length` bytes, once.
pub fn bulk(address: SocketAddr, path: &'static str, length: usize, streams: usize) -> anyhow::Result<Done> {
    together((0..streams).map(|_| async move {
        let (mut wire, mut done) = (Wire::connect(address, path, 0).await?, Done::new());
        let start = Instant::now();
        let bytes = wire.ask(length).await?;
        done.note(start.elapsed(), bytes);
        Ok(done)
    }))
}
