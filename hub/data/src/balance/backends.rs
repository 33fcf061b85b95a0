//! The first level: which backend of a rule.
//!
//! Backends stand in tiers. The lowest tier with a backend that can take the request gets it; a rule that asks for failover
//! has a word in that (`tiers`). Within a tier weights decide, or a hash.

use super::weighing::{above, lowest};
use super::{Choice, Level, NoChoice, Resort, held, obstacles, tiers};

/// Chooses on both levels.
pub(super) fn decide<'p>(level: &Level<'p, '_>) -> Result<Choice<'p>, NoChoice> {
    if let Some(choice) = level.question.bound.and_then(|bound| held::held(level, bound)) {
        return Ok(choice);
    }
    if let Some(terms) = level.question.failover
        && let Some(choice) = tiers::choose(level, terms)
    {
        return Ok(choice);
    }
    let mut tier = lowest(level.question.backends, 0);
    while let Some(this) = tier {
        let mut sums = level.sums(this, Resort::Last);
        if let Some(choice) = level.among(&mut sums, &level.question.rule.cursor) {
            return Ok(choice);
        }
        tier = above(level.question.backends, this);
    }
    Err(obstacles::verdict(level))
}
