//! Hop agent: keeps **tunnels** to every shard of every replica; what streams of the data path arrive on.
//!
//! One task owns the plan ([`plan`]) and acts on it: it resolves names, dials, and hears of every beginning and end. Each
//! tunnel is a task of its own on a worker, serving until the tunnel closes. Owns reconnecting; never touches a stream.

pub mod plan;
mod resolve;
mod serve;
mod words;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use figspan_proto::name::{ReplicaId, Role, Zone};
use figspan_proto::reset::Close;
use figspan_tunnel::agent::DialOptions;
use figspan_tunnel::drain::Drain;
use figspan_tunnel::resolve::Resolver;
use figspan_tunnel::{Closed, Moves, Preference, Tunnel};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::advertise::{Heard, unix_ms};
use crate::identity::Holder;
use crate::receive::Receiver;
use crate::uplinks::Uplinks;
use crate::workers::Workers;
use plan::{Dial, Planner, Said};
use words::{gist, why};

/// Messages to the keeper that wait; senders wait too when it is full.
const EVENTS: usize = 64;
/// A failure with the same words is told again after this long.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// A tunnel that is up: the hub has said who it is.
#[derive(Debug)]
pub struct Live {
    /// The tunnel.
    pub tunnel: Tunnel,
    /// The replica at its end.
    pub replica: ReplicaId,
    /// The shard at its end.
    pub shard: u8,
    /// Shards of the replica.
    pub shards: u8,
    /// The hub's software.
    pub software: String,
    /// The agent's clock less the hub's, in milliseconds.
    pub skew_ms: i64,
    /// Since when.
    pub since: SystemTime,
    /// Whether the replica said that it ends.
    pub leaving: AtomicBool,
    /// Whether it takes calls of services.
    pub calls: bool,
}

/// What is known about one hub name.
#[derive(Debug, Clone, Default)]
pub struct HubName {
    /// Its addresses.
    pub addresses: Vec<SocketAddr>,
    /// Why it could not be resolved.
    pub error: Option<String>,
}

/// What others may see of the tunnels.
#[derive(Debug, Default)]
pub struct Tunnels {
    live: ArcSwap<Vec<Arc<Live>>>,
    hubs: Mutex<BTreeMap<String, HubName>>,
    errors: Mutex<BTreeMap<SocketAddr, String>>,
    up: watch::Sender<usize>,
    moves: Arc<Moves>,
}

impl Tunnels {
    /// Tunnels that are up.
    pub fn live(&self) -> Arc<Vec<Arc<Live>>> {
        self.live.load_full()
    }

    /// The number of tunnels that are up, and word of each change.
    pub fn count(&self) -> watch::Receiver<usize> {
        self.up.subscribe()
    }

    /// Hub names and what became of them.
    pub fn hubs(&self) -> BTreeMap<String, HubName> {
        self.hubs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Addresses that could not be reached at the last attempt, and why.
    pub fn errors(&self) -> BTreeMap<SocketAddr, String> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often tunnels came to be on a transport, and why.
    pub fn moves(&self) -> &Moves {
        &self.moves
    }

    fn change(&self, live: Vec<Arc<Live>>) {
        let up = live.len();
        self.live.store(Arc::new(live));
        self.up.send_replace(up);
    }
}

/// What the keeper may be told to do otherwise while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Hubs to dial.
    pub hubs: Vec<String>,
    /// Most tunnels to one replica.
    pub tunnels_per_hub: usize,
    /// What may carry them; tunnels that are up stay as they are.
    pub transport: Preference,
}

/// What the keeper works with.
#[derive(Debug)]
pub struct Keeper {
    /// Seen by others.
    pub tunnels: Arc<Tunnels>,
    /// Whose identity to show, whom to trust.
    pub identity: Arc<Holder>,
    /// What to offer.
    pub uplinks: Arc<Uplinks>,
    /// Who takes streams.
    pub receiver: Arc<Receiver>,
    /// Streams' owner: its stop is the agent's drain.
    pub work: Drain,
    /// The owner of everything else.
    pub life: Drain,
    /// Where tunnels run.
    pub workers: Arc<Workers>,
    /// Names to addresses.
    pub resolver: Resolver,
    /// Tells this process from another of the same agent.
    pub instance: Arc<str>,
    /// Where this machine is.
    pub zone: Option<Zone>,
    /// How long streams may go on once the agent drains.
    pub drain_time: Duration,
}

#[derive(Debug)]
enum Event {
    /// A hub name has new addresses, or could not be resolved.
    Resolved(String, Result<Vec<SocketAddr>, String>),
    /// A dial failed, or its tunnel ended before the hub's hello.
    Failed { dial: Dial, answered: Option<ReplicaId>, error: Option<String> },
    /// A handshake succeeded. The answer says whether to go on.
    Connected { dial: Dial, tunnel: Tunnel, go_on: oneshot::Sender<bool> },
    /// A tunnel is gone.
    Closed { tunnel: u64, closed: Closed },
}

