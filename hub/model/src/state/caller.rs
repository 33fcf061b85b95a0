//! What an agent's processes call.

use super::PerShard;

/// Counters of one agent's calls.
#[derive(Debug)]
pub struct CallerState {
    /// Connections to services open now.
    pub open: PerShard,
    /// Connections taken on so far.
    pub taken: PerShard,
}

impl CallerState {
    pub(super) fn new(shards: usize) -> Self {
        Self { open: PerShard::new(shards), taken: PerShard::new(shards) }
    }
}
