use std::sync::Arc;
use std::sync::atomic::Ordering;

use figspan_model::snapshot::publication;
use figspan_model::state::Book;
use figspan_proto::admin::Override;
use figspan_proto::control::{Health, Protocol, State};
use proptest::prelude::*;

use super::settle::Settled;
use super::*;
use crate::publish::Publication;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn agent(name: &str) -> AgentName {
    name.parse().unwrap()
}

fn name(name: &str) -> UplinkName {
    name.parse().unwrap()
}

fn state(uplink: &str, health: Health) -> State {
    State { name: name(uplink), health, reason: String::new(), open_connections: 1 }
}

fn uplink(uplink: &str, weight: u32, health: Health) -> control::Uplink {
    control::Uplink { name: name(uplink), weight: weight.try_into().unwrap(), protocol: Protocol::Http1, state: state(uplink, health) }
}

fn word(weight: u32) -> Option<Override> {
    Some(Override { sessions_until: None, weight: weight.try_into().unwrap(), who: "ann".into(), reason: "test".into(), at: "now".into() })
}

/// A registry that knows agents `a` and `b`, which may advertise `m` and `orders-*`.
fn registry() -> Registry {
    let allowed = || Allowed { uplinks: vec!["m".parse().unwrap(), "orders-*".parse().unwrap()], services: vec![] };
    Registry::new(Overrides::default(), [(agent("a"), allowed()), (agent("b"), allowed())].into_iter())
}

fn open(registry: &mut Registry, id: TunnelId, of: &str, instance: &str, shard: usize, uplinks: Vec<control::Uplink>) -> Closing {
    registry.opened(id, &agent(of), shard, at(1000), at(0)).unwrap();
    registry.hello(id, instance.into(), "test 1".into(), 0, None);
    registry.list(id, uplinks, at(0))
}

fn parts(settled: &Settled, uplink: &str) -> UplinkParts {
    let found = settled.changed.iter().find(|(changed, _)| changed == &name(uplink));
    found.expect("it changed").1.clone().expect("it is there")
}

#[test]
fn one_agents_tunnels_are_one_endpoint() {
    let mut registry = registry();
    open(&mut registry, 1, "a", "i", 0, vec![uplink("m", 50, Health::Ready)]);
    open(&mut registry, 2, "a", "i", 1, vec![uplink("m", 50, Health::Ready)]);
    open(&mut registry, 3, "b", "i", 0, vec![uplink("m", 70, Health::Down)]);
    let parts = parts(&registry.settle(), "m");
    assert_eq!(parts.weight.get(), 70);
    assert_eq!(parts.endpoints[0].tunnels, [1, 2]);
    assert!(parts.endpoints[0].accepts());
    assert_eq!((parts.endpoints[1].ready, parts.endpoints[1].reason.as_str()), (false, "the workload is down"));
    assert!(registry.settle().changed.is_empty());
}

#[test]
fn a_dead_tunnel_withdraws_what_it_brought() {
    let mut registry = registry();
    open(&mut registry, 1, "a", "i", 0, vec![uplink("m", 50, Health::Ready)]);
    registry.settle();
    assert!(registry.closed(1, at(1)) && !registry.closed(1, at(1)));
    assert_eq!(registry.settle().changed, [(name("m"), None)]);
    assert_eq!(registry.askable(&name("m")), [(agent("a"), vec![])].into(), "it may still have connections");
    assert!(registry.tick(at(20), |_, _| true).is_empty());
    assert!(registry.uplinks().contains_key("m"), "something is under way");
    registry.tick(at(20), |_, _| false);
    assert!(registry.uplinks().is_empty());
}

#[test]
fn names_outside_the_grant_are_refused_and_never_published() {
    let mut registry = registry();
    open(&mut registry, 1, "a", "i", 0, vec![uplink("foreign", 50, Health::Ready), uplink("orders-v2", 50, Health::Ready)]);
    open(&mut registry, 2, "stranger", "i", 0, vec![uplink("m", 50, Health::Ready)]);
    let settled = registry.settle();
    assert_eq!(settled.changed.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["orders-v2"]);
    let refused = |id| settled.verdicts[&id].iter().filter_map(|verdict| verdict.refused.as_deref()).collect::<Vec<_>>();
    assert_eq!(refused(1), ["the agent's grant allows m, orders-*; join again with a grant for foreign"]);
    assert_eq!(refused(2), ["this hub knows no grant of the agent; join again"]);
    assert_eq!(settled.notes.iter().filter(|note| note.kind == "refused").count(), 2);

    registry.joined(&agent("a"), Allowed { uplinks: vec!["*".parse().unwrap()], services: vec![] });
    assert!(parts(&registry.settle(), "foreign").endpoints[0].accepts(), "a new grant counts at once");
}

