use std::time::Instant;

use figspan_proto::admin::{CreateGrant, ResetWeight, Revoke, SetWeight};
use figspan_proto::control::{FromAgent, FromHub, Health};
use figspan_proto::weight::Weight;
use figspan_tunnel::hub::{HubConfig, HubEndpoint, bind_shards};

use super::*;
use crate::testing::{Agent, Ahead, Hub, config, eventually, name, turned_away, uplink};

fn revoke() -> Revoke {
    Revoke { reason: "test".into(), dry_run: false }
}

#[tokio::test]
async fn from_advertise_to_snapshot_takes_less_than_100_ms_and_the_agent_hears_the_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(dir.path());
    let mut agent = hub.agent("vm-1", &["monolith"]).await;
    let FromHub::Hello(hello) = agent.hear().await else { panic!("the hello comes first") };
    assert_eq!((hello.replica.as_str(), hello.shard, hello.shards), ("hub-0", 0, 1));
    let FromHub::Directory(replicas) = agent.hear().await else { panic!("then the directory") };
    assert_eq!(replicas.len(), 1);
    let FromHub::Trust(roots) = agent.hear().await else { panic!("then the roots") };
    assert_eq!(roots, hub.control.credentials().roots().to_der());

    let start = Instant::now();
    agent.list(vec![uplink("monolith"), uplink("foreign")]).await;
    eventually("published", async || hub.accepts("monolith", "vm-1")).await;
    assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());

    let verdicts = agent.verdicts().await;
    let of = |name: &str| verdicts.iter().find(|verdict| verdict.uplink.as_str() == name).unwrap();
    assert_eq!((of("monolith").refused.as_ref(), of("monolith").weight), (None, Weight::DEFAULT));
    assert!(of("foreign").refused.is_some());
    assert!(hub.reader.load().uplinks.get("foreign").is_none());

    let seen = hub.control.agent(&name("vm-1")).await.unwrap();
    assert!(seen.connected && seen.tunnels.len() == 1 && seen.instances == ["instance-1"]);
    assert_eq!(seen.refused[0].uplink.as_str(), "foreign");
    assert!(seen.clock_skew_ms.unwrap().abs() < 1000);
    assert!(hub.control.events(0, 100).iter().any(|event| event.kind == "refused" && event.subject == "foreign"));
    assert_eq!(hub.control.uplinks().await.unwrap().len(), 1);
    hub.stop().await;
}

#[tokio::test]
async fn a_tunnel_that_dies_withdraws_at_once_and_changes_follow_what_the_agent_says() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(dir.path());
    let agent = hub.agent("vm-1", &["*"]).await;
    agent.list(vec![uplink("a"), uplink("b")]).await;
    eventually("listed", async || hub.accepts("a", "vm-1") && hub.accepts("b", "vm-1")).await;
    agent.say.send(FromAgent::Withdraw { generation: 2, uplink: name("a") }).await.unwrap();
    agent.say.send(FromAgent::Upsert { generation: 3, uplink: uplink("c") }).await.unwrap();
    let mut down = uplink("b").state;
    (down.health, down.reason) = (Health::Down, "connection refused".into());
    agent.say.send(FromAgent::States(vec![down])).await.unwrap();
    eventually("changed", async || !hub.accepts("a", "vm-1") && hub.accepts("c", "vm-1") && !hub.accepts("b", "vm-1")).await;
    let seen = hub.control.uplink(&name("b")).await.unwrap();
    assert_eq!(seen.endpoints[0].reason, "the workload is down: connection refused");

    agent.tunnel.close(Close::Done);
    let took = eventually("withdrawn", async || hub.reader.load().uplinks.is_empty()).await;
    assert!(took < Duration::from_millis(100), "{took:?}");
    hub.stop().await;
}

#[tokio::test]
async fn a_version_that_the_hub_does_not_know_closes_the_tunnel_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(dir.path());
    let credentials = hub.joined("vm-1", &["*"]).await;
    let agent = Agent::connect(&hub, &credentials, "i", 99).await;
    assert_eq!(agent.closed().await, Some(Close::Version));
    eventually("noted", async || hub.control.events(0, 100).iter().any(|event| event.message.contains("speaks version 99"))).await;
    hub.stop().await;
}

