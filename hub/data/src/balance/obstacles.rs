//! Why nothing could be chosen. Looked for only once that is so, over everything.

use std::sync::atomic::Ordering;

use figspan_model::health::Cause;
use figspan_model::routing::{Backend, Target};
use figspan_model::state::EndpointState;

use super::{Level, NoChoice, Resort};

/// What stands in the way of a choice.
#[derive(Debug, Default)]
struct Obstacles {
    zero: bool,
    unknown: bool,
    not_ready: bool,
    shut: bool,
    tried: bool,
}

/// The obstacle that is nearest to a success.
pub(super) fn verdict(level: &Level<'_, '_>) -> NoChoice {
    let mut obstacles = Obstacles::default();
    level.question.backends.iter().for_each(|backend| obstacles.look(level, backend));
    match obstacles {
        Obstacles { tried: true, .. } => NoChoice::AllTried,
        Obstacles { shut: true, .. } => NoChoice::Shut,
        Obstacles { not_ready: true, .. } => NoChoice::NobodyReady,
        Obstacles { unknown: true, .. } | Obstacles { zero: false, .. } => NoChoice::Unknown,
        Obstacles { zero: true, .. } => NoChoice::AllZero,
    }
}

/// Why no backend of a tier takes a first choice; `None` where nobody wants it to.
pub(super) fn of_tier(level: &Level<'_, '_>, tier: u8) -> Option<Cause> {
    let mut obstacles = Obstacles::default();
    let backends = level.question.backends.iter().filter(|backend| backend.fallback == tier);
    backends.for_each(|backend| obstacles.look(level, backend));
    match obstacles {
        Obstacles { shut: true, .. } => Some(Cause::Shut),
        Obstacles { not_ready: true, .. } | Obstacles { unknown: true, .. } => Some(Cause::Unready),
        _ => None,
    }
}

impl Obstacles {
    fn look(&mut self, level: &Level<'_, '_>, backend: &Backend) {
        if level.weight(backend) == 0 {
            self.zero = true;
            return;
        }
        if level.question.tried.is_full(&backend.state) {
            self.tried = true;
            return;
        }
        if let Some(gates) = level.question.gates {
            self.shut |= gates.backend(backend) == 0;
        }
        match &backend.target {
            Target::Uplink(name) => {
                let uplink = level.question.snapshot.uplinks.get(name);
                let endpoints = uplink.map(|uplink| &*uplink.endpoints).unwrap_or_default();
                self.unknown |= endpoints.is_empty();
                for endpoint in endpoints {
                    self.endpoint(level, backend, &endpoint.state, endpoint.weight.is_zero(), endpoint.accepts());
                }
            }
            Target::Service(name) => {
                let endpoints = level.question.services.endpoints(name);
                self.unknown |= endpoints.is_empty();
                endpoints.iter().for_each(|endpoint| self.endpoint(level, backend, &endpoint.state, false, true));
            }
        }
    }

    fn endpoint(&mut self, level: &Level<'_, '_>, backend: &Backend, state: &EndpointState, zero: bool, accepts: bool) {
        if zero {
            self.zero = true;
        } else if !accepts {
            // Asked before the mark of a drain, which control also sets where no agent is there to take anything.
            self.not_ready = true;
        } else if state.draining.load(Ordering::Acquire) {
            self.zero = true;
        } else if level.question.tried.has(state) {
            self.tried = true;
        } else {
            self.shut |= level.question.gates.is_some_and(|gates| gates.endpoint(backend, state, Resort::Unchecked) == 0);
        }
    }
}
