//! An uplink as it shall be published: the registry's answer, without tunnels or counters. Plain data; two that are equal
//! need no publication between them.

use figspan_proto::control::Protocol;
use figspan_proto::name::{AgentName, UplinkName, Zone};
use figspan_proto::weight::Weight;

use super::TunnelId;

/// An uplink as it shall be published: `snapshot::Uplink` without the tunnels themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UplinkParts {
    /// Its name.
    pub(crate) name: UplinkName,
    /// What its workloads speak.
    pub(crate) protocol: Protocol,
    /// The weight in force.
    pub(crate) weight: Weight,
    /// Whether an operator drains it as a whole.
    pub(crate) draining: bool,
    /// One for each agent, ordered by name; never empty.
    pub(crate) endpoints: Vec<EndpointParts>,
}

/// One agent's side of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EndpointParts {
    /// The agent.
    pub(crate) agent: AgentName,
    /// The weight in force.
    pub(crate) weight: Weight,
    /// The agent's own word.
    pub(crate) advertised: Weight,
    /// Where the agent is, where it says so.
    pub(crate) zone: Option<Zone>,
    /// Whether the workload is up.
    pub(crate) ready: bool,
    /// Why not.
    pub(crate) reason: String,
    /// Whether sessions bound to it are past the deadline of its drain.
    pub(crate) sessions_over: bool,
    /// Tunnels that take new streams, ordered by id.
    pub(crate) tunnels: Vec<TunnelId>,
}

impl UplinkParts {
    /// One agent's side.
    pub(crate) fn endpoint(&self, agent: &AgentName) -> Option<&EndpointParts> {
        self.endpoints.iter().find(|endpoint| &endpoint.agent == agent)
    }
}

impl EndpointParts {
    /// Whether new requests may go there, the uplink's own drain left aside.
    pub(crate) fn accepts(&self) -> bool {
        self.ready && !self.weight.is_zero() && !self.tunnels.is_empty()
    }
}