#[tokio::test]
async fn what_breaks_the_protocol_closes_that_tunnel_alone() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(dir.path());
    let good = hub.agent("good", &["*"]).await;
    good.list(vec![uplink("a")]).await;
    let bad = hub.agent("bad", &["*"]).await;
    bad.list(vec![uplink("a"), uplink("a")]).await;
    assert_eq!(bad.closed().await, Some(Close::Protocol));
    eventually("still there", async || hub.accepts("a", "good")).await;
    assert!(!good.tunnel.is_closed());
    hub.stop().await;
}

#[tokio::test]
async fn a_flood_is_held_back_and_then_the_tunnel_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let pace = Pace { burst: 50, per_second: 20, patience: Duration::from_millis(300) };
    let hub = Hub::start_with(dir.path(), pace, &Ahead::default());
    let agent = hub.agent("vm-1", &["*"]).await;
    agent.list(vec![uplink("a")]).await;
    eventually("listed", async || hub.accepts("a", "vm-1")).await;
    let before = hub.reader.load().generation;
    let mut generation = 1;
    while !agent.tunnel.is_closed() {
        generation += 1;
        let mut flapping = uplink("a");
        flapping.weight = u32::try_from(generation % 100).unwrap().try_into().unwrap();
        let said = agent.say.send(FromAgent::Upsert { generation, uplink: flapping });
        if tokio::time::timeout(Duration::from_secs(5), said).await.is_ok_and(|sent| sent.is_err()) {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(agent.closed().await, Some(Close::Protocol));
    assert!(generation > 60, "{generation}");
    assert!(hub.reader.load().generation - before < 80, "no more publications than the pace allows");
    eventually("noted", async || hub.control.events(0, 1000).iter().any(|event| event.message.contains("entries a second"))).await;
    hub.stop().await;
}

#[tokio::test]
async fn a_revoked_agent_is_cut_within_a_second_and_stays_out_until_a_new_grant() {
    let dir = tempfile::tempdir().unwrap();
    let ahead = Ahead::default();
    let hub = Hub::start_with(dir.path(), Pace::default(), &ahead);
    let credentials = hub.joined("vm-1", &["*"]).await;
    let agent = Agent::connect(&hub, &credentials, "i", 1).await;
    agent.list(vec![uplink("a")]).await;
    eventually("listed", async || hub.accepts("a", "vm-1")).await;

    let vm: AgentName = name("vm-1");
    let trial = hub.control.revoke_agent(&vm, Revoke { dry_run: true, ..revoke() }, "ann").await.unwrap();
    assert_eq!((trial.tunnels_closed, agent.tunnel.is_closed()), (1, false));
    let start = Instant::now();
    assert_eq!(hub.control.revoke_agent(&vm, revoke(), "ann").await.unwrap().tunnels_closed, 1);
    assert_eq!(agent.closed().await, Some(Close::Revoked));
    assert!(start.elapsed() < Duration::from_secs(1) && !hub.accepts("a", "vm-1"));

    assert_eq!(turned_away(&hub, &credentials).await, Some(Close::Revoked));
    assert!(hub.control.agent(&vm).await.unwrap().revoked);
    assert_eq!(hub.control.revoke_agent(&name("nobody"), revoke(), "ann").await.unwrap_err().status, 404);

    // Another process on the same state directory remembers.
    hub.stop().await;
    let hub = Hub::start_with(dir.path(), Pace::default(), &ahead);
    assert_eq!(turned_away(&hub, &credentials).await, Some(Close::Revoked));

    ahead.set(Duration::from_secs(2));
    let fresh = Agent::connect(&hub, &hub.joined("vm-1", &["*"]).await, "l", 1).await;
    fresh.list(vec![uplink("a")]).await;
    eventually("back", async || hub.accepts("a", "vm-1")).await;
    assert_eq!(turned_away(&hub, &credentials).await, Some(Close::Revoked), "the certificate from before stays refused");
    assert!(!fresh.tunnel.is_closed());
    hub.stop().await;
}

#[tokio::test]
async fn drained_is_false_until_every_count_is_zero_and_then_true() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(dir.path());
    let agent = hub.agent("vm-1", &["*"]).await;
    agent.list(vec![uplink("a")]).await;
    eventually("listed", async || hub.accepts("a", "vm-1")).await;
    let a: UplinkName = name("a");
    let verdict = async || hub.control.drain_verdict(&a, None).await.unwrap();

    assert_eq!(verdict().await.waiting_for, ["a weight of 0: drain it first"]);
    let state = hub.book.endpoint("uplink/a/vm-1");
    state.in_flight.add(0, 1);
    state.pooled.add(0, 1);
    agent.open_connections.store(2, std::sync::atomic::Ordering::Relaxed);
    let change = hub.set_weight("a", None, 0).await;
    assert_eq!((change.old, change.new, change.confirmed.as_slice()), (Weight::DEFAULT, Weight::ZERO, ["hub-0".to_owned()].as_slice()));
    assert!(hub.reader.load().uplinks["a"].draining);
    assert!(state.draining.load(std::sync::atomic::Ordering::Acquire));

    let busy = verdict().await;
    assert!(!busy.drained && busy.weight_is_zero && busy.in_flight == 1 && busy.pooled == 1);
    assert_eq!(busy.agents[0].open_connections, None, "nobody is asked while the hub itself knows better");
    state.in_flight.sub(0, 1);
    assert!(!verdict().await.drained);
    state.pooled.sub(0, 1);
    let counted = verdict().await;
    assert_eq!((counted.drained, counted.agents[0].open_connections), (false, Some(2)));
    agent.answers.store(false, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(verdict().await.waiting_for, ["agent vm-1 to count its connections"]);
    agent.answers.store(true, std::sync::atomic::Ordering::Relaxed);
    agent.open_connections.store(0, std::sync::atomic::Ordering::Relaxed);
    let drained = verdict().await;
    assert!(drained.drained && drained.waiting_for.is_empty(), "{drained:?}");
    assert_eq!(drained.confirmed, ["hub-0"]);

    let reset = ResetWeight { agent: None, reason: "back".into(), dry_run: false };
    assert_eq!(hub.control.reset_weight(&a, reset, "ann").await.unwrap().new, Weight::DEFAULT);
    assert!(hub.accepts("a", "vm-1") && !state.draining.load(std::sync::atomic::Ordering::Acquire));
    assert!(!verdict().await.drained);
    assert_eq!(hub.control.drain_verdict(&name("nothing"), None).await.unwrap_err().status, 404);
    hub.stop().await;
}

#[tokio::test]
async fn nothing_is_drained_before_every_shard_works_with_the_weight() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(dir.path());
    let agent = hub.agent("vm-1", &["*"]).await;
    agent.list(vec![uplink("a")]).await;
    eventually("listed", async || hub.accepts("a", "vm-1")).await;
    hub.follows.store(false, std::sync::atomic::Ordering::Relaxed);
    // The last look of the fake shard may still be under way.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let change = hub.set_weight("a", Some("vm-1"), 0).await;
    assert!(change.confirmed.is_empty());
    let (a, vm) = (name("a"), name("vm-1"));
    let verdict = hub.control.drain_verdict(&a, Some(&vm)).await.unwrap();
    assert_eq!((verdict.drained, verdict.weight_is_zero), (false, true));
    assert_eq!(verdict.waiting_for, ["every shard to work with the weight"]);
    hub.follows.store(true, std::sync::atomic::Ordering::Relaxed);
    eventually("drained", async || hub.control.drain_verdict(&a, Some(&vm)).await.unwrap().drained).await;
    hub.stop().await;
}

