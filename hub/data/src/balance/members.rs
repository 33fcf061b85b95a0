//! The endpoints of one backend that the snapshot lets take part, whether they are an uplink's or a service's.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use figspan_model::routing::{Backend, Target};
use figspan_model::snapshot::{Shares, Uplink};
use figspan_model::state::EndpointState;

use super::{Chosen, FULL, Level, Resort, ServiceEndpoint};

/// Endpoints with weights, by number from 0.
pub(super) enum Members<'p> {
    /// Agents' sides of an uplink.
    Uplink(&'p Arc<Uplink>, &'p Shares),
    /// Addresses of a service, all of weight 1.
    Service(Rc<[ServiceEndpoint]>),
}

impl<'p> Members<'p> {
    /// How many.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Uplink(_, shares) => shares.len(),
            Self::Service(endpoints) => endpoints.len(),
        }
    }

    /// How many of them, the first ones, are in the hub's own zone.
    pub(super) fn near(&self) -> usize {
        match self {
            Self::Uplink(_, shares) => shares.near(),
            Self::Service(endpoints) => endpoints.iter().take_while(|endpoint| endpoint.near).count(),
        }
    }

    /// The sum of the weights before one of them.
    pub(super) fn before(&self, at: usize) -> u64 {
        match self {
            Self::Uplink(_, shares) => shares.before(at),
            Self::Service(_) => at as u64,
        }
    }

    /// The weight of one.
    pub(super) fn weight(&self, at: usize) -> u64 {
        match self {
            Self::Uplink(_, shares) => shares.weight(at),
            Self::Service(_) => 1,
        }
    }

    /// The state of one.
    pub(super) fn state(&self, at: usize) -> &Arc<EndpointState> {
        match self {
            Self::Uplink(uplink, shares) => &uplink.endpoints[shares.endpoint(at)].state,
            Self::Service(endpoints) => &endpoints[at].state,
        }
    }

    /// One of them, chosen.
    pub(super) fn chosen(&self, at: usize, backend: &Backend) -> Chosen<'p> {
        match (self, &backend.target) {
            (Self::Service(endpoints), Target::Service(name)) => {
                Chosen::Service { name: Arc::clone(name), endpoint: endpoints[at].clone() }
            }
            (Self::Uplink(uplink, shares), _) => Chosen::Uplink { uplink, endpoint: &uplink.endpoints[shares.endpoint(at)] },
            (Self::Service(endpoints), Target::Uplink(name)) => {
                Chosen::Service { name: name.as_str().into(), endpoint: endpoints[at].clone() }
            }
        }
    }
}

impl<'p> Level<'p, '_> {
    /// Who may take part in a choice within the backend; `None` where nobody is known.
    pub(super) fn members(&self, backend: &Backend) -> Option<Members<'p>> {
        match &backend.target {
            Target::Uplink(name) => self.question.snapshot.uplinks.get(name).map(|uplink| Members::Uplink(uplink, &uplink.shares)),
            Target::Service(name) => Some(Members::Service(self.question.services.endpoints(name))),
        }
    }

    /// The part of its weight with which an endpoint takes part now, in 1/[`FULL`]: what no snapshot can say.
    pub(super) fn part(&self, backend: &Backend, state: &EndpointState, resort: Resort) -> u32 {
        if state.draining.load(Ordering::Acquire) || self.question.tried.has(state) {
            return 0;
        }
        let gate = self.question.gates.map_or(FULL, |gates| gates.endpoint(backend, state, resort).min(FULL));
        let slow_start = backend.load_balancing().and_then(|asked| asked.slow_start);
        match slow_start {
            Some(over) if gate > 0 => (gate * state.warmth.part(over, self.question.now) / FULL).max(1),
            _ => gate,
        }
    }

    /// Whether any of them takes part now. As a rule the first that is looked at does.
    pub(super) fn any(&self, backend: &Backend, members: &Members<'_>, resort: Resort) -> bool {
        let len = members.len();
        // Those held back may stand side by side; where many are, the look begins somewhere else each time.
        let from = if len > super::sums::FEW { self.question.rule.cursor.load(Ordering::Relaxed) as usize % len } else { 0 };
        (from..len).chain(0..from).any(|at| self.part(backend, members.state(at), resort) > 0)
    }
}
