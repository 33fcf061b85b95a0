//! Routes as operators see them: rules in words, weights in force, tiers, shares wanted and observed.

use std::sync::Arc;

use figspan_model::routing::{Backend, HeaderMatch, MirrorTarget, PathMatch, RouteMatch, Target, ValueMatch};
use figspan_model::snapshot::Snapshot;
use figspan_model::state::{Book, Copies, Example};
use figspan_proto::admin;
use figspan_proto::weight::Weight;

use super::policies;
use crate::face::time;
use crate::standing::{Place, Tier};

/// All routes, in the order of the configuration.
pub(super) fn all(snapshot: &Snapshot, book: &Arc<Book>) -> Vec<admin::Route> {
    let texts = |list: &[Arc<str>]| list.iter().map(|name| name.to_string()).collect();
    let http = snapshot.routing.http_routes.iter().map(|route| admin::Route {
        name: route.name.to_string(),
        kind: "HTTP".into(),
        listeners: texts(&route.listeners),
        hostnames: route.hostnames.clone(),
        rules: route
            .rules
            .iter()
            .enumerate()
            .map(|(index, rule)| admin::Rule {
                index,
                name: rule.name.as_ref().map(|name| name.to_string()),
                matches: if rule.matches.is_empty() { vec!["all".into()] } else { rule.matches.iter().map(words).collect() },
                policies: policies::of_rule(rule),
                mirrors: rule.mirrors.iter().map(mirror).collect(),
                tiers: tiers(Place::from(&**rule)),
                backends: backends(snapshot, book, Place::from(&**rule)),
            })
            .collect(),
    });
    let streams = snapshot.routing.stream_routes.iter().map(|route| admin::Route {
        name: route.name.to_string(),
        kind: if is_tls(snapshot, &route.listeners) { "TLS" } else { "TCP" }.into(),
        listeners: texts(&route.listeners),
        hostnames: route.hostnames.clone(),
        rules: vec![admin::Rule {
            index: 0,
            name: None,
            matches: vec!["all".into()],
            policies: route.failover.as_deref().map(policies::failover).into_iter().collect(),
            mirrors: vec![],
            tiers: tiers(Place::from(&**route)),
            backends: backends(snapshot, book, Place::from(&**route)),
        }],
    });
    http.chain(streams).collect()
}

fn is_tls(snapshot: &Snapshot, listeners: &[Arc<str>]) -> bool {
    let passthrough = |name| {
        let mut all = snapshot.routing.listeners.iter();
        all.any(|l| &l.name == name && matches!(l.protocol, figspan_model::routing::ListenerProtocol::TlsPassthrough))
    };
    listeners.iter().any(passthrough)
}

/// The backends of a rule, with what each would get.
pub(super) fn backends(snapshot: &Snapshot, book: &Arc<Book>, place: Place<'_>) -> Vec<admin::RuleBackend> {
    let mut shown: Vec<_> = place.backends.iter().map(|backend| shown(snapshot, backend)).collect();
    let recent: u64 = shown.iter().map(|b| b.picked_last_minute).sum();
    for (backend, wanted) in shown.iter_mut().zip(place.shares(snapshot, book)) {
        backend.share_observed = (recent > 0).then(|| backend.picked_last_minute as f64 / recent as f64);
        backend.share_wanted = wanted;
    }
    shown
}

/// The tiers of a rule that may fail over.
pub(super) fn tiers(place: Place<'_>) -> Vec<admin::Tier> {
    let shown = |tier: Tier| admin::Tier {
        tier: tier.number,
        state: tier.standing.as_str().to_owned(),
        share: tier.share,
        cause: tier.cause().map(|cause| cause.as_str().to_owned()),
        seconds_left: tier.left,
        failovers: tier.failed.iter().map(|(_, times)| times).sum(),
    };
    place.tiers().into_iter().map(shown).collect()
}

fn shown(snapshot: &Snapshot, backend: &Backend) -> admin::RuleBackend {
    let (effective_weight, ready_endpoints, endpoints) = match &backend.target {
        Target::Uplink(name) => match snapshot.uplinks.get(name) {
            None => (Weight::ZERO, 0, 0),
            Some(uplink) => {
                let weight = if uplink.draining { Weight::ZERO } else { backend.weight.unwrap_or(uplink.weight) };
                (weight, uplink.endpoints.iter().filter(|endpoint| endpoint.accepts()).count(), uplink.endpoints.len())
            }
        },
        Target::Service(name) => match snapshot.routing.services.get(name) {
            None => (Weight::ZERO, 0, 0),
            // A DNS name counts as one: what it resolves to is each shard's own, current knowledge.
            Some(service) => (backend.weight.unwrap_or(service.weight), service.addresses.len(), service.addresses.len()),
        },
    };
    admin::RuleBackend {
        kind: backend.target.kind().into(),
        name: backend.target.name().into(),
        weight: backend.weight,
        effective_weight,
        ready_endpoints,
        endpoints,
        tier: backend.fallback,
        share_wanted: 0.0,
        share_observed: None,
        picked: backend.share.sum(),
        picked_last_minute: backend.share.recent(),
    }
}

/// A mirror with what became of its copies.
fn mirror(target: &MirrorTarget) -> admin::Mirror {
    let report = target.state.report();
    let count = |what| report.count(what);
    let means = report.mean_micros();
    let example = |example: &Example| admin::MirrorExample {
        at: i64::try_from(example.at).ok().and_then(|at| jiff::Timestamp::from_second(at).ok()).map(time).unwrap_or_default(),
        method: example.method.clone(),
        path: example.path.clone(),
        difference: example.difference.clone(),
    };
    admin::Mirror {
        kind: target.backend.target.kind().into(),
        name: target.backend.target.name().into(),
        seen: count(Copies::Seen),
        begun: count(Copies::Begun),
        answered: count(Copies::Answered),
        failed: count(Copies::Failed),
        dropped: count(Copies::DroppedFull) + count(Copies::DroppedBody) + count(Copies::DroppedNobody),
        compared: count(Copies::Compared),
        matched: count(Copies::Matched),
        other_status: count(Copies::OtherStatus),
        other_body: count(Copies::OtherBody),
        match_percent: report.match_percent(),
        primary_ms: means.map(|(primary, _)| primary as f64 / 1000.0),
        mirror_ms: means.map(|(_, mirror)| mirror as f64 / 1000.0),
        examples: report.examples.iter().map(example).collect(),
    }
}

/// One alternative of a rule, for people: `GET /orders/* header x=y query q~^z$`.
fn words(matched: &RouteMatch) -> String {
    let mut words = Vec::new();
    words.extend(matched.method.as_ref().map(|method| method.to_string()));
    words.extend(matched.path.as_ref().map(|path| match path {
        PathMatch::Exact(path) => format!("path = {path}"),
        PathMatch::Prefix(path) if path == "/" => "path under /".to_owned(),
        PathMatch::Prefix(path) => format!("path {path} or under it"),
        PathMatch::Regex(regex) => format!("path ~ {regex}"),
    }));
    words.extend(matched.headers.iter().map(|HeaderMatch { name, value }| format!("header {name} {}", value_words(value))));
    words.extend(matched.query.iter().map(|(name, value)| format!("query {name} {}", value_words(value))));
    if words.is_empty() { "all".into() } else { words.join(", ") }
}

fn value_words(value: &ValueMatch) -> String {
    match value {
        ValueMatch::Exact(text) => format!("= {text}"),
        ValueMatch::Regex(regex) => format!("~ {regex}"),
    }
}
