//! With which weights the backends of a tier take part in a choice, and the choice among them.

use std::sync::atomic::AtomicU64;

use figspan_model::routing::{Backend, Target};

use super::members::Members;
use super::sums::Sums;
use super::{Choice, FULL, Level, Resort, rendezvous};

/// The lowest tier of any backend that is not below `from`.
pub(super) fn lowest(backends: &[Backend], from: u8) -> Option<u8> {
    backends.iter().map(|backend| backend.fallback).filter(|tier| *tier >= from).min()
}

/// The next tier.
pub(super) fn above(backends: &[Backend], tier: u8) -> Option<u8> {
    tier.checked_add(1).and_then(|above| lowest(backends, above))
}

impl<'p> Level<'p, '_> {
    /// The weights with which the backends of a tier take part, each 0 if it cannot accept.
    pub(super) fn sums(&self, tier: u8, resort: Resort) -> Sums {
        Sums::of(self.question.backends.iter().map(|backend| {
            let (weight, part) = if backend.fallback == tier { self.standing(backend, resort) } else { (0, 0) };
            weight * u64::from(part)
        }))
    }

    /// A choice among backends with such weights.
    pub(super) fn among(&self, sums: &mut Sums, cursor: &AtomicU64) -> Option<Choice<'p>> {
        let backends = self.question.backends;
        let mut number = None;
        // Once, as a rule. An endpoint may begin to drain between the look at the weights and the one at the endpoints: then
        // its backend is out of this choice, which so ends after one step per backend.
        while sums.total() > 0 {
            let picked = match self.question.hash {
                Some(key) => {
                    let candidates = backends.iter().enumerate().map(|(at, backend)| (backend.state.id, sums.weight(at)));
                    rendezvous::highest(key, candidates, |_| true)
                }
                None => sums.pick(*number.get_or_insert_with(|| self.number(backends.len(), cursor, &self.question.rule.again))),
            };
            let backend = picked?;
            if let Some(endpoint) = self.endpoint(&backends[backend]) {
                return Some(Choice::new(backends, backend, endpoint));
            }
            sums.remove(backend);
        }
        None
    }

    /// The weight that is in force for a backend, its endpoints left aside.
    pub(super) fn weight(&self, backend: &Backend) -> u32 {
        self.weight_among(backend, self.members(backend).as_ref())
    }

    /// The same, where its members were looked up already.
    fn weight_among(&self, backend: &Backend, members: Option<&Members<'_>>) -> u32 {
        match (&backend.target, members) {
            (Target::Uplink(_), Some(Members::Uplink(uplink, _))) if uplink.draining => 0,
            (Target::Uplink(_), Some(Members::Uplink(uplink, _))) => backend.weight.unwrap_or(uplink.weight).get(),
            (Target::Uplink(_), _) => backend.weight.unwrap_or_default().get(),
            (Target::Service(name), _) => {
                let service = || self.question.snapshot.routing.services.get(name).map(|service| service.weight);
                backend.weight.or_else(service).unwrap_or_default().get()
            }
        }
    }

    /// With which weight, and which part of it, a backend takes part: both 0 if it cannot accept.
    pub(super) fn standing(&self, backend: &Backend, resort: Resort) -> (u64, u32) {
        let members = self.members(backend);
        let weight = self.weight_among(backend, members.as_ref());
        if weight == 0 || self.question.tried.is_full(&backend.state) {
            return (0, 0);
        }
        let part = self.question.gates.map_or(FULL, |gates| gates.backend(backend).min(FULL));
        if part == 0 || !members.is_some_and(|members| self.any(backend, &members, resort)) {
            return (0, 0);
        }
        (u64::from(weight), part)
    }
}
