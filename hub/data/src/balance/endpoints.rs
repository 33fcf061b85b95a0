//! The second level: which endpoint of a backend.
//!
//! A few endpoints are weighed anew for each request, which keeps shares exact whoever is held back. Of many, the sums of
//! the snapshot bring one up; where that one is held back, another number does, a bounded number of times before all are
//! weighed. Where the hub's own zone goes first, `zone` narrows the search to it. So a choice among a thousand costs what one
//! among ten does; a hash alone looks at each.

use figspan_model::routing::{Backend, Method, Target};
use figspan_model::state::RuleState;

use super::load::Load;
use super::members::Members;
use super::pick::pick;
use super::sums::{FEW, Sums};
use super::{Chosen, FULL, Level, Resort, mix, rendezvous};

/// Numbers tried among many before all are weighed. With half of them held back (the most that ejection does) one request in
/// 256 weighs all.
const DRAWS: u64 = 8;

impl<'p> Level<'p, '_> {
    /// An endpoint of the backend, if any takes part.
    pub(super) fn endpoint(&self, backend: &Backend) -> Option<Chosen<'p>> {
        let members = self.members(backend)?;
        let number = match self.question.hash {
            Some(_) => 0,
            None => self.cursor(backend, &members).map_or(0, |state| self.number(members.len(), &state.cursor, &state.again)),
        };
        let free = Search { level: self, backend, members: &members, reach: members.len(), resort: Resort::No };
        let found = free.find(number);
        let resort = || Search { resort: Resort::Last, ..free }.find(number);
        let at = if self.question.gates.is_some() { found.or_else(resort) } else { found }?;
        Some(members.chosen(at, backend))
    }

    fn cursor<'m>(&'m self, backend: &Backend, members: &'m Members<'_>) -> Option<&'m RuleState> {
        match (members, &backend.target) {
            (Members::Uplink(uplink, _), _) => Some(&uplink.state),
            (Members::Service(_), Target::Service(name)) => self.question.snapshot.routing.service_states.get(name).map(|state| &**state),
            (Members::Service(_), Target::Uplink(_)) => None,
        }
    }
}

/// A search among the members of one backend.
#[derive(Clone, Copy)]
pub(super) struct Search<'s, 'p, 'c> {
    pub(super) level: &'s Level<'p, 'c>,
    pub(super) backend: &'s Backend,
    pub(super) members: &'s Members<'p>,
    /// How many of them are looked at, from the first on.
    pub(super) reach: usize,
    pub(super) resort: Resort,
}

impl Search<'_, '_, '_> {
    /// The one with that number among those within reach.
    pub(super) fn pick(&self, number: u64) -> Option<usize> {
        if let Some(key) = self.level.question.hash {
            return self.hashed(key);
        }
        match self.backend.load_balancing().map(|asked| asked.method) {
            Some(Method::LeastLoad) => self.least_loaded(number),
            Some(Method::RoundRobin) | None => self.next(number, None),
        }
    }

    /// The part of its weight with which one takes part.
    pub(super) fn part(&self, at: usize) -> u32 {
        self.level.part(self.backend, self.members.state(at), self.resort)
    }

    /// The one with that number, by weight alone; never `but`.
    fn next(&self, number: u64, but: Option<usize>) -> Option<usize> {
        let len = self.reach;
        if len > FEW {
            let mut n = number;
            for _ in 0..DRAWS {
                let at = pick(n, len, |to| self.members.before(to))?;
                let part = if but == Some(at) { 0 } else { self.part(at) };
                // Held back in part: its share of the numbers that bring it up.
                if part == FULL || (part > 0 && mix(!n) % u64::from(FULL) < u64::from(part)) {
                    return Some(at);
                }
                n = mix(n);
            }
        }
        let weight = |at| if but == Some(at) { 0 } else { self.members.weight(at) * u64::from(self.part(at)) };
        Sums::of((0..len).map(weight)).pick(number)
    }

    /// The one whose hash with the key is highest for its weight.
    fn hashed(&self, key: u64) -> Option<usize> {
        let takes = |at| self.part(at) > 0;
        match self.members {
            Members::Uplink(_, shares) => rendezvous::highest(key, shares.weighed().take(self.reach), takes),
            Members::Service(endpoints) => rendezvous::highest(key, endpoints[..self.reach].iter().map(|endpoint| (endpoint.id, 1)), takes),
        }
    }

    /// Of two that their weights bring up, the one with less to do.
    fn least_loaded(&self, number: u64) -> Option<usize> {
        let first = self.next(number, None)?;
        let Some(second) = self.next(mix(number), Some(first)) else { return Some(first) };
        let members = self.members;
        let mean = members.before(self.reach) as f32 / self.reach as f32;
        let look = |at| Load::of(members.state(at), members.weight(at) as f32 / mean, self.level.question.now);
        Some(if look(second).is_less_than(&look(first)) { second } else { first })
    }
}
