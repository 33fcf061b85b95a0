//! Agents: who is connected, what they may advertise and what they do.

use figspan_proto::admin::Agent;

use crate::table::{fields, indent, list, table, yes};

/// All agents, a line each.
pub(crate) fn many(agents: &[Agent]) -> String {
    table(
        "no agent has joined; `grant create NAME --uplinks ...` prints the line that joins one",
        ["NAME", "STATE", "TUNNELS", "UPLINKS", "REFUSED", "RTT", "VERSION", "CERTIFICATE ENDS"],
        agents.iter().map(|agent| {
            [
                agent.name.to_string(),
                state(agent).to_owned(),
                agent.tunnels.len().to_string(),
                list(&agent.uplinks),
                list(&agent.refused.iter().map(|refused| &refused.uplink).collect::<Vec<_>>()),
                agent.tunnels.iter().map(|tunnel| tunnel.rtt_ms).reduce(f64::min).map(|rtt| format!("{rtt:.1} ms")).unwrap_or_default(),
                agent.version.clone(),
                agent.certificate_ends.clone().unwrap_or_default(),
            ]
        }),
    )
}

/// Everything about one.
pub(crate) fn whole(agent: &Agent) -> String {
    let about = fields([
        ("Name", agent.name.to_string()),
        ("State", state(agent).to_owned()),
        ("Zone", agent.zone.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("Version", agent.version.clone()),
        ("Processes", list(&agent.instances)),
        ("May advertise", list(&agent.allowed)),
        ("Uplinks", list(&agent.uplinks)),
        ("May call", list(&agent.services)),
        ("Calls", if agent.services.is_empty() { String::new() } else { format!("{} open, {} so far", agent.calls_open, agent.calls) }),
        ("Certificate ends", agent.certificate_ends.clone().unwrap_or_default()),
        ("Clock skew", agent.clock_skew_ms.map(|skew| format!("{skew} ms")).unwrap_or_default()),
        ("Last seen", agent.last_seen.clone().unwrap_or_default()),
        ("Revoked", yes(agent.revoked)),
    ]);
    let tunnels = table(
        "no tunnel",
        ["SHARD", "FROM", "TRANSPORT", "RTT", "MTU", "SINCE"],
        agent.tunnels.iter().map(|tunnel| {
            [
                tunnel.shard.to_string(),
                tunnel.remote.clone(),
                tunnel.transport.clone(),
                format!("{:.1} ms", tunnel.rtt_ms),
                tunnel.mtu.to_string(),
                tunnel.since.clone(),
            ]
        }),
    );
    let refused = agent.refused.iter().map(|refused| [refused.uplink.to_string(), refused.reason.clone()]);
    let refused = table("nothing", ["UPLINK", "WHY"], refused);
    let calls =
        agent.refused_calls.iter().map(|call| [call.service.to_string(), call.reason.clone(), call.times.to_string(), call.at.clone()]);
    let calls = match agent.refused_calls.is_empty() {
        true => String::new(),
        false => format!("\nRefused calls:\n{}", indent(&table("", ["SERVICE", "WHY", "TIMES", "LAST"], calls))),
    };
    format!("{about}\nTunnels:\n{}\nRefused:\n{}{calls}", indent(&tunnels), indent(&refused))
}

const fn state(agent: &Agent) -> &'static str {
    match agent {
        Agent { revoked: true, .. } => "revoked",
        Agent { draining: true, connected: true, .. } => "draining",
        Agent { connected: true, .. } => "connected",
        _ => "away",
    }
}
