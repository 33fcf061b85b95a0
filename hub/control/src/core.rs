//! The registry's one writer: a task that owns the registry, the publication and the way to each tunnel.
//!
//! Everybody else sends it small jobs. What agents cause is published at most every [`SPACING`], so that a flood of changes
//! wakes the shards a bounded number of times; what operators cause is published at once.

mod agents;
mod ca;
mod view;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use figspan_model::routing::Routing;
use figspan_model::snapshot::TunnelAt;
use figspan_model::state::{MARK_EVERY, Shard};
use figspan_proto::control::{FromHub, HubHello, Replica, Uplink};
use figspan_proto::name::{AgentName, UplinkName, Zone};
use figspan_proto::reset::Close;
use figspan_tunnel::Tunnel;
use figspan_tunnel::drain::Drain;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

use crate::config::stamp;
use crate::events::Note;
use crate::ledger::Revocation;
use crate::limiter::Limiter;
use crate::publish::Publication;
use crate::registry::{Closing, Registry, TunnelId, Violation};
use crate::shared::Shared;
use crate::weights::Overrides;

/// Shortest time between two publications that agents cause. Far below the 100 ms from advertising to serving.
const SPACING: Duration = Duration::from_millis(5);
/// Times that a publication may take before the next one, at the least, is so much later: when ten thousand agents come at
/// once, the writer spends most of its time on what they say.
const REST: u32 = 4;
/// Jobs done between two looks at what they changed.
const BATCH: usize = 256;
/// Messages on their way to one agent. A peer that lets them pile up does not read.
const OUTGOING: usize = 64;
/// Seconds between two sweeps of counters that nobody holds.
const SWEEP_EVERY: u64 = 600;
/// Counts that may be waited for at once.
const MAX_COUNTS: usize = 4096;

/// Something for the writer to do.
pub(crate) type Job = Box<dyn FnOnce(&mut Core) + Send>;

/// What the writer owns.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) shared: Arc<Shared>,
    pub(crate) registry: Registry,
    pub(crate) publication: Publication,
    pub(crate) leaving: bool,
    links: HashMap<TunnelId, Link>,
    counts: HashMap<u64, Count>,
    nonce: u64,
    revoked: BTreeMap<AgentName, Revocation>,
    /// The newest leafs of agents.
    leafs: BTreeMap<AgentName, ca::Seen>,
    /// Events that one agent may cause.
    noise: Limiter<String>,
    /// Since when what agents cause may be published again.
    next: Instant,
    ticks: u64,
}

/// The way to one tunnel.
#[derive(Debug)]
struct Link {
    tunnel: Tunnel,
    shard: Shard,
    since: Timestamp,
    /// Boxed, since a queue has room for 32 of its items from the start, and most of these idle.
    out: mpsc::Sender<Box<FromHub>>,
    told: Option<ca::Told>,
}

#[derive(Debug)]
struct Count {
    tunnel: TunnelId,
    uplink: UplinkName,
    answer: oneshot::Sender<u64>,
}

impl Core {
    pub(crate) fn new(shared: Arc<Shared>, registry: Registry, publication: Publication, revoked: BTreeMap<AgentName, Revocation>) -> Self {
        Self {
            shared,
            registry,
            publication,
            leaving: false,
            links: HashMap::new(),
            counts: HashMap::new(),
            nonce: 0,
            revoked,
            leafs: BTreeMap::new(),
            noise: Limiter::new(64, 2),
            next: Instant::now(),
            ticks: 0,
        }
    }

