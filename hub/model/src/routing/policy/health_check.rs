//! Checks that the hub makes of a service's addresses itself, as agents do of their workloads.

use std::ops::RangeInclusive;
use std::time::Duration;

/// How the addresses of a service are checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// What a check does.
    pub probe: Probe,
    /// From one check to the next, give or take a tenth.
    pub interval: Duration,
    /// How long a check may take.
    pub timeout: Duration,
    /// Checks that must pass in a row until an address that was down is ready.
    pub rise: u32,
    /// Checks that must fail in a row until an address that was ready is down.
    pub fall: u32,
}

/// What a check does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Connects.
    Tcp,
    /// Gets a path, and looks at the status.
    Http {
        /// What to get.
        path: String,
        /// The Host to send; the address where none is given.
        host: Option<String>,
        /// Statuses that pass.
        status: Vec<RangeInclusive<u16>>,
    },
    /// Asks grpc.health.v1.
    Grpc {
        /// The service to ask about; empty for the server as a whole.
        service: String,
    },
}
