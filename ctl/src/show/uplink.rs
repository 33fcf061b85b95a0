//! Uplinks: weights asked for, what came of them, and whether one is drained.

use figspan_proto::admin::{DrainVerdict, Endpoint, Override, Uplink, WeightChange};

use crate::table::{fields, indent, list, table, yes};
use crate::wait::waits_for;

/// All uplinks, a line each.
pub(crate) fn many(uplinks: &[Uplink]) -> String {
    table(
        "no agent advertises an uplink",
        ["NAME", "PROTOCOL", "WEIGHT", "BY", "READY", "IN FLIGHT", "PICKED", "FAILED", "STATE"],
        uplinks.iter().map(|uplink| {
            let ready = uplink.endpoints.iter().filter(|endpoint| endpoint.accepts).count();
            [
                uplink.name.to_string(),
                uplink.protocol.as_str().to_owned(),
                uplink.weight.to_string(),
                by(uplink.weight_override.as_ref()).to_owned(),
                format!("{ready}/{}", uplink.endpoints.len()),
                uplink.in_flight.to_string(),
                uplink.picked.to_string(),
                uplink.failed.to_string(),
                state(uplink, ready).to_owned(),
            ]
        }),
    )
}

/// Everything about one.
pub(crate) fn whole(uplink: &Uplink) -> String {
    let ready = uplink.endpoints.iter().filter(|endpoint| endpoint.accepts).count();
    let about = fields([
        ("Name", uplink.name.to_string()),
        ("State", state(uplink, ready).to_owned()),
        ("Protocol", uplink.protocol.as_str().to_owned()),
        ("Weight", uplink.weight.to_string()),
        ("Override", uplink.weight_override.as_ref().map(told).unwrap_or_default()),
        ("In flight", uplink.in_flight.to_string()),
        ("Picked", uplink.picked.to_string()),
        ("Failed", uplink.failed.to_string()),
    ]);
    let endpoints = table(
        "none",
        ["AGENT", "ZONE", "WEIGHT", "ADVERTISED", "READY", "TUNNELS", "IN FLIGHT", "POOLED", "OPEN", "PICKED", "FAILED", "WHY NOT"],
        uplink.endpoints.iter().map(endpoint),
    );
    let overrides = uplink.endpoints.iter().filter_map(|endpoint| Some((endpoint, endpoint.weight_override.as_ref()?)));
    let overrides: String = overrides.map(|(endpoint, over)| format!("\nOverride on {}: {}", endpoint.agent, told(over))).collect();
    format!("{about}\nAgents:\n{}{overrides}", indent(&endpoints))
}

/// A weight that was changed, or would be.
pub(crate) fn change(change: &WeightChange) -> String {
    let on = change.agent.as_ref().map(|agent| format!(" on {agent}")).unwrap_or_default();
    let what = format!("{}{on}: weight {} -> {}", change.uplink, change.old, change.new);
    match change.generation {
        _ if change.dry_run => format!("{what} (dry run: nothing was changed)"),
        Some(generation) if change.confirmed.is_empty() => format!("{what}, generation {generation}, not yet confirmed by every shard"),
        Some(generation) => format!("{what}, generation {generation}, live on every shard of {}", list(&change.confirmed)),
        None => what,
    }
}

/// Whether an uplink is drained, with the proof.
pub(crate) fn verdict(verdict: &DrainVerdict) -> String {
    let on = verdict.agent.as_ref().map(|agent| format!(" on {agent}")).unwrap_or_default();
    let counted = verdict.agents.iter().map(|count| match count.open_connections {
        Some(open) => format!("{} {open}", count.agent),
        None => format!("{} no answer", count.agent),
    });
    let proof = fields([
        ("Weight is 0", yes(verdict.weight_is_zero)),
        ("Confirmed by", list(&verdict.confirmed)),
        ("In flight", verdict.in_flight.to_string()),
        ("Pooled", verdict.pooled.to_string()),
        ("Sessions left", verdict.sessions.map_or_else(|| "none are kept".to_owned(), |left| left.to_string())),
        ("Open at agents", list(&counted.collect::<Vec<_>>())),
    ]);
    let headline = if verdict.drained {
        format!("{}{on}: drained", verdict.uplink)
    } else {
        format!("{}{on}: not drained, waits for {}", verdict.uplink, waits_for(verdict))
    };
    format!("{}\n{}", figspan_proto::control::plain(&headline), indent(&proof))
}

fn endpoint(endpoint: &Endpoint) -> [String; 12] {
    [
        endpoint.agent.to_string(),
        endpoint.zone.as_ref().map(ToString::to_string).unwrap_or_default(),
        endpoint.weight.to_string(),
        endpoint.advertised_weight.to_string(),
        yes(endpoint.accepts),
        endpoint.tunnels.to_string(),
        endpoint.in_flight.to_string(),
        endpoint.pooled.to_string(),
        endpoint.open_connections.to_string(),
        endpoint.picked.to_string(),
        endpoint.failed.to_string(),
        endpoint.reason.clone(),
    ]
}

fn told(over: &Override) -> String {
    format!("{} by {} at {}: {}", over.weight, over.who, over.at, over.reason)
}

const fn by(over: Option<&Override>) -> &'static str {
    if over.is_some() { "operator" } else { "agents" }
}

fn state(uplink: &Uplink, ready: usize) -> &'static str {
    match ready {
        // `draining` says that nothing new goes there; that nothing is left needs the agents' word (`drain ... --wait`).
        _ if uplink.draining && uplink.in_flight == 0 => "draining, idle",
        _ if uplink.draining => "draining",
        0 => "not ready",
        _ => "ready",
    }
}
