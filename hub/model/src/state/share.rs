//! What a backend of a rule was given: the share that operators see beside the one they asked for.
//!
//! Kept under the rule and the backend's target, so that it outlives every reload. Each shard adds to a cell of its own;
//! control marks the sum every few seconds ([`ShareState::mark`]), which is what "in the last minute" is computed from. Cells
//! come with the first request: of ten thousand routes, those that nobody asks for cost nothing.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::{PerShard, Shard};

/// Time between two marks.
pub const MARK_EVERY: Duration = Duration::from_secs(5);

/// Marks kept: a minute of them. Longer hides a change of weights, shorter shows too few requests of a quiet route.
const MARKS: usize = 12;

/// Requests and connections given to one backend of one rule.
#[derive(Debug)]
pub struct ShareState {
    shards: usize,
    cells: OnceLock<Cells>,
}

#[derive(Debug)]
struct Cells {
    picked: PerShard,
    marks: [AtomicU64; MARKS],
    /// How often it was marked; the oldest mark is at this place.
    marked: AtomicUsize,
}

impl ShareState {
    pub(super) fn new(shards: usize) -> Self {
        Self { shards, cells: OnceLock::new() }
    }

    /// Counts a choice. A request that is tried elsewhere counts once for each try.
    pub fn add(&self, shard: Shard) {
        let cells = self.cells.get_or_init(|| Cells {
            picked: PerShard::new(self.shards),
            marks: [const { AtomicU64::new(0) }; MARKS],
            marked: AtomicUsize::new(0),
        });
        cells.picked.add(shard, 1);
    }

    /// All that it was ever given.
    pub fn sum(&self) -> u64 {
        self.cells.get().map_or(0, |cells| cells.picked.sum())
    }

    /// What it was given in the last minute, to [`MARK_EVERY`].
    pub fn recent(&self) -> u64 {
        self.cells.get().map_or(0, |cells| {
            let oldest = &cells.marks[cells.marked.load(Ordering::Acquire) % MARKS];
            cells.picked.sum().saturating_sub(oldest.load(Ordering::Acquire))
        })
    }

    /// Notes the sum of now. Single writer: control, every [`MARK_EVERY`].
    pub(super) fn mark(&self) {
        if let Some(cells) = self.cells.get() {
            let at = cells.marked.load(Ordering::Acquire);
            cells.marks[at % MARKS].store(cells.picked.sum(), Ordering::Release);
            cells.marked.store(at + 1, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_later_only_the_sum_remembers() {
        let share = ShareState::new(2);
        share.mark();
        assert_eq!((share.sum(), share.recent()), (0, 0), "nobody asked: no cells");
        share.add(0);
        share.add(1);
        assert_eq!((share.sum(), share.recent()), (2, 2));
        for _ in 0..MARKS - 1 {
            share.mark();
            assert_eq!(share.recent(), 2, "within the minute");
        }
        share.add(1);
        share.mark();
        assert_eq!((share.sum(), share.recent()), (3, 1));
        for _ in 0..MARKS {
            share.mark();
        }
        assert_eq!((share.sum(), share.recent()), (3, 0));
    }
}