#[test]
fn whoever_speaks_another_protocol_than_the_first_is_refused_until_the_first_is_gone() {
    let mut registry = registry();
    let tcp = || control::Uplink { protocol: Protocol::Tcp, ..uplink("m", 50, Health::Ready) };
    open(&mut registry, 1, "b", "i", 0, vec![uplink("m", 50, Health::Ready)]);
    open(&mut registry, 2, "a", "i", 0, vec![tcp()]);
    let settled = registry.settle();
    assert_eq!(parts(&settled, "m").endpoints.len(), 1);
    assert!(settled.verdicts[&2][0].refused.as_ref().unwrap().contains("declared as tcp"));
    registry.closed(1, at(1));
    let settled = registry.settle();
    assert_eq!((parts(&settled, "m").protocol, settled.verdicts[&2][0].refused.as_ref()), (Protocol::Tcp, None));
}

#[test]
fn during_an_upgrade_the_process_that_is_ready_serves() {
    let mut registry = registry();
    open(&mut registry, 1, "a", "old", 0, vec![uplink("m", 50, Health::Ready)]);
    registry.settle();
    open(&mut registry, 2, "a", "new", 0, vec![uplink("m", 60, Health::Unknown)]);
    let endpoint = parts(&registry.settle(), "m").endpoints.remove(0);
    assert_eq!((endpoint.tunnels.as_slice(), endpoint.ready, endpoint.weight.get()), ([1].as_slice(), true, 60));

    registry.states(2, vec![state("m", Health::Ready)], at(1));
    assert_eq!(parts(&registry.settle(), "m").endpoints[0].tunnels, [1, 2]);
    registry.draining(1);
    assert_eq!(parts(&registry.settle(), "m").endpoints[0].tunnels, [2]);
    assert_eq!(registry.askable(&name("m"))[&agent("a")].len(), 2, "both processes count");
    assert_eq!(registry.open_connections(&name("m"), &agent("a")), 2);
    registry.closed(1, at(2));
    assert!(registry.settle().changed.is_empty());
}

#[test]
fn the_newest_process_says_in_which_zone_an_agent_is() {
    let mut registry = registry();
    let zone = |registry: &mut Registry| parts(&registry.settle(), "m").endpoints.remove(0).zone;
    let speak = |registry: &mut Registry, id, instance: &str, zone: Option<&str>| {
        registry.opened(id, &agent("a"), 0, at(1000), at(0)).unwrap();
        registry.hello(id, instance.into(), "test 1".into(), 0, zone.map(|zone| zone.parse().unwrap()));
        registry.list(id, vec![uplink("m", 50, Health::Ready)], at(0));
    };
    speak(&mut registry, 1, "i", Some("eu-1a"));
    assert_eq!(zone(&mut registry), Some("eu-1a".parse().unwrap()));
    speak(&mut registry, 2, "j", Some("eu-1b"));
    assert_eq!(zone(&mut registry), Some("eu-1b".parse().unwrap()), "the VM was moved, or its file corrected");
    speak(&mut registry, 3, "k", None);
    assert_eq!(zone(&mut registry), None);
}

#[test]
fn a_newer_tunnel_takes_the_older_ones_place_once_it_has_listed() {
    let mut registry = registry();
    open(&mut registry, 1, "a", "i", 0, vec![uplink("m", 50, Health::Ready)]);
    registry.opened(2, &agent("a"), 0, at(1000), at(0)).unwrap();
    registry.hello(2, "i".into(), "test 1".into(), 0, None);
    registry.settle();
    assert_eq!(registry.list(2, vec![uplink("m", 50, Health::Ready)], at(1)), [(1, Close::Replaced)]);
    assert!(open(&mut registry, 3, "a", "i", 1, Vec::new()).is_empty(), "another shard");
    assert!(open(&mut registry, 4, "a", "j", 0, Vec::new()).is_empty(), "another process");
}

#[test]
fn a_silent_tunnel_is_left_out_until_it_speaks() {
    let mut registry = registry();
    open(&mut registry, 1, "a", "i", 0, vec![uplink("m", 50, Health::Ready)]);
    registry.silent(1, true);
    let endpoint = parts(&registry.settle(), "m").endpoints.remove(0);
    assert_eq!((endpoint.accepts(), endpoint.reason.as_str()), (false, "the agent is silent"));
    registry.silent(1, false);
    assert!(parts(&registry.settle(), "m").endpoints[0].accepts());
}

