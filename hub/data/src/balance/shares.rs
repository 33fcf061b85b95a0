//! What each backend of a rule would get of the next requests: for people, and computed as choices are.

use figspan_model::health::WHOLE;

use super::weighing::{above, lowest};
use super::{Level, Question, Resort, tiers};

/// The part of the rule's requests that each of its backends gets now, 0 to 1, in the order of the backends. All 0 where
/// nothing can be chosen. Sessions and hashes are left aside. Changes nothing.
pub fn shares(question: Question<'_, '_>) -> Vec<f64> {
    let level = Level { question, counts: false };
    let backends = question.backends;
    let mut shares = vec![0.0; backends.len()];
    let mut left = 1.0;
    let mut tier = lowest(backends, 0);
    while let Some(this) = tier {
        tier = above(backends, this);
        let (resort, part) = match (question.failover, tier) {
            (Some(terms), Some(next)) => match question.rule.tier(this).share(terms, question.now) {
                0 => (Resort::Unchecked, 0),
                share => (Resort::Unchecked, if tiers::takes(&level, next) { share } else { WHOLE }),
            },
            _ => (Resort::Last, WHOLE),
        };
        let given = left * f64::from(part) / f64::from(WHOLE);
        if give(&level, this, resort, given, &mut shares) {
            left -= given;
        }
    }
    // As choices do with what nobody has taken so far.
    let mut tier = lowest(backends, 0);
    while let Some(this) = tier.filter(|_| left > 0.0) {
        if give(&level, this, Resort::Last, left, &mut shares) {
            left = 0.0;
        }
        tier = above(backends, this);
    }
    shares
}

/// Gives the backends of a tier their parts of `given`; whether anybody takes it.
fn give(level: &Level<'_, '_>, tier: u8, resort: Resort, given: f64, shares: &mut [f64]) -> bool {
    let sums = level.sums(tier, resort);
    if sums.total() > 0 && given > 0.0 {
        let part = |at| given * sums.weight(at) as f64 / sums.total() as f64;
        shares.iter_mut().enumerate().for_each(|(at, share)| *share += part(at));
    }
    sums.total() > 0 && given > 0.0
}
