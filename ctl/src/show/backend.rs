//! Backends: what stands between them and requests.

use figspan_proto::admin::{Backend, BackendEndpoint, Bound, BreakerStatus};

use crate::table::{fields, indent, list, table};

/// All of them, a line for each endpoint.
pub(crate) fn many(backends: &[Backend]) -> String {
    let rows = backends.iter().flat_map(|backend| {
        let name = format!("{} {}", backend.kind, backend.name);
        let whole = breaker(backend.breaker.as_ref());
        let row = move |endpoint: Option<&BackendEndpoint>| {
            let of = |text: fn(&BackendEndpoint) -> String| endpoint.map(text).unwrap_or_default();
            let own = endpoint.map(|endpoint| breaker(endpoint.breaker.as_ref())).unwrap_or_default();
            [
                name.clone(),
                of(|endpoint| endpoint.name.clone()),
                of(zone),
                of(|endpoint| endpoint.verdict.clone()),
                if whole.is_empty() { own } else { format!("{whole} {own}").trim_end().to_owned() },
                of(|endpoint| endpoint.ejected.to_string()),
                of(|endpoint| endpoint.in_flight.to_string()),
                of(|endpoint| endpoint.picked.to_string()),
                of(|endpoint| endpoint.failed.to_string()),
                of(sessions),
                of(|endpoint| endpoint.reason.clone()),
            ]
        };
        let nobody = backend.endpoints.is_empty().then(|| row(None));
        backend.endpoints.iter().map(move |endpoint| row(Some(endpoint))).chain(nobody).collect::<Vec<_>>()
    });
    let header = ["BACKEND", "ENDPOINT", "ZONE", "VERDICT", "BREAKER", "EJECTED", "IN FLIGHT", "PICKED", "FAILED", "SESSIONS", "REASON"];
    table("no backend", header, rows)
}

/// Everything about those of one name.
pub(crate) fn whole(backends: &[Backend]) -> String {
    let one = |backend: &Backend| {
        let bound = |bound: &Option<Bound>| {
            bound.as_ref().map(|bound| format!("{} of {}, {} waiting", bound.used, bound.max, bound.waiting)).unwrap_or_default()
        };
        let about = fields([
            ("Backend", format!("{} {}", backend.kind, backend.name)),
            ("Rules", list(&backend.rules)),
            ("Breaker", breaker(backend.breaker.as_ref())),
            ("Requests", bound(&backend.requests)),
            ("Connections", bound(&backend.connections)),
        ]);
        let policies = if backend.policies.is_empty() { "none".to_owned() } else { backend.policies.join("\n") };
        let endpoints = backend.endpoints.iter().map(|endpoint| {
            let latency = endpoint.latency_ms.map(|ms| format!("{ms:.1} ms")).unwrap_or_default();
            [
                endpoint.name.clone(),
                zone(endpoint),
                endpoint.verdict.clone(),
                breaker(endpoint.breaker.as_ref()),
                endpoint.in_flight.to_string(),
                latency,
                sessions(endpoint),
                endpoint.reason.clone(),
            ]
        });
        let header = ["ENDPOINT", "ZONE", "VERDICT", "BREAKER", "IN FLIGHT", "LATENCY", "SESSIONS", "REASON"];
        format!("{about}\nPolicies:\n{}\nEndpoints:\n{}", indent(&policies), indent(&table("no endpoint", header, endpoints)))
    };
    backends.iter().map(one).collect::<Vec<_>>().join("\n\n")
}

fn zone(endpoint: &BackendEndpoint) -> String {
    endpoint.zone.as_ref().map(ToString::to_string).unwrap_or_default()
}

fn sessions(endpoint: &BackendEndpoint) -> String {
    format!("{}{}", endpoint.sessions, if endpoint.sessions_at_least { "+" } else { "" })
}

fn breaker(status: Option<&BreakerStatus>) -> String {
    let Some(status) = status else { return String::new() };
    let left = status.open_seconds.map(|left| format!(" for {left:.1} s")).unwrap_or_default();
    format!("{}{left}", status.state)
}
