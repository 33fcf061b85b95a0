//! Hop: balance. Which backend of a rule, and which endpoint of the backend, gets the next request. Pure and total.
//!
//! Two levels, each with a cursor of its own that all shards share: the rule picks among backends that can accept, the
//! uplink or service among its endpoints that can. [`pick`] gives exact shares in every window of as many choices as the
//! weights add up to. Taking part needs: a weight above 0 that is in force, readiness, a tunnel, no drain, and not
//! having been tried by this request before. So a ready sibling gets the traffic of one that is not, and a retry never goes
//! back. [`choose`] advances the cursors; [`peek`] does not. Whether a tunnel of the snapshot still lives is not asked here:
//! the answer is behind a lock that another shard may hold. Control withdraws a dead tunnel at once, the dial finds the rest.
//!
//! What the caller does: between `choose` and `choice.state().in_flight.add(shard, 1)` there must be no await, or the drain
//! proof does not hold. After a failure, [`Tried::add`] the choice and choose again on the same snapshot. Live addresses
//! of services come through [`ServiceEndpoints`], which the dialer implements.

mod pick;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use figspan_model::routing::{Backend, ServiceName, Target};
use figspan_model::snapshot::{Endpoint, Snapshot, Uplink};
use figspan_model::state::{EndpointState, RuleState};

pub use pick::pick;

/// One address of a service, as resolved now.
#[derive(Debug, Clone)]
pub struct ServiceEndpoint {
    /// Where to connect.
    pub address: SocketAddr,
    /// Counters of `service/<name>/<address>`.
    pub state: Arc<EndpointState>,
}

/// Who knows the live addresses of services: the dialer.
pub trait ServiceEndpoints {
    /// The addresses that may be dialled now; empty while nothing is resolved, or for an unknown name. The order must be the
    /// same on every call while the addresses are the same.
    fn endpoints(&self, service: &ServiceName) -> Rc<[ServiceEndpoint]>;
}

/// Where a request goes.
#[derive(Debug, Clone)]
pub struct Choice {
    /// Index of the backend in its rule.
    pub backend: usize,
    /// The endpoint.
    pub endpoint: Chosen,
}

/// The endpoint of a [`Choice`].
#[derive(Debug, Clone)]
pub enum Chosen {
    /// A workload on a VM.
    Uplink {
        /// Its uplink, for the protocol.
        uplink: Arc<Uplink>,
        /// The agent's side; ask it for a tunnel.
        endpoint: Arc<Endpoint>,
    },
    /// An address in the cluster.
    Service {
        /// Its service.
        name: ServiceName,
        /// The address.
        endpoint: ServiceEndpoint,
    },
}

impl Choice {
    /// The endpoint's counters.
    pub fn state(&self) -> &Arc<EndpointState> {
        match &self.endpoint {
            Chosen::Uplink { endpoint, .. } => &endpoint.state,
            Chosen::Service { endpoint, .. } => &endpoint.state,
        }
    }
}

/// Why nothing can be chosen: a 503, with this as its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoChoice {
    /// Every backend has weight 0 or drains.
    #[error("all weights are 0")]
    AllZero,
    /// A weight asks for traffic, but no agent advertises the uplink and no service has an address.
    #[error("no backend is known")]
    Unknown,
    /// Endpoints are known, and none is ready.
    #[error("no endpoint is ready")]
    NobodyReady,
    /// Every endpoint that could accept was tried by this request.
    #[error("every endpoint was tried")]
    AllTried,
}

/// Endpoints that a request has tried, by their state. Short by nature: tries are few.
#[derive(Debug, Clone, Default)]
pub struct Tried(Vec<Arc<EndpointState>>);

impl Tried {
    /// Remembers the endpoint of a choice.
    pub fn add(&mut self, choice: &Choice) {
        self.0.push(Arc::clone(choice.state()));
    }

    /// How often the request was tried.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it was not tried yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn has(&self, state: &Arc<EndpointState>) -> bool {
        self.0.iter().any(|tried| Arc::ptr_eq(tried, state))
    }
}

/// Chooses for the next request and counts it in the cursors.
pub fn choose(
    snapshot: &Snapshot,
    backends: &[Backend],
    state: &RuleState,
    tried: &Tried,
    services: &dyn ServiceEndpoints,
) -> Result<Choice, NoChoice> {
    decide(snapshot, backends, state, tried, services, &|state| state.cursor.fetch_add(1, Ordering::Relaxed))
}

/// What [`choose`] would say to the next request, without counting it.
pub fn peek(
    snapshot: &Snapshot,
    backends: &[Backend],
    state: &RuleState,
    tried: &Tried,
    services: &dyn ServiceEndpoints,
) -> Result<Choice, NoChoice> {
    decide(snapshot, backends, state, tried, services, &|state| state.cursor.load(Ordering::Relaxed))
}

fn decide(
    snapshot: &Snapshot,
    backends: &[Backend],
    state: &RuleState,
    tried: &Tried,
    services: &dyn ServiceEndpoints,
    number: &dyn Fn(&RuleState) -> u64,
) -> Result<Choice, NoChoice> {
    let level = Level { snapshot, tried, services, number };
    let mut obstacles = Obstacles::default();
    let mut weights = Weights::default();
    let weights = weights.fill(backends.iter().map(|backend| level.backend_weight(backend, &mut obstacles)));
    if weights.iter().all(|weight| *weight == 0) {
        return Err(obstacles.verdict());
    }
    let number = number(state);
    // Once, as a rule. An endpoint may begin to drain between the look at the weights and the one at the endpoints: then
    // its backend is out of this choice, which so ends after one step per backend.
    while let Some(backend) = pick(number, weights) {
        if let Some(endpoint) = level.endpoint(&backends[backend].target) {
            return Ok(Choice { backend, endpoint });
        }
        weights[backend] = 0;
    }
    Err(NoChoice::NobodyReady)
}