#[test]
fn limits_hold() {
    let mut registry = registry();
    for id in 0..MAX_TUNNELS as u64 {
        registry.opened(id, &agent("a"), 0, at(1000), at(0)).unwrap();
    }
    assert!(registry.opened(100, &agent("a"), 0, at(1000), at(0)).is_err());
    for number in 0..MAX_UPLINKS {
        registry.upsert(1, uplink(&format!("u{number}"), 1, Health::Ready), at(0)).unwrap();
    }
    assert!(registry.upsert(1, uplink("one-more", 1, Health::Ready), at(0)).is_err());
    assert!(registry.upsert(1, uplink("u0", 2, Health::Ready), at(0)).is_ok());
}

#[test]
fn a_tunnel_ends_with_its_certificate_unless_that_was_renewed() {
    let mut registry = registry();
    open(&mut registry, 1, "a", "i", 0, Vec::new());
    open(&mut registry, 2, "a", "i", 1, Vec::new());
    open(&mut registry, 3, "b", "i", 0, Vec::new());
    registry.renewed(2, at(5000));
    assert!(registry.tick(at(1060), |_, _| false).is_empty());
    assert_eq!(registry.tick(at(1061), |_, _| false), [(3, Close::Identity)]);
    assert_eq!(registry.tick(at(5061), |_, _| false).len(), 3);
}

#[derive(Debug, Clone)]
enum Op {
    Open { of: usize, shard: usize, instance: usize },
    List { tunnel: usize, uplinks: Vec<(usize, u32, bool, bool)> },
    Upsert { tunnel: usize, uplink: (usize, u32, bool, bool) },
    Withdraw { tunnel: usize, uplink: usize },
    State { tunnel: usize, uplink: usize, ready: bool },
    Drain { tunnel: usize },
    Silent { tunnel: usize, silent: bool },
    Close { tunnel: usize },
    Override { uplink: usize, of: Option<usize>, weight: Option<u32> },
    Settle,
}

const AGENTS: [&str; 3] = ["a", "b", "stranger"];
const UPLINKS: [&str; 3] = ["m", "orders-v2", "foreign"];

fn ops() -> impl Strategy<Value = Op> {
    let uplink = || (0..3usize, 0..3u32, any::<bool>(), prop::bool::weighted(0.8));
    let tunnel = || 0..12usize;
    prop_oneof![
        3 => (0..3usize, 0..2usize, 0..2usize).prop_map(|(of, shard, instance)| Op::Open { of, shard, instance }),
        4 => (tunnel(), prop::collection::vec(uplink(), 0..4)).prop_map(|(tunnel, uplinks)| Op::List { tunnel, uplinks }),
        2 => (tunnel(), uplink()).prop_map(|(tunnel, uplink)| Op::Upsert { tunnel, uplink }),
        2 => (tunnel(), 0..3usize).prop_map(|(tunnel, uplink)| Op::Withdraw { tunnel, uplink }),
        2 => (tunnel(), 0..3usize, any::<bool>()).prop_map(|(tunnel, uplink, ready)| Op::State { tunnel, uplink, ready }),
        1 => tunnel().prop_map(|tunnel| Op::Drain { tunnel }),
        1 => (tunnel(), any::<bool>()).prop_map(|(tunnel, silent)| Op::Silent { tunnel, silent }),
        2 => tunnel().prop_map(|tunnel| Op::Close { tunnel }),
        2 => (0..3usize, prop::option::of(0..3usize), prop::option::of(0..3u32))
            .prop_map(|(uplink, of, weight)| Op::Override { uplink, of, weight }),
        3 => Just(Op::Settle),
    ]
}

fn advert((index, weight, ready, http): (usize, u32, bool, bool)) -> control::Uplink {
    let health = if ready { Health::Ready } else { Health::Down };
    let protocol = if http { Protocol::Http1 } else { Protocol::Tcp };
    control::Uplink { protocol, ..uplink(UPLINKS[index], weight, health) }
}

