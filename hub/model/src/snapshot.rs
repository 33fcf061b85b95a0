//! The one immutable picture of the hub that control publishes and data reads.
//!
//! A request takes one snapshot and keeps it. `Publisher` belongs to control; `Reader`s belong to shards, which load the
//! newest snapshot without a lock and are woken by each publication. Uplinks and routing are replaced apart from each other:
//! one weight among ten thousand routes costs what one weight costs.

mod callers;
mod shares;
mod uplinks;

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use figspan_proto::control::Protocol;
use figspan_proto::name::{AgentName, UplinkName, Zone};
use figspan_proto::weight::Weight;
use figspan_tunnel::Tunnel;
use tokio::sync::watch;

pub use callers::{Caller, Callers};
pub use shares::Shares;
pub use uplinks::Uplinks;

use crate::routing::Routing;
use crate::state::{EndpointState, RuleState, Shard};

/// The picture.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Grows with each publication.
    pub generation: u64,
    /// What the configuration says.
    pub routing: Arc<Routing>,
    /// What agents advertise, by name.
    pub uplinks: Uplinks,
    /// Whose processes may call services.
    pub callers: Callers,
}

/// An uplink, as all its agents together make it.
#[derive(Debug)]
pub struct Uplink {
    /// Its name.
    pub name: UplinkName,
    /// What its workloads speak. Agents that disagree with the first are refused.
    pub protocol: Protocol,
    /// The effective weight, for backends that give none: the operator's override, else the largest among its agents.
    pub weight: Weight,
    /// Whether an operator drains the uplink as a whole. Beats every weight in a file.
    pub draining: bool,
    /// One for each agent, ordered by name.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// Those of them that accept, ready to be chosen from.
    pub shares: Shares,
    /// State of the choice among the endpoints.
    pub state: Arc<RuleState>,
}

/// One agent's side of an uplink.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The agent.
    pub agent: AgentName,
    /// Its share among the uplink's agents; 0 drains it.
    pub weight: Weight,
    /// Where the agent is, where it says so.
    pub zone: Option<Zone>,
    /// Whether that is the hub's own zone.
    pub near: bool,
    /// Whether the workload is up, as the agent's probe says.
    pub ready: bool,
    /// Why not, for people; empty when ready.
    pub reason: String,
    /// Tunnels that take new streams. Empty when the agent is away or draining: then nothing new goes there.
    pub tunnels: Vec<TunnelAt>,
    /// Counters that outlive this snapshot.
    pub state: Arc<EndpointState>,
}

impl Endpoint {
    /// Whether new requests may go there.
    pub fn accepts(&self) -> bool {
        self.ready && !self.weight.is_zero() && !self.tunnels.is_empty()
    }

    /// Whether there is a way to it that speaks.
    pub fn speaks(&self) -> bool {
        self.speaks_since(None)
    }

    /// The same, opened after `since`.
    pub fn speaks_since(&self, since: Option<Instant>) -> bool {
        let speaks = |tunnel: &Tunnel| !tunnel.suspect() && !tunnel.is_closed();
        self.tunnels.iter().any(|at| speaks(&at.tunnel) && since.is_none_or(|since| at.tunnel.opened() > since))
    }
}

/// A tunnel and the shard that carries it.
#[derive(Debug, Clone)]
pub struct TunnelAt {
    /// The shard whose socket and runtime carry it.
    pub shard: Shard,
    /// The tunnel.
    pub tunnel: Tunnel,
}

/// Control's end.
#[derive(Debug)]
pub struct Publisher {
    current: Arc<ArcSwap<Snapshot>>,
    wake: watch::Sender<u64>,
}

/// A shard's (or the admin API's) end.
#[derive(Debug, Clone)]
pub struct Reader {
    current: Arc<ArcSwap<Snapshot>>,
    wake: watch::Receiver<u64>,
}

/// Opens a publication with an empty snapshot of generation 0.
pub fn publication() -> (Publisher, Reader) {
    let current = Arc::new(ArcSwap::from_pointee(Snapshot::default()));
    let (sender, receiver) = watch::channel(0);
    (Publisher { current: Arc::clone(&current), wake: sender }, Reader { current, wake: receiver })
}

impl Publisher {
    /// Publishes; returns the generation given to the snapshot. Single writer: control's registry task.
    pub fn publish(&self, routing: Arc<Routing>, uplinks: Uplinks) -> u64 {
        let callers = self.current.load().callers.clone();
        self.put(routing, uplinks, callers)
    }

    /// The same for who may call services; all else stays.
    pub fn publish_callers(&self, callers: Callers) -> u64 {
        let current = self.current.load_full();
        self.put(Arc::clone(&current.routing), current.uplinks.clone(), callers)
    }

    fn put(&self, routing: Arc<Routing>, uplinks: Uplinks, callers: Callers) -> u64 {
        let generation = self.current.load().generation + 1;
        self.current.store(Arc::new(Snapshot { generation, routing, uplinks, callers }));
        self.wake.send_replace(generation);
        generation
    }
}

impl Reader {
    /// The newest snapshot, to keep for one request.
    pub fn load(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// A cache for a shard: loading through it costs one atomic read while nothing changes.
    pub fn cache(&self) -> arc_swap::Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>> {
        arc_swap::Cache::new(Arc::clone(&self.current))
    }

    /// Waits for a publication that this reader has not yet waited for. `false` once the publisher is gone.
    pub async fn changed(&mut self) -> bool {
        self.wake.changed().await.is_ok()
    }
}
