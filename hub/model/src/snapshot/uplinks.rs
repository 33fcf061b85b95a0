//! The uplinks of a snapshot, by name: a map of which two versions share all but what differs.
//!
//! A request looks a name up with one hash and a few steps. A change copies the list of buckets and one bucket, so one weight
//! among ten thousand uplinks costs what one weight costs. A map never changes under those who hold it.

use std::hash::BuildHasher;
use std::ops::Index;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::Uplink;

/// Ten thousand uplinks, the most that are planned for, make forty to a bucket: as cheap to copy as the list of buckets is.
const BUCKETS: usize = 256;

/// Uplinks in the order of their names' hashes.
type Bucket = Arc<Vec<(u64, Arc<Uplink>)>>;

/// The map. Cloning it costs one counter.
#[derive(Debug, Clone)]
pub struct Uplinks {
    /// Stays with all versions that come from one map.
    hasher: RandomState,
    buckets: Arc<[Bucket; BUCKETS]>,
    len: usize,
}

impl Default for Uplinks {
    fn default() -> Self {
        let empty = Bucket::default();
        Self { hasher: RandomState::default(), buckets: Arc::new(std::array::from_fn(|_| Arc::clone(&empty))), len: 0 }
    }
}

/// The first uplink of that hash, or where it would stand.
fn place(bucket: &[(u64, Arc<Uplink>)], hash: u64) -> usize {
    bucket.partition_point(|(other, _)| *other < hash)
}

/// Where the uplink stands, or would.
fn find(bucket: &[(u64, Arc<Uplink>)], hash: u64, name: &str) -> Result<usize, usize> {
    let first = place(bucket, hash);
    let mut alike = bucket[first..].iter().take_while(|(other, _)| *other == hash);
    alike.position(|(_, uplink)| uplink.name.as_str() == name).map(|at| first + at).ok_or(first)
}

impl Uplinks {
    fn hash(&self, name: &str) -> (u64, usize) {
        let hash = self.hasher.hash_one(name);
        // The low bits, which the order within a bucket looks at last.
        (hash, hash as usize % BUCKETS)
    }

    /// The uplink of that name.
    pub fn get(&self, name: impl AsRef<str>) -> Option<&Arc<Uplink>> {
        let (hash, at) = self.hash(name.as_ref());
        let bucket = &self.buckets[at];
        find(bucket, hash, name.as_ref()).ok().map(|found| &bucket[found].1)
    }

    /// Puts an uplink in the place of the one of its name, which is returned. Other versions of the map keep theirs.
    pub fn insert(&mut self, uplink: Arc<Uplink>) -> Option<Arc<Uplink>> {
        let (hash, at) = self.hash(uplink.name.as_str());
        let bucket = Arc::make_mut(&mut Arc::make_mut(&mut self.buckets)[at]);
        match find(bucket, hash, uplink.name.as_str()) {
            Ok(found) => Some(std::mem::replace(&mut bucket[found].1, uplink)),
            Err(free) => {
                bucket.insert(free, (hash, uplink));
                self.len += 1;
                None
            }
        }
    }

    /// Takes an uplink out. Other versions of the map keep it.
    pub fn remove(&mut self, name: impl AsRef<str>) -> Option<Arc<Uplink>> {
        let (hash, at) = self.hash(name.as_ref());
        let found = find(&self.buckets[at], hash, name.as_ref()).ok()?;
        self.len -= 1;
        Some(Arc::make_mut(&mut Arc::make_mut(&mut self.buckets)[at]).remove(found).1)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of them, in no particular order.
    pub fn values(&self) -> impl Iterator<Item = &Arc<Uplink>> {
        self.buckets.iter().flat_map(|bucket| bucket.iter().map(|(_, uplink)| uplink))
    }
}

impl<N: AsRef<str>> Index<N> for Uplinks {
    type Output = Arc<Uplink>;

    fn index(&self, name: N) -> &Arc<Uplink> {
        self.get(name).expect("an uplink of that name")
    }
}

impl FromIterator<Arc<Uplink>> for Uplinks {
    fn from_iter<I: IntoIterator<Item = Arc<Uplink>>>(all: I) -> Self {
        let mut uplinks = Self::default();
        for uplink in all {
            uplinks.insert(uplink);
        }
        uplinks
    }
}

#[cfg(test)]
mod tests;
