//! Which tunnels to dial next. Pure: time and randomness are arguments.
//!
//! Wanted is one tunnel to each shard of each replica, up to a limit per replica. An address of which nobody knows the
//! replica is explored with shard 0; the replica's certificate and hello then say who it is and how many shards it has. A
//! replica that only the directory names is dialled at its own addresses first, else at every known one, from a fresh
//! socket each time, until the id that is missing answers. Each wish has a back-off of its own.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use figspan_proto::control::Replica;
use figspan_proto::name::ReplicaId;
use figspan_tunnel::backoff::Backoff;
use tokio::time::Instant;

/// Dials under way at once: enough for the shards of one hub in a few round trips, and gentle to a hub that comes back.
const MAX_DIALS: usize = 4;
/// Most tunnels, whatever the directory says.
const MAX_TUNNELS: usize = 512;
/// Shortest wait after a failure.
const FLOOR: Duration = Duration::from_millis(100);
/// Longest wait after a failure: a hub that comes back has its agents within it.
const CEILING: Duration = Duration::from_secs(10);
/// The same for a tunnel whose replica said that it leaves: what takes its place may be there at any moment. Not at once, so that
/// one that says so to everybody is not dialled for ever at the shortest wait.
const ORDERLY_LIFE: Duration = Duration::from_secs(1);
/// A tunnel that held so long was a good one; what ends it begins a new back-off.
const GOOD_LIFE: Duration = Duration::from_secs(10);

/// Why something is dialled.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Wish {
    /// To learn who answers at the address.
    Explore(SocketAddr),
    /// For this shard of this replica.
    Shard(ReplicaId, u8),
}

/// A dial to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dial {
    /// What for.
    pub wish: Wish,
    /// Where.
    pub address: SocketAddr,
    /// First byte of the first packet's connection id.
    pub shard: u8,
}

/// Who a hub said that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Its id.
    pub replica: ReplicaId,
    /// The shard at the end of the tunnel.
    pub shard: u8,
    /// Its shards.
    pub shards: u8,
}

#[derive(Debug)]
struct Attempts {
    dialling: bool,
    not_before: Option<Instant>,
    backoff: Backoff,
    made: usize,
}

#[derive(Debug)]
struct Up {
    wish: Wish,
    address: SocketAddr,
    replica: ReplicaId,
    shard: u8,
    shards: u8,
    leaving: bool,
    since: Instant,
}

/// What is known, and what has been tried.
#[derive(Debug)]
pub struct Planner {
    per_replica: usize,
    spread: u8,
    addresses: Vec<SocketAddr>,
    answers: HashMap<SocketAddr, ReplicaId>,
    directory: BTreeMap<ReplicaId, Replica>,
    up: BTreeMap<u64, Up>,
    attempts: HashMap<Wish, Attempts>,
}

impl Planner {
    /// A planner for at most `per_replica` tunnels to one replica. `spread` is random: where a replica has more shards than
    /// that, it spreads agents over them.
    pub fn new(per_replica: usize, spread: u8) -> Self {
        Self {
            per_replica,
            spread,
            addresses: Vec::new(),
            answers: HashMap::new(),
            directory: BTreeMap::new(),
            up: BTreeMap::new(),
            attempts: HashMap::new(),
        }
    }

    /// Changes the limit; tunnels above it stay.
    pub fn set_per_replica(&mut self, per_replica: usize) {
        self.per_replica = per_replica;
    }

    /// Where hubs are, best first.
    pub fn set_addresses(&mut self, addresses: Vec<SocketAddr>) {
        let mut seen = HashSet::new();
        self.addresses = addresses.into_iter().filter(|address| seen.insert(*address)).collect();
    }

    /// The replicas that a hub says there are.
    pub fn set_directory(&mut self, replicas: Vec<Replica>) {
        self.directory = replicas.into_iter().map(|replica| (replica.id.clone(), replica)).collect();
    }

