//! What one shard owns and lends to every request on it.

use std::rc::Rc;

use figspan_model::snapshot::{Reader, Snapshot};
use figspan_model::state::Shard;
use figspan_tunnel::drain::Drain;

use crate::dial::Dialer;
use crate::metrics::Metrics;

/// A shard's belongings; shared by `Rc` on its thread only.
pub struct ShardContext {
    /// Its index.
    pub shard: Shard,
    /// Where snapshots come from.
    pub reader: Reader,
    /// Pools and ways to backends.
    pub dialer: Dialer,
    /// Counters of this shard.
    pub metrics: std::sync::Arc<Metrics>,
    /// Owner of its tasks.
    pub drain: Drain,
}

impl ShardContext {
    /// The snapshot for one request.
    pub fn snapshot(&self) -> std::sync::Arc<Snapshot> {
        self.reader.load()
    }
}

/// Shared on the shard's thread.
pub type ShardRef = Rc<ShardContext>;