/// Weights of one choice, on the stack where it is of usual size.
#[derive(Default)]
struct Weights {
    few: [u32; 16],
    many: Vec<u32>,
}

impl Weights {
    fn fill(&mut self, weights: impl ExactSizeIterator<Item = u32>) -> &mut [u32] {
        if weights.len() > self.few.len() {
            self.many.extend(weights);
            return &mut self.many;
        }
        let places = &mut self.few[..weights.len()];
        places.iter_mut().zip(weights).for_each(|(place, weight)| *place = weight);
        places
    }
}

/// What both levels of one choice look at.
struct Level<'c> {
    snapshot: &'c Snapshot,
    tried: &'c Tried,
    services: &'c dyn ServiceEndpoints,
    number: &'c dyn Fn(&RuleState) -> u64,
}

impl Level<'_> {
    /// The weight with which a backend takes part: 0 if it cannot accept.
    fn backend_weight(&self, backend: &Backend, obstacles: &mut Obstacles) -> u32 {
        let (weight, drains) = match &backend.target {
            Target::Uplink(name) => match self.snapshot.uplinks.get(name) {
                Some(uplink) => (backend.weight.unwrap_or(uplink.weight), uplink.draining),
                None => (backend.weight.unwrap_or_default(), false),
            },
            Target::Service(name) => {
                let service = self.snapshot.routing.services.get(name);
                (backend.weight.or(service.map(|service| service.weight)).unwrap_or_default(), false)
            }
        };
        if weight.is_zero() || drains {
            obstacles.zero = true;
            return 0;
        }
        let accepts = match &backend.target {
            Target::Uplink(name) => {
                let uplink = self.snapshot.uplinks.get(name);
                let endpoints = uplink.map(|uplink| &*uplink.endpoints).unwrap_or_default();
                obstacles.unknown |= endpoints.is_empty();
                // All are looked at, so that the reason of a refusal is whole.
                endpoints.iter().filter(|endpoint| self.uplink_weight(endpoint, obstacles) > 0).count()
            }
            Target::Service(name) => {
                let endpoints = self.services.endpoints(name);
                obstacles.unknown |= endpoints.is_empty();
                endpoints.iter().filter(|endpoint| self.service_weight(endpoint, obstacles) > 0).count()
            }
        };
        if accepts > 0 { weight.get() } else { 0 }
    }

    /// The weight with which an agent's side of an uplink takes part.
    fn uplink_weight(&self, endpoint: &Endpoint, obstacles: &mut Obstacles) -> u32 {
        if endpoint.weight.is_zero() || endpoint.state.draining.load(Ordering::Acquire) {
            obstacles.zero = true;
            0
        } else if !endpoint.accepts() {
            obstacles.not_ready = true;
            0
        } else if self.tried.has(&endpoint.state) {
            obstacles.tried = true;
            0
        } else {
            endpoint.weight.get()
        }
    }

    /// The weight with which an address of a service takes part: all are equal.
    fn service_weight(&self, endpoint: &ServiceEndpoint, obstacles: &mut Obstacles) -> u32 {
        if endpoint.state.draining.load(Ordering::Acquire) {
            obstacles.zero = true;
            0
        } else if self.tried.has(&endpoint.state) {
            obstacles.tried = true;
            0
        } else {
            1
        }
    }

    fn endpoint(&self, target: &Target) -> Option<Chosen> {
        let (mut weights, mut ignored) = (Weights::default(), Obstacles::default());
        match target {
            Target::Uplink(name) => {
                let uplink = self.snapshot.uplinks.get(name)?;
                let weights = weights.fill(uplink.endpoints.iter().map(|endpoint| self.uplink_weight(endpoint, &mut ignored)));
                let endpoint = &uplink.endpoints[pick((self.number)(&uplink.state), weights)?];
                Some(Chosen::Uplink { uplink: Arc::clone(uplink), endpoint: Arc::clone(endpoint) })
            }
            Target::Service(name) => {
                let endpoints = self.services.endpoints(name);
                let weights = weights.fill(endpoints.iter().map(|endpoint| self.service_weight(endpoint, &mut ignored)));
                let number = self.snapshot.routing.service_states.get(name).map_or(0, |state| (self.number)(state));
                let endpoint = endpoints[pick(number, weights)?].clone();
                Some(Chosen::Service { name: name.clone(), endpoint })
            }
        }
    }
}

/// What stands in the way of a choice.
#[derive(Debug, Default)]
struct Obstacles {
    zero: bool,
    unknown: bool,
    not_ready: bool,
    tried: bool,
}

impl Obstacles {
    /// The obstacle that is nearest to a success.
    fn verdict(&self) -> NoChoice {
        match self {
            Self { tried: true, .. } => NoChoice::AllTried,
            Self { not_ready: true, .. } => NoChoice::NobodyReady,
            Self { unknown: true, .. } | Self { zero: false, .. } => NoChoice::Unknown,
            Self { zero: true, .. } => NoChoice::AllZero,
        }
    }
}

#[cfg(test)]
mod tests;
