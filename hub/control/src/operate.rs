//! Operators' changes of weights: checked, stored, published, confirmed, audited. In this order, so that what was answered
//! survives a restart, and what could not be stored was never in force.

use std::sync::Arc;
use std::time::Duration;

use figspan_proto::admin::{self, Override, Problem};
use figspan_proto::control::plain;
use figspan_proto::name::{AgentName, UplinkName};
use figspan_proto::weight::Weight;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::config::text;
use crate::context::Context;
use crate::events::Note;
use crate::problem;
use crate::weights::Overrides;

pub(crate) const FILE: &str = "overrides.json";
/// How long a change waits for the shards before it is answered without their word.
const CONFIRM: Duration = Duration::from_secs(2);
/// How often the board is looked at meanwhile: far below the 50 ms in which a change shall be live.
const LOOK: Duration = Duration::from_millis(1);
/// Most bytes of a reason.
const MAX_REASON: usize = 512;

/// Longest deadline for sessions: no cookie lives longer.
const MAX_SESSIONS: Duration = Duration::from_secs(400 * 86_400);

/// One change.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) uplink: UplinkName,
    pub(crate) agent: Option<AgentName>,
    /// `None` takes the override back.
    pub(crate) weight: Option<Weight>,
    /// At weight 0: how long sessions that are bound there may stay.
    pub(crate) sessions: Option<Duration>,
    pub(crate) reason: String,
    pub(crate) dry_run: bool,
    pub(crate) who: String,
}

/// Makes changes, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Operators(Mutex<()>);

struct Planned {
    old: Weight,
    new: Weight,
    overrides: Overrides,
    same: bool,
    generation: u64,
}

impl Operators {
    /// Makes one change.
    pub(crate) async fn change(&self, context: &Arc<Context>, change: Change) -> Result<admin::WeightChange, Problem> {
        if change.reason.trim().is_empty() || change.reason.len() > MAX_REASON {
            let why = format!("a change needs a reason of 1 to {MAX_REASON} bytes; it is kept in the audit");
            return Err(problem::invalid("cannot change the weight", why));
        }
        if change.sessions.is_some_and(|time| time > MAX_SESSIONS || change.weight != Some(Weight::ZERO)) {
            let why = "a deadline for sessions goes with weight 0, and is at most 400 days".to_owned();
            return Err(problem::invalid("cannot change the weight", why));
        }
        let _turn = self.0.lock().await;
        let change = Arc::new(change);
        let asked = Arc::clone(&change);
        let planned = context.writer.ask(move |core| plan(core, &asked)).await??;
        let mut answer = admin::WeightChange {
            uplink: change.uplink.clone(),
            agent: change.agent.clone(),
            old: planned.old,
            new: planned.new,
            generation: None,
            confirmed: Vec::new(),
            dry_run: change.dry_run,
        };
        if change.dry_run {
            return Ok(answer);
        }
        let generation = if planned.same {
            planned.generation
        } else {
            context.store.save(FILE, planned.overrides.clone()).await.map_err(|error| problem::storage(&error))?;
            let (overrides, uplink) = (planned.overrides, change.uplink.clone());
            let generation = context.writer.ask(move |core| core.set_overrides(overrides, &uplink)).await?;
            context.events.record_on_disk(note(&change, planned.old, planned.new)).await;
            generation
        };
        answer.generation = Some(generation);
        answer.confirmed = wait_effective(context, generation, CONFIRM).await;
        Ok(answer)
    }
}

fn plan(core: &mut crate::core::Core, change: &Change) -> Result<Planned, Problem> {
    core.publish();
    let uplink = &change.uplink;
    let record = core.registry.uplinks().get(uplink);
    let protocol = record.and_then(|record| record.protocol);
    let overrides = core.registry.overrides();
    if protocol.is_none() && overrides.of(uplink).is_none() && !core.publication.routed(uplink) {
        let detail = format!("no agent advertises {uplink} and no route names it; see `figspanctl get uplinks`");
        return Err(problem::unknown("no such uplink", detail));
    }
    if let Some(agent) = &change.agent
        && !core.registry.agents().contains_key(agent)
        && overrides.find(uplink, Some(agent)).is_none()
    {
        return Err(problem::unknown("no such agent", format!("no agent {agent} joined; see `figspanctl get agents`")));
    }
    let old = match &change.agent {
        None => core.uplink_weight(uplink),
        Some(agent) => core.endpoint_weight(uplink, agent).0,
    };
    let current = overrides.find(uplink, change.agent.as_ref());
    // Asked for again without a deadline, a drain keeps the one it has.
    let kept = || current.filter(|current| Some(current.weight) == change.weight).and_then(|current| current.sessions_until.clone());
    let sessions_until = match change.sessions {
        Some(time) => Some(text(core.shared.clock.stamp().saturating_add(time).unwrap_or(jiff::Timestamp::MAX))),
        None => kept(),
    };
    let word = change.weight.map(|weight| Override {
        weight,
        sessions_until,
        who: change.who.clone(),
        reason: plain(&change.reason),
        at: core.shared.clock.text(),
    });
    let same = current.map(|current| current.weight) == change.weight && change.sessions.is_none();
    let mut next = overrides.clone();
    if !next.set(uplink, change.agent.as_ref(), word, protocol) {
        let detail = format!("{} uplinks have overrides, which is the limit; take some back", crate::weights::MAX_OVERRIDDEN);
        return Err(problem::conflict("cannot change the weight", detail));
    }
    let new = match (&change.agent, change.weight) {
        (_, Some(weight)) => weight,
        (Some(agent), None) => core.endpoint_weight(uplink, agent).1,
        (None, None) => {
            let parts = record.and_then(|record| record.parts.as_ref());
            let endpoints = parts.iter().flat_map(|parts| parts.endpoints.iter().map(|endpoint| endpoint.weight));
            next.uplink_weight(uplink, endpoints).unwrap_or(Weight::DEFAULT)
        }
    };
    // A drain that is asked for again is confirmed by the generation that carries it already.
    let generation = core.publication.since(uplink);
    Ok(Planned { old, new, overrides: next, same, generation })
}

fn note(change: &Change, old: Weight, new: Weight) -> Note {
    let Change { uplink, agent, who, reason, .. } = change;
    let subject = agent.as_ref().map_or(uplink.to_string(), |agent| format!("{uplink} on agent {agent}"));
    let did = if change.weight.is_some() { "set" } else { "reset" };
    Note::new("weight", &subject, who, format!("{who} {did} the weight of {subject} from {old} to {new}: {reason}")).change(old, new)
}

/// Waits until every shard works with that generation or a later one; the replicas that do.
pub(crate) async fn wait_effective(context: &Context, generation: u64, deadline: Duration) -> Vec<String> {
    let end = Instant::now() + deadline;
    loop {
        if context.board.oldest() >= generation {
            return vec![context.replica.to_string()];
        }
        if Instant::now() >= end {
            return Vec::new();
        }
        tokio::time::sleep(LOOK).await;
    }
}
