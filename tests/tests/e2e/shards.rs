//! Tunnels and shards: each is reached on purpose, and a tunnel survives the VM's change of address.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use figspan_tests::bed::{Bed, http, rule};
use figspan_tests::process::eventually;
use figspan_tests::relay::Relay;
use figspan_tests::simulated::{Simulated, join};
use figspan_tests::web::{Connection, Workload};

/// (shard, remote address, since) of an agent's tunnels.
fn tunnels(bed: &Bed, agent: &str) -> Vec<(u64, String, String)> {
    let agents = bed.hub.json(&["get", "agents"]);
    let found = agents.as_array().unwrap().iter().find(|found| found["name"] == agent).cloned().unwrap_or_default();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let all = found["tunnels"].as_array().cloned().unwrap_or_default();
    all.iter().map(|tunnel| (tunnel["shard"].as_u64().unwrap(), text(&tunnel["remote"]), text(&tunnel["since"]))).collect()
}

fn tunnel_address(bed: &Bed) -> SocketAddr {
    bed.hub.json(&["status"])["tunnel_address"].as_str().and_then(|text| text.parse().ok()).unwrap()
}

#[test]
fn every_agent_reaches_every_shard_on_purpose() {
    let shop = Workload::named("shop");
    let uplink = shop.uplink("shop", "");
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }")))
        .agent("vm-1", &uplink)
        .agent("vm-2", &uplink)
        .agent("vm-3", &uplink)
        .ready("shop", 3);
    for agent in ["vm-1", "vm-2", "vm-3"] {
        // Left to chance, three agents would all cover both shards once in eight runs.
        eventually(&format!("{agent} has one tunnel to each shard"), Duration::from_secs(5), || {
            tunnels(&bed, agent).iter().map(|tunnel| tunnel.0).collect::<Vec<_>>() == [0, 1]
        });
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for (number, shard) in [1, 0, 1, 1, 0, 1].into_iter().enumerate() {
        let name = format!("sim-{number}");
        let _simulated = runtime.block_on(async { Simulated::connect(&bed.hub, &join(&bed.hub, &name, "*").await, shard).await });
        eventually("the tunnel is at the shard that was dialled", Duration::from_secs(5), || {
            tunnels(&bed, &name).iter().map(|tunnel| tunnel.0).eq([u64::from(shard)])
        });
    }
}

#[test]
fn an_address_that_changes_again_and_again_keeps_tunnels_requests_and_sessions() {
    let shop = Workload::named("shop");
    let echo = Workload::raw(|mut connection| {
        while let Ok(some) = connection.some(1024) {
            if some.is_empty() || std::io::Write::write_all(&mut connection.write, &some).is_err() {
                return;
            }
        }
    });
    let session = "[[listener]]\nname = \"echo\"\naddress = \"127.0.0.1:0\"\nprotocol = \"TCP\"\n\n[[tcp_route]]\nname = \"echo\"\nlisteners = [\"echo\"]\nbackend_refs = [{ uplink = \"echo\" }]\n";
    let mut bed = Bed::start(&format!("{}{session}", http(&rule("{ uplink = \"shop\" }"))));
    let relay = Relay::start(tunnel_address(&bed));
    bed.hub.dials("vm-1", &[relay.address]);
    let uplinks = shop.uplink("shop", "") + &echo.uplink("echo", "protocol = \"tcp\"");
    bed = bed.agent("vm-1", &uplinks).ready("shop", 1).ready("echo", 1);
    eventually("both shards are reached", Duration::from_secs(5), || tunnels(&bed, "vm-1").len() == 2);
    let before = tunnels(&bed, "vm-1");
    let mut kept = Connection::open(bed.hub.listener(1));
    kept.send("hello");
    assert_eq!(kept.exactly(5).unwrap(), b"hello");

    let stop = Arc::new(AtomicBool::new(false));
    let web = bed.web();
    let clients: Vec<_> = [false, false, true, true]
        .into_iter()
        .map(|post| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let (mut client, mut asked, mut slowest) = (Connection::open(web), 0, Duration::ZERO);
                while !stop.load(Ordering::SeqCst) {
                    let start = Instant::now();
                    let answer = if post { client.post("/", b"one") } else { client.get("/") };
                    assert_eq!(answer.status(), 200, "{answer:?} after {:?}", start.elapsed());
                    (asked, slowest) = (asked + 1, slowest.max(start.elapsed()));
                    std::thread::sleep(Duration::from_millis(5));
                }
                (asked, slowest)
            })
        })
        .collect();
    let mut remotes = BTreeSet::new();
    for round in 0..4 {
        let old: BTreeSet<String> = tunnels(&bed, "vm-1").into_iter().map(|tunnel| tunnel.1).collect();
        relay.rebind();
        eventually("the hub follows both tunnels to their new addresses", Duration::from_secs(4), || {
            let now: BTreeSet<String> = tunnels(&bed, "vm-1").into_iter().map(|tunnel| tunnel.1).collect();
            now.len() == 2 && now.is_disjoint(&old)
        });
        remotes.extend(tunnels(&bed, "vm-1").into_iter().map(|tunnel| tunnel.1));
        kept.send("again");
        assert_eq!(kept.exactly(5).unwrap(), b"again", "round {round}");
    }
    stop.store(true, Ordering::SeqCst);
    let (mut asked, mut slowest) = (0, Duration::ZERO);
    for client in clients {
        let (requests, slow) = client.join().expect("no request failed");
        (asked, slowest) = (asked + requests, slowest.max(slow));
    }
    assert!(remotes.len() >= 8, "{remotes:?}");
    assert!(slowest < Duration::from_secs(2), "one of {asked} requests took {slowest:?}");
    assert_eq!(shop.seen(), asked, "each arrived once");
    let keep = |tunnels: Vec<(u64, String, String)>| tunnels.into_iter().map(|(shard, _, since)| (shard, since)).collect::<Vec<_>>();
    assert_eq!(keep(tunnels(&bed, "vm-1")), keep(before), "the same tunnels all along");
}

#[test]
fn an_agent_with_nothing_to_do_is_found_again_after_its_address_changed() {
    let shop = Workload::named("shop");
    let mut bed = Bed::start(&http(&rule("{ uplink = \"shop\" }")));
    let relay = Relay::start(tunnel_address(&bed));
    bed.hub.dials("vm-1", &[relay.address]);
    bed = bed.agent("vm-1", &shop.uplink("shop", "")).ready("shop", 1);
    eventually("both shards are reached", Duration::from_secs(5), || tunnels(&bed, "vm-1").len() == 2);
    let before = tunnels(&bed, "vm-1");
    let web = bed.web();
    relay.rebind();
    let start = Instant::now();
    let mut asked = Vec::new();
    // Nothing is under way, so only the agent's own sign of life tells the hub where it is now.
    while start.elapsed() < Duration::from_secs(2) {
        asked.push(std::thread::spawn(move || {
            let asked = Instant::now();
            (Connection::open(web).get("/"), asked.elapsed())
        }));
        std::thread::sleep(Duration::from_millis(50));
    }
    for (number, request) in asked.into_iter().enumerate() {
        let (answer, took) = request.join().unwrap();
        assert_eq!(answer.status(), 200, "request {number}: {answer:?} after {took:?}\n{}", bed.hub.log("hub"));
        assert!(took < Duration::from_secs(2), "request {number} took {took:?}");
    }
    let keep = |tunnels: Vec<(u64, String, String)>| tunnels.into_iter().map(|(shard, _, since)| (shard, since)).collect::<Vec<_>>();
    assert_eq!(keep(tunnels(&bed, "vm-1")), keep(before));
}
