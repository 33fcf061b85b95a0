//! What was called at one door.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Counters of one door.
#[derive(Debug, Default)]
pub struct Counts {
    open: AtomicU64,
    /// Connections that a hub has taken.
    pub taken: AtomicU64,
    /// Bytes to the service.
    pub to_service: AtomicU64,
    /// Bytes from it.
    pub from_service: AtomicU64,
    failed: Mutex<BTreeMap<&'static str, u64>>,
}

impl Counts {
    /// Connections open now, those that are still to be taken included.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Acquire)
    }

    /// Connections that failed, by reason. Reasons are words of this program, so they are few.
    pub fn failures(&self) -> Vec<(String, u64)> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect()
    }

    pub(super) fn fail(&self, reason: &'static str) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() += 1;
    }
}

/// One connection, as long as it counts.
#[derive(Debug)]
pub(super) struct Open(Arc<super::Door>);

impl Open {
    /// Counts a connection; `None` where there are as many as there may be.
    pub(super) fn enter(door: &Arc<super::Door>, limit: u64) -> Option<Self> {
        let open = &door.counts.open;
        let entered = open.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| (now < limit).then_some(now + 1));
        entered.is_ok().then(|| Self(Arc::clone(door)))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.counts.open.fetch_sub(1, Ordering::AcqRel);
    }
}
