//! Where a hub is: names with several addresses, addresses that fail, and names that move.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use figspan_agent::identity::Holder;
use figspan_agent::identity::join::join;
use figspan_agent::{Agent, Running, Settings};
use figspan_proto::join::Token;
use figspan_tests::bed::{Bed, http, rule};
use figspan_tests::names::NameServer;
use figspan_tests::process::{binary, eventually, text};
use figspan_tests::relay::Relay;
use figspan_tests::web::{Connection, Workload};
use figspan_tunnel::resolve::Resolver;

/// An address of this machine at which no hub listens.
const NOBODY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;

fn tunnel_address(bed: &Bed) -> SocketAddr {
    bed.hub.json(&["status"])["tunnel_address"].as_str().and_then(|text| text.parse().ok()).unwrap()
}

fn tunnels(bed: &Bed) -> u64 {
    bed.hub.json(&["status"])["tunnels"].as_u64().unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// An agent in this process that asks that name server.
async fn agent(bed: &Bed, names: &NameServer, hubs: Vec<String>) -> Running {
    let grant = bed.hub.json(&["grant", "create", "vm-1", "--uplinks", "*", "--ttl", "5m"]);
    let token: Token = grant["token"].as_str().unwrap().parse().unwrap();
    let joined = join(&token, None, &Resolver::system().unwrap()).await.unwrap();
    let settings = Settings { hubs, status_socket: None, ..Settings::default() };
    let resolver = Resolver::with_name_servers(vec![names.address]);
    Agent::start_with(settings, Holder::new(joined.kept, None).unwrap(), resolver).await.unwrap()
}

#[test]
fn every_address_of_a_name_is_tried_and_one_dead_address_costs_nothing() {
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }")));
    let names = NameServer::start();
    names.addresses("hub.test", &[NOBODY, HERE]);
    let runtime = runtime();
    let running = runtime.block_on(agent(&bed, &names, vec![format!("hub.test:{}", tunnel_address(&bed).port())]));
    eventually("both shards are reached while the dead address is still being dialled", Duration::from_secs(4), || tunnels(&bed) == 2);
    let status = serde_json::to_string(&running.status()).unwrap();
    assert!(status.contains("127.0.0.9") && status.contains("127.0.0.1"), "both are candidates: {status}");
}

#[test]
fn a_name_that_moves_is_asked_for_again_and_followed() {
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }")));
    let names = NameServer::start();
    names.addresses("hub.test", &[NOBODY]);
    let runtime = runtime();
    let running = runtime.block_on(agent(&bed, &names, vec![format!("hub.test:{}", tunnel_address(&bed).port())]));
    eventually("the old address is known", Duration::from_secs(5), || {
        serde_json::to_string(&running.status()).unwrap().contains("127.0.0.9")
    });
    assert_eq!(tunnels(&bed), 0);
    names.addresses("hub.test", &[HERE]);
    // One second of TTL, and a look-up.
    eventually("the agent follows", Duration::from_secs(6), || tunnels(&bed) == 2);
}

#[test]
fn a_hub_without_a_port_is_found_by_its_service_records_and_the_next_target_after_a_failure() {
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }")));
    let port = tunnel_address(&bed).port();
    let names = NameServer::start();
    names.addresses("gone.test", &[NOBODY]);
    names.addresses("there.test", &[HERE]);
    names.services("_figspan._udp.hub.test", &[(10, port, "gone.test"), (20, port, "there.test")]);
    let runtime = runtime();
    let _running = runtime.block_on(agent(&bed, &names, vec!["hub.test".to_owned()]));
    eventually("the second target is reached", Duration::from_secs(6), || tunnels(&bed) == 2);
}

#[test]
fn a_join_goes_to_the_next_address_after_a_failure() {
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }")));
    let folder = &bed.hub.folder;
    let grant = bed.hub.json(&["grant", "create", "vm-1", "--uplinks", "*", "--ttl", "5m"]);
    let mut token: Token = grant["token"].as_str().unwrap().parse().unwrap();
    token.hubs.insert(0, format!("{NOBODY}:{}", tunnel_address(&bed).port()));
    std::fs::write(folder.join("vm-1.token"), token.to_string()).unwrap();
    std::fs::write(folder.join("vm-1.toml"), format!("state_dir = \"{}/vm-1\"\n", folder.display())).unwrap();
    let joined = Command::new(binary("figspan-agent"))
        .current_dir(folder)
        .args(["join", "--config", "vm-1.toml", "--token-file", "vm-1.token"])
        .output()
        .unwrap();
    assert!(joined.status.success() && text(&joined).contains("as vm-1"), "{}", text(&joined));
}

#[test]
fn an_address_that_goes_dark_is_left_for_the_next_and_dialled_from_fresh_sockets_ever_more_rarely() {
    let shop = Workload::named("shop");
    let mut bed = Bed::start(&http(&rule("{ uplink = \"shop\" }")));
    let (first, second) = (Relay::start(tunnel_address(&bed)), Relay::start(tunnel_address(&bed)));
    second.dark(true);
    bed.hub.dials("vm-1", &[first.address, second.address]);
    bed = bed.agent("vm-1", &shop.uplink("shop", "")).ready("shop", 1);
    eventually("both shards are reached by the first", Duration::from_secs(5), || tunnels(&bed) == 2);
    let web = bed.web();
    // Each dial gives up after 5 s.
    eventually("the second is tried again, from a fresh socket", Duration::from_secs(20), || {
        assert_eq!(Connection::open(web).get("/").status(), 200, "the first serves all the while");
        second.seen().len() >= 2
    });
    eventually("the log says what to look at", Duration::from_secs(20), || {
        let log = bed.hub.log("vm-1");
        log.contains(&second.address.to_string()) && log.contains("UDP")
    });

    first.dark(true);
    second.dark(false);
    let dark = Instant::now();
    // The tunnels die after 5 s of silence; the second address may be in the middle of its back-off.
    eventually("it is served by way of the second", Duration::from_secs(20), || {
        let answer = Connection::open(web).get("/");
        assert!(answer.status() == 200 || answer.field("proxy-status").contains("error="), "{answer:?}");
        answer.status() == 200 && dark.elapsed() > Duration::from_secs(1)
    });
    // Two shards, what was dialled in vain, and knocks at the first while its tunnels were silent for 5 s: never a storm.
    assert!(first.seen().len() + second.seen().len() <= 28, "{:?} {:?}", first.seen(), second.seen());
}
