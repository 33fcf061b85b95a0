//! The heap after work: free, and still resident.
//!
//! glibc gives free memory back where it lies at the end of a heap. One small allocation that outlives a burst is enough to keep
//! all that lies before it: of 16 downloads an agent kept 17 MiB of free memory for good.

use std::time::{Duration, Instant};

/// Less of a core than this since the last look counts as having little to do.
const QUIET: f64 = 0.1;

/// Growth that is worth the work, in bytes.
const WORTH: u64 = 1024 * 1024;

/// Looks after the heap of this process.
#[derive(Debug)]
pub struct Heap {
    /// When it was looked at last, and how much CPU the process had used.
    last: (Instant, Duration),
    /// What was resident of this process's own when all had been given back.
    least: u64,
}

impl Heap {
    /// Counts from now on.
    #[must_use]
    pub fn new() -> Self {
        Self { last: (Instant::now(), cpu()), least: own().unwrap_or(u64::MAX) }
    }

    /// Call it every few seconds: where the program had little to do since the last call and has more resident than after the last
    /// time, gives back what is free. Whether it did.
    pub fn look(&mut self) -> bool {
        let (now, used) = (Instant::now(), cpu());
        let (then, before) = std::mem::replace(&mut self.last, (now, used));
        if used.saturating_sub(before).as_secs_f64() > QUIET * now.duration_since(then).as_secs_f64() {
            return false;
        }
        let Some(resident) = own() else { return false };
        // What was given back is known better by and by: a start is not the least.
        self.least = self.least.min(resident);
        if resident - self.least < WORTH {
            return false;
        }
        trim();
        let left = own().unwrap_or(resident);
        self.least = left;
        tracing::debug!(before = resident, after = left, "gave back what only the work before needed");
        true
    }
}

impl Default for Heap {
    fn default() -> Self {
        Self::new()
    }
}

/// CPU that this process has used, in steps of 10 ms: utime and stime, in ticks of which Linux tells a hundred a second everywhere
/// (proc(5), /proc/pid/stat).
fn cpu() -> Duration {
    let ticks = || {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // Behind the program's name, which may hold anything; the state is field 3.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
        Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
    };
    Duration::from_millis(10 * ticks().unwrap_or_default())
}

/// Bytes that are resident of this process's own: of no file (proc(5), /proc/pid/status).
fn own() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(1024 * line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?)
}

/// From this size on an allocation is the kernel's affair: glibc's own threshold before it begins to move it.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 128 * 1024;

/// Large allocations are mapped by themselves, always: untouched pages of them cost nothing, and what is freed is gone. By itself glibc
/// takes them from the heap once a first one was freed (mallopt(3), M_MMAP_THRESHOLD), where zeros are written to the last page. For a program
/// whose large allocations are buffers that mostly stay empty, as each tunnel of an agent has one; not for one that makes many and fills them.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code, reason = "mallopt has no safe wrapper")]
pub fn keep_large_apart() {
    // SAFETY: it sets a number of the allocator under its own lock (mallopt(3), MT-safe but for its first call, which locks too).
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) };
}

/// Only glibc does otherwise.
#[cfg(not(target_env = "gnu"))]
pub fn keep_large_apart() {}

#[cfg(target_env = "gnu")]
#[allow(unsafe_code, reason = "malloc_trim has no safe wrapper")]
fn trim() {
    // SAFETY: it gives the kernel pages back that lie within free memory, under the allocator's own locks, and touches no other
    // (malloc_trim(3), MT-safe).
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
fn trim() {}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    #[test]
    fn free_memory_below_what_is_in_use_is_given_back_when_there_is_little_to_do() {
        let mut heap = Heap::new();
        let blocks: Vec<Vec<u8>> = (0..512).map(|_| vec![1; 32 * 1024]).collect();
        // It lies behind the others, so that they are not at the end.
        let pin = vec![1u8; 1000];
        drop(blocks);
        let before = own().unwrap();
        while cpu() - heap.last.1 < Duration::from_millis(50) {}
        assert!(!heap.look(), "too much to do");
        std::thread::sleep(Duration::from_millis(300));
        assert!(heap.look());
        let after = own().unwrap();
        assert!(before - after > 8 * 1024 * 1024, "{before} and {after}");
        std::thread::sleep(Duration::from_millis(300));
        assert!(!heap.look(), "there is nothing more");
        drop(pin);
    }
}
