//! The agent's record of its uplinks: what probe writes, advertise reads, and receive looks up.
//!
//! Data and control meet here and nowhere else. The data path looks an uplink up in an immutable map (no lock) and counts
//! in atomics; the control path keeps one [`Advertisement`], from which each tunnel works out by itself what its hub has
//! not heard yet. However often something changes, only the newest state is held.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use figspan_proto::control::{Health, Protocol, Verdict};
use figspan_proto::name::{ReplicaId, UplinkName};
use figspan_proto::reset::Reason;
use figspan_proto::weight::Weight;
use tokio::sync::watch;

use crate::settings;

/// Most names of withdrawn uplinks that are remembered; a hub that missed more gets them with its next full list.
const MAX_WITHDRAWN: usize = 1024;

/// One uplink as the data path sees it.
#[derive(Debug)]
pub struct Uplink {
    /// What the operator's file says.
    pub settings: settings::Uplink,
    /// Counters, which outlive every reload.
    pub counts: Arc<Counts>,
}

/// What is counted for an uplink's name, however often its settings change.
#[derive(Debug, Default)]
pub struct Counts {
    open: AtomicU64,
    /// Streams taken on.
    pub streams: AtomicU64,
    /// Bytes from the hub to the workload.
    pub to_workload: AtomicU64,
    /// Bytes from the workload to the hub.
    pub from_workload: AtomicU64,
    failed: [AtomicU64; Reason::ALL.len()],
}

impl Counts {
    /// Takes one of `limit` places; `None` when all are taken.
    pub fn enter(self: &Arc<Self>, limit: u64) -> Option<Open> {
        self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| (open < limit).then_some(open + 1)).ok()?;
        Some(Open(Arc::clone(self)))
    }

    /// Connections open to the workload, those that are still connecting included.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Acquire)
    }

    /// Counts a stream that ended early.
    pub fn fail(&self, reason: Reason) {
        self.failed[usize::from(reason.code())].fetch_add(1, Ordering::Relaxed);
    }

    /// Streams that ended early, by reason; those that never happened are left out.
    pub fn failures(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        let count = |reason: &Reason| (*reason, self.failed[usize::from(reason.code())].load(Ordering::Relaxed));
        Reason::ALL.iter().map(count).filter(|(_, count)| *count > 0)
    }
}

/// A place taken; dropped, it is free again.
#[derive(Debug)]
pub struct Open(Arc<Counts>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What the hubs shall know. Each entry carries the generation of its last change, so that all tunnels number alike.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Advertisement {
    /// Grows with each uplink that is new, changed or gone.
    pub generation: u64,
    /// What is offered.
    pub entries: BTreeMap<UplinkName, Entry>,
    /// What was offered once, and when it was withdrawn.
    pub withdrawn: BTreeMap<UplinkName, u64>,
}

/// One uplink as the hubs shall know it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// When weight or protocol last changed.
    pub generation: u64,
    /// Its weight.
    pub weight: Weight,
    /// What it speaks.
    pub protocol: Protocol,
    /// The probe's verdict.
    pub health: Health,
    /// Why it is down.
    pub reason: String,
}

/// What a reload did to the uplinks.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// New ones.
    pub added: Vec<UplinkName>,
    /// Ones with other settings.
    pub changed: Vec<UplinkName>,
    /// Ones that are no longer offered.
    pub removed: Vec<UplinkName>,
}

/// All uplinks.
#[derive(Debug, Default)]
pub struct Uplinks {
    map: ArcSwap<HashMap<UplinkName, Arc<Uplink>>>,
    advertised: watch::Sender<Arc<Advertisement>>,
    counts: Mutex<HashMap<UplinkName, Arc<Counts>>>,
    verdicts: Mutex<BTreeMap<UplinkName, BTreeMap<ReplicaId, Verdict>>>,
}

