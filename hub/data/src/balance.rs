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
    /// Endpoints are ready, and gates (breaker, ejection, checks, limits) shut all of them.
    #[error("every ready endpoint is held back")]
    Shut,
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

/// A weight that takes part in full: factors are parts of this.
pub const FULL: u32 = 1024;

/// What may shut a backend or an endpoint for a while, or hold it back: breakers, ejection, checks, limits, failback. Asked in
/// the step of choice, so it must be quick and must not wait. Answers are parts of [`FULL`]: 0 is shut.
pub trait Gates {
    /// The part of its weight with which a backend of the rule takes part.
    fn backend(&self, backend: &Backend) -> u32 {
        let _ = backend;
        FULL
    }

    /// The part of its weight with which an endpoint of a backend takes part.
    fn endpoint(&self, backend: &Backend, endpoint: &EndpointState) -> u32 {
        let _ = (backend, endpoint);
        FULL
    }
}

/// Everything that one choice looks at.
#[derive(Clone, Copy)]
pub struct Question<'c> {
    /// The picture that the request took.
    pub snapshot: &'c Snapshot,
    /// The backends of its rule.
    pub backends: &'c [Backend],
    /// The rule's cursor.
    pub rule: &'c RuleState,
    /// What the request has tried already.
    pub tried: &'c Tried,
    /// The live addresses of services.
    pub services: &'c dyn ServiceEndpoints,
    /// What holds backends back; `None` where nothing can.
    pub gates: Option<&'c dyn Gates>,
}

/// Chooses for the next request and counts it in the cursors.
pub fn choose(question: Question<'_>) -> Result<Choice, NoChoice> {
    decide(question, &|state| state.cursor.fetch_add(1, Ordering::Relaxed))
}

/// What [`choose`] would say to the next request, without counting it.
pub fn peek(question: Question<'_>) -> Result<Choice, NoChoice> {
    decide(question, &|state| state.cursor.load(Ordering::Relaxed))
}