#[tokio::test]
async fn an_agent_that_has_just_gone_keeps_its_uplink_from_being_called_drained() {
    let dir = tempfile::tempdir().unwrap();
    let ahead = Ahead::default();
    let hub = Hub::start_with(dir.path(), Pace::default(), &ahead);
    let agent = hub.agent("vm-1", &["*"]).await;
    agent.list(vec![uplink("a")]).await;
    eventually("listed", async || hub.accepts("a", "vm-1")).await;
    hub.set_weight("a", None, 0).await;
    let a: UplinkName = name("a");
    assert!(hub.control.drain_verdict(&a, None).await.unwrap().drained);
    drop(agent);
    eventually("gone", async || hub.reader.load().uplinks.is_empty()).await;
    let verdict = hub.control.drain_verdict(&a, None).await.unwrap();
    assert!(!verdict.drained && verdict.waiting_for[0].contains("which is away"), "{verdict:?}");
    assert_eq!(hub.control.uplink(&a).await.unwrap().endpoints[0].reason, "the agent is away");
    ahead.set(Duration::from_secs(16));
    eventually("drained", async || hub.control.drain_verdict(&a, None).await.unwrap().drained).await;
    hub.stop().await;
}

#[tokio::test]
async fn overrides_and_the_audit_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(dir.path());
    let credentials = hub.joined("vm-1", &["*"]).await;
    let agent = Agent::connect(&hub, &credentials, "i", 1).await;
    agent.list(vec![uplink("a")]).await;
    eventually("listed", async || hub.accepts("a", "vm-1")).await;
    let trial = SetWeight { sessions_seconds: None, weight: Weight::ZERO, agent: None, reason: "try".into(), dry_run: true };
    let trial = hub.control.set_weight(&name("a"), trial, "ann").await.unwrap();
    assert_eq!((trial.old, trial.new, trial.generation), (Weight::DEFAULT, Weight::ZERO, None));
    assert!(hub.accepts("a", "vm-1"));
    hub.set_weight("a", None, 25).await;
    hub.set_weight("a", Some("vm-1"), 7).await;
    let key = hub.control.reset_key();
    drop(agent);
    hub.stop().await;

    let hub = Hub::start(dir.path());
    assert_eq!(hub.control.reset_key(), key);
    assert!(!hub.control.ready().ready, "it waits for vm-1");
    let seen = hub.control.uplink(&name("a")).await.unwrap();
    assert_eq!((seen.weight.get(), seen.weight_override.unwrap().who.as_str()), (25, "ann"), "shown while its agents are away");
    let agent = Agent::connect(&hub, &credentials, "j", 1).await;
    agent.list(vec![uplink("a")]).await;
    eventually("back", async || hub.accepts("a", "vm-1")).await;
    assert!(hub.control.ready().ready);
    let snapshot = hub.reader.load();
    assert_eq!((snapshot.uplinks["a"].weight.get(), snapshot.uplinks["a"].endpoints[0].weight.get()), (25, 7));
    let audit = hub.control.events(0, 1000);
    let weights: Vec<_> =
        audit.iter().filter(|event| event.kind == "weight").map(|event| (event.old.as_deref(), event.new.as_deref())).collect();
    assert_eq!(weights, [(Some("100"), Some("25")), (Some("100"), Some("7"))]);
    hub.stop().await;
}

