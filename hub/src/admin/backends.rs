//! Backends as operators see them: breakers, ejections, checks, bounds, sessions. Read from the long-lived states, which the
//! shards write; nothing here is asked of a shard.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use figspan_model::health::breaker::{Breaker, State};
use figspan_model::health::{Guard, Verdict};
use figspan_model::moment::Moment;
use figspan_model::routing::{Backend, ServiceAddress, Target};
use figspan_model::snapshot::Snapshot;
use figspan_model::state::{Book, EndpointState, Gate, Left, Warmth};
use figspan_proto::admin::{self, BackendEndpoint, Bound, BreakerStatus};
use figspan_proto::name::Zone;

use super::policies::{self, time};

/// What time it is, on both clocks.
#[derive(Clone, Copy)]
struct Now {
    moment: Moment,
    unix: u32,
}

impl Now {
    fn read() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self { moment: Moment::of(Instant::now()), unix: u32::try_from(unix).unwrap_or(u32::MAX) }
    }
}

/// One of them, whoever names it.
pub(super) fn one(snapshot: &Snapshot, book: &Book, backend: &Backend) -> admin::Backend {
    shown(snapshot, book, backend, Vec::new(), Now::read())
}

/// What stands among the rules of a service, which agents may call without any.
const CALLS: &str = "calls of agents";

/// All that rules name, and all services, by kind and name.
pub(crate) fn all(snapshot: &Snapshot, book: &Book) -> Vec<admin::Backend> {
    let now = Now::read();
    let mut found: BTreeMap<String, (&Backend, Vec<String>)> = BTreeMap::new();
    let http = snapshot.routing.http_routes.iter().flat_map(|route| {
        let rules = route.rules.iter().enumerate();
        rules.flat_map(move |(index, rule)| {
            let name = rule.name.as_ref().map_or_else(|| index.to_string(), |name| name.to_string());
            rule.backends.iter().map(move |backend| (format!("{}/{name}", route.name), backend))
        })
    });
    let streams = snapshot.routing.stream_routes.iter();
    let streams = streams.flat_map(|route| route.backends.iter().map(|backend| (format!("{}/0", route.name), backend)));
    let calls = snapshot.routing.calls.values().filter_map(|call| call.backend()).map(|backend| (CALLS.to_owned(), backend));
    for (rule, backend) in http.chain(streams).chain(calls) {
        let (_, rules) = found.entry(backend.target.key()).or_insert_with(|| (backend, Vec::new()));
        if rules.last() != Some(&rule) {
            rules.push(rule);
        }
    }
    found.into_values().map(|(backend, rules)| shown(snapshot, book, backend, rules, now)).collect()
}

fn shown(snapshot: &Snapshot, book: &Book, backend: &Backend, rules: Vec<String>, now: Now) -> admin::Backend {
    let policy = backend.policy.as_deref();
    let guard = policy.and_then(|policy| policy.guard.as_ref());
    let limits = policy.and_then(|policy| policy.limits.as_ref());
    let bound = |gate: &Gate, max: Option<std::num::NonZeroU32>| {
        max.map(|max| Bound { used: gate.used(), waiting: gate.waiting(), max: max.get() })
    };
    let breaker = guard.and_then(Guard::backend_breaker);
    admin::Backend {
        kind: backend.target.kind().into(),
        name: backend.target.name().into(),
        policies: policy.map(policies::of_backend).unwrap_or_default(),
        rules,
        breaker: breaker.map(|_| breaker_status(&backend.state.health.breaker, now)),
        requests: limits.and_then(|limits| bound(&backend.state.requests, limits.requests)),
        connections: limits.and_then(|limits| bound(&backend.state.connections, limits.connections)),
        endpoints: endpoints(snapshot, book, backend, now),
    }
}