fn decide(question: Question<'_>, number: &dyn Fn(&RuleState) -> u64) -> Result<Choice, NoChoice> {
    let backends = question.backends;
    let level = Level { question, number };
    let mut obstacles = Obstacles::default();
    let mut weights = Weights::default();
    let weights = weights.fill(backends.iter().map(|backend| level.backend_weight(backend, &mut obstacles)));
    if weights.iter().all(|weight| *weight == 0) {
        return Err(obstacles.verdict());
    }
    let number = number(question.rule);
    // Once, as a rule. An endpoint may begin to drain between the look at the weights and the one at the endpoints: then
    // its backend is out of this choice, which so ends after one step per backend.
    while let Some(backend) = pick(number, weights) {
        if let Some(endpoint) = level.endpoint(&backends[backend]) {
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
    question: Question<'c>,
    number: &'c dyn Fn(&RuleState) -> u64,
}

impl Level<'_> {
    /// The weight with which a backend takes part: 0 if it cannot accept.
    fn backend_weight(&self, backend: &Backend, obstacles: &mut Obstacles) -> u32 {
        let (weight, drains) = match &backend.target {
            Target::Uplink(name) => match self.question.snapshot.uplinks.get(name) {
                Some(uplink) => (backend.weight.unwrap_or(uplink.weight), uplink.draining),
                None => (backend.weight.unwrap_or_default(), false),
            },
            Target::Service(name) => {
                let service = self.question.snapshot.routing.services.get(name);
                (backend.weight.or(service.map(|service| service.weight)).unwrap_or_default(), false)
            }
        };
        if weight.is_zero() || drains {
            obstacles.zero = true;
            return 0;
        }
        let accepts = match &backend.target {
            Target::Uplink(name) => {
                let uplink = self.question.snapshot.uplinks.get(name);
                let endpoints = uplink.map(|uplink| &*uplink.endpoints).unwrap_or_default();
                obstacles.unknown |= endpoints.is_empty();
                // All are looked at, so that the reason of a refusal is whole.
                endpoints.iter().filter(|endpoint| self.uplink_weight(backend, endpoint, obstacles) > 0).count()
            }
            Target::Service(name) => {
                let endpoints = self.question.services.endpoints(name);
                obstacles.unknown |= endpoints.is_empty();
                endpoints.iter().filter(|endpoint| self.service_weight(backend, endpoint, obstacles) > 0).count()
            }
        };
        let part = self.question.gates.map_or(FULL, |gates| gates.backend(backend));
        obstacles.shut |= part == 0;
        if accepts > 0 { scaled(weight.get(), part) } else { 0 }
    }

    /// The weight of an endpoint that accepts, as far as the gates let it.
    fn gated(&self, backend: &Backend, state: &EndpointState, weight: u32, obstacles: &mut Obstacles) -> u32 {
        let part = self.question.gates.map_or(FULL, |gates| gates.endpoint(backend, state));
        obstacles.shut |= part == 0;
        scaled(weight, part)
    }

    /// The weight with which an agent's side of an uplink takes part.
    fn uplink_weight(&self, backend: &Backend, endpoint: &Endpoint, obstacles: &mut Obstacles) -> u32 {
        if endpoint.weight.is_zero() || endpoint.state.draining.load(Ordering::Acquire) {
            obstacles.zero = true;
            0
        } else if !endpoint.accepts() {
            obstacles.not_ready = true;
            0
        } else if self.question.tried.has(&endpoint.state) {
            obstacles.tried = true;
            0
        } else {
            self.gated(backend, &endpoint.state, endpoint.weight.get(), obstacles)
        }
    }

    /// The weight with which an address of a service takes part: all are equal.
    fn service_weight(&self, backend: &Backend, endpoint: &ServiceEndpoint, obstacles: &mut Obstacles) -> u32 {
        if endpoint.state.draining.load(Ordering::Acquire) {
            obstacles.zero = true;
            0
        } else if self.question.tried.has(&endpoint.state) {
            obstacles.tried = true;
            0
        } else {
            self.gated(backend, &endpoint.state, 1, obstacles)
        }
    }

    fn endpoint(&self, backend: &Backend) -> Option<Chosen> {
        let (mut weights, mut ignored) = (Weights::default(), Obstacles::default());
        match &backend.target {
            Target::Uplink(name) => {
                let uplink = self.question.snapshot.uplinks.get(name)?;
                let weights = weights.fill(uplink.endpoints.iter().map(|endpoint| self.uplink_weight(backend, endpoint, &mut ignored)));
                let endpoint = &uplink.endpoints[pick((self.number)(&uplink.state), weights)?];
                Some(Chosen::Uplink { uplink: Arc::clone(uplink), endpoint: Arc::clone(endpoint) })
            }
            Target::Service(name) => {
                let endpoints = self.question.services.endpoints(name);
                let weights = weights.fill(endpoints.iter().map(|endpoint| self.service_weight(backend, endpoint, &mut ignored)));
                let number = self.question.snapshot.routing.service_states.get(name).map_or(0, |state| (self.number)(state));
                let endpoint = endpoints[pick(number, weights)?].clone();
                Some(Chosen::Service { name: name.clone(), endpoint })
            }
        }
    }
}

/// A part of a weight, in units of 1/[`FULL`]; never 0 where neither is.
fn scaled(weight: u32, part: u32) -> u32 {
    // A weight is at most 1,000,000, so that it fits.
    weight.saturating_mul(part.min(FULL))
}

/// What stands in the way of a choice.
#[derive(Debug, Default)]
struct Obstacles {
    zero: bool,
    unknown: bool,
    not_ready: bool,
    shut: bool,
    tried: bool,
}

impl Obstacles {
    /// The obstacle that is nearest to a success.
    fn verdict(&self) -> NoChoice {
        match self {
            Self { tried: true, .. } => NoChoice::AllTried,
            Self { shut: true, .. } => NoChoice::Shut,
            Self { not_ready: true, .. } => NoChoice::NobodyReady,
            Self { unknown: true, .. } | Self { zero: false, .. } => NoChoice::Unknown,
            Self { zero: true, .. } => NoChoice::AllZero,
        }
    }
}

#[cfg(test)]
mod tests;