#[tokio::test]
async fn a_weight_is_on_every_shard_within_50_ms() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(dir.path());
    let agent = hub.agent("vm-1", &["*"]).await;
    agent.list(vec![uplink("a")]).await;
    eventually("listed", async || hub.accepts("a", "vm-1")).await;
    let mut took: Vec<Duration> = Vec::new();
    for round in 0..200 {
        let start = Instant::now();
        let change = hub.set_weight("a", None, 1 + round).await;
        assert!(!change.confirmed.is_empty());
        took.push(start.elapsed());
    }
    took.sort_unstable();
    let (median, p99) = (took[100], took[197]);
    println!("weight to effective: median {median:?}, p99 {p99:?} of 200, with the disk's syncs");
    assert!(p99 < Duration::from_millis(50), "median {median:?}, p99 {p99:?}");
    hub.stop().await;
}

#[tokio::test]
async fn changes_that_make_no_sense_are_refused_and_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(dir.path());
    let change = |agent: Option<&str>, reason: &str| SetWeight {
        sessions_seconds: None,
        weight: Weight::ZERO,
        agent: agent.map(name),
        reason: reason.into(),
        dry_run: false,
    };
    let status = async |uplink: &str, change| hub.control.set_weight(&name(uplink), change, "ann").await.unwrap_err().status;
    assert_eq!(status("typo", change(None, "x")).await, 404);
    let agent = hub.agent("vm-1", &["*"]).await;
    agent.list(vec![uplink("a")]).await;
    eventually("listed", async || hub.accepts("a", "vm-1")).await;
    assert_eq!(status("a", change(None, " ")).await, 422);
    assert_eq!(status("a", change(Some("vm-2"), "x")).await, 404);
    let grant = CreateGrant {
        agent: None,
        name_template: None,
        uplinks: vec![],
        services: vec![],
        ttl_seconds: 1,
        uses: 1,
        hubs: vec!["0.0.0.0:7443".into()],
        dry_run: false,
    };
    assert!(hub.control.create_grant(grant, "ann").await.unwrap_err().detail.contains("tunnel.advertise"));
    assert_eq!(hub.control.revoke_grant("g-none", revoke(), "ann").await.unwrap_err().status, 404);
    hub.stop().await;
}

