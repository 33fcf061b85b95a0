//! What became of a mirror's copies, and how their answers compared: counts per shard and a few examples, summed on read.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crossbeam_utils::CachePadded;

use super::Shard;

/// Examples kept by each shard.
const EXAMPLES: usize = 8;

/// Bytes of a path or a difference in an example.
const MAX_TEXT: usize = 256;

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident $word:expr,)*) => {
        /// What is counted of copies.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Copies { $($(#[$doc])* $name,)* }

        impl Copies {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The word in a metric's label; `None` for what no metric counts.
            pub const fn word(self) -> Option<&'static str> {
                match self { $(Self::$name => $word,)* }
            }
        }
    };
}

counts! {
    /// Requests that could have been copied; a part of them is.
    Seen None,
    /// Copies that began.
    Begun Some("begun"),
    /// Copies that were answered.
    Answered Some("answered"),
    /// Copies that failed on their way or took too long.
    Failed Some("failed"),
    /// Not made: as many as may be were under way.
    DroppedFull Some("dropped_full"),
    /// Not made, or broken off: the body is too long, came faster than the target took it, or did not come whole.
    DroppedBody Some("dropped_body"),
    /// Not made: the target has no endpoint that takes requests.
    DroppedNobody Some("dropped_nobody"),
    /// Answers compared.
    Compared None,
    /// Of those, the ones that were alike.
    Matched Some("matched"),
    /// Of those, the ones whose status differed.
    OtherStatus Some("other_status"),
    /// Of those, the ones whose body differed.
    OtherBody Some("other_body"),
    /// Of those, the ones that came later than the client's.
    Slower None,
    /// Time to the heads of the clients' answers that were compared, in microseconds.
    PrimaryMicros None,
    /// Time to the heads of the copies' answers that were compared, in microseconds.
    MirrorMicros None,
}

const COUNTS: usize = Copies::ALL.len();

/// Two answers that differed. No values and no query: these may be secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// When, in seconds since 1970.
    pub at: u64,
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// What differed, and where.
    pub difference: String,
}

/// The state of one mirror: a rule and a target.
#[derive(Debug)]
pub struct MirrorState(Box<[CachePadded<Cell>]>);

#[derive(Debug, Default)]
struct Cell {
    counts: [AtomicU64; COUNTS],
    /// Written by its shard alone; a reader takes it for the time of a copy.
    examples: Mutex<VecDeque<Example>>,
}

/// All shards together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MirrorReport {
    counts: [u64; COUNTS],
    /// The latest examples, newest first.
    pub examples: Vec<Example>,
}

impl MirrorState {
    pub(super) fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| CachePadded::default()).collect())
    }

    /// Counts one; what it was before, on this shard.
    pub fn count(&self, shard: Shard, what: Copies) -> u64 {
        self.add(shard, what, 1)
    }

    /// Adds to a count; what it was before, on this shard.
    pub fn add(&self, shard: Shard, what: Copies, n: u64) -> u64 {
        self.0[shard].counts[what as usize].fetch_add(n, Ordering::Relaxed)
    }

    /// Keeps an example, the oldest of the shard's makes room.
    pub fn example(&self, shard: Shard, mut example: Example) {
        for text in [&mut example.path, &mut example.difference] {
            text.truncate(text.floor_char_boundary(MAX_TEXT));
        }
        let mut examples = self.0[shard].examples.lock().unwrap_or_else(PoisonError::into_inner);
        if examples.len() == EXAMPLES {
            examples.pop_front();
        }
        examples.push_back(example);
    }

    /// What all shards counted.
    pub fn report(&self) -> MirrorReport {
        let mut report = MirrorReport::default();
        for cell in &self.0 {
            for (sum, count) in report.counts.iter_mut().zip(&cell.counts) {
                *sum += count.load(Ordering::Relaxed);
            }
            report.examples.extend(cell.examples.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned());
        }
        report.examples.sort_by_key(|example| std::cmp::Reverse(example.at));
        report.examples.truncate(EXAMPLES);
        report
    }
}

impl MirrorReport {
    /// A count.
    pub fn count(&self, what: Copies) -> u64 {
        self.counts[what as usize]
    }

    /// Matches per cent of comparisons; `None` before the first.
    pub fn match_percent(&self) -> Option<f64> {
        let compared = self.count(Copies::Compared);
        (compared > 0).then(|| self.count(Copies::Matched) as f64 * 100.0 / compared as f64)
    }

    /// Mean times to the heads of the client's answer and the copy's, in microseconds; `None` before the first comparison.
    pub fn mean_micros(&self) -> Option<(u64, u64)> {
        let mean = |what| self.count(what).checked_div(self.count(Copies::Compared));
        Some((mean(Copies::PrimaryMicros)?, mean(Copies::MirrorMicros)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(at: u64) -> Example {
        Example { at, method: "GET".into(), path: "/".into(), difference: "\u{e9}".repeat(300) }
    }

    #[test]
    fn a_report_sums_the_shards_and_shows_the_latest_examples() {
        let state = MirrorState::new(2);
        assert_eq!(state.report().match_percent(), None);
        for n in 0..20 {
            assert_eq!(state.count(n as usize % 2, Copies::Compared), n / 2);
            state.example(n as usize % 2, example(n));
        }
        state.add(0, Copies::Matched, 15);
        state.add(1, Copies::MirrorMicros, 2000);
        let report = state.report();
        assert_eq!((report.match_percent(), report.mean_micros()), (Some(75.0), Some((0, 100))));
        assert_eq!(report.examples.iter().map(|example| example.at).collect::<Vec<_>>(), [19, 18, 17, 16, 15, 14, 13, 12]);
        assert_eq!(report.examples[0].difference.len(), 256);
    }
}
