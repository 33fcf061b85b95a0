//! A circuit breaker: closed, open, half-open with a probe budget. One word, changed by compare-and-swap.
//!
//! Closed, it counts outcomes in its window and looks at its condition now and then. Open, it lets nothing through until its
//! time is over; then as many probes as its terms say. The last of them closes it, any that fails opens it again. Outcomes of
//! work that began before it opened say nothing about a half-open breaker and are not heard.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Outcome;
use super::expression::Condition;
use super::gate::{Gate, Why};
use super::window::{Measure, Totals, Window};
use crate::moment::Moment;

/// How often at most the condition is looked at: a sum over all shards' slices, a few microseconds.
const CHECK_EVERY: Duration = Duration::from_millis(10);

/// Most probes of a half-open breaker: what its word has room for.
pub const MAX_PROBES: u32 = 1000;

/// What a policy asks of a breaker.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// What is watched.
    pub scope: Scope,
    /// Opens when this holds.
    pub condition: Condition,
    /// Over outcomes of this last while.
    pub window: Duration,
    /// Of which there must be as many.
    pub min_requests: u32,
    /// How long it stays open before it lets probes through.
    pub open: Duration,
    /// Probes that must succeed, and how many run at once; 1 to [`MAX_PROBES`].
    pub probes: u32,
}

/// What a breaker watches and cuts off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    /// Each endpoint alone: one that is broken does not take its siblings along.
    #[default]
    Endpoint,
    /// The backend as a whole.
    Backend,
    /// Each endpoint, and the backend as a whole.
    Both,
}

impl Scope {
    /// Whether endpoints have breakers.
    pub const fn endpoints(self) -> bool {
        matches!(self, Self::Endpoint | Self::Both)
    }

    /// Whether the backend has one.
    pub const fn backend(self) -> bool {
        matches!(self, Self::Backend | Self::Both)
    }
}

/// Leave to try: given back through [`Breaker::record`] or [`Breaker::forget`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    /// The breaker was closed.
    Free,
    /// One of the probes of the half-open time that began then.
    Probe(Moment),
}

/// What a breaker shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Work passes.
    Closed {
        /// Since when; [`Moment::NEVER`] if it never was open.
        since: Moment,
    },
    /// Nothing passes.
    Open {
        /// When the first probe may pass.
        until: Moment,
    },
    /// Probes pass.
    HalfOpen {
        /// Since when.
        since: Moment,
        /// Probes let through.
        granted: u32,
        /// Of those, how many went well.
        succeeded: u32,
    },
}

/// What an outcome changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It opened.
    Opened,
    /// It closed.
    Closed,
}

/// A breaker's long-lived state.
#[derive(Debug)]
pub struct Breaker {
    /// A [`State`], packed: 2 bits kind, 10 granted, 10 succeeded, 42 of a moment.
    word: AtomicU64,
    next_check: AtomicU64,
    /// How often it opened; also the era of its window, so that what opened it once does not do so again.
    opened: AtomicU64,
    shards: usize,
    /// Made with the first outcome: most endpoints have no breaker.
    window: OnceLock<Window>,
}

impl Breaker {
    /// Closed, with nothing counted.
    pub fn new(shards: usize) -> Self {
        let word = AtomicU64::new(State::Closed { since: Moment::NEVER }.pack());
        Self { word, next_check: AtomicU64::new(0), opened: AtomicU64::new(0), shards, window: OnceLock::new() }
    }

    /// Its state.
    pub fn state(&self) -> State {
        State::unpack(self.word.load(Ordering::Acquire))
    }

    /// How often it has opened.
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// What its window holds now.
    pub fn totals(&self, terms: &Terms, now: Moment) -> Totals {
        self.window.get().map(|window| window.totals(&self.measure(terms), now)).unwrap_or_default()
    }

    /// Whether work may pass. Reads one word.
    pub fn gate(&self, terms: &Terms, now: Moment) -> Gate {
        match self.state() {
            State::Closed { .. } => Gate::Open,
            State::Open { until } if now < until => Gate::Shut(Why::Breaker { until }),
            State::Open { .. } => Gate::Probe,
            State::HalfOpen { since, granted, .. } => match lost(terms, since) {
                _ if granted < terms.probes => Gate::Probe,
                until if now >= until => Gate::Probe,
                until => Gate::Shut(Why::Breaker { until }),
            },
        }
    }