#[tokio::test]
async fn damaged_state_stops_the_start_with_an_error_that_names_the_file() {
    for file in ["overrides.json", "grants.json", "agents.json", "revoked.json", "ca.json", "reset_key.json"] {
        let dir = tempfile::tempdir().unwrap();
        Hub::start(dir.path()).stop().await;
        std::fs::write(dir.path().join(file), "{\"version\":1,\"da").unwrap();
        let (config, _reader) = config(dir.path(), &Ahead::default());
        let error = Control::start(config).unwrap_err().to_string();
        assert!(error.contains(file) && error.contains("damaged") && error.contains("move it away"), "{error}");
        assert!(std::fs::read_to_string(dir.path().join(file)).unwrap().ends_with("\"da"), "it is left as it was");
    }
}

fn begin(dry_run: bool) -> admin::BeginCaChange {
    admin::BeginCaChange { reason: "drill".into(), dry_run }
}

fn finish(force: bool, dry_run: bool) -> admin::FinishCaChange {
    admin::FinishCaChange { force, reason: "drill".into(), dry_run }
}

#[tokio::test]
async fn a_ca_change_keeps_tunnels_and_agents_hear_of_the_new_root_first() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(dir.path());
    let away = hub.joined("away", &["*"]).await;
    let mut agent = hub.agent("vm-1", &["*"]).await;
    agent.list(vec![uplink("a")]).await;
    eventually("listed", async || hub.accepts("a", "vm-1")).await;
    let old = hub.control.begin_ca_change(begin(false), "ann").await.unwrap().ca;
    assert!(old.changing && !old.safe_to_finish && old.untold.iter().any(|name| name.as_str() == "away"), "{old:?}");
    let states = |ca: &admin::Ca| ca.roots.iter().map(|root| root.state.clone()).collect::<Vec<_>>();
    assert_eq!(states(&old), ["issues", "next"]);
    let roots = loop {
        match agent.hear().await {
            FromHub::Trust(roots) if roots.len() == 2 => break roots,
            _ => {}
        }
    };
    let refused = hub.control.finish_ca_change(finish(false, false), "ann").await.unwrap_err();
    assert!(refused.status == 409 && refused.detail.contains("away"), "{refused}");
    let met = Agent::connect(&hub, &away, "i", 1).await;
    let forced = hub.control.finish_ca_change(finish(true, true), "ann").await.unwrap();
    assert!(forced.dry_run && forced.ca.changing, "{forced:?}");
    eventually("all know", async || hub.control.ca().await.unwrap().safe_to_finish).await;
    let new = hub.control.finish_ca_change(finish(false, false), "ann").await.unwrap().ca;
    assert_eq!((&new.roots[0].pin, &new.roots[1].pin), (&old.roots[1].pin, &old.roots[0].pin));
    assert!(states(&new) == ["issues", "old"] && new.roots[1].until.is_some(), "{new:?}");
    assert!(new.untold.is_empty(), "whoever was told before knows both roots: {new:?}");
    assert_eq!(new.on_old_root.iter().map(AgentName::as_str).collect::<Vec<_>>(), ["away", "vm-1"]);
    let audited = hub.control.events(0, 100).into_iter().filter(|event| event.kind == "ca").map(|event| event.message).collect::<Vec<_>>();
    assert_eq!(audited, ["ann began a change of the CA: drill", "ann finished the change of the CA: drill"]);
    assert_eq!(hub.control.begin_ca_change(begin(true), "ann").await.unwrap_err().status, 409, "the old root still runs out");
    assert!(!agent.tunnel.is_closed() && !met.tunnel.is_closed());

    // The hub shows a leaf of the new CA now; who was told trusts it, and the old leaf still opens the door.
    away.set_roots(figspan_tunnel::Roots::from_der(roots).unwrap());
    let again = Agent::connect(&hub, &away, "j", 1).await;
    again.list(vec![uplink("b")]).await;
    eventually("listed", async || hub.accepts("b", "away")).await;
    hub.stop().await;
}