fn endpoints(snapshot: &Snapshot, book: &Book, backend: &Backend, now: Now) -> Vec<BackendEndpoint> {
    match &backend.target {
        Target::Uplink(name) => {
            let Some(uplink) = snapshot.uplinks.get(name) else { return Vec::new() };
            let endpoint = |endpoint: &figspan_model::snapshot::Endpoint| {
                let unready = (!endpoint.ready).then(|| endpoint.reason.clone());
                let away = endpoint.tunnels.is_empty().then(|| "no tunnel takes new work".to_owned());
                let draining = uplink.draining || endpoint.weight.is_zero() || endpoint.state.draining.load(Ordering::Acquire);
                let (name, zone) = (endpoint.agent.to_string(), endpoint.zone.clone());
                self::endpoint(backend, Known { name, zone, draining, unready: unready.or(away) }, &endpoint.state, now)
            };
            uplink.endpoints.iter().map(|shared| endpoint(shared)).collect()
        }
        Target::Service(name) => {
            let service = snapshot.routing.services.get(name);
            let written = service.map(|service| &*service.addresses).unwrap_or_default();
            let zone = |address: &str| {
                let is = |known: &ServiceAddress| matches!(known, ServiceAddress::Socket(known) if known.to_string() == address);
                service?.zone(written.iter().position(is)?).cloned()
            };
            // What names resolve to is known by what was ever dialled: an address that no shard has seen has no state.
            let mut known = book.endpoints_of(&format!("service/{name}/"));
            for address in written {
                if let ServiceAddress::Socket(address) = address
                    && !known.iter().any(|(known, _)| *known == address.to_string())
                {
                    known.push((address.to_string(), book.endpoint(&format!("service/{name}/{address}"))));
                }
            }
            known.sort_by(|(one, _), (other, _)| one.cmp(other));
            let endpoint = |(name, state): (String, std::sync::Arc<EndpointState>)| {
                let (zone, draining) = (zone(&name), state.draining.load(Ordering::Acquire));
                endpoint(backend, Known { name, zone, draining, unready: None }, &state, now)
            };
            known.into_iter().map(endpoint).collect()
        }
    }
}

/// What a snapshot or a configuration says of an endpoint.
struct Known {
    name: String,
    zone: Option<Zone>,
    draining: bool,
    unready: Option<String>,
}

fn endpoint(backend: &Backend, known: Known, state: &EndpointState, now: Now) -> BackendEndpoint {
    let Known { name, zone, draining, unready } = known;
    let policy = backend.policy.as_deref();
    let guard = policy.and_then(|policy| policy.guard.as_ref());
    let slow_start = policy.and_then(|policy| policy.load_balancing.as_ref()).and_then(|balancing| balancing.slow_start);
    let part = slow_start.map_or(Warmth::FULL, |over| state.warmth.part(over, now.moment));
    let growing = (part < Warmth::FULL).then(|| part * 100 / Warmth::FULL);
    let verdict = Verdict::of(guard, &state.health, draining, unready, growing, now.moment);
    // Past the deadline of a drain nobody is led there any more, whatever cookies are still about.
    let over = draining && state.sessions_over.load(Ordering::Acquire);
    let left = if over { Left::default() } else { state.sessions.left(now.unix) };
    BackendEndpoint {
        name,
        zone,
        verdict: verdict.as_str().to_owned(),
        reason: reason(&verdict),
        breaker: guard.and_then(Guard::endpoint_breaker).map(|_| breaker_status(&state.health.breaker, now)),
        ejected: state.health.ejection.total(),
        in_flight: state.in_flight.sum(),
        picked: state.picked.sum(),
        failed: state.failed.sum(),
        latency_ms: state.latency.micros(now.moment).map(|micros| f64::from(micros) / 1000.0),
        sessions: left.sessions,
        sessions_at_least: left.at_least,
    }
}

fn reason(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Ready => String::new(),
        Verdict::SlowStarting { percent } => format!("{percent} % of its share"),
        Verdict::HalfOpen { succeeded, needed } => format!("{succeeded} of {needed} probes went well"),
        Verdict::Unchecked => "no check has ended yet".to_owned(),
        Verdict::Ejected { left } => format!("for {} more", time(*left)),
        Verdict::BreakerOpen { left } => format!("for {} more at least", time(*left)),
        Verdict::Unready { reason } => reason.clone(),
        Verdict::Draining => "finishes old work only".to_owned(),
    }
}

fn breaker_status(breaker: &Breaker, now: Now) -> BreakerStatus {
    let (state, open_seconds) = match breaker.state() {
        State::Closed { .. } => ("closed", None),
        State::Open { until } if now.moment < until => ("open", Some(until.since(now.moment).as_secs_f64())),
        State::Open { .. } | State::HalfOpen { .. } => ("half-open", None),
    };
    BreakerStatus { state: state.to_owned(), opened: breaker.opened(), open_seconds }
}
