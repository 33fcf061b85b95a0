//! A rolling window of outcomes: per shard, in slices, with a bounded histogram of latencies.
//!
//! Each shard writes its own slices; whoever decides sums them. A slice bears a tag made of its number and of what is counted
//! in it, so that time, another window length or other ranges of statuses turn old slices into nothing without a sweep.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_utils::CachePadded;

use super::{End, Outcome};
use crate::moment::Moment;

/// Slices of a window: it forgets in steps of a tenth of its length.
pub const SLICES: u64 = 10;

/// Most ranges of statuses that one window counts.
pub const RANGES: usize = 8;

/// Four classes for each doubling of 256 µs, up to 67 s, with one below and one above: a quantile is off by less than an
/// eighth of itself. More classes cost memory for each slice, shard and endpoint.
const CLASSES: usize = 1 + 18 * 4 + 1;
const FIRST: u32 = 8;

/// Statuses from `from` up to, not including, `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Range {
    /// First status.
    pub from: u16,
    /// First status beyond.
    pub to: u16,
}

/// What a window counts and for how long: from a policy, so that it may change while the window lives.
#[derive(Debug, Clone, Copy)]
pub struct Measure<'m> {
    /// Its length.
    pub length: Duration,
    /// Ranges of statuses to count, at most [`RANGES`].
    pub ranges: &'m [Range],
    /// Outcomes counted under another era are not seen.
    pub era: u64,
}

impl Measure<'_> {
    fn slice_millis(&self) -> u64 {
        (u64::try_from(self.length.as_millis()).unwrap_or(u64::MAX) / SLICES).max(1)
    }

    /// FNV-1a over all that gives counters their meaning. Never 0, which is the tag of an empty slice.
    fn tag(&self, number: u64) -> u64 {
        let ranges = self.ranges.iter().map(|range| u64::from(range.from) << 16 | u64::from(range.to));
        let words = [number, self.slice_millis(), self.era].into_iter().chain(ranges);
        words.fold(0xcbf2_9ce4_8422_2325_u64, |hash, word| {
            word.to_le_bytes().iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
        }) | 1
    }
}

#[derive(Debug)]
struct Slice {
    tag: AtomicU64,
    total: AtomicU32,
    failed: AtomicU32,
    errors: AtomicU32,
    ranges: [AtomicU32; RANGES],
    classes: [AtomicU32; CLASSES],
}

impl Default for Slice {
    fn default() -> Self {
        let zero = || AtomicU32::new(0);
        Self {
            tag: AtomicU64::new(0),
            total: zero(),
            failed: zero(),
            errors: zero(),
            ranges: std::array::from_fn(|_| zero()),
            classes: std::array::from_fn(|_| zero()),
        }
    }
}

/// Outcomes of the last while.
#[derive(Debug)]
pub struct Window(Box<[CachePadded<[Slice; SLICES as usize]>]>);

impl Window {
    /// Empty, for that many shards.
    pub fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| CachePadded::new(std::array::from_fn(|_| Slice::default()))).collect())
    }

    /// Counts an outcome. Only the shard itself counts for a shard.
    pub fn record(&self, shard: usize, measure: &Measure<'_>, outcome: &Outcome, now: Moment) {
        let number = now.millis() / measure.slice_millis();
        let slice = &self.0[shard][(number % SLICES) as usize];
        let tag = measure.tag(number);
        if slice.tag.load(Ordering::Relaxed) != tag {
            slice.clear();
            slice.tag.store(tag, Ordering::Release);
        }
        let add = |counter: &AtomicU32| counter.store(counter.load(Ordering::Relaxed).saturating_add(1), Ordering::Relaxed);
        let one = Totals::of(outcome, measure.ranges);
        add(&slice.total);
        if one.failed > 0 {
            add(&slice.failed);
        }
        if one.errors > 0 {
            add(&slice.errors);
        }
        one.ranges.iter().zip(&slice.ranges).filter(|(count, _)| **count > 0).for_each(|(_, counter)| add(counter));
        add(&slice.classes[class(outcome.latency)]);
    }

    /// What the window holds now, over all shards.
    pub fn totals(&self, measure: &Measure<'_>, now: Moment) -> Totals {
        let newest = now.millis() / measure.slice_millis();
        let mut totals = Totals::default();
        for number in newest.saturating_sub(SLICES - 1)..=newest {
            let tag = measure.tag(number);
            let slices = self.0.iter().map(|slices| &slices[(number % SLICES) as usize]);
            slices.filter(|slice| slice.tag.load(Ordering::Acquire) == tag).for_each(|slice| totals.add(slice));
        }
        totals
    }
}

