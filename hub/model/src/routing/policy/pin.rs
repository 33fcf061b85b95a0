//! Pins: who may reach a chosen backend of a rule, whatever its weight there.

use figspan_tunnel::pin::PinKey;
use ipnet::IpNet;

use crate::routing::Target;

/// A backend that some clients may choose.
#[derive(Debug, Clone, PartialEq)]
pub struct Pin {
    /// One of the rule's backends.
    pub target: Target,
    /// Who may.
    pub by: PinnedBy,
}

/// Who may choose a backend.
#[derive(Debug, Clone, PartialEq)]
pub enum PinnedBy {
    /// Whoever shows a pin that this key has signed.
    Key(PinKey),
    /// Clients of these addresses.
    Trusted {
        /// As trusted proxies tell them.
        addresses: Vec<IpNet>,
        /// All of them; else those who name the backend.
        always: bool,
    },
}
