//! What a backend, a mirror or a pin points to: an uplink or a service, by name.

use std::sync::Arc;

use figspan_proto::name::UplinkName;

/// Names a service in the cluster.
pub type ServiceName = Arc<str>;

/// What a backend points to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// Workloads on VMs, through tunnels.
    Uplink(UplinkName),
    /// A service in the cluster, by address.
    Service(ServiceName),
}

impl Target {
    /// The name alone.
    pub fn name(&self) -> &str {
        match self {
            Self::Uplink(name) => name.as_str(),
            Self::Service(name) => name,
        }
    }

    /// What its state is kept under: `uplink/<name>` or `service/<name>`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.kind(), self.name())
    }

    /// `uplink` or `service`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Uplink(_) => "uplink",
            Self::Service(_) => "service",
        }
    }
}
