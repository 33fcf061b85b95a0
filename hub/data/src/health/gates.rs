//! The gates of one choice, as `balance` asks for them.

use std::cell::Cell;

use figspan_model::health::{Gate, Turn, Why};
use figspan_model::moment::Moment;
use figspan_model::routing::Backend;
use figspan_model::state::{EndpointState, RuleState};

use super::{guard, tier};
use crate::balance::{FULL, Gates, NoChoice, Resort};

/// Gates of one choice at one moment.
pub(super) struct HealthGates<'c> {
    /// Gates of somebody else that count too.
    others: Option<&'c dyn Gates>,
    now: Moment,
    /// A breaker has shut something out.
    breaker: Cell<bool>,
}

impl<'c> HealthGates<'c> {
    pub(super) fn new(others: Option<&'c dyn Gates>, now: Moment) -> Self {
        Self { others, now, breaker: Cell::new(false) }
    }

    /// The reason by its name, where it is ours.
    pub(super) fn name(&self, none: NoChoice) -> NoChoice {
        match none {
            NoChoice::Shut if self.breaker.get() => NoChoice::Breaker,
            none => none,
        }
    }

    fn part(&self, gate: Gate, resort: Resort) -> u32 {
        match gate {
            Gate::Open | Gate::Probe => FULL,
            Gate::LastResort(Why::Unchecked) if resort >= Resort::Unchecked => FULL,
            Gate::LastResort(_) if resort == Resort::Last => FULL,
            Gate::LastResort(_) => 0,
            Gate::Shut(why) => {
                self.breaker.set(self.breaker.get() || matches!(why, Why::Breaker { .. }));
                0
            }
        }
    }
}

impl Gates for HealthGates<'_> {
    fn backend(&self, backend: &Backend) -> u32 {
        let other = self.others.map_or(FULL, |gates| gates.backend(backend));
        guard(backend).map_or(other, |guard| other.min(self.part(guard.backend(&backend.state.health, self.now), Resort::Last)))
    }

    fn endpoint(&self, backend: &Backend, endpoint: &EndpointState, resort: Resort) -> u32 {
        let other = self.others.map_or(FULL, |gates| gates.endpoint(backend, endpoint, resort));
        guard(backend).map_or(other, |guard| other.min(self.part(guard.endpoint(&endpoint.health, self.now), resort)))
    }

    fn turned(&self, rule: &RuleState, number: u8, turn: Turn) {
        tier::tell(rule, number, turn);
    }
}
