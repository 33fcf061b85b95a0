//! A session's way back: to the endpoint that it is bound to, else to its backend.
//!
//! At weight 0 what is bound stays, until control says that the deadline of the drain has passed. Readiness, a way there and
//! gates are needed as always: an endpoint without them loses its sessions at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use figspan_model::routing::{Backend, Target};
use figspan_model::state::EndpointState;

use super::{Bound, Choice, Chosen, Level, Resort, tiers};

/// The choice for a session; `None` where its backend cannot keep it.
pub(super) fn held<'p>(level: &Level<'p, '_>, bound: Bound) -> Option<Choice<'p>> {
    let backends = level.question.backends;
    let at = backends.iter().position(|backend| backend.state.id == bound.backend)?;
    let backend = &backends[at];
    if tiers::is_held(level, backend.fallback) {
        return None;
    }
    if level.question.gates.is_some_and(|gates| gates.backend(backend) == 0) {
        return None;
    }
    let endpoint = bound_endpoint(level, backend, bound.endpoint).or_else(|| {
        let (weight, part) = level.standing(backend, Resort::Last);
        if weight > 0 && part > 0 { level.endpoint(backend) } else { None }
    });
    endpoint.map(|endpoint| Choice::new(backends, at, endpoint))
}

fn bound_endpoint<'p>(level: &Level<'p, '_>, backend: &Backend, id: u64) -> Option<Chosen<'p>> {
    match &backend.target {
        Target::Uplink(name) => {
            let uplink = level.question.snapshot.uplinks.get(name)?;
            let endpoint = &uplink.endpoints[uplink.shares.place(id)?];
            let drains = endpoint.weight.is_zero() || level.weight(backend) == 0;
            let ways = endpoint.ready && !endpoint.tunnels.is_empty();
            (ways && keeps(level, backend, &endpoint.state, drains)).then(|| Chosen::Uplink { uplink, endpoint })
        }
        Target::Service(name) => {
            let endpoints = level.question.services.endpoints(name);
            let endpoint = endpoints.iter().find(|endpoint| endpoint.id == id)?;
            let drains = level.weight(backend) == 0;
            keeps(level, backend, &endpoint.state, drains).then(|| Chosen::Service { name: Arc::clone(name), endpoint: endpoint.clone() })
        }
    }
}

fn keeps(level: &Level<'_, '_>, backend: &Backend, state: &EndpointState, drains: bool) -> bool {
    // The live marks too, so that a request with an older snapshot sees what has begun since.
    let drains = drains || state.draining.load(Ordering::Acquire);
    (!drains || !state.sessions_over.load(Ordering::Acquire))
        && !level.question.tried.has(state)
        && level.question.gates.is_none_or(|gates| gates.endpoint(backend, state, Resort::No) > 0)
}