#[tokio::test]
async fn a_leaving_replica_says_so_and_waits_for_what_is_under_way() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(dir.path());
    let mut agent = hub.agent("vm-1", &["*"]).await;
    agent.list(vec![uplink("a")]).await;
    eventually("listed", async || hub.accepts("a", "vm-1")).await;
    let state = hub.book.endpoint("uplink/a/vm-1");
    state.in_flight.add(0, 1);
    assert!(!hub.control.leave(Duration::from_millis(50)).await);
    state.in_flight.sub(0, 1);
    assert!(hub.control.leave(Duration::from_secs(5)).await);
    let mut said = Vec::new();
    while !said.iter().any(|message| matches!(message, FromHub::Leaving { .. })) {
        said.push(agent.hear().await);
    }
    assert!(said.iter().any(|message| matches!(message, FromHub::Directory(replicas) if replicas[0].leaving)));
    assert!(!agent.tunnel.is_closed(), "tunnels stay until the end");
    let late = hub.joined("late", &["*"]).await;
    assert_eq!(turned_away(&hub, &late).await, Some(Close::Leaving));
    hub.stop().await;
    assert_eq!(agent.closed().await, Some(Close::Leaving));
}

#[tokio::test]
async fn the_routing_is_published_with_the_uplinks_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(dir.path());
    let agent = hub.agent("vm-1", &["*"]).await;
    agent.list(vec![uplink("a")]).await;
    eventually("listed", async || hub.accepts("a", "vm-1")).await;
    let routing = Arc::new(Routing::default());
    let generation = hub.control.set_routing(Arc::clone(&routing)).await.unwrap();
    let snapshot = hub.reader.load();
    assert!(snapshot.generation == generation && Arc::ptr_eq(&snapshot.routing, &routing) && hub.accepts("a", "vm-1"));
    assert_eq!(hub.control.wait_effective(generation, Duration::from_secs(2)).await, ["hub-0"]);
    let status = hub.control.status_parts().await.unwrap();
    assert_eq!((status.agents, status.tunnels, status.uplinks, status.in_flight), (1, 1, 1, 0));
    hub.stop().await;
}

#[tokio::test]
async fn after_the_end_every_question_is_answered_with_a_503() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(dir.path());
    let control = hub.control.clone();
    hub.stop().await;
    assert_eq!(control.agents().await.unwrap_err().status, 503);
    let socket = bind_shards(([127, 0, 0, 1], 0).into(), 1).unwrap().remove(0);
    let settings = HubConfig { shard: 0, shards: 1, credentials: control.credentials(), reset_key: control.reset_key() };
    assert!(HubEndpoint::new(socket, settings).is_ok(), "its credentials can still be read");
}

