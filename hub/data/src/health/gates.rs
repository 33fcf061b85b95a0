//! The gates of one choice, as `balance` asks for them.

use std::cell::Cell;
use std::sync::atomic::Ordering;

use figspan_model::health::{EndpointHealth, Gate, Guard, Why};
use figspan_model::moment::Moment;
use figspan_model::routing::{Backend, Target};
use figspan_model::state::EndpointState;

use super::guard;
use crate::balance::{FULL, Gates, NoChoice, Question};

/// Gates of one choice at one moment.
pub(super) struct HealthGates<'c> {
    question: Question<'c>,
    now: Moment,
    /// A breaker has shut something out.
    breaker: Cell<bool>,
    /// The backend looked at last, and whether an endpoint of it needs no last resort. A choice looks at the endpoints of
    /// one backend after the other.
    free: Cell<Option<(*const Backend, bool)>>,
}

impl<'c> HealthGates<'c> {
    pub(super) fn new(question: Question<'c>, now: Moment) -> Self {
        Self { question, now, breaker: Cell::new(false), free: Cell::new(None) }
    }

    /// The reason by its name, where it is ours.
    pub(super) fn name(&self, none: NoChoice) -> NoChoice {
        match none {
            NoChoice::Shut if self.breaker.get() => NoChoice::Breaker,
            none => none,
        }
    }

    fn part(&self, gate: Gate, otherwise: impl FnOnce() -> u32) -> u32 {
        match gate {
            Gate::Open | Gate::Probe => FULL,
            Gate::LastResort(_) => otherwise(),
            Gate::Shut(why) => {
                self.breaker.set(self.breaker.get() || matches!(why, Why::Breaker { .. }));
                0
            }
        }
    }

    /// Whether some endpoint of the backend takes work without need. Whether this request has tried it does not matter: an
    /// ejected endpoint is not a place to try again.
    fn any_free(&self, backend: &Backend, guard: &Guard) -> bool {
        if let Some((seen, free)) = self.free.get()
            && std::ptr::eq(seen, backend)
        {
            return free;
        }
        let mut free = false;
        each_sibling(&self.question, &backend.target, &mut |health, accepts| {
            free = free || (accepts && guard.endpoint(health, self.now).is_free());
        });
        self.free.set(Some((backend, free)));
        free
    }
}

impl Gates for HealthGates<'_> {
    fn backend(&self, backend: &Backend) -> u32 {
        let other = self.question.gates.map_or(FULL, |gates| gates.backend(backend));
        let Some(guard) = guard(backend) else { return other };
        other.min(self.part(guard.backend(&backend.state.health, self.now), || FULL))
    }

    fn endpoint(&self, backend: &Backend, endpoint: &EndpointState) -> u32 {
        let other = self.question.gates.map_or(FULL, |gates| gates.endpoint(backend, endpoint));
        let Some(guard) = guard(backend) else { return other };
        let last_resort = || if self.any_free(backend, guard) { 0 } else { FULL };
        other.min(self.part(guard.endpoint(&endpoint.health, self.now), last_resort))
    }
}

/// Every endpoint of a backend, each with whether it could take work but for its gates.
fn each_sibling(question: &Question<'_>, target: &Target, visit: &mut dyn FnMut(&EndpointHealth, bool)) {
    match target {
        Target::Uplink(name) => {
            let uplink = question.snapshot.uplinks.get(name);
            uplink.iter().flat_map(|uplink| &uplink.endpoints).for_each(|endpoint| {
                visit(&endpoint.state.health, endpoint.accepts() && !endpoint.state.draining.load(Ordering::Acquire));
            });
        }
        Target::Service(name) => question.services.endpoints(name).iter().for_each(|endpoint| {
            visit(&endpoint.state.health, !endpoint.state.draining.load(Ordering::Acquire));
        }),
    }
}
