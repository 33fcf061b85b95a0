//! Hop: balance. Which backend of a rule, and which endpoint of the backend, gets the next request. Pure and total.
//!
//! Two levels, each with a cursor of its own that all shards share: the rule chooses among the backends of the lowest tier
//! that can accept (`backends`; `tiers`, where the rule asks for failover), the uplink or service among its endpoints that
//! can (`endpoints`). [`pick`] gives exact shares in every window of as many choices as the weights add up to; a hash or the
//! load may decide instead. Taking part needs: a weight above 0 that is in force, readiness, a tunnel, no drain, open gates, and not having been tried by this
//! request before. [`choose`] advances the cursors; [`peek`] does not. Whether a tunnel of the snapshot still lives is not
//! asked here: the answer is behind a lock that another shard may hold. The dial finds out.
//!
//! What the caller does: between `choose` and `choice.state().in_flight.add(shard, 1)` there must be no await, or the drain
//! proof does not hold. After a failure, [`Tried::add`] the choice and choose again, on the endpoints of the newest snapshot. Live addresses
//! of services come through [`ServiceEndpoints`], which the dialer implements.

mod backends;
mod endpoints;
mod held;
mod load;
mod members;
mod obstacles;
mod pick;
mod rendezvous;
mod shares;
mod sums;
mod tiers;
mod timer;
mod weighing;
mod zone;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use figspan_model::health::{Failover, Turn};
use figspan_model::moment::Moment;
use figspan_model::routing::{Backend, ServiceName};
use figspan_model::snapshot::{Endpoint, Snapshot, Uplink};
use figspan_model::state::{BackendState, EndpointState, RuleState, Warmth};

use tokio::time::Instant;

pub use pick::pick;
pub use rendezvous::mix;
pub use shares::shares;
pub use timer::Timer;

/// One address of a service, as resolved now.
#[derive(Debug, Clone)]
pub struct ServiceEndpoint {
    /// Where to connect.
    pub address: SocketAddr,
    /// Its identity; see [`EndpointState::id`].
    pub id: u64,
    /// Counters of `service/<name>/<address>`.
    pub state: Arc<EndpointState>,
    /// Whether it is in the hub's own zone.
    pub near: bool,
}

impl ServiceEndpoint {
    /// An address with its state, in no particular zone.
    pub fn new(address: SocketAddr, state: Arc<EndpointState>) -> Self {
        Self { address, id: state.id, state, near: false }
    }

    /// Puts endpoints in the order in which [`ServiceEndpoints`] gives them.
    pub fn ordered(mut endpoints: Vec<Self>) -> Rc<[Self]> {
        endpoints.sort_by_key(|endpoint| (!endpoint.near, endpoint.address));
        endpoints.into()
    }
}

/// Who knows the live addresses of services: the dialer.
pub trait ServiceEndpoints {
    /// The addresses that may be dialled now; empty while nothing is resolved, or for an unknown name. The order must be the
    /// same on every call while the addresses are the same, with those of the hub's own zone first: see
    /// [`ServiceEndpoint::ordered`].
    fn endpoints(&self, service: &ServiceName) -> Rc<[ServiceEndpoint]>;
}

/// Where a request goes.
#[derive(Debug, Clone)]
pub struct Choice<'p> {
    /// Index of the backend in its rule.
    pub backend: usize,
    /// The endpoint.
    pub endpoint: Chosen<'p>,
    /// Whether the endpoint is in the hub's own zone; `None` where the backend does not care.
    pub near: Option<bool>,
}

/// The endpoint of a [`Choice`].
#[derive(Debug, Clone)]
pub enum Chosen<'p> {
    /// A workload on a VM. Lent by the snapshot: the counts of their owners are written by all shards.
    Uplink {
        /// Its uplink, for the protocol.
        uplink: &'p Arc<Uplink>,
        /// The agent's side; ask it for a tunnel.
        endpoint: &'p Arc<Endpoint>,
    },
    /// An address in the cluster.
    Service {
        /// Its service.
        name: ServiceName,
        /// The address.
        endpoint: ServiceEndpoint,
    },
}

impl<'p> Choice<'p> {
    fn new(backends: &[Backend], backend: usize, endpoint: Chosen<'p>) -> Self {
        let prefers = backends[backend].load_balancing().is_some_and(|asked| asked.prefer_zone);
        let near = || match &endpoint {
            Chosen::Uplink { endpoint, .. } => endpoint.near,
            Chosen::Service { endpoint, .. } => endpoint.near,
        };
        Self { backend, near: prefers.then(near), endpoint }
    }

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
    /// The same, and a circuit breaker is one of the gates that do.
    #[error("the circuit breaker is open")]
    Breaker,
    /// Every endpoint that could accept was tried by this request.
    #[error("every endpoint was tried")]
    AllTried,
}

/// Endpoints that a request has tried, by their identity. Short by nature: tries are few, and mostly one.
#[derive(Debug, Clone, Default)]
pub struct Tried {
    first: Option<u64>,
    more: Vec<u64>,
    /// Backends that have no room, whichever endpoint is asked.
    full: Vec<u64>,
    /// Tries of which only the way there failed.
    forgiven: usize,
}

impl Tried {
    /// Remembers the endpoint of a choice.
    pub fn add(&mut self, choice: &Choice<'_>) {
        let id = choice.state().id;
        if self.first.is_none() {
            self.first = Some(id);
        } else {
            self.more.push(id);
        }
    }