    /// Does jobs until it is told to end.
    pub(crate) async fn run(mut self, mut jobs: mpsc::Receiver<Job>, drain: Drain) {
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let due = self.registry.is_dirty().then_some(self.next);
            tokio::select! {
                () = drain.stopping() => return,
                count = jobs.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    for job in batch.drain(..) {
                        job(&mut self);
                    }
                    if Instant::now() >= self.next {
                        self.publish();
                    }
                }
                () = tokio::time::sleep_until(due.unwrap_or(self.next)), if due.is_some() => { self.publish(); }
                _ = seconds.tick() => self.tick(),
            }
        }
    }

    /// Publishes what changed, tells agents and people; the newest generation.
    pub(crate) fn publish(&mut self) -> u64 {
        if !self.registry.is_dirty() {
            return self.publication.generation();
        }
        let start = Instant::now();
        let settled = self.registry.settle();
        if !settled.changed.is_empty() {
            let links = &self.links;
            self.publication
                .publish(settled.changed, |id| links.get(&id).map(|link| TunnelAt { shard: link.shard, tunnel: link.tunnel.clone() }));
        }
        let end = Instant::now();
        self.next = end + SPACING.max((end - start) * REST);
        for (id, verdicts) in settled.verdicts {
            self.say(id, FromHub::Verdicts(verdicts));
        }
        for note in settled.notes {
            self.note(note);
        }
        self.publication.generation()
    }

    /// Publishes another routing.
    pub(crate) fn set_routing(&mut self, routing: Arc<Routing>) -> u64 {
        self.publish();
        self.publication.set_routing(routing)
    }

    /// Applies operators' overrides and publishes at once.
    pub(crate) fn set_overrides(&mut self, overrides: Overrides, uplink: &UplinkName) -> u64 {
        self.registry.set_overrides(overrides, uplink);
        self.publish()
    }

    /// Takes a tunnel in, or says why not. What comes out of the receiver is to be sent to the agent, in that order.
    pub(crate) fn open(&mut self, shard: Shard, tunnel: Tunnel) -> Result<mpsc::Receiver<Box<FromHub>>, (Close, String)> {
        let now = self.shared.clock.stamp();
        let Some(agent) = tunnel.peer().agent().cloned() else {
            return Err((Close::Identity, "the peer is not an agent".to_owned()));
        };
        if self.leaving {
            return Err((Close::Leaving, "this replica ends".to_owned()));
        }
        let ends = stamp(tunnel.peer_not_after());
        let leaf = tunnel.peer_leaf();
        let refuses = |revocation: &Revocation| match &leaf.permit {
            Some(permit) => revocation.takes_back(permit),
            None => revocation.refuses(stamp(leaf.issued())),
        };
        if self.revoked.get(&agent).is_some_and(refuses) {
            let why = format!("agent {agent} was revoked; join again with a new grant");
            self.note(Note::new("refused", &agent, &agent, why.clone()));
            return Err((Close::Revoked, why));
        }
        let id = tunnel.id();
        self.registry.opened(id, &agent, shard, ends, now).map_err(|Violation(why)| (Close::Limit, why))?;
        // Before the hello, after which the agent may call.
        self.publication.flush_callers();
        let (out, outgoing) = mpsc::channel(OUTGOING);
        self.showed(&agent, tunnel.peer_leaf());
        self.links.insert(id, Link { tunnel, shard, since: now, out, told: None });
        let shared = Arc::clone(&self.shared);
        self.say(
            id,
            FromHub::Hello(HubHello {
                versions: figspan_proto::VERSIONS,
                replica: shared.replica.clone(),
                shard: u8::try_from(shard).unwrap_or(0),
                shards: shared.shards,
                software: shared.software.clone(),
                time_ms: u64::try_from(now.as_millisecond()).unwrap_or(0),
                calls: true,
            }),
        );
        self.say(id, self.directory());
        self.tell_roots(id);
        Ok(outgoing)
    }

    /// The agent said hello on a tunnel.
    pub(crate) fn hello(&mut self, id: TunnelId, instance: String, software: String, time_ms: u64, zone: Option<Zone>) {
        let Some(agent) = self.registry.tunnel(id).map(|tunnel| tunnel.agent.clone()) else { return };
        let skew = i64::try_from(time_ms).unwrap_or(i64::MAX).saturating_sub(self.shared.clock.stamp().as_millisecond());
        let known = |other: &TunnelId| *other != id && self.registry.tunnel(*other).is_some_and(|tunnel| tunnel.instance == instance);
        let first = !self.registry.agents().get(&agent).is_some_and(|record| record.tunnels.iter().any(known));
        if first {
            let from = self.links.get(&id).map(|link| link.tunnel.remote_address().to_string()).unwrap_or_default();
            self.note(Note::new("connect", &agent, &agent, format!("agent {agent} ({software}) connected from {from}")));
        }
        self.registry.hello(id, instance, software, skew, zone);
    }

    /// The agent said all that it has on a tunnel.
    pub(crate) fn listed(&mut self, id: TunnelId, uplinks: Vec<Uplink>) {
        let closing = self.registry.list(id, uplinks, self.shared.clock.stamp());
        // The newer tunnel is published before the older one goes.
        if !closing.is_empty() {
            self.publish();
            self.close_all(closing);
        }
        if let Some(tunnel) = self.registry.tunnel(id) {
            self.shared.arrived(&tunnel.agent);
        }
    }

    /// Closes tunnels that the registry wants closed.
    pub(crate) fn close_all(&mut self, closing: Closing) {
        for (id, why) in closing {
            self.close(id, why, "");
        }
    }

    /// Closes one tunnel; what it advertised is withdrawn before the agent hears of it.
    pub(crate) fn close(&mut self, id: TunnelId, why: Close, detail: &str) {
        if let Some(link) = self.links.get(&id) {
            let tunnel = link.tunnel.clone();
            self.gone(id, if detail.is_empty() { said(why).to_owned() } else { detail.to_owned() });
            tunnel.close(why);
        }
    }

    /// A tunnel has ended.
    pub(crate) fn gone(&mut self, id: TunnelId, detail: String) {
        self.links.remove(&id);
        self.counts.retain(|_, count| count.tunnel != id);
        let Some((agent, draining)) = self.registry.tunnel(id).map(|tunnel| (tunnel.agent.clone(), tunnel.draining)) else { return };
        let detail = if draining { "it drained and stopped".to_owned() } else { detail };
        self.registry.closed(id, self.shared.clock.stamp());
        if self.registry.agents().get(&agent).is_none_or(|record| record.tunnels.is_empty()) {
            self.note(Note::new("disconnect", &agent, &agent, format!("agent {agent} has no tunnel left: {detail}")));
        }
    }

    /// Asks one process of an agent for its count of an uplink's connections.
    pub(crate) fn count(&mut self, tunnel: TunnelId, uplink: &UplinkName) -> Option<oneshot::Receiver<u64>> {
        self.counts.retain(|_, count| !count.answer.is_closed());
        if self.counts.len() >= MAX_COUNTS {
            return None;
        }
        self.nonce += 1;
        let (answer, answered) = oneshot::channel();
        self.counts.insert(self.nonce, Count { tunnel, uplink: uplink.clone(), answer });
        self.say(tunnel, FromHub::Count { nonce: self.nonce, uplink: uplink.clone() });
        Some(answered)
    }

    /// An agent's answer to that.
    pub(crate) fn counted(&mut self, tunnel: TunnelId, nonce: u64, uplink: &UplinkName, open_connections: u64) {
        let ours = self.counts.get(&nonce).is_some_and(|count| count.tunnel == tunnel && &count.uplink == uplink);
        if let Some(count) = ours.then(|| self.counts.remove(&nonce)).flatten() {
            // Too late is as good as never.
            let _ = count.answer.send(open_connections);
        }
    }

    /// Says to all agents that this replica ends, and takes no new tunnel.
    pub(crate) fn leave(&mut self, deadline: Duration) {
        self.leaving = true;
        let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        for id in self.links.keys().copied().collect::<Vec<_>>() {
            self.say(id, self.directory());
            self.say(id, FromHub::Leaving { deadline_ms });
        }
    }

    /// Closes every tunnel.
    pub(crate) fn close_everything(&mut self, why: Close) {
        self.leaving = true;
        for id in self.links.keys().copied().collect::<Vec<_>>() {
            self.close(id, why, "");
        }
        self.publish();
    }

    /// Requests and connections under way through tunnels.
    pub(crate) fn in_flight(&self) -> u64 {
        let uplinks = self.registry.uplinks().iter();
        let pairs = uplinks.flat_map(|(name, record)| {
            let endpoints = record.parts.iter().flat_map(|parts| parts.endpoints.iter().map(|endpoint| &endpoint.agent));
            endpoints.chain(record.departed.keys()).map(move |agent| (name, agent))
        });
        pairs.map(|(name, agent)| self.publication.state(name, agent).in_flight.sum()).sum()
    }

    /// Records an event; an agent that causes very many is heard less.
    pub(crate) fn note(&self, note: Note) {
        if self.noise.check(&note.who, 1).is_ok() {
            self.shared.events.record(note);
        } else {
            tracing::debug!(kind = note.kind, subject = note.subject, who = note.who, "{} (too many events: not recorded)", note.message);
        }
    }

    fn directory(&self) -> FromHub {
        let shared = &self.shared;
        FromHub::Directory(vec![Replica {
            id: shared.replica.clone(),
            shards: shared.shards,
            leaving: self.leaving,
            addresses: shared.direct.clone(),
        }])
    }

    fn say(&mut self, id: TunnelId, message: FromHub) {
        let full =
            self.links.get(&id).is_some_and(|link| matches!(link.out.try_send(Box::new(message)), Err(mpsc::error::TrySendError::Full(_))));
        if full {
            self.close(id, Close::Protocol, "it does not read what the hub says");
        }
    }

    fn tick(&mut self) {
        let now = self.shared.clock.stamp();
        let publication = &self.publication;
        let closing = self.registry.tick(now, |uplink, agent| publication.state(uplink, agent).in_flight.sum() > 0);
        self.close_all(closing);
        for (&id, link) in &self.links {
            self.registry.silent(id, link.tunnel.suspect());
        }
        self.publish();
        self.ticks += 1;
        if self.ticks.is_multiple_of(MARK_EVERY.as_secs()) {
            self.publication.mark_shares();
        }
        if self.ticks.is_multiple_of(SWEEP_EVERY) {
            let registry = &self.registry;
            self.publication.sweep(|name| registry.uplinks().contains_key(name));
            self.leafs.retain(|name, _| registry.agents().contains_key(name));
        }
    }
}

/// Why this hub closes a tunnel, for people.
fn said(why: Close) -> &'static str {
    match why {
        Close::Identity => "its certificate has ended and was not renewed",
        Close::Revoked => "its identity was revoked",
        Close::Replaced => "a newer tunnel of the same process took its place",
        Close::Leaving => "this hub ends",
        Close::Limit => "it has as many tunnels as it may have",
        Close::Version => "no version of the control protocol is known to both",
        Close::Done | Close::Protocol | Close::Other(_) => "this hub closed it",
    }
}
