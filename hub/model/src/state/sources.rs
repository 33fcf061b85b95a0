//! What is kept of the sources of a rule's requests (clients, values of a header): bounded, shared by all shards, no lock.
//!
//! Sources are known by a hash under a key of this process, so that nobody can aim at another's place and nothing of a header
//! is kept. A table is a fixed number of sets of a few places each; it takes its memory with its first use.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Places of a set, which is what one look-up reads.
const WAYS: usize = 16;

/// Sets of a table; with [`WAYS`], the sources that it tells apart.
const SETS: usize = 4096;

/// When each source may go on: a moment per source, which only moves forward.
#[derive(Debug, Default)]
pub struct RateState(OnceLock<Box<[Debt]>>);

#[derive(Debug, Default)]
struct Debt {
    source: AtomicU64,
    until: AtomicU64,
}

impl RateState {
    /// Replaces the moment of a source as `decide` says, which may be asked more than once.
    ///
    /// A source that is new takes the place of the one whose moment lies furthest back, and its moment: a moment that has
    /// passed says as much as none. So a table that is full of debtors lets a new source owe what the least of them owes.
    /// Two shards that bring the same new source at the same time may count one request of it apart.
    pub fn update<T, E>(&self, source: u64, decide: impl Fn(u64) -> Result<(T, u64), E>) -> Result<T, E> {
        let debts = self.0.get_or_init(|| (0..SETS * WAYS).map(|_| Debt::default()).collect());
        let (start, source) = (set(source), source.max(1));
        let set = &debts[start..start + WAYS];
        let place = loop {
            if let Some(place) = set.iter().find(|debt| debt.source.load(Ordering::Acquire) == source) {
                break place;
            }
            let oldest = set.iter().min_by_key(|debt| debt.until.load(Ordering::Relaxed)).expect("a set has places");
            let before = oldest.source.load(Ordering::Acquire);
            if oldest.source.compare_exchange(before, source, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                break oldest;
            }
        };
        let mut until = place.until.load(Ordering::Acquire);
        loop {
            let (answer, next) = decide(until)?;
            match place.until.compare_exchange_weak(until, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(answer),
                Err(now) => until = now,
            }
        }
    }

    /// The moment of a source, as [`RateState::update`] would find it.
    pub fn until(&self, source: u64) -> u64 {
        let Some(debts) = self.0.get() else { return 0 };
        let (start, source) = (set(source), source.max(1));
        let set = &debts[start..start + WAYS];
        let own = set.iter().find(|debt| debt.source.load(Ordering::Acquire) == source);
        own.map_or_else(
            || set.iter().map(|debt| debt.until.load(Ordering::Relaxed)).min().unwrap_or(0),
            |debt| debt.until.load(Ordering::Acquire),
        )
    }
}

/// How many requests of each source are under way.
#[derive(Debug, Default)]
pub struct InFlightState(OnceLock<Box<[AtomicU64]>>);

/// Bits of a place that count; the others are the source.
const COUNT: u64 = (1 << 20) - 1;

/// What came of counting a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// It is counted, at this place; to be given back with [`InFlightState::leave`].
    Counted(usize),
    /// As many as may be are under way.
    Refused,
    /// All places where it could be counted are taken by other sources with requests under way.
    NoPlace,
}

impl InFlightState {
    /// Counts a request of a source, unless `most` are under way.
    ///
    /// Two shards that bring the same new source at the same time may count it at two places for as long as both are in use.
    pub fn enter(&self, source: u64, most: u32) -> Entry {
        let places = self.0.get_or_init(|| (0..SETS * WAYS).map(|_| AtomicU64::new(0)).collect());
        let (start, tag) = (set(source), tag(source));
        loop {
            let mut free = None;
            let mut found = None;
            for index in start..start + WAYS {
                let value = places[index].load(Ordering::Acquire);
                if value & !COUNT == tag {
                    found = Some((index, value));
                    break;
                }
                if value & COUNT == 0 && free.is_none() {
                    free = Some((index, value));
                }
            }
            let Some((index, value)) = found.or(free) else { return Entry::NoPlace };
            let count = if found.is_some() { value & COUNT } else { 0 };
            if count >= u64::from(most).min(COUNT) {
                return Entry::Refused;
            }
            if places[index].compare_exchange(value, tag | (count + 1), Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return Entry::Counted(index);
            }
        }
    }

