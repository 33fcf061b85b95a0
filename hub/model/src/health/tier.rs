//! Whether a rule uses one tier of its backends: up, held away after a failure, or failing back. One word, changed by
//! compare-and-swap; time is passed in.
//!
//! A tier fails when it is seen unable (nobody ready, breakers open, all ejected), or when too many of its last answers were
//! failures. It is then held for as long as the terms say after it was last seen unable, and comes back by a share that
//! grows. Failures among the first answers of that time send it away again at once. A tier that never worked has not failed.

mod answers;

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use answers::Answers;

use super::Failover;
use crate::moment::Moment;

/// Tiers of a rule, from 0.
pub const TIERS: usize = 9;

/// The whole share of a tier.
pub const WHOLE: u32 = 1024;

/// The share with which a tier begins to come back, in 1/[`WHOLE`]: 5 %, enough to be judged by, too little to hurt.
const FLOOR: u32 = 51;

/// A hold that is prolonged at every look would be written by every choice; it is, once this part of it has passed.
const PROLONGED: u32 = 16;

/// Why a tier failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// No endpoint of it is ready, or none is known.
    Unready,
    /// Breakers, ejection or checks shut all that is ready.
    Shut,
    /// Attempts brought no answer.
    NoAnswer,
    /// Answers had a status that the rule names.
    Status,
    /// Answers came too late.
    Latency,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Unready, Self::Shut, Self::NoAnswer, Self::Status, Self::Latency];

    /// A word for tables and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unready => "unready",
            Self::Shut => "shut",
            Self::NoAnswer => "no-answer",
            Self::Status => "status",
            Self::Latency => "latency",
        }
    }
}

/// How a tier stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It was never seen able.
    New,
    /// It gets its share.
    Up,
    /// It gets nothing, unless nobody else can.
    Held {
        /// When it may be tried again, if it is not seen unable before.
        until: Moment,
        /// Why it failed.
        cause: Cause,
    },
    /// It gets a share that grows.
    FailingBack {
        /// Since when.
        since: Moment,
        /// Why it had failed.
        cause: Cause,
    },
}

/// What a look or an answer changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It failed.
    Failed(Cause),
    /// It begins to come back.
    FailingBack,
    /// It has come back.
    Back,
}

/// A tier's long-lived state.
#[derive(Debug)]
pub struct TierState {
    /// A [`Standing`], packed: 2 bits kind, 3 of a cause, 42 of a moment.
    word: AtomicU64,
    answers: Answers,
    /// Number of the next choice within the tier; its own, so that shares in it are exact whatever part of them it gets.
    pub cursor: CachePadded<AtomicU64>,
    /// The shares of all choices so far, summed: where it passes a whole, the tier gets the choice.
    credit: CachePadded<AtomicU64>,
    failed: [AtomicU64; Cause::ALL.len()],
}

impl Default for TierState {
    fn default() -> Self {
        Self {
            word: AtomicU64::new(Standing::New.pack()),
            answers: Answers::default(),
            cursor: CachePadded::default(),
            credit: CachePadded::default(),
            failed: Default::default(),
        }
    }
}

impl TierState {
    /// How it stands, as far as anybody has looked.
    pub fn standing(&self) -> Standing {
        Standing::unpack(self.word.load(Ordering::Acquire))
    }

    /// How often it failed for that reason.
    pub fn failed(&self, cause: Cause) -> u64 {
        self.failed[cause as usize].load(Ordering::Relaxed)
    }

    /// The share that it gets of what comes to it, in 1/[`WHOLE`], if it is able. Changes nothing.
    pub fn share(&self, terms: &Failover, now: Moment) -> u32 {
        match self.standing() {
            Standing::New | Standing::Up => WHOLE,
            Standing::Held { until, .. } if now < until => 0,
            Standing::Held { .. } if terms.failback.is_zero() => WHOLE,
            Standing::Held { .. } => FLOOR,
            Standing::FailingBack { since, .. } => grown(terms, since, now),
        }
    }