impl Uplinks {
    /// Replaces the settings. Streams that run are not touched; health survives where the check and its target stay.
    pub fn apply(&self, wanted: &[settings::Uplink]) -> Changes {
        let old = self.map.load_full();
        let mut changes = Changes::default();
        let mut map = HashMap::new();
        for settings in wanted {
            match old.get(&settings.name) {
                Some(same) if same.settings == *settings => {
                    map.insert(settings.name.clone(), Arc::clone(same));
                    continue;
                }
                Some(_) => changes.changed.push(settings.name.clone()),
                None => changes.added.push(settings.name.clone()),
            }
            let counts = self.counts_of(&settings.name);
            map.insert(settings.name.clone(), Arc::new(Uplink { settings: settings.clone(), counts }));
        }
        changes.removed = old.keys().filter(|name| !map.contains_key(*name)).cloned().collect();
        changes.removed.sort();
        // The data path learns of new uplinks before any hub does, and hubs learn of withdrawals at once.
        let map = Arc::new(map);
        self.map.store(Arc::clone(&map));
        self.advertised.send_modify(|advertised| {
            let advertised = Arc::make_mut(advertised);
            for name in &changes.removed {
                withdraw(advertised, name);
            }
            for settings in wanted {
                upsert(advertised, settings, old.get(&settings.name).map(|old| &old.settings));
            }
        });
        self.lock_counts().retain(|name, counts| map.contains_key(name) || counts.open() > 0);
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| map.contains_key(name));
        changes
    }

    /// The uplink of that name, if it is offered.
    pub fn find(&self, name: &UplinkName) -> Option<Arc<Uplink>> {
        self.map.load().get(name).cloned()
    }

    /// All uplinks, by name.
    pub fn all(&self) -> Vec<Arc<Uplink>> {
        let mut all: Vec<_> = self.map.load().values().cloned().collect();
        all.sort_by(|a, b| a.settings.name.cmp(&b.settings.name));
        all
    }

    /// Connections open for the name, withdrawn or not.
    pub fn open(&self, name: &UplinkName) -> u64 {
        self.lock_counts().get(name).map_or(0, |counts| counts.open())
    }

    /// Notes what the probe found. Returns whether it is news.
    pub fn set_health(&self, name: &UplinkName, health: Health, reason: &str) -> bool {
        self.advertised.send_if_modified(|advertised| match advertised.entries.get(name) {
            Some(entry) if entry.health != health || entry.reason != reason => {
                if let Some(entry) = Arc::make_mut(advertised).entries.get_mut(name) {
                    entry.health = health;
                    entry.reason = reason.to_owned();
                }
                true
            }
            _ => false,
        })
    }

    /// What the hubs shall know, and word of each change.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Advertisement>> {
        self.advertised.subscribe()
    }

    /// What the hubs shall know.
    pub fn advertised(&self) -> Arc<Advertisement> {
        self.advertised.borrow().clone()
    }

    /// Notes what a replica made of an uplink. Returns whether it is news.
    pub fn set_verdict(&self, replica: &ReplicaId, verdict: Verdict) -> bool {
        if self.find(&verdict.uplink).is_none() {
            return false;
        }
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        let of = verdicts.entry(verdict.uplink.clone()).or_default();
        // A directory is bounded, but replica ids over time are not.
        if of.len() >= figspan_proto::control::MAX_REPLICAS && !of.contains_key(replica) {
            of.pop_first();
        }
        of.insert(replica.clone(), verdict.clone()).is_none_or(|old| old != verdict)
    }

    /// What the replicas made of an uplink.
    pub fn verdicts(&self, name: &UplinkName) -> Vec<(ReplicaId, Verdict)> {
        let verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        verdicts.get(name).map(|of| of.iter().map(|(id, verdict)| (id.clone(), verdict.clone())).collect()).unwrap_or_default()
    }

    fn counts_of(&self, name: &UplinkName) -> Arc<Counts> {
        Arc::clone(self.lock_counts().entry(name.clone()).or_default())
    }

    fn lock_counts(&self) -> std::sync::MutexGuard<'_, HashMap<UplinkName, Arc<Counts>>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn withdraw(advertised: &mut Advertisement, name: &UplinkName) {
    if advertised.entries.remove(name).is_some() {
        advertised.generation += 1;
        advertised.withdrawn.insert(name.clone(), advertised.generation);
    }
    while advertised.withdrawn.len() > MAX_WITHDRAWN {
        let oldest = advertised.withdrawn.iter().min_by_key(|(_, generation)| **generation).map(|(name, _)| name.clone());
        oldest.and_then(|name| advertised.withdrawn.remove(&name));
    }
}