    /// Takes leave to try. `None` where another was quicker to take the last probe.
    pub fn enter(&self, terms: &Terms, now: Moment) -> Option<Permit> {
        loop {
            let state = self.state();
            let begun = State::HalfOpen { since: now, granted: 1, succeeded: 0 };
            let (next, permit) = match state {
                State::Closed { .. } => return Some(Permit::Free),
                State::Open { until } if now < until => return None,
                State::Open { .. } => (begun, Permit::Probe(now)),
                State::HalfOpen { since, granted, succeeded } if granted < terms.probes => {
                    (State::HalfOpen { since, granted: granted + 1, succeeded }, Permit::Probe(since))
                }
                // Probes that never came back must not keep it shut for ever.
                State::HalfOpen { since, .. } if now >= lost(terms, since) => (begun, Permit::Probe(now)),
                State::HalfOpen { .. } => return None,
            };
            if self.swap(state, next) {
                return Some(permit);
            }
        }
    }

    /// Takes in how an attempt ended. `Some` for the one outcome that turned it.
    pub fn record(&self, terms: &Terms, shard: usize, permit: Permit, outcome: &Outcome, now: Moment) -> Option<Turn> {
        match (permit, self.state()) {
            (Permit::Free, State::Closed { .. }) => self.count(terms, shard, outcome, now),
            (Permit::Probe(of), State::HalfOpen { since, .. }) if of == since => {
                if terms.condition.holds(&Totals::of(outcome, terms.condition.ranges())) {
                    self.open(since, terms, now)
                } else {
                    self.succeed(since, terms, now)
                }
            }
            _ => None,
        }
    }

    /// Gives leave back unused: the attempt ended for reasons of its own.
    pub fn forget(&self, permit: Permit) {
        let Permit::Probe(of) = permit else { return };
        while let state @ State::HalfOpen { since, granted, succeeded } = self.state()
            && since == of
            && granted > succeeded
            && !self.swap(state, State::HalfOpen { since, granted: granted - 1, succeeded })
        {}
    }

    fn count(&self, terms: &Terms, shard: usize, outcome: &Outcome, now: Moment) -> Option<Turn> {
        let measure = self.measure(terms);
        let window = self.window.get_or_init(|| Window::new(self.shards));
        window.record(shard, &measure, outcome, now);
        let due = self.next_check.load(Ordering::Relaxed);
        let next = (now + CHECK_EVERY).millis();
        // One shard looks for all.
        if now.millis() < due || self.next_check.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return None;
        }
        let totals = window.totals(&measure, now);
        let holds = totals.total >= u64::from(terms.min_requests) && terms.condition.holds(&totals);
        let state @ State::Closed { .. } = self.state() else { return None };
        let opens = holds && self.swap(state, State::Open { until: now + terms.open });
        opens.then(|| self.has_opened())
    }

    fn has_opened(&self) -> Turn {
        self.opened.fetch_add(1, Ordering::Relaxed);
        Turn::Opened
    }

    fn open(&self, of: Moment, terms: &Terms, now: Moment) -> Option<Turn> {
        while let state @ State::HalfOpen { since, .. } = self.state()
            && since == of
        {
            if self.swap(state, State::Open { until: now + terms.open }) {
                return Some(self.has_opened());
            }
        }
        None
    }

    fn succeed(&self, of: Moment, terms: &Terms, now: Moment) -> Option<Turn> {
        while let state @ State::HalfOpen { since, granted, succeeded } = self.state()
            && since == of
        {
            let done = succeeded + 1 >= terms.probes;
            let more = State::HalfOpen { since, granted, succeeded: succeeded + 1 };
            if self.swap(state, if done { State::Closed { since: now } } else { more }) {
                return done.then_some(Turn::Closed);
            }
        }
        None
    }

    fn measure<'t>(&self, terms: &'t Terms) -> Measure<'t> {
        Measure { length: terms.window, ranges: terms.condition.ranges(), era: self.opened() }
    }

    fn swap(&self, from: State, to: State) -> bool {
        self.word.compare_exchange(from.pack(), to.pack(), Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// When probes of a half-open time that did not come back count as lost.
fn lost(terms: &Terms, since: Moment) -> Moment {
    since + terms.open
}

impl State {
    fn pack(self) -> u64 {
        let (kind, granted, succeeded, moment) = match self {
            Self::Closed { since } => (0, 0, 0, since),
            Self::Open { until } => (1, 0, 0, until),
            Self::HalfOpen { since, granted, succeeded } => (2, granted, succeeded, since),
        };
        kind << 62 | u64::from(granted & 0x3ff) << 52 | u64::from(succeeded & 0x3ff) << 42 | moment.millis()
    }

    fn unpack(word: u64) -> Self {
        let moment = Moment::from_millis(word & ((1 << 42) - 1));
        let (granted, succeeded) = ((word >> 52 & 0x3ff) as u32, (word >> 42 & 0x3ff) as u32);
        match word >> 62 {
            0 => Self::Closed { since: moment },
            1 => Self::Open { until: moment },
            _ => Self::HalfOpen { since: moment, granted, succeeded },
        }
    }
}

#[cfg(test)]
mod tests;
