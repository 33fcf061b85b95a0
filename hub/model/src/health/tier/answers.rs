//! The last answers of a tier, as bits: good or bad. One word that all shards share, written only where a bit changes.
//!
//! As long as all of the last answers were good, a good one more costs a load. Failures far apart do not add up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::health::Failover;
use crate::moment::Moment;

/// Failures that lie further apart are no series.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// The last answers, newest in the lowest bit.
#[derive(Debug, Default)]
pub(super) struct Answers(AtomicU64);

/// What the word holds: 32 bits of answers (1: a failure), 6 of their number since they were forgotten, 26 of the time of the
/// last failure in seconds, modulo two years.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    bits: u32,
    number: u32,
    failed_at: u32,
}

const SECONDS: u32 = (1 << 26) - 1;

impl Answers {
    /// Adds an answer; whether those seen now make the tier fail. `early`: a part of the usual number is enough, since the
    /// last ones were forgotten.
    pub(super) fn add(&self, terms: &Failover, failure: bool, early: bool, now: Moment) -> bool {
        let most = terms.answers.clamp(1, Failover::MOST);
        let mask = u32::MAX >> (Failover::MOST - most);
        let second = (now.millis() / 1000) as u32 & SECONDS;
        let next = |word: u64| {
            let mut seen = Seen::unpack(word);
            if u64::from(second.wrapping_sub(seen.failed_at) & SECONDS) > FORGOTTEN.as_secs() {
                seen.bits = 0;
            }
            let bits = (seen.bits << 1 | u32::from(failure)) & mask;
            Seen { bits, number: (seen.number + 1).min(most), failed_at: if failure { second } else { seen.failed_at } }
        };
        let mut word = self.0.load(Ordering::Relaxed);
        let seen = loop {
            let seen = next(word);
            let to = seen.pack();
            if to == word {
                break seen;
            }
            match self.0.compare_exchange_weak(word, to, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break seen,
                Err(other) => word = other,
            }
        };
        let failures = seen.bits.count_ones();
        failures >= terms.failures || (early && failure && failures * most >= terms.failures * seen.number)
    }

    /// What was seen counts no more.
    pub(super) fn forget(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

impl Seen {
    fn pack(self) -> u64 {
        u64::from(self.bits) << 32 | u64::from(self.number & 0x3f) << 26 | u64::from(self.failed_at & SECONDS)
    }

    fn unpack(word: u64) -> Self {
        Self { bits: (word >> 32) as u32, number: (word >> 26) as u32 & 0x3f, failed_at: word as u32 & SECONDS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_millis(1 + seconds * 1000)
    }

    fn fails(answers: &Answers, bits: &[bool], early: bool, now: Moment) -> Option<usize> {
        bits.iter().position(|failure| answers.add(&Failover::default(), *failure, early, now))
    }

    #[test]
    fn five_failures_of_the_last_ten_are_too_many_and_four_are_not() {
        let (yes, no) = (true, false);
        assert_eq!(fails(&Answers::default(), &[yes; 10], false, at(0)), Some(4));
        assert_eq!(fails(&Answers::default(), &[yes, no, yes, no, yes, no, yes, no, yes], false, at(0)), Some(8));
        let four_of_ten = [yes, no, no, yes, no, no, yes, no, no, yes, no].repeat(20);
        assert_eq!(fails(&Answers::default(), &four_of_ten, false, at(0)), None);
    }

    #[test]
    fn failures_far_apart_do_not_add_up() {
        let answers = Answers::default();
        for minute in 0..20 {
            assert_eq!(fails(&answers, &[true], false, at(minute * 61)), None);
        }
        assert_eq!(fails(&answers, &[true; 4], false, at(19 * 61 + 59)), Some(3), "near ones do");
    }

    #[test]
    fn early_on_the_same_part_of_fewer_answers_is_enough() {
        assert_eq!(fails(&Answers::default(), &[true], true, at(0)), Some(0), "the first of all");
        assert_eq!(fails(&Answers::default(), &[false, true], true, at(0)), Some(1), "half of two");
        assert_eq!(fails(&Answers::default(), &[false, false, true, false, false, true], true, at(0)), None, "a third of six");
    }

    #[test]
    fn good_answers_after_good_ones_write_nothing() {
        let answers = Answers::default();
        (0..10).for_each(|_| assert!(!answers.add(&Failover::default(), false, false, at(0))));
        let word = answers.0.load(Ordering::Relaxed);
        assert!(!answers.add(&Failover::default(), false, false, at(500)));
        assert_eq!(answers.0.load(Ordering::Relaxed), word);
    }
}
