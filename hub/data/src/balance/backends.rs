//! The first level: which backend of a rule.
//!
//! Backends stand in tiers. The lowest tier with a backend that can take the request gets it; what gates hold back of its
//! weight goes to the next tier that can, so that a failback may be gradual. Within a tier weights decide, or a hash.

use figspan_model::routing::{Backend, Target};

use super::pick::split;
use super::sums::Sums;
use super::{Choice, FULL, Level, NoChoice, held, mix, obstacles, rendezvous};

/// The identity, in hashes, of "the next tier".
const NEXT_TIER: u64 = 0;

/// Chooses on both levels.
pub(super) fn decide(level: &Level<'_>) -> Result<Choice, NoChoice> {
    if let Some(choice) = level.question.bound.and_then(|bound| held::held(level, bound)) {
        return Ok(choice);
    }
    let backends = level.question.backends;
    let mut number = None;
    let mut tier = lowest(backends, 0);
    while let Some(this) = tier {
        let next = this.checked_add(1).and_then(|above| lowest(backends, above));
        let weights = |backend: &Backend| if backend.fallback == this { level.standing(backend) } else { (0, 0) };
        let mut held_back = 0;
        let mut sums = Sums::of(backends.iter().map(|backend| {
            let (weight, part) = weights(backend);
            held_back += weight * u64::from(FULL - part);
            weight * u64::from(part)
        }));
        if held_back > 0 && sums.total() > 0 && next.is_some_and(|next| takes(level, next)) {
            // The part of the choices that goes on to the next tier, decided before the others.
            let whole = sums.total() + held_back;
            let stays = match level.question.hash {
                None => {
                    let drawn = *number.get_or_insert_with(|| (level.number)(level.question.rule));
                    let (stays, own) = split(drawn, sums.total(), whole);
                    number = Some(own);
                    stays
                }
                Some(key) => {
                    let sides = [(mix(NEXT_TIER), sums.total()), (mix(NEXT_TIER ^ 1), held_back)];
                    rendezvous::highest(key, sides.into_iter(), |_| true) == Some(0)
                }
            };
            if !stays {
                tier = next;
                continue;
            }
        }
        // Once, as a rule. An endpoint may begin to drain between the look at the weights and the one at the endpoints: then
        // its backend is out of this choice, which so ends after one step per backend.
        while sums.total() > 0 {
            let picked = match level.question.hash {
                Some(key) => {
                    let candidates = backends.iter().enumerate().map(|(at, backend)| (backend.state.id, sums.weight(at)));
                    rendezvous::highest(key, candidates, |_| true)
                }
                None => sums.pick(*number.get_or_insert_with(|| (level.number)(level.question.rule))),
            };
            let Some(backend) = picked else { break };
            if let Some(endpoint) = level.endpoint(&backends[backend]) {
                return Ok(Choice::new(backends, backend, endpoint));
            }
            sums.remove(backend);
        }
        tier = next;
    }
    Err(obstacles::verdict(level))
}

/// The lowest tier of any backend that is not below `from`.
fn lowest(backends: &[Backend], from: u8) -> Option<u8> {
    backends.iter().map(|backend| backend.fallback).filter(|tier| *tier >= from).min()
}

/// Whether a backend of that tier or a later one takes requests now.
fn takes(level: &Level<'_>, tier: u8) -> bool {
    level.question.backends.iter().filter(|backend| backend.fallback >= tier).any(|backend| {
        let (weight, part) = level.standing(backend);
        weight > 0 && part > 0
    })
}

impl Level<'_> {
    /// The weight that is in force for a backend, its endpoints left aside.
    pub(super) fn weight(&self, backend: &Backend) -> u32 {
        match &backend.target {
            Target::Uplink(name) => match self.question.snapshot.uplinks.get(name) {
                Some(uplink) if uplink.draining => 0,
                Some(uplink) => backend.weight.unwrap_or(uplink.weight).get(),
                None => backend.weight.unwrap_or_default().get(),
            },
            Target::Service(name) => {
                let service = || self.question.snapshot.routing.services.get(name).map(|service| service.weight);
                backend.weight.or_else(service).unwrap_or_default().get()
            }
        }
    }

    /// With which weight, and which part of it, a backend takes part: both 0 if it cannot accept.
    pub(super) fn standing(&self, backend: &Backend) -> (u64, u32) {
        let weight = self.weight(backend);
        if weight == 0 || self.question.tried.is_full(&backend.state) {
            return (0, 0);
        }
        let part = self.question.gates.map_or(FULL, |gates| gates.backend(backend).min(FULL));
        if part == 0 || !self.members(backend).is_some_and(|members| self.any(backend, &members)) {
            return (0, 0);
        }
        (u64::from(weight), part)
    }
}