fn upsert(advertised: &mut Advertisement, settings: &settings::Uplink, old: Option<&settings::Uplink>) {
    let checked_alike = old.is_some_and(|old| old.address == settings.address && old.health.check == settings.health.check);
    if let Some(entry) = advertised.entries.get_mut(&settings.name) {
        if !checked_alike {
            // A ready workload stays ready until its new check says otherwise: the probe asks at once.
            entry.reason.clear();
        }
        if entry.weight == settings.weight && entry.protocol == settings.protocol {
            return;
        }
    }
    advertised.generation += 1;
    let generation = advertised.generation;
    advertised.withdrawn.remove(&settings.name);
    let entry = advertised.entries.entry(settings.name.clone()).or_insert_with(|| Entry {
        generation,
        weight: settings.weight,
        protocol: settings.protocol,
        health: if settings.health.check == settings::Check::None { Health::Ready } else { Health::Unknown },
        reason: String::new(),
    });
    entry.generation = generation;
    entry.weight = settings.weight;
    entry.protocol = settings.protocol;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uplink(name: &str, weight: u32) -> settings::Uplink {
        let mut uplink = settings::Uplink::new(name.parse().unwrap(), settings::Address::Ip(([127, 0, 0, 1], 1).into()), Protocol::Http1);
        uplink.weight = weight.try_into().unwrap();
        uplink
    }

    #[test]
    fn a_reload_changes_only_what_differs_and_numbers_each_change() {
        let uplinks = Uplinks::default();
        uplinks.apply(&[uplink("a", 1), uplink("b", 1)]);
        assert_eq!(uplinks.advertised().generation, 2);
        let a = uplinks.find(&"a".parse().unwrap()).unwrap();
        let changes = uplinks.apply(&[uplink("a", 1), uplink("b", 5), uplink("c", 1)]);
        let names = |list: &[&str]| list.iter().map(|name| name.parse().unwrap()).collect::<Vec<UplinkName>>();
        assert_eq!(changes, Changes { added: names(&["c"]), changed: names(&["b"]), removed: vec![] });
        assert!(Arc::ptr_eq(&a, &uplinks.find(&"a".parse().unwrap()).unwrap()));
        assert_eq!(uplinks.advertised().generation, 4);
        assert_eq!(uplinks.apply(&[]).removed, names(&["a", "b", "c"]));
        assert_eq!((uplinks.advertised().generation, uplinks.advertised().withdrawn.len()), (7, 3));
    }

    #[test]
    fn connections_of_a_withdrawn_uplink_still_count_and_counts_survive_its_return() {
        let uplinks = Uplinks::default();
        let name: UplinkName = "a".parse().unwrap();
        uplinks.apply(&[uplink("a", 1)]);
        let open = uplinks.find(&name).unwrap().counts.enter(10).unwrap();
        uplinks.apply(&[]);
        assert_eq!(uplinks.open(&name), 1);
        uplinks.apply(&[uplink("a", 1)]);
        assert_eq!(uplinks.find(&name).unwrap().counts.open(), 1);
        drop(open);
        assert_eq!(uplinks.open(&name), 0);
    }

    #[test]
    fn health_survives_a_change_of_weight() {
        let uplinks = Uplinks::default();
        let name: UplinkName = "a".parse().unwrap();
        uplinks.apply(&[uplink("a", 1)]);
        assert!(uplinks.set_health(&name, Health::Ready, ""));
        assert!(!uplinks.set_health(&name, Health::Ready, ""));
        uplinks.apply(&[uplink("a", 9)]);
        let entry = uplinks.advertised().entries[&name].clone();
        assert_eq!((entry.health, entry.weight.get()), (Health::Ready, 9));
    }

    #[test]
    fn no_more_places_are_given_than_there_are() {
        let counts = Arc::new(Counts::default());
        let taken: Vec<_> = (0..3).filter_map(|_| counts.enter(2)).collect();
        assert_eq!((taken.len(), counts.open()), (2, 2));
        drop(taken);
        assert!(counts.enter(1).is_some());
    }
}
