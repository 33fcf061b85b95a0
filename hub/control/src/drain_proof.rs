//! The drain proof: whether an uplink, or one agent's side of it, is idle. Never guessed.
//!
//! In this order: the weight in force is 0; every shard works with the snapshot that says so, so that nothing new can start;
//! the hub counts nothing under way, nothing pooled and no session that may still come; then each agent that has the uplink, asked afterwards, counts 0
//! connections to the workload; and the hub's own facts are still the same. Agents that went a moment ago cannot be asked:
//! their connections are waited for as long as they may live.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use figspan_model::state::Left;
use figspan_proto::admin::{AgentCount, DrainVerdict, Problem};
use figspan_proto::name::{AgentName, UplinkName};
use futures_util::future::join_all;
use tokio::time::timeout;

use crate::context::Context;
use crate::core::Core;
use crate::problem;
use crate::registry::{LINGER, TunnelId, older};

/// How long agents have to count.
const ANSWER: Duration = Duration::from_secs(1);

/// What the hub knows by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    weight_is_zero: bool,
    /// The generation that carries the uplink as it is.
    generation: u64,
    in_flight: u64,
    pooled: u64,
    /// Sessions bound there, where a route keeps any.
    sessions: Option<Sessions>,
    /// Whom to ask: a tunnel to each process of each agent. None at all: away.
    ask: BTreeMap<AgentName, Vec<TunnelId>>,
    /// Agents that went, and for how many more seconds they are waited for.
    departed: BTreeMap<AgentName, u64>,
}

impl Facts {
    fn idle(&self) -> bool {
        self.weight_is_zero && self.in_flight == 0 && self.pooled == 0 && self.sessions.is_none_or(|sessions| sessions.none())
    }
}

/// Sessions that may still come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sessions {
    left: Left,
    /// For so many seconds more there may be some that began before this hub started and did not come since.
    unknown_for: u64,
}

impl Sessions {
    fn none(self) -> bool {
        self.left.sessions == 0 && self.unknown_for == 0
    }
}

/// The verdict.
pub(crate) async fn verdict(context: &Arc<Context>, uplink: &UplinkName, agent: Option<&AgentName>) -> Result<DrainVerdict, Problem> {
    let before = facts(context, uplink, agent).await?;
    let confirmed = context.board.oldest() >= before.generation;
    if !confirmed || !before.idle() {
        let unasked = before.ask.keys().map(|agent| (agent.clone(), None)).collect();
        return Ok(judge(context, uplink, agent, &before, confirmed, unasked));
    }
    let counts = count(context, uplink, &before.ask).await;
    // What began meanwhile (an operator took the drain back) must not be called drained.
    let after = facts(context, uplink, agent).await?;
    let confirmed = context.board.oldest() >= after.generation;
    Ok(judge(context, uplink, agent, &after, confirmed, counts))
}

async fn facts(context: &Arc<Context>, uplink: &UplinkName, agent: Option<&AgentName>) -> Result<Facts, Problem> {
    let (name, only) = (uplink.clone(), agent.cloned());
    let facts = context.writer.ask(move |core| core.drain_facts(&name, only.as_ref())).await?;
    facts.ok_or_else(|| match agent {
        None => problem::unknown(
            "no such uplink",
            format!("no agent advertises {uplink} and nobody set its weight; see `figspanctl get uplinks`"),
        ),
        Some(agent) => {
            problem::unknown("no such endpoint", format!("agent {agent} does not advertise {uplink}; see `figspanctl get uplinks`"))
        }
    })
}

impl Core {
    fn drain_facts(&mut self, uplink: &UplinkName, only: Option<&AgentName>) -> Option<Facts> {
        // What was heard but not yet published counts.
        self.publish();
        let overrides = self.registry.overrides();
        let known = self.registry.uplinks().get(uplink);
        let parts = known.and_then(|record| record.parts.as_ref());
        let wanted = |agent: &AgentName| only.is_none_or(|only| only == agent);
        let ask: BTreeMap<_, _> = self.registry.askable(uplink).into_iter().filter(|(agent, _)| wanted(agent)).collect();
        let overridden = match only {
            None => overrides.of(uplink).is_some(),
            Some(agent) => overrides.find(uplink, Some(agent)).is_some(),
        };
        if ask.is_empty() && !overridden {
            return None;
        }
        let draining = overrides.drains(uplink);
        let endpoint_is_zero = |agent: &AgentName| draining || self.endpoint_weight(uplink, agent).0.is_zero();
        let weight_is_zero = match only {
            Some(agent) => endpoint_is_zero(agent),
            None if overrides.find(uplink, None).is_some() => draining,
            None => parts.is_some_and(|parts| parts.weight.is_zero()),
        };
        let sum =
            |of: fn(&figspan_model::state::EndpointState) -> u64| ask.keys().map(|agent| of(&self.publication.state(uplink, agent))).sum();
        let now = self.shared.clock.stamp();
        let left = |at| LINGER.saturating_sub(older(now, at)).as_secs() + 1;
        let departed = known.iter().flat_map(|record| &record.departed);
        Some(Facts {
            weight_is_zero,
            generation: self.publication.since(uplink),
            in_flight: sum(|state| state.in_flight.sum()),
            pooled: sum(|state| state.pooled.sum()),
            sessions: self.sessions(uplink, ask.keys()),
            departed: departed.filter(|(agent, _)| wanted(agent)).map(|(agent, &at)| (agent.clone(), left(at))).collect(),
            ask,
        })
    }
}