#[tokio::test]
async fn an_agent_that_falls_silent_is_left_out_within_1500_ms_and_comes_back_on_the_same_tunnel() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(dir.path());
    let credentials = hub.joined("vm-1", &["*"]).await;
    let address = hub.address();
    let (wake, asleep) = std::sync::mpsc::channel::<()>();
    // A runtime of its own that stops turning is as silent as a killed process or a dead path.
    let vm = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let agent = runtime.block_on(async {
            let agent = Agent::dial(address, &credentials, "i", 1).await;
            agent.list(vec![uplink("a")]).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
            agent
        });
        asleep.recv().unwrap();
        runtime.block_on(async {
            let _ = tokio::time::timeout(Duration::from_secs(5), agent.tunnel.closed()).await;
            drop(agent);
        });
    });
    eventually("listed", async || hub.accepts("a", "vm-1")).await;
    let took = eventually("left out", async || !hub.accepts("a", "vm-1")).await;
    // Half a second of speaking comes first.
    assert!(took < Duration::from_millis(2000), "{took:?}");
    let seen = hub.control.uplink(&name("a")).await.unwrap();
    assert_eq!(seen.endpoints[0].reason, "the agent is silent");
    wake.send(()).unwrap();
    eventually("back", async || hub.accepts("a", "vm-1")).await;
    assert_eq!(hub.control.agent(&name("vm-1")).await.unwrap().tunnels.len(), 1);
    hub.stop().await;
    vm.join().unwrap();
}

#[tokio::test]
async fn a_weight_that_cannot_be_stored_is_refused_and_not_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(dir.path());
    let agent = hub.agent("vm-1", &["*"]).await;
    agent.list(vec![uplink("a")]).await;
    eventually("listed", async || hub.accepts("a", "vm-1")).await;
    // Nothing can be renamed over a folder that holds something, whoever runs the test.
    std::fs::create_dir_all(dir.path().join("overrides.json/full")).unwrap();
    let change = SetWeight { sessions_seconds: None, weight: Weight::ZERO, agent: None, reason: "x".into(), dry_run: false };
    let refused = hub.control.set_weight(&name("a"), change.clone(), "ann").await.unwrap_err();
    assert!(refused.status == 507 && refused.detail.contains("nothing was changed"), "{refused}");
    assert!(hub.accepts("a", "vm-1"));
    std::fs::remove_dir_all(dir.path().join("overrides.json")).unwrap();
    assert_eq!(hub.control.set_weight(&name("a"), change, "ann").await.unwrap().confirmed, ["hub-0"]);
    hub.stop().await;
}

#[tokio::test]
async fn an_agent_that_ends_in_good_order_is_not_noted_as_a_breach() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(dir.path());
    let agent = hub.agent("vm-1", &["*"]).await;
    agent.list(vec![uplink("a")]).await;
    eventually("listed", async || hub.accepts("a", "vm-1")).await;
    drop(agent);
    let kinds = || hub.control.events(0, 100).into_iter().map(|event| event.kind).collect::<Vec<_>>();
    eventually("gone", async || kinds().contains(&"disconnect".to_owned())).await;
    assert!(!kinds().contains(&"refused".to_owned()), "{:?}", kinds());
    hub.stop().await;
}

#[tokio::test]
async fn a_thousand_agents_that_come_at_once_are_all_served_within_seconds() {
    const AGENTS: usize = 1000;
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(dir.path());
    let context = &hub.control.0.context;
    let start = Instant::now();
    // The registry alone: handshakes are the tunnel's to measure.
    for number in 0..AGENTS {
        let agent: AgentName = name(&format!("vm-{number}"));
        context
            .writer
            .ask(move |core| {
                core.registry.joined(&agent, crate::registry::Allowed { uplinks: vec![name("*")], services: vec![] });
                let now = core.shared.clock.stamp();
                for shard in 0..8 {
                    let id = 1_000_000 + (number * 8 + shard) as u64;
                    core.registry.opened(id, &agent, shard, jiff::Timestamp::MAX, now).unwrap();
                    core.registry.hello(id, "i".into(), String::new(), 0, None);
                    assert!(core.registry.list(id, vec![uplink("shared")], now).is_empty());
                }
            })
            .await
            .unwrap();
    }
    eventually("all of them", async || hub.reader.load().uplinks.get("shared").is_some_and(|uplink| uplink.endpoints.len() == AGENTS))
        .await;
    println!("{AGENTS} agents with 8 tunnels and one uplink: {:?}, {} publications", start.elapsed(), hub.reader.load().generation);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    hub.stop().await;
}
