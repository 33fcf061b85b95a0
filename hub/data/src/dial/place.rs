//! Hop: balance -> dial. A choice, with all that is needed to go there.

use std::borrow::Cow;
use std::sync::Arc;

use figspan_model::routing::{BackendTls, Service};
use figspan_model::snapshot::{Endpoint, Snapshot, Uplink};
use figspan_model::state::EndpointState;
use figspan_proto::control::Protocol;

use crate::balance::{Chosen, ServiceEndpoint};

/// One concrete place that a request can go. Shared by `Rc`: its parts belong to all shards, and each count of their owners that is
/// written moves between processors.
pub enum Place {
    /// A workload behind an agent.
    Uplink {
        /// The uplink.
        uplink: Arc<Uplink>,
        /// The agent's side of it.
        endpoint: Arc<Endpoint>,
        /// TLS up to the workload.
        tls: Option<Arc<BackendTls>>,
    },
    /// An address of a service.
    Service {
        /// The service.
        service: Arc<Service>,
        /// The address.
        endpoint: ServiceEndpoint,
    },
}

impl Place {
    /// What was chosen, with its settings from the same snapshot. `None` where the service left the configuration meanwhile.
    pub fn of(chosen: &Chosen<'_>, snapshot: &Snapshot) -> Option<Self> {
        Some(match chosen {
            Chosen::Uplink { uplink, endpoint } => {
                let tls = snapshot.routing.uplink_tls.get(&uplink.name).cloned();
                Self::Uplink { uplink: Arc::clone(uplink), endpoint: Arc::clone(endpoint), tls }
            }
            Chosen::Service { name, endpoint } => {
                Self::Service { service: Arc::clone(snapshot.routing.services.get(name)?), endpoint: endpoint.clone() }
            }
        })
    }

    /// Its long-lived state.
    pub fn state(&self) -> &Arc<EndpointState> {
        match self {
            Self::Uplink { endpoint, .. } => &endpoint.state,
            Self::Service { endpoint, .. } => &endpoint.state,
        }
    }

    /// What it speaks.
    pub fn protocol(&self) -> Protocol {
        match self {
            Self::Uplink { uplink, .. } => uplink.protocol,
            Self::Service { service, .. } => service.protocol,
        }
    }

    /// TLS towards it.
    pub fn tls(&self) -> Option<&Arc<BackendTls>> {
        match self {
            Self::Uplink { tls, .. } => tls.as_ref(),
            Self::Service { service, .. } => service.tls.as_ref(),
        }
    }

    /// A number that tells its TLS settings apart from others in force.
    pub fn tls_id(&self) -> usize {
        self.tls().map_or(0, |tls| Arc::as_ptr(tls) as usize)
    }

    /// The name of its uplink or service.
    pub fn backend(&self) -> &str {
        match self {
            Self::Uplink { uplink, .. } => uplink.name.as_str(),
            Self::Service { service, .. } => &service.name,
        }
    }

    /// Its name in logs: the agent, or the address.
    pub fn label(&self) -> Cow<'_, str> {
        match self {
            Self::Uplink { endpoint, .. } => endpoint.agent.as_str().into(),
            Self::Service { endpoint, .. } => endpoint.address.to_string().into(),
        }
    }
}
