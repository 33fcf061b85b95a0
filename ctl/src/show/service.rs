//! Services as agents call them: where they lead, and who may.

use figspan_proto::admin::{Agent, Backend};
use serde::Serialize;

use crate::table::{list, table};

/// A service, joined from what the hub says of backends and of agents.
#[derive(Debug, Serialize)]
pub(crate) struct Service {
    pub(crate) name: String,
    /// Endpoints that may get calls, and all of them.
    pub(crate) ready_endpoints: usize,
    pub(crate) endpoints: usize,
    /// `closed`, `open` or `half-open`; empty without one.
    pub(crate) breaker: String,
    /// Under way at its endpoints, for routes and calls.
    pub(crate) in_flight: u64,
    /// Agents whose grants allow it.
    pub(crate) callers: Vec<String>,
    /// Agents that called it and were refused.
    pub(crate) refused: Vec<String>,
}

/// The services among these backends.
pub(crate) fn of(backends: &[Backend], agents: &[Agent]) -> Vec<Service> {
    let service = |backend: &Backend| {
        let named = |wanted: &dyn Fn(&&Agent) -> bool| agents.iter().filter(wanted).map(|agent| agent.name.to_string()).collect();
        let may = |agent: &&Agent| !agent.revoked && agent.services.iter().any(|pattern| pattern.matches(&backend.name));
        let refused = |agent: &&Agent| agent.refused_calls.iter().any(|call| call.service.as_str() == backend.name);
        Service {
            name: backend.name.clone(),
            ready_endpoints: backend.endpoints.iter().filter(|endpoint| endpoint.verdict == "ready").count(),
            endpoints: backend.endpoints.len(),
            breaker: backend.breaker.as_ref().map(|breaker| breaker.state.clone()).unwrap_or_default(),
            in_flight: backend.endpoints.iter().map(|endpoint| endpoint.in_flight).sum(),
            callers: named(&may),
            refused: named(&refused),
        }
    };
    backends.iter().filter(|backend| backend.kind == "service").map(service).collect()
}

/// All of them, a line each.
pub(crate) fn many(services: &[Service]) -> String {
    table(
        "no service; write [[service]] into the hub's settings",
        ["SERVICE", "READY", "BREAKER", "IN FLIGHT", "MAY CALL IT", "REFUSED"],
        services.iter().map(|service| {
            [
                service.name.clone(),
                format!("{}/{}", service.ready_endpoints, service.endpoints),
                service.breaker.clone(),
                service.in_flight.to_string(),
                list(&service.callers),
                list(&service.refused),
            ]
        }),
    )
}
