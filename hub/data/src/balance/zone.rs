//! The hub's own zone first: narrows a search to the endpoints that stand there, and widens it again where they cannot.
//!
//! As long as one of them takes part, no other endpoint gets anything, however small the zone is: who prefers a zone sizes it
//! for that. Two things lead out of it: none takes part, or slow start holds them back more than the others, and then what it
//! holds back goes to all. So an endpoint that recovered alone in its zone is not hit by everything at once.

use super::FULL;
use super::endpoints::Search;
use super::pick::split;
use super::sums::FEW;

impl Search<'_, '_, '_> {
    /// The one with that number: in the hub's own zone where the backend prefers that and somebody takes part there.
    pub(super) fn find(&self, number: u64) -> Option<usize> {
        let prefers = self.backend.load_balancing().is_some_and(|asked| asked.prefer_zone);
        let near = if prefers { self.members.near() } else { 0 };
        if near == 0 || near == self.reach {
            return self.pick(number);
        }
        let near = Search { reach: near, ..*self };
        match split(number, u64::from(near.share_beside(self)), u64::from(FULL)) {
            (true, own) => near.pick(own).or_else(|| self.pick(number)),
            (false, others) => self.pick(others),
        }
    }

    /// Which part of the requests these can take when they are as cold as they are, and all are as cold as those are.
    fn share_beside(&self, all: &Self) -> u32 {
        let grows = self.backend.load_balancing().is_some_and(|asked| asked.slow_start.is_some());
        // Among many, one that is cold is a small part of its zone.
        if !grows || self.level.question.hash.is_some() || all.reach > FEW {
            return FULL;
        }
        let ((weight, warm), (all_weight, all_warm)) = (self.warmth(), all.warmth());
        if weight == 0 {
            return FULL;
        }
        let part = u128::from(FULL) * u128::from(warm) * u128::from(all_weight) / (u128::from(weight) * u128::from(all_warm)).max(1);
        u32::try_from(part).unwrap_or(FULL).clamp(1, FULL)
    }

    /// The weight of all that take part, and with what part of it they do.
    fn warmth(&self) -> (u64, u64) {
        let of = |at| (self.members.weight(at), u64::from(self.part(at)));
        let taking = (0..self.reach).map(of).filter(|(_, part)| *part > 0);
        taking.fold((0, 0), |(weight, warm), (own, part)| (weight + own, warm + own * part))
    }
}
