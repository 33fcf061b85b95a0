//! Connection ids that name their shard, so that packets find it whatever address they come from.

use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};
use rand::RngExt;

use super::MAX_SHARDS;

/// Length of the ids that shards issue, in bytes.
const LENGTH: usize = 8;

/// Issues ids whose first byte is the shard modulo the number of shards; the rest is random.
#[derive(Debug)]
pub(super) struct ShardIds {
    shard: u8,
    shards: u8,
}

impl ShardIds {
    /// `shard` < `shards` <= [`MAX_SHARDS`].
    pub(super) fn new(shard: usize, shards: usize) -> Self {
        let shards = shards.clamp(1, MAX_SHARDS);
        Self { shard: (shard % shards) as u8, shards: shards as u8 }
    }
}

impl ConnectionIdGenerator for ShardIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id: [u8; LENGTH] = rand::random();
        let choices = (u8::MAX - self.shard) / self.shards;
        id[0] = self.shard + self.shards * rand::rng().random_range(0..=choices);
        ConnectionId::new(&id)
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        match id.first() {
            Some(first) if first % self.shards == self.shard => Ok(()),
            _ => Err(InvalidCid),
        }
    }

    fn cid_len(&self) -> usize {
        LENGTH
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

/// The id of an agent's first packet, which chooses the shard: unpredictable but for its first byte (RFC 9000, section 7.2,
/// asks for at least 8 bytes that are; there are 15).
pub(crate) fn towards(shard: u8) -> ConnectionId {
    let mut id: [u8; 16] = rand::random();
    id[0] = shard;
    ConnectionId::new(&id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_id_names_its_shard_and_no_other(shards in 1usize..=MAX_SHARDS, pick: usize) {
            let shard = pick % shards;
            let mut ids = ShardIds::new(shard, shards);
            for _ in 0..50 {
                let id = ids.generate_cid();
                prop_assert_eq!(id.len(), ids.cid_len());
                prop_assert_eq!(usize::from(id[0]) % shards, shard);
                prop_assert!(ids.validate(&id).is_ok());
                prop_assert!(shards == 1 || ShardIds::new((shard + 1) % shards, shards).validate(&id).is_err());
            }
        }
    }
}