    /// Lets an endpoint be asked again: only the way to it failed, and there is another.
    pub fn forgive(&mut self, state: &EndpointState) {
        if self.first == Some(state.id) {
            self.first = self.more.pop();
        } else if let Some(at) = self.more.iter().position(|tried| *tried == state.id) {
            self.more.swap_remove(at);
        } else {
            return;
        }
        self.forgiven += 1;
    }

    /// Remembers that a backend has no room, so that no endpoint of it is chosen any more.
    pub fn add_full(&mut self, backend: &BackendState) {
        self.full.push(backend.id);
    }

    /// How often the request was tried.
    pub fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len() + self.forgiven
    }

    /// Whether it was not tried yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn is_full(&self, backend: &BackendState) -> bool {
        self.full.contains(&backend.id)
    }

    fn has(&self, state: &EndpointState) -> bool {
        self.first == Some(state.id) || self.more.contains(&state.id)
    }
}

/// A weight that takes part in full: factors are parts of this.
pub const FULL: u32 = Warmth::FULL;

/// What may shut a backend or an endpoint for a while, or hold it back: breakers, ejection, checks, limits, failback. Asked in
/// the step of choice, so it must be quick and must not wait. Answers are parts of [`FULL`]: 0 is shut.
pub trait Gates {
    /// The part of its weight with which a backend of the rule takes part.
    fn backend(&self, backend: &Backend) -> u32 {
        let _ = backend;
        FULL
    }

    /// The part of its weight with which an endpoint of a backend takes part. `resort` says how little is enough.
    fn endpoint(&self, backend: &Backend, endpoint: &EndpointState, resort: Resort) -> u32 {
        let _ = (backend, endpoint, resort);
        FULL
    }

    /// Told when a choice has turned a tier of its rule.
    fn turned(&self, rule: &RuleState, tier: u8, turn: Turn) {
        let _ = (rule, tier, turn);
    }
}

/// How little is enough of an endpoint to take part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resort {
    /// Only what nothing speaks against.
    No,
    /// Also what was not checked yet.
    Unchecked,
    /// Also what was ejected: no endpoint of the backend would take part otherwise.
    Last,
}

/// Where a session belongs, by the identities of backend and endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// See [`figspan_model::state::BackendState::id`].
    pub backend: u64,
    /// See [`EndpointState::id`].
    pub endpoint: u64,
}

/// Everything that one choice looks at: the picture that it chooses from, and what concerns it alone.
#[derive(Clone, Copy)]
pub struct Question<'p, 'c> {
    /// The picture that the request took; for another try, with the endpoints that there are by now.
    pub snapshot: &'p Snapshot,
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
    /// When the rule leaves a tier of its backends, where it asks for that.
    pub failover: Option<&'c Failover>,
    /// Hash of what the client brought, where the rule asks for it: decides in place of the cursors.
    pub hash: Option<u64>,
    /// Where the session of the request belongs: goes before everything else.
    pub bound: Option<Bound>,
    /// What time it is; looked at only where a policy of a backend depends on it.
    pub now: Moment,
}

impl<'p, 'c> Question<'p, 'c> {
    /// A question without gates and hash, at no particular time.
    pub fn new(
        snapshot: &'p Snapshot,
        backends: &'c [Backend],
        rule: &'c RuleState,
        tried: &'c Tried,
        services: &'c dyn ServiceEndpoints,
    ) -> Self {
        Self { snapshot, backends, rule, tried, services, gates: None, failover: None, hash: None, bound: None, now: Moment::NEVER }
    }

    /// The same question, at the present moment where something may depend on it: failover, or a policy of a backend.
    #[must_use]
    pub fn now(self) -> Self {
        let timed = self.failover.is_some() || self.backends.iter().any(|backend| backend.policy.is_some());
        if timed { Self { now: now(), ..self } } else { self }
    }
}

/// The present moment.
pub fn now() -> Moment {
    Moment::of(Instant::now().into_std())
}

/// Chooses for the next request and counts it in the cursors.
pub fn choose<'p>(question: Question<'p, '_>) -> Result<Choice<'p>, NoChoice> {
    backends::decide(&Level { question, counts: true })
}

/// What [`choose`] would say to the next request, without counting it.
pub fn peek<'p>(question: Question<'p, '_>) -> Result<Choice<'p>, NoChoice> {
    backends::decide(&Level { question, counts: false })
}

/// What both levels of one choice look at.
struct Level<'p, 'c> {
    question: Question<'p, 'c>,
    /// Whether this is the choice itself, and no look ahead.
    counts: bool,
}

impl Level<'_, '_> {
    /// Whether this is the first try of its request.
    fn is_first(&self) -> bool {
        self.question.tried.is_empty()
    }

    /// The next number of a cursor. Tries after the first have numbers of their own (`again`): on the common ones, each failure
    /// of one of two endpoints would take the other's turn, and every request would go to the failing one first.
    /// Who stands alone needs none: a cursor is of all shards, and each of its steps is a write that all of them see.
    fn number(&self, among: usize, first: &AtomicU64, again: &AtomicU64) -> u64 {
        if among == 1 {
            return 0;
        }
        let cursor = if self.is_first() { first } else { again };
        if self.counts { cursor.fetch_add(1, Ordering::Relaxed) } else { cursor.load(Ordering::Relaxed) }
    }
}

#[cfg(test)]
mod tests;