    /// The dials to make now, each of which counts as under way until [`Self::failed`], [`Self::hello`] or [`Self::closed`]; and when to
    /// ask again, as far as time decides. Both as of one moment: with a later one for the second, what comes due in between would be in
    /// neither, and be waited for until something else happens, which with a single hub that is gone is nothing.
    pub fn dials(&mut self, now: Instant) -> (Vec<Dial>, Option<Instant>) {
        let wishes = self.wishes();
        self.attempts.retain(|wish, attempts| attempts.dialling || wishes.contains(wish) || attempts.not_before.is_some_and(|at| at > now));
        let mut under_way = self.attempts.values().filter(|attempts| attempts.dialling).count();
        let mut dials = Vec::new();
        for wish in wishes {
            if under_way >= MAX_DIALS || self.up.len() + under_way >= MAX_TUNNELS {
                break;
            }
            let attempts = self.attempts.entry(wish.clone()).or_insert_with(Attempts::new);
            if attempts.dialling || attempts.not_before.is_some_and(|at| at > now) {
                continue;
            }
            let made = attempts.made;
            let Some((address, shard)) = self.target(&wish, made) else { continue };
            if let Some(attempts) = self.attempts.get_mut(&wish) {
                attempts.dialling = true;
                attempts.made += 1;
            }
            under_way += 1;
            dials.push(Dial { wish, address, shard });
        }
        (dials, self.due(now))
    }

    /// What could be dialled already waits for something else.
    fn due(&self, now: Instant) -> Option<Instant> {
        let waiting = |attempts: &Attempts| if attempts.dialling { None } else { attempts.not_before.filter(|at| *at > now) };
        self.attempts.values().filter_map(waiting).min()
    }

    /// Whether a tunnel that has just been proven to lead to `replica` is of no use.
    pub fn is_redundant(&self, replica: &ReplicaId, shard: u8) -> bool {
        let mut of = self.up.values().filter(|up| up.replica == *replica && !up.leaving);
        of.any(|up| up.shard == shard % up.shards)
    }

    /// A dial failed, or its tunnel ended before the hub's hello; what answered may be known all the same.
    pub fn failed(&mut self, dial: &Dial, answered: Option<&ReplicaId>, now: Instant, random: f64) {
        if let Some(replica) = answered {
            self.answers.insert(dial.address, replica.clone());
        }
        self.wait(&dial.wish, now, random);
    }

    /// The hub at the end of a new tunnel said who it is. Returns whether the tunnel shall be kept.
    pub fn hello(&mut self, dial: &Dial, tunnel: u64, said: Said, now: Instant, random: f64) -> bool {
        let Said { replica, shard, shards } = said;
        self.answers.insert(dial.address, replica.clone());
        let keep = !self.is_redundant(&replica, shard);
        let granted = match &dial.wish {
            Wish::Explore(_) => keep,
            Wish::Shard(wanted, _) => keep && *wanted == replica,
        };
        if granted {
            if let Some(attempts) = self.attempts.get_mut(&dial.wish) {
                attempts.dialling = false;
                attempts.not_before = None;
            }
        } else {
            self.wait(&dial.wish, now, random);
        }
        if keep {
            let up = Up { wish: dial.wish.clone(), address: dial.address, replica, shard, shards, leaving: false, since: now };
            self.up.insert(tunnel, up);
        }
        keep
    }

    /// The replica at the end of the tunnel said that it ends.
    pub fn leaving(&mut self, tunnel: u64) {
        let Some(replica) = self.up.get(&tunnel).map(|up| up.replica.clone()) else { return };
        self.up.values_mut().filter(|up| up.replica == replica).for_each(|up| up.leaving = true);
    }