    /// Takes in whether it is able (`Err`: why not), as a first choice sees it. Its share, and what that changed.
    pub fn look(&self, terms: &Failover, able: Result<(), Cause>, now: Moment) -> (u32, Option<Turn>) {
        loop {
            let standing = self.standing();
            let (next, turn) = match (standing, able) {
                (Standing::New, Ok(())) => (Standing::Up, None),
                (Standing::New, Err(_)) | (Standing::Up, Ok(())) => return (WHOLE, None),
                (Standing::Held { until, .. }, Ok(())) if now < until => return (0, None),
                (Standing::Held { .. }, Ok(())) if terms.failback.is_zero() => (Standing::Up, Some(Turn::Back)),
                (Standing::Held { cause, .. }, Ok(())) => (Standing::FailingBack { since: now, cause }, Some(Turn::FailingBack)),
                (Standing::Held { until, .. }, Err(cause)) => {
                    let later = now + terms.hold;
                    if later.since(until) <= terms.hold / PROLONGED {
                        return (0, None);
                    }
                    (Standing::Held { until: later, cause }, None)
                }
                (Standing::FailingBack { since, .. }, Ok(())) => match grown(terms, since, now) {
                    WHOLE => (Standing::Up, Some(Turn::Back)),
                    share => return (share, None),
                },
                (Standing::Up | Standing::FailingBack { .. }, Err(cause)) => {
                    (Standing::Held { until: now + terms.hold, cause }, Some(Turn::Failed(cause)))
                }
            };
            if self.swap(standing, next) {
                self.turned(turn);
                return (self.share(terms, now), turn);
            }
        }
    }

    /// Takes in how an attempt ended that began then: a failure, or not. What that changed.
    pub fn record(&self, terms: &Failover, failure: Option<Cause>, began: Moment, now: Moment) -> Option<Turn> {
        let standing = self.standing();
        let failing_back = match standing {
            // What began before says nothing about how it is now.
            Standing::Held { .. } => return None,
            Standing::FailingBack { since, .. } if began < since => return None,
            Standing::FailingBack { .. } => true,
            Standing::New | Standing::Up => false,
        };
        let failed = self.answers.add(terms, failure.is_some(), failing_back, now);
        let cause = failure.filter(|_| failed)?;
        let turn = Some(Turn::Failed(cause));
        if !self.swap(standing, Standing::Held { until: now + terms.hold, cause }) {
            return None;
        }
        self.turned(turn);
        turn
    }

    /// Whether the next choice is the tier's, which gets such a share of them. Exact over any stretch, however the share grows:
    /// what it got never differs by one from the sum of its shares. `count`: whether this is that choice, or a look ahead.
    pub fn takes(&self, share: u32, count: bool) -> bool {
        let share = u64::from(share.min(WHOLE));
        let before = if count { self.credit.fetch_add(share, Ordering::Relaxed) } else { self.credit.load(Ordering::Relaxed) };
        before % u64::from(WHOLE) + share >= u64::from(WHOLE)
    }

    fn turned(&self, turn: Option<Turn>) {
        match turn {
            Some(Turn::Failed(cause)) => {
                self.failed[cause as usize].fetch_add(1, Ordering::Relaxed);
                self.answers.forget();
            }
            Some(Turn::FailingBack) => {
                self.answers.forget();
                // The first choice tries it.
                self.credit.store(u64::from(WHOLE) - 1, Ordering::Relaxed);
            }
            Some(Turn::Back) | None => {}
        }
    }

    fn swap(&self, from: Standing, to: Standing) -> bool {
        self.word.compare_exchange(from.pack(), to.pack(), Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// The share of a tier that has been coming back since then.
fn grown(terms: &Failover, since: Moment, now: Moment) -> u32 {
    let (age, over) = (now.since(since).as_millis(), terms.failback.as_millis());
    if age >= over {
        return WHOLE;
    }
    FLOOR + u32::try_from(u128::from(WHOLE - FLOOR) * age / over).unwrap_or(WHOLE - FLOOR)
}

impl Standing {
    /// A word for tables and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New | Self::Up => "up",
            Self::Held { .. } => "held",
            Self::FailingBack { .. } => "failing-back",
        }
    }

    fn pack(self) -> u64 {
        let (kind, cause, moment) = match self {
            Self::New => (0, Cause::Unready, Moment::NEVER),
            Self::Up => (1, Cause::Unready, Moment::NEVER),
            Self::Held { until, cause } => (2, cause, until),
            Self::FailingBack { since, cause } => (3, cause, since),
        };
        kind << 62 | (cause as u64) << 42 | moment.millis()
    }

    fn unpack(word: u64) -> Self {
        let moment = Moment::from_millis(word & ((1 << 42) - 1));
        let cause = Cause::ALL[(word >> 42 & 7) as usize % Cause::ALL.len()];
        match word >> 62 {
            0 => Self::New,
            1 => Self::Up,
            2 => Self::Held { until: moment, cause },
            _ => Self::FailingBack { since: moment, cause },
        }
    }
}

#[cfg(test)]
mod tests;