/// A tunnel whose hub has not said hello yet, or has.
struct Known {
    dial: Dial,
    tunnel: Tunnel,
    replica: ReplicaId,
    up: bool,
}

struct Running {
    keeper: Arc<Keeper>,
    planner: Planner,
    wanted: Wanted,
    known: HashMap<u64, Known>,
    hubs: BTreeMap<String, HubName>,
    said: HashMap<SocketAddr, (String, Instant)>,
    events: mpsc::Sender<Event>,
    heard: mpsc::Sender<(u64, Heard)>,
    again: Arc<Notify>,
    resolving: CancellationToken,
    dials: u64,
}

/// Keeps tunnels until the agent's life stops; then closes them all.
pub async fn keep(keeper: Keeper, mut wanted: watch::Receiver<Wanted>) {
    let (events, mut incoming) = mpsc::channel(EVENTS);
    let (heard, mut hearing) = mpsc::channel(EVENTS);
    let first = wanted.borrow_and_update().clone();
    let mut running = Running {
        keeper: Arc::new(keeper),
        planner: Planner::new(first.tunnels_per_hub, rand::random()),
        wanted: Wanted { hubs: Vec::new(), ..first.clone() },
        known: HashMap::new(),
        hubs: BTreeMap::new(),
        said: HashMap::new(),
        events,
        heard,
        again: Arc::new(Notify::new()),
        resolving: CancellationToken::new(),
        dials: 0,
    };
    running.want(first);
    let life = running.keeper.life.clone();
    let work = running.keeper.work.clone();
    let mut valid = running.keeper.identity.may_serve();
    loop {
        // A draining agent keeps what it has and dials nothing new; an expired one may not show its face.
        let due = if !work.is_leaving() && *valid.borrow() { running.dial(Instant::now()) } else { None };
        tokio::select! {
            Some(event) = incoming.recv() => running.on(event),
            Some((tunnel, heard)) = hearing.recv() => running.hear(tunnel, heard),
            Ok(()) = wanted.changed() => { let new = wanted.borrow_and_update().clone(); running.want(new) }
            Ok(()) = valid.changed() => if !*valid.borrow_and_update() { running.close_all(Close::Identity) },
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            () = life.stopping() => break,
        }
    }
    running.resolving.cancel();
    running.close_all(Close::Leaving);
}

impl Running {
    fn want(&mut self, wanted: Wanted) {
        self.planner.set_per_replica(wanted.tunnels_per_hub);
        if wanted.hubs != self.wanted.hubs {
            self.resolving.cancel();
            self.resolving = CancellationToken::new();
            self.hubs.retain(|hub, _| wanted.hubs.contains(hub));
            for hub in &wanted.hubs {
                let task = resolve::watch(
                    hub.clone(),
                    self.keeper.resolver.clone(),
                    Arc::clone(&self.again),
                    self.resolving.clone(),
                    self.events.clone(),
                );
                self.keeper.life.spawn(task);
            }
        }
        self.wanted = wanted;
        self.spread_addresses();
    }

    fn spread_addresses(&mut self) {
        let addresses = self.wanted.hubs.iter().filter_map(|hub| self.hubs.get(hub)).flat_map(|hub| hub.addresses.clone());
        self.planner.set_addresses(addresses.collect());
        *self.keeper.tunnels.hubs.lock().unwrap_or_else(PoisonError::into_inner) = self.hubs.clone();
    }

    /// Makes the dials that are due; says when the next ones are.
    fn dial(&mut self, now: Instant) -> Option<Instant> {
        let (dials, due) = self.planner.dials(now);
        for dial in dials {
            self.dials += 1;
            let (keeper, events, heard) = (Arc::clone(&self.keeper), self.events.clone(), self.heard.clone());
            let life = self.keeper.life.clone();
            let (preference, moves) = (self.wanted.transport, Arc::clone(&self.keeper.tunnels.moves));
            let options = DialOptions { preference, moves, ..DialOptions::default() };
            // The tunnel's socket and all of its tasks live on the worker on which it is dialled.
            self.keeper.workers.enter(self.dials, || life.spawn(serve::run(keeper, dial, options, events, heard)));
        }
        due
    }

