//! What the registry keeps of one agent, one tunnel, one uplink.

use std::collections::{BTreeMap, BTreeSet};

use figspan_proto::control::{self, Protocol, Verdict};
use figspan_proto::name::{AgentName, NamePattern, ServiceName, UplinkName, Zone};
use jiff::Timestamp;

use super::{TunnelId, UplinkParts};

/// What a grant allows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// Names that the agent may advertise.
    pub(crate) uplinks: Vec<NamePattern>,
    /// Services that it may call.
    pub(crate) services: Vec<NamePattern>,
}

/// What is known of an agent.
#[derive(Debug, Default)]
pub(crate) struct AgentRecord {
    /// Whether a grant was redeemed for it, as far as the store remembers.
    pub(crate) joined: bool,
    /// What it may do.
    pub(crate) allowed: Allowed,
    /// Calls that were refused, by service; at most [`MAX_REFUSED_CALLS`].
    pub(crate) refused_calls: BTreeMap<ServiceName, RefusedCalls>,
    /// Its open tunnels.
    pub(crate) tunnels: BTreeSet<TunnelId>,
    /// Name and version of its software, as it said last.
    pub(crate) software: String,
    /// Its clock minus the hub's, in milliseconds, at its last hello.
    pub(crate) skew_ms: Option<i64>,
    /// When it was last heard of.
    pub(crate) last_seen: Option<Timestamp>,
}

/// Services of which an agent's refused calls are kept; the names are its own.
pub(crate) const MAX_REFUSED_CALLS: usize = 64;

/// Calls of a service that were refused.
#[derive(Debug)]
pub(crate) struct RefusedCalls {
    /// Why the last one was.
    pub(crate) reason: &'static str,
    /// How many.
    pub(crate) times: u64,
    /// When the last one was.
    pub(crate) at: Timestamp,
}

impl AgentRecord {
    /// Whether it may advertise the name.
    pub(crate) fn may_advertise(&self, uplink: &UplinkName) -> bool {
        self.allowed.uplinks.iter().any(|pattern| pattern.matches(uplink.as_str()))
    }
}

/// What is known of a tunnel.
#[derive(Debug)]
pub(crate) struct TunnelRecord {
    /// Whose it is.
    pub(crate) agent: AgentName,
    /// The agent's process; empty before its hello.
    pub(crate) instance: String,
    /// Where the agent is, as it said in its hello.
    pub(crate) zone: Option<Zone>,
    /// The shard that carries it.
    pub(crate) shard: usize,
    /// When the identity that it rests on ends.
    pub(crate) ends: Timestamp,
    /// Whether its first list has come.
    pub(crate) listed: bool,
    /// Whether the agent wants no new streams on it.
    pub(crate) draining: bool,
    /// Whether nothing was heard on it for a while.
    pub(crate) silent: bool,
    /// What the agent advertises on it.
    pub(crate) adverts: BTreeMap<UplinkName, Advert>,
}

impl TunnelRecord {
    pub(super) fn new(agent: AgentName, shard: usize, ends: Timestamp) -> Self {
        Self {
            agent,
            instance: String::new(),
            zone: None,
            shard,
            ends,
            listed: false,
            draining: false,
            silent: false,
            adverts: BTreeMap::new(),
        }
    }

    /// Whether it takes new streams.
    pub(crate) fn takes_new(&self) -> bool {
        !self.draining && !self.silent
    }
}

/// An uplink as one tunnel advertises it.
#[derive(Debug)]
pub(crate) struct Advert {
    /// What was said last.
    pub(crate) uplink: control::Uplink,
    /// Arrival number of the first word of it on this tunnel.
    pub(crate) since: u64,
    /// Arrival number of the last word on its weight and protocol.
    pub(crate) said: u64,
    /// Arrival number of the last word on its state.
    pub(crate) heard: u64,
    /// The verdict last sent to the agent.
    pub(crate) told: Option<Verdict>,
    /// Whether the agent waits for an answer, be it the same as before.
    pub(crate) due: bool,
}

/// What is known of an uplink name.
#[derive(Debug, Default)]
pub(crate) struct UplinkRecord {
    /// Tunnels that advertise it, with those that may not.
    pub(crate) advertised_by: BTreeSet<TunnelId>,
    /// What its workloads speak: the word of the first agent that may advertise it. Kept when all are gone.
    pub(crate) protocol: Option<Protocol>,
    /// As published.
    pub(crate) parts: Option<UplinkParts>,
    /// Agents that had it until then.
    pub(crate) departed: BTreeMap<AgentName, Timestamp>,
}