    /// A tunnel that was kept is gone.
    pub fn closed(&mut self, tunnel: u64, now: Instant, random: f64) {
        let Some(up) = self.up.remove(&tunnel) else { return };
        // Whoever comes back after a good life is let in soon; who closes each tunnel at once is asked ever more rarely.
        let life = now.duration_since(up.since);
        let orderly = up.leaving && life >= ORDERLY_LIFE;
        let good = orderly || life >= GOOD_LIFE;
        for wish in [up.wish, Wish::Explore(up.address), Wish::Shard(up.replica, up.shard)] {
            let attempts = self.attempts.entry(wish.clone()).or_insert_with(Attempts::new);
            // Also where it is dialled right now: what a leaving hub answered in its last seconds, and answers yet, says nothing of
            // the one that comes.
            if good {
                attempts.backoff.reset();
            }
            // Two tunnels of one hub end together, which is one failure of the address and not two.
            let waits = attempts.not_before.is_some_and(|at| at > now) && !orderly;
            if !(attempts.dialling || waits) {
                self.wait(&wish, now, random);
            }
        }
        // What a replica said of others is worth something as long as some replica is there.
        if self.up.is_empty() {
            self.directory.clear();
        }
    }

    fn wait(&mut self, wish: &Wish, now: Instant, random: f64) {
        let attempts = self.attempts.entry(wish.clone()).or_insert_with(Attempts::new);
        attempts.dialling = false;
        attempts.not_before = Some(now + attempts.backoff.next(random));
    }

    /// All that is wanted and not there, the most important first.
    fn wishes(&self) -> Vec<Wish> {
        let reached = |replica: &ReplicaId| self.up.values().any(|up| up.replica == *replica && !up.leaving);
        let unknown = |address: &&SocketAddr| !self.answers.get(*address).is_some_and(reached);
        let mut wishes: Vec<Wish> = self.addresses.iter().filter(unknown).map(|address| Wish::Explore(*address)).collect();
        for (replica, shards) in self.replicas() {
            let mut there: HashSet<u8> = self.up.values().filter(|up| up.replica == replica && !up.leaving).map(|up| up.shard).collect();
            let enough = usize::from(shards).min(self.per_replica);
            for step in 0..shards {
                if there.len() >= enough {
                    break;
                }
                let shard = ((u16::from(self.spread) + u16::from(step)) % u16::from(shards)) as u8;
                if there.insert(shard) {
                    wishes.push(Wish::Shard(replica.clone(), shard));
                }
            }
        }
        wishes
    }

    /// Replicas that shall be kept, with their shards.
    fn replicas(&self) -> BTreeMap<ReplicaId, u8> {
        let listed = self.directory.values().filter(|replica| !replica.leaving).map(|replica| (replica.id.clone(), replica.shards));
        let mut replicas: BTreeMap<ReplicaId, u8> = listed.collect();
        // A replica's own word about its shards is better than another's.
        replicas.extend(self.up.values().filter(|up| !up.leaving).map(|up| (up.replica.clone(), up.shards)));
        replicas
    }

    fn target(&self, wish: &Wish, made: usize) -> Option<(SocketAddr, u8)> {
        match wish {
            Wish::Explore(address) => Some((*address, 0)),
            Wish::Shard(replica, shard) => {
                let direct = self.directory.get(replica).map(|replica| replica.addresses.clone()).unwrap_or_default();
                let leads = |address: &&SocketAddr| self.answers.get(*address) == Some(replica);
                let alive = self.up.values().filter(|up| up.replica == *replica && !up.leaving).map(|up| up.address);
                let mut seen = HashSet::new();
                let known = self.addresses.iter().filter(leads).copied();
                let all = alive.chain(direct).chain(known).chain(self.addresses.iter().copied());
                let candidates: Vec<SocketAddr> = all.filter(|address| seen.insert(*address)).collect();
                if candidates.is_empty() { None } else { Some((candidates[made % candidates.len()], *shard)) }
            }
        }
    }
}

impl Attempts {
    fn new() -> Self {
        Self { dialling: false, not_before: None, backoff: Backoff::new(FLOOR, CEILING), made: 0 }
    }
}

#[cfg(test)]
mod tests;