    /// How many requests of a source are under way.
    pub fn under_way(&self, source: u64) -> u32 {
        let Some(places) = self.0.get() else { return 0 };
        let start = set(source);
        let of_source = |place: &AtomicU64| Some(place.load(Ordering::Acquire)).filter(|value| value & !COUNT == tag(source));
        let counted = places[start..start + WAYS].iter().find_map(of_source).unwrap_or(0) & COUNT;
        u32::try_from(counted).unwrap_or(u32::MAX)
    }

    /// Gives back what was counted.
    pub fn leave(&self, place: usize) {
        if let Some(places) = self.0.get() {
            places[place].fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// The bits of a place that name a source; never 0.
fn tag(source: u64) -> u64 {
    (source & !COUNT).max(COUNT + 1)
}

/// Where a source's set begins. The bits are not those that tell the sources of a set apart.
fn set(source: u64) -> usize {
    (source as usize % SETS) * WAYS
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A source of the first set.
    fn source(n: u64) -> u64 {
        (n << 20) * SETS as u64
    }

    #[test]
    fn requests_of_a_source_are_counted_up_to_the_bound_and_apart_from_others() {
        let state = InFlightState::default();
        let (Entry::Counted(one), Entry::Counted(two)) = (state.enter(source(1), 2), state.enter(source(1), 2)) else { panic!() };
        assert_eq!((one, state.enter(source(1), 2)), (two, Entry::Refused));
        assert!(matches!(state.enter(source(2), 1), Entry::Counted(place) if place != one));
        state.leave(one);
        assert_eq!(state.enter(source(1), 2), Entry::Counted(one));
    }

    #[test]
    fn a_full_set_says_so_and_takes_the_next_source_when_one_has_left() {
        let state = InFlightState::default();
        for n in 1..=WAYS as u64 {
            assert!(matches!(state.enter(source(n), 5), Entry::Counted(_)));
        }
        assert_eq!(state.enter(source(99), 5), Entry::NoPlace);
        state.leave(3);
        assert_eq!(state.enter(source(99), 5), Entry::Counted(3));
    }

    #[test]
    fn counts_of_many_threads_never_exceed_the_bound_and_end_at_zero() {
        let state = Arc::new(InFlightState::default());
        let Entry::Counted(first) = state.enter(source(1), 3) else { panic!() };
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let state = Arc::clone(&state);
                std::thread::spawn(move || {
                    let mut refused = 0;
                    for _ in 0..20_000 {
                        match state.enter(source(1), 3) {
                            Entry::Counted(place) => {
                                assert_eq!(place, first);
                                state.leave(place);
                            }
                            Entry::Refused => refused += 1,
                            Entry::NoPlace => panic!("the source has its place"),
                        }
                    }
                    refused
                })
            })
            .collect();
        let _: Vec<u64> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        state.leave(first);
        assert!((0..3).all(|_| matches!(state.enter(source(1), 3), Entry::Counted(_))));
        assert_eq!(state.enter(source(1), 3), Entry::Refused);
    }

    #[test]
    fn a_moment_belongs_to_its_source_until_the_set_is_full_of_later_ones() {
        let state = RateState::default();
        let at = |n: u64, moment: u64| state.update::<u64, ()>(source(n), |before| Ok((before, before.max(moment)))).unwrap();
        for n in 1..=WAYS as u64 {
            assert_eq!(at(n, 100 + n), 0);
        }
        assert_eq!(at(3, 0), 103, "each has its own");
        assert_eq!(at(50, 200), 101, "a new one owes what the least owes");
        assert_eq!(at(1, 0), 102, "and that one has lost its place to it");
        assert_eq!(state.update::<u64, &str>(source(3), |_| Err("no")), Err("no"));
        assert_eq!(at(3, 0), 103, "a refusal moves nothing");
    }

    #[test]
    fn no_request_is_forgotten_when_many_threads_count_for_one_source() {
        let state = Arc::new(RateState::default());
        let add = |state: &RateState| state.update::<(), ()>(source(7), |before| Ok(((), before + 1))).unwrap();
        add(&state);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| add(&state)));
            }
        });
        assert_eq!(state.update::<u64, ()>(source(7), |before| Ok((before, before))), Ok(40_001));
    }
}