    fn on(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Resolved(hub, Ok(addresses)) => {
                self.hubs.insert(hub, HubName { addresses, error: None });
                self.spread_addresses();
            }
            Event::Resolved(hub, Err(error)) => {
                let known = self.hubs.entry(hub.clone()).or_default();
                if known.error.as_ref() != Some(&error) {
                    tracing::warn!(%hub, "cannot resolve hub {hub}: {error}; see `figspan-agent doctor`, or correct hubs in agent.toml");
                }
                // What was true before the name server failed is most likely still true.
                known.error = Some(error);
                self.spread_addresses();
            }
            Event::Failed { dial, answered, error } => {
                self.planner.failed(&dial, answered.as_ref(), now, rand::random());
                if let Some(error) = error {
                    self.tell(dial.address, error, now);
                }
                self.again.notify_waiters();
            }
            Event::Connected { dial, tunnel, go_on } => {
                // `dial` lets nobody else through; dropped unanswered, `go_on` closes the tunnel.
                let Role::Hub(replica) = tunnel.peer().role.clone() else {
                    return self.planner.failed(&dial, None, now, rand::random());
                };
                if self.planner.is_redundant(&replica, dial.shard) {
                    self.planner.failed(&dial, Some(&replica), now, rand::random());
                    let _ = go_on.send(false);
                    return;
                }
                self.known.insert(tunnel.id(), Known { dial, tunnel, replica, up: false });
                let _ = go_on.send(true);
            }
            Event::Closed { tunnel, closed } => self.closed(tunnel, &closed, now),
        }
    }

    fn hear(&mut self, tunnel: u64, heard: Heard) {
        let now = Instant::now();
        match heard {
            Heard::Hello(hello, keep) => {
                let Some(known) = self.known.get_mut(&tunnel) else { return };
                let said = Said { replica: known.replica.clone(), shard: hello.shard, shards: hello.shards };
                let keeps = self.planner.hello(&known.dial, tunnel, said, now, rand::random());
                if keeps {
                    known.up = true;
                    let skew_ms = skew(unix_ms(SystemTime::now()), hello.time_ms);
                    let live = Arc::new(Live {
                        tunnel: known.tunnel.clone(),
                        replica: hello.replica,
                        shard: hello.shard,
                        shards: hello.shards,
                        software: hello.software,
                        skew_ms,
                        since: SystemTime::now(),
                        leaving: AtomicBool::new(false),
                        calls: hello.calls,
                    });
                    self.up(live);
                } else {
                    self.known.remove(&tunnel);
                }
                let _ = keep.send(keeps);
            }
            Heard::Directory(replicas) => self.planner.set_directory(replicas),
            Heard::Trust(roots) => self.keeper.identity.trust(roots),
            Heard::Leaving(time) => {
                self.planner.leaving(tunnel);
                let live = self.keeper.tunnels.live();
                let Some(leaving) = live.iter().find(|live| live.tunnel.id() == tunnel) else { return };
                if !leaving.leaving.swap(true, Ordering::AcqRel) {
                    tracing::info!(replica = %leaving.replica, "hub {} ends within {time:?}; its streams go on until then", leaving.replica);
                }
            }
        }
    }

    fn up(&mut self, live: Arc<Live>) {
        let address = live.tunnel.remote_address();
        words::up(&live, address);
        self.said.remove(&address);
        self.keeper.tunnels.errors.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
        let mut all: Vec<Arc<Live>> = self.keeper.tunnels.live().to_vec();
        all.push(live);
        all.sort_by(|a, b| (&a.replica, a.shard).cmp(&(&b.replica, b.shard)));
        self.keeper.tunnels.change(all);
    }

    fn closed(&mut self, tunnel: u64, closed: &Closed, now: Instant) {
        let Some(known) = self.known.remove(&tunnel) else { return };
        if !known.up {
            self.planner.failed(&known.dial, Some(&known.replica), now, rand::random());
            self.tell(known.dial.address, why(closed), now);
            return;
        }
        self.planner.closed(tunnel, now, rand::random());
        self.again.notify_waiters();
        let all: Vec<Arc<Live>> = self.keeper.tunnels.live().iter().filter(|live| live.tunnel.id() != tunnel).cloned().collect();
        self.keeper.tunnels.change(all);
        let (replica, address) = (&known.replica, known.dial.address);
        if closed.by_peer && matches!(closed.close, Some(Close::Done | Close::Leaving)) || self.keeper.life.is_stopping() {
            tracing::info!(%replica, %address, "tunnel to hub {replica} at {address} is closed: {}", why(closed));
        } else {
            tracing::warn!(%replica, %address, "tunnel to hub {replica} at {address} is lost: {}", why(closed));
        }
    }

    fn tell(&mut self, address: SocketAddr, error: String, now: Instant) {
        self.keeper.tunnels.errors.lock().unwrap_or_else(PoisonError::into_inner).insert(address, error.clone());
        // Addresses come and go with DNS; what was said about those of yesterday need not be kept.
        self.said.retain(|_, (_, at)| now.duration_since(*at) < SAY_AGAIN);
        if self.said.get(&address).is_some_and(|(said, _)| gist(said) == gist(&error)) {
            return;
        }
        tracing::warn!(%address, "cannot open a tunnel to {address}: {error}; trying again, see `figspan-agent doctor`");
        self.said.insert(address, (error, now));
    }

    fn close_all(&mut self, why: Close) {
        self.known.values().for_each(|known| known.tunnel.close(why));
    }
}

fn skew(own_ms: u64, hub_ms: u64) -> i64 {
    i64::try_from(i128::from(own_ms) - i128::from(hub_ms)).unwrap_or(i64::MAX)
}
