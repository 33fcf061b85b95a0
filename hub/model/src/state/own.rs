//! A number that one thread writes and all may read.
//!
//! To write it takes a read and a write and no more: an addition that other writers could run into costs some twenty times as much,
//! even where there are none. A second writer would lose what the first one counted, so builds with assertions look for one.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter or gauge with one writer, the first thread that writes it.
#[derive(Debug, Default)]
pub struct Own {
    value: AtomicU64,
    #[cfg(debug_assertions)]
    writer: std::sync::OnceLock<std::thread::ThreadId>,
}

impl Own {
    /// Adds. Whoever reads the sum sees all that the writer wrote before.
    pub fn add(&self, n: u64) {
        self.set(self.value.load(Ordering::Relaxed).wrapping_add(n));
    }

    /// Takes away (gauges).
    pub fn sub(&self, n: u64) {
        self.set(self.value.load(Ordering::Relaxed).wrapping_sub(n));
    }

    /// Replaces (gauges).
    pub fn set(&self, n: u64) {
        #[cfg(debug_assertions)]
        assert_eq!(*self.writer.get_or_init(|| std::thread::current().id()), std::thread::current().id(), "a second writer");
        self.value.store(n, Ordering::Release);
    }

    /// Reads; sees what was written before.
    pub fn value(&self) -> u64 {
        self.value.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_thread_writes_all_read() {
        let own = Own::default();
        own.add(5);
        own.sub(2);
        std::thread::scope(|scope| scope.spawn(|| assert_eq!(own.value(), 3)).join().unwrap());
        own.set(7);
        assert_eq!(own.value(), 7);
    }

    #[test]
    #[cfg(debug_assertions)]
    fn a_second_writer_is_noticed() {
        let own = Own::default();
        own.add(1);
        let second = std::thread::scope(|scope| scope.spawn(|| own.add(1)).join());
        assert!(second.is_err());
    }
}