impl Core {
    /// Sessions bound to those agents' sides of an uplink. `None` where no route keeps any there.
    fn sessions<'a>(&self, uplink: &UplinkName, agents: impl Iterator<Item = &'a AgentName>) -> Option<Sessions> {
        let longest = self.publication.session_ttl(uplink)?;
        let now = u64::try_from(self.shared.clock.stamp().as_second()).unwrap_or_default();
        let parts = self.registry.uplinks().get(uplink).and_then(|record| record.parts.as_ref());
        let over = |agent: &AgentName| parts.and_then(|parts| parts.endpoint(agent)).is_some_and(|endpoint| endpoint.sessions_over);
        let mut sessions = Sessions { left: Left::default(), unknown_for: 0 };
        for agent in agents.filter(|agent| !over(agent)) {
            let left = self.publication.state(uplink, agent).sessions.left(u32::try_from(now).unwrap_or(u32::MAX));
            sessions.left.sessions += left.sessions;
            sessions.left.at_least |= left.at_least;
            sessions.unknown_for = (self.publication.sessions_since().saturating_add(longest.as_secs())).saturating_sub(now);
        }
        Some(sessions)
    }
}

/// Asks every process; an agent's count is the sum, or nothing when one of them gave no answer.
async fn count(context: &Arc<Context>, uplink: &UplinkName, ask: &BTreeMap<AgentName, Vec<TunnelId>>) -> Vec<(AgentName, Option<u64>)> {
    let agents = ask.iter().map(async |(agent, tunnels)| {
        let processes = tunnels.iter().map(async |&tunnel| {
            let name = uplink.clone();
            let answer = context.writer.ask(move |core| core.count(tunnel, &name)).await.ok()??;
            timeout(ANSWER, answer).await.ok()?.ok()
        });
        let counts = join_all(processes).await;
        let total = counts.into_iter().try_fold(0u64, |total, count| Some(total.saturating_add(count?)));
        (agent.clone(), total.filter(|_| !tunnels.is_empty()))
    });
    join_all(agents).await
}

fn judge(
    context: &Context,
    uplink: &UplinkName,
    agent: Option<&AgentName>,
    facts: &Facts,
    confirmed: bool,
    counts: Vec<(AgentName, Option<u64>)>,
) -> DrainVerdict {
    let mut waiting_for = Vec::new();
    if !facts.weight_is_zero {
        waiting_for.push("a weight of 0: drain it first".to_owned());
    }
    if !confirmed {
        waiting_for.push("every shard to work with the weight".to_owned());
    }
    if facts.in_flight > 0 {
        waiting_for.push(format!("{} requests or connections under way", facts.in_flight));
    }
    if facts.pooled > 0 {
        waiting_for.push(format!("{} idle streams to be closed", facts.pooled));
    }
    if let Some(Sessions { left, unknown_for }) = facts.sessions {
        if left.sessions > 0 {
            let about = if left.at_least { "at least" } else { "about" };
            waiting_for.push(format!("{about} {} sessions to end, or a deadline for them", left.sessions));
        } else if unknown_for > 0 {
            waiting_for.push(format!("sessions from before this hub started, for {unknown_for} s, or a deadline for them"));
        }
    }
    if facts.idle() && confirmed {
        for (agent, count) in &counts {
            match (count, facts.departed.get(agent)) {
                (Some(0), _) => {}
                (Some(count), _) => waiting_for.push(format!("{count} connections to the workload on agent {agent}")),
                (None, Some(left)) => {
                    waiting_for.push(format!("agent {agent}, which is away, to have closed its connections: {left} s more"))
                }
                (None, None) => waiting_for.push(format!("agent {agent} to count its connections")),
            }
        }
        // Who came between the two looks was not asked.
        let unasked = facts.ask.keys().filter(|agent| !counts.iter().any(|(asked, _)| &asked == agent));
        waiting_for.extend(unasked.map(|agent| format!("agent {agent} to count its connections")));
    }
    DrainVerdict {
        uplink: uplink.clone(),
        agent: agent.cloned(),
        drained: waiting_for.is_empty(),
        weight_is_zero: facts.weight_is_zero,
        confirmed: if confirmed { vec![context.replica.to_string()] } else { Vec::new() },
        in_flight: facts.in_flight,
        pooled: facts.pooled,
        sessions: facts.sessions.map(|sessions| sessions.left.sessions),
        agents: counts.into_iter().map(|(agent, open_connections)| AgentCount { agent, open_connections }).collect(),
        waiting_for,
    }
}