fn apply(registry: &mut Registry, live: &mut Vec<TunnelId>, next: &mut TunnelId, op: Op) {
    let pick = |live: &[TunnelId], index: usize| live.get(index % live.len().max(1)).copied().unwrap_or(0);
    match op {
        Op::Open { of, shard, instance } => {
            *next += 1;
            if registry.opened(*next, &agent(AGENTS[of]), shard, at(1000), at(0)).is_ok() {
                registry.hello(*next, format!("i{instance}"), String::new(), 0, None);
                live.push(*next);
            }
        }
        Op::List { tunnel, uplinks } => {
            let mut seen = BTreeSet::new();
            let uplinks = uplinks.into_iter().filter(|uplink| seen.insert(uplink.0)).map(advert).collect();
            for (id, _) in registry.list(pick(live, tunnel), uplinks, at(0)) {
                registry.closed(id, at(0));
                live.retain(|&other| other != id);
            }
        }
        Op::Upsert { tunnel, uplink } => registry.upsert(pick(live, tunnel), advert(uplink), at(0)).unwrap(),
        Op::Withdraw { tunnel, uplink } => registry.withdraw(pick(live, tunnel), &name(UPLINKS[uplink]), at(0)),
        Op::State { tunnel, uplink, ready } => {
            let health = if ready { Health::Ready } else { Health::Unknown };
            registry.states(pick(live, tunnel), vec![state(UPLINKS[uplink], health)], at(0));
        }
        Op::Drain { tunnel } => registry.draining(pick(live, tunnel)),
        Op::Silent { tunnel, silent } => registry.silent(pick(live, tunnel), silent),
        Op::Close { tunnel } => {
            let id = pick(live, tunnel);
            registry.closed(id, at(0));
            live.retain(|&other| other != id);
        }
        Op::Override { uplink, of, weight } => {
            let mut overrides = registry.overrides().clone();
            overrides.set(&name(UPLINKS[uplink]), of.map(|of| agent(AGENTS[of])).as_ref(), weight.and_then(word), None);
            registry.set_overrides(overrides, &name(UPLINKS[uplink]));
        }
        Op::Settle => {}
    }
}

/// What must hold of everything published, whatever came before.
fn check(registry: &Registry, published: &BTreeMap<UplinkName, UplinkParts>, live: &[TunnelId], publication: &Publication) {
    assert_eq!(registry.connected(), registry.agents().values().filter(|agent| !agent.tunnels.is_empty()).count());
    for (uplink, parts) in published {
        assert!(!parts.endpoints.is_empty() && parts.endpoints.is_sorted_by(|a, b| a.agent < b.agent));
        assert_eq!(parts.draining, registry.overrides().drains(uplink));
        for endpoint in &parts.endpoints {
            assert!(registry.agents()[&endpoint.agent].may_advertise(uplink), "{uplink} on {}", endpoint.agent);
            let speaks = |id: &TunnelId| {
                let tunnel = registry.tunnel(*id).unwrap();
                tunnel.agent == endpoint.agent && tunnel.adverts.get(uplink).is_some_and(|advert| advert.uplink.protocol == parts.protocol)
            };
            assert!(live.iter().any(speaks), "an endpoint without a live tunnel");
            for id in &endpoint.tunnels {
                assert!(live.contains(id) && speaks(id), "tunnel {id} is not one of the endpoint's");
                assert!(registry.tunnel(*id).unwrap().takes_new());
            }
            assert_eq!(endpoint.ready, endpoint.reason.is_empty());
            let state = publication.state(uplink, &endpoint.agent);
            let takes = !parts.draining && !endpoint.weight.is_zero() && !endpoint.tunnels.is_empty();
            assert_eq!(state.draining.load(Ordering::Acquire), !takes);
        }
        // Nobody who may and does is left out.
        for id in live {
            let tunnel = registry.tunnel(*id).unwrap();
            let does = tunnel.adverts.get(uplink).is_some_and(|advert| advert.uplink.protocol == parts.protocol);
            if does && registry.agents()[&tunnel.agent].may_advertise(uplink) {
                assert!(parts.endpoint(&tunnel.agent).is_some());
            }
        }
    }
    for uplink in UPLINKS.map(name) {
        for of in AGENTS.map(agent) {
            if published.get(&uplink).and_then(|parts| parts.endpoint(&of)).is_none() {
                let state = publication.state(&uplink, &of);
                assert!(state.draining.load(Ordering::Acquire) || state.picked.sum() == 0);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_only_live_tunnels_of_agents_that_may_are_published(ops in prop::collection::vec(ops(), 1..60)) {
        let mut registry = registry();
        let (publisher, _reader) = publication();
        let mut publication = Publication::new(publisher, Book::new(1), Arc::default());
        let (mut live, mut next, mut published) = (Vec::new(), 0, BTreeMap::new());
        for op in ops.into_iter().chain([Op::Settle]) {
            let settle = matches!(op, Op::Settle);
            apply(&mut registry, &mut live, &mut next, op);
            if settle {
                let settled = registry.settle();
                for (name, parts) in settled.changed.clone() {
                    // Marks whoever was ever published, so that a flag left behind is seen.
                    for endpoint in parts.iter().flat_map(|parts| &parts.endpoints) {
                        publication.state(&name, &endpoint.agent).picked.add(0, 1);
                    }
                    match parts {
                        Some(parts) => drop(published.insert(name, parts)),
                        None => drop(published.remove(&name)),
                    }
                }
                publication.publish(settled.changed, |_| None);
                check(&registry, &published, &live, &publication);
                prop_assert!(!registry.is_dirty());
                prop_assert!(settled.verdicts.keys().all(|id| live.contains(id)));
            }
        }
    }
}
