//! Tiers of a rule that asks for failover: which of them the next request may go to, and what a look at them changes.
//!
//! A tier that failed is passed over while it is held, and gets a part of the choices while it comes back, as long as a later
//! tier takes the others. Only the first choice of a request judges tiers: a retry has used some endpoints up. What is held
//! is still better than a refusal, so the caller goes on without failover where nothing is chosen here.

use figspan_model::health::{Cause, Failover, Standing, TierState, WHOLE};

use super::weighing::{above, lowest};
use super::{Choice, Level, Resort, mix, obstacles, rendezvous};

/// Chooses in the lowest tier that is able and is not passed over.
pub(super) fn choose<'p>(level: &Level<'p, '_>, terms: &Failover) -> Option<Choice<'p>> {
    let (backends, rule) = (level.question.backends, level.question.rule);
    let mut tier = lowest(backends, 0);
    while let Some(this) = tier {
        let (next, state) = (above(backends, this), rule.tier(this));
        let Some(next) = next else {
            // Nothing is left to fail over to.
            return level.among(&mut level.sums(this, Resort::Last), &state.cursor);
        };
        let mut sums = level.sums(this, Resort::Unchecked);
        let able = sums.total() > 0;
        let share = share(level, terms, this, able);
        if able
            && share > 0
            && (share == WHOLE || !takes(level, next) || is_its_turn(level, state, share))
            && let Some(choice) = level.among(&mut sums, &state.cursor)
        {
            return Some(choice);
        }
        tier = Some(next);
    }
    None
}

/// Whether sessions have to leave that tier: it has failed, and a later one takes them.
pub(super) fn is_held(level: &Level<'_, '_>, tier: u8) -> bool {
    level.question.failover.is_some()
        && matches!(level.question.rule.tier(tier).standing(), Standing::Held { .. })
        && above(level.question.backends, tier).is_some_and(|next| takes(level, next))
}

/// The share that a tier gets of the choices that come to it, in 1/[`WHOLE`].
fn share(level: &Level<'_, '_>, terms: &Failover, tier: u8, able: bool) -> u32 {
    let (state, now) = (level.question.rule.tier(tier), level.question.now);
    if !level.counts || !level.is_first() {
        return state.share(terms, now);
    }
    let able: Result<(), Cause> = match able {
        true => Ok(()),
        false => match obstacles::of_tier(level, tier) {
            Some(cause) => Err(cause),
            // Somebody wants nothing to go there.
            None => return state.share(terms, now),
        },
    };
    let (share, turn) = state.look(terms, able, now);
    if let (Some(turn), Some(gates)) = (turn, level.question.gates) {
        gates.turned(level.question.rule, tier, turn);
    }
    share
}

/// Whether the next choice is one of those that a tier gets.
fn is_its_turn(level: &Level<'_, '_>, state: &TierState, share: u32) -> bool {
    match level.question.hash {
        None => state.takes(share, level.counts && level.is_first()),
        // The same key stays where it is; those that come back are added to those that are back.
        Some(key) => {
            let parts = [share, WHOLE - share].into_iter().enumerate().map(|(at, part)| (mix(at as u64), u64::from(part)));
            rendezvous::highest(key, parts, |_| true) == Some(0)
        }
    }
}

/// Whether a backend of that tier or a later one takes requests now.
pub(super) fn takes(level: &Level<'_, '_>, tier: u8) -> bool {
    level.question.backends.iter().filter(|backend| backend.fallback >= tier).any(|backend| {
        let (weight, part) = level.standing(backend, Resort::Last);
        weight > 0 && part > 0
    })
}
