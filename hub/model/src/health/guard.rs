//! The gate in front of a backend and of each of its endpoints: what `balance` asks before it chooses.
//!
//! A gate only looks. Whoever goes through takes a [`Permit`] in the same step as it counts the work in flight, and gives it
//! back with what came of it. Of several reasons against an endpoint the strongest counts: shut, then last resort, then probe.

use std::sync::atomic::{AtomicBool, Ordering};

use super::Outcome;
use super::breaker::{self, Breaker, Turn};
use super::check::Check;
use super::ejection::{self, Ejection};
use super::gate::Gate;
use crate::moment::Moment;

/// What a backend's policy asks about health. Parameters only; see [`BackendHealth`] and [`EndpointHealth`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Guard {
    /// Circuit breaker.
    pub breaker: Option<breaker::Terms>,
    /// Outlier ejection.
    pub ejection: Option<ejection::Terms>,
    /// Whether the hub checks the endpoints itself (services only: agents check what they advertise).
    pub checked: bool,
}

/// The long-lived health of an uplink or a service as a whole.
#[derive(Debug)]
pub struct BackendHealth {
    /// Its breaker, where the terms' scope has one.
    pub breaker: Breaker,
    /// Held by who decides about an ejection, so that two shards do not eject the last two at once. Nobody waits for it.
    turn: AtomicBool,
}

impl BackendHealth {
    /// With nothing known.
    pub fn new(shards: usize) -> Self {
        Self { breaker: Breaker::new(shards), turn: AtomicBool::new(false) }
    }
}

/// The long-lived health of one endpoint.
#[derive(Debug)]
pub struct EndpointHealth {
    /// Its breaker, where the terms' scope has one.
    pub breaker: Breaker,
    /// Its ejection.
    pub ejection: Ejection,
    /// What the hub's checks say, if it is checked.
    pub check: Check,
}

impl EndpointHealth {
    /// With nothing known.
    pub fn new(shards: usize) -> Self {
        Self { breaker: Breaker::new(shards), ejection: Ejection::default(), check: Check::default() }
    }
}

/// Leave to try an endpoint, from both breakers. Given back once, through [`Guard::record`] or [`Guard::forget`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit {
    backend: breaker::Permit,
    endpoint: breaker::Permit,
}

impl Permit {
    /// Leave where nothing is asked.
    pub const FREE: Self = Self { backend: breaker::Permit::Free, endpoint: breaker::Permit::Free };

    /// Whether the attempt is a probe of a half-open breaker.
    pub fn is_probe(self) -> bool {
        self != Self::FREE
    }
}

/// What an outcome changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changes {
    /// The backend's breaker turned.
    pub backend: Option<Turn>,
    /// The endpoint's breaker turned.
    pub endpoint: Option<Turn>,
    /// The endpoint was ejected until then.
    pub ejected: Option<Moment>,
}

impl Guard {
    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The gate of the backend as a whole. Never a last resort.
    pub fn backend(&self, health: &BackendHealth, now: Moment) -> Gate {
        self.backend_breaker().map_or(Gate::Open, |terms| health.breaker.gate(terms, now))
    }

    /// The gate of an endpoint.
    pub fn endpoint(&self, health: &EndpointHealth, now: Moment) -> Gate {
        let breaker = self.endpoint_breaker().map_or(Gate::Open, |terms| health.breaker.gate(terms, now));
        let ejection = if self.ejection.is_some() { health.ejection.gate(now) } else { Gate::Open };
        let check = if self.checked { health.check.gate() } else { Gate::Open };
        breaker.and(ejection).and(check)
    }

    /// Goes through both gates. `None` where others were quicker to take the last probe: choose another endpoint.
    pub fn enter(&self, backend: &BackendHealth, endpoint: &EndpointHealth, now: Moment) -> Option<Permit> {
        let mut permit = Permit::FREE;
        if let Some(terms) = self.backend_breaker() {
            permit.backend = backend.breaker.enter(terms, now)?;
        }
        if let Some(terms) = self.endpoint_breaker() {
            permit.endpoint = match endpoint.breaker.enter(terms, now) {
                Some(permit) => permit,
                None => {
                    backend.breaker.forget(permit.backend);
                    return None;
                }
            };
        }
        Some(permit)
    }

    /// Gives a permit back with what came of the attempt. `siblings`: every endpoint of the backend, the one in question
    /// among them, each with whether it could take work but for its ejection.
    pub fn record(
        &self,
        shard: usize,
        (backend, endpoint): (&BackendHealth, &EndpointHealth),
        permit: Permit,
        outcome: &Outcome,
        now: Moment,
        siblings: impl FnOnce(&mut dyn FnMut(&EndpointHealth, bool)),
    ) -> Changes {
        let mut changes = Changes::default();
        if let Some(terms) = self.backend_breaker() {
            changes.backend = backend.breaker.record(terms, shard, permit.backend, outcome, now);
        }
        if let Some(terms) = self.endpoint_breaker() {
            changes.endpoint = endpoint.breaker.record(terms, shard, permit.endpoint, outcome, now);
        }
        if let Some(terms) = &self.ejection
            && endpoint.ejection.record(terms, outcome, now)
            && !backend.turn.swap(true, Ordering::Acquire)
        {
            let (mut all, mut out, mut others) = (0, 0, 0);
            siblings(&mut |sibling, accepts| {
                let is_out = sibling.ejection.is_out(now);
                all += 1;
                out += usize::from(is_out);
                others += usize::from(accepts && !is_out && !std::ptr::eq(sibling, endpoint) && self.endpoint(sibling, now).is_free());
            });
            if !endpoint.ejection.is_out(now) && ejection::allowed(terms, all, out, others) {
                endpoint.ejection.eject(terms, now);
                changes.ejected = Some(endpoint.ejection.until());
            }
            backend.turn.store(false, Ordering::Release);
        }
        changes
    }

    /// Gives a permit back where the attempt says nothing about the endpoint: its client went away, say.
    pub fn forget(&self, backend: &BackendHealth, endpoint: &EndpointHealth, permit: Permit) {
        backend.breaker.forget(permit.backend);
        endpoint.breaker.forget(permit.endpoint);
    }

    /// The terms of endpoints' breakers.
    pub fn endpoint_breaker(&self) -> Option<&breaker::Terms> {
        self.breaker.as_ref().filter(|terms| terms.scope.endpoints())
    }

    /// The terms of the backend's breaker.
    pub fn backend_breaker(&self) -> Option<&breaker::Terms> {
        self.breaker.as_ref().filter(|terms| terms.scope.backend())
    }
}

#[cfg(test)]
mod tests;