impl Slice {
    fn clear(&self) {
        self.tag.store(0, Ordering::Release);
        let counters = [&self.total, &self.failed, &self.errors];
        counters.into_iter().chain(&self.ranges).chain(&self.classes).for_each(|counter| counter.store(0, Ordering::Relaxed));
    }
}

/// A sum of outcomes.
#[derive(Debug, Clone)]
pub struct Totals {
    /// All.
    pub total: u64,
    /// Without an answer.
    pub failed: u64,
    /// Without an answer, or with a 5xx.
    pub errors: u64,
    ranges: [u64; RANGES],
    classes: [u64; CLASSES],
}

impl Default for Totals {
    fn default() -> Self {
        Self { total: 0, failed: 0, errors: 0, ranges: [0; RANGES], classes: [0; CLASSES] }
    }
}

/// More than what rounding adds to a rank, and less than any rank.
const HAIR: f64 = 1e-6;

impl Totals {
    /// The sum of one outcome: how a probe alone is judged by the same condition as a window.
    pub fn of(outcome: &Outcome, ranges: &[Range]) -> Self {
        let mut totals =
            Self { total: 1, failed: u64::from(outcome.end == End::Failed), errors: u64::from(outcome.is_error()), ..Self::default() };
        if let End::Answered(status) = outcome.end {
            let within = |range: &Range| u64::from((range.from..range.to).contains(&status));
            totals.ranges.iter_mut().zip(ranges).for_each(|(count, range)| *count = within(range));
        }
        totals.classes[class(outcome.latency)] = 1;
        totals
    }

    fn add(&mut self, slice: &Slice) {
        let read = |counter: &AtomicU32| u64::from(counter.load(Ordering::Relaxed));
        self.total += read(&slice.total);
        self.failed += read(&slice.failed);
        self.errors += read(&slice.errors);
        self.ranges.iter_mut().zip(&slice.ranges).for_each(|(sum, counter)| *sum += read(counter));
        self.classes.iter_mut().zip(&slice.classes).for_each(|(sum, counter)| *sum += read(counter));
    }

    /// How many answers had a status of the range with that index.
    pub fn in_range(&self, index: usize) -> u64 {
        self.ranges.get(index).copied().unwrap_or_default()
    }

    /// The latency that a share `q` (0 to 1) of the outcomes did not exceed, within an eighth of itself; zero without any.
    pub fn latency(&self, q: f64) -> Duration {
        let count: u64 = self.classes.iter().sum();
        // Rank from 1. A share such as 0.28 is not exact in binary: 0.28 of 25 is a hair above 7, and still means the seventh.
        let rank = ((q.clamp(0.0, 1.0) * count as f64 - HAIR).ceil() as u64).clamp(1, count.max(1));
        let mut before = 0;
        for (class, here) in self.classes.iter().copied().enumerate().filter(|(_, here)| *here > 0) {
            if before + here >= rank {
                let (low, high) = bounds(class);
                let part = (rank - before) as f64 / here as f64;
                return Duration::from_micros(low + ((high - low) as f64 * part) as u64);
            }
            before += here;
        }
        Duration::ZERO
    }
}

/// The class of a latency.
fn class(latency: Duration) -> usize {
    let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
    if micros < 1 << FIRST {
        return 0;
    }
    let octave = micros.ilog2();
    let quarter = (micros >> (octave - 2)) & 3;
    (1 + (octave - FIRST) as usize * 4 + quarter as usize).min(CLASSES - 1)
}

/// Lower and upper bound of a class in microseconds; the last one has no width.
fn bounds(class: usize) -> (u64, u64) {
    let lower = |class: usize| match class.checked_sub(1) {
        None => 0,
        Some(step) => (4 + (step as u64 & 3)) << (u64::from(FIRST) - 2 + step as u64 / 4),
    };
    (lower(class), lower((class + 1).min(CLASSES - 1)))
}

#[cfg(test)]
mod tests;
