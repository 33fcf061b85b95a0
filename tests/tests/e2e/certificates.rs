//! Certificates and the CA change under the feet of running tunnels, and nobody who asks notices.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use figspan_tests::bed::{Bed, http, rule};
use figspan_tests::process::{eventually, text};
use figspan_tests::relay::Relay;
use figspan_tests::web::{Connection, Workload};
use serde_json::Value;

/// Life of a certificate here: long beside a busy machine's pauses, short beside a test.
const LIFE: Duration = Duration::from_secs(15);
/// How long an expired certificate may still be used.
const GRACE: Duration = Duration::from_secs(60);

fn bed(shop: &Workload) -> Bed {
    let life = format!("certificate_lifetime = \"{}s\"", LIFE.as_secs());
    Bed::start_with(&life, &http(&rule("{ uplink = \"shop\" }"))).agent("vm-1", &shop.uplink("shop", "")).ready("shop", 1)
}

/// Clients that post one request after the other until they are stopped.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<(usize, Vec<String>)>>,
}

impl Load {
    fn start(web: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |_| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let (mut asked, mut errors, mut connection) = (0, Vec::new(), Connection::open(web));
                while !stop.load(Ordering::Relaxed) {
                    let answer = connection.post("/orders", b"one of a kind");
                    asked += 1;
                    if answer.status() != 200 || answer.text() != "shop" {
                        errors.push(format!("{} {}", answer.first, answer.text()));
                        connection = Connection::open(web);
                    }
                    // A pace that leaves a small machine time for the rest.
                    std::thread::sleep(Duration::from_millis(2));
                }
                (asked, errors)
            })
        };
        let clients = (0..4).map(client).collect();
        Self { stop, clients }
    }

    /// Requests asked and what went wrong.
    fn end(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let (mut asked, mut errors) = (0, Vec::new());
        for client in self.clients {
            let (count, wrong) = client.join().expect("a client got a whole answer each time");
            asked += count;
            errors.extend(wrong);
        }
        (asked, errors)
    }
}

fn agent(bed: &Bed) -> Value {
    bed.hub.json(&["get", "agents"])[0].clone()
}

fn tunnels(bed: &Bed) -> Vec<String> {
    let agent = agent(bed);
    let mut since: Vec<String> =
        agent["tunnels"].as_array().into_iter().flatten().map(|tunnel| format!("{} {}", tunnel["shard"], tunnel["since"])).collect();
    since.sort();
    since
}

#[test]
fn certificates_of_hub_and_agent_renew_under_load_without_an_error_or_a_reconnect() {
    let shop = Workload::named("shop");
    let bed = bed(&shop);
    eventually("a tunnel to each shard", Duration::from_secs(10), || tunnels(&bed).len() == 2);
    let before = tunnels(&bed);
    let load = Load::start(bed.web());
    for round in ["first", "second"] {
        let ends = || (agent(&bed)["certificate_ends"].clone(), bed.hub.json(&["status"])["certificate_ends"].clone());
        let (agents, hubs) = ends();
        eventually(&format!("the {round} renewal of both"), 3 * LIFE, || {
            let now = ends();
            now.0 != agents && now.1 != hubs
        });
    }
    let renewals = bed.hub.json(&["events"]).as_array().unwrap().iter().filter(|event| event["kind"] == "renew").count();
    assert!((2..20).contains(&renewals), "{renewals} renewals");
    let (asked, errors) = load.end();
    assert!(asked > 500 && errors.is_empty(), "{asked} asked: {errors:#?}");
    assert_eq!(tunnels(&bed), before, "the tunnels are the same ones");
    assert_eq!(shop.seen(), asked, "no request came twice");
}

#[test]
fn the_ca_changes_under_load_without_an_error_and_the_new_root_alone_lets_agents_back_in() {
    let shop = Workload::named("shop");
    let mut bed = bed(&shop);
    let old = bed.hub.json(&["ca", "show"])["roots"][0]["pin"].clone();
    let early = bed.hub.ctl(&["ca", "finish", "--reason", "drill"]);
    assert!(!early.status.success() && text(&early).contains("begin one first"), "{}", text(&early));
    let load = Load::start(bed.web());
    let would = bed.hub.json(&["ca", "begin", "--reason", "drill", "--dry-run"]);
    assert_eq!((&would["dry_run"], &would["ca"]["changing"]), (&Value::Bool(true), &Value::Bool(false)));
    let begun = bed.hub.json(&["ca", "begin", "--reason", "drill"]);
    assert_eq!(begun["ca"]["roots"].as_array().unwrap().len(), 2, "{begun}");
    eventually("every agent knows both roots", Duration::from_secs(20), || bed.hub.json(&["ca", "show"])["safe_to_finish"] == true);
    let finished = bed.hub.json(&["ca", "finish", "--reason", "drill"]);
    assert_eq!((&finished["ca"]["roots"][1]["pin"], &finished["ca"]["roots"][1]["state"]), (&old, &Value::from("old")), "{finished}");
    assert_eq!(finished["ca"]["on_old_root"][0], "vm-1", "{finished}");
    eventually("agents renew under the new root", 3 * LIFE, || bed.hub.json(&["ca", "show"])["on_old_root"].as_array().unwrap().is_empty());
    eventually("the old root runs out", 4 * LIFE, || bed.hub.json(&["ca", "show"])["roots"].as_array().unwrap().len() == 1);
    let (asked, errors) = load.end();
    assert!(asked > 500 && errors.is_empty(), "{asked} asked: {errors:#?}");

    let roots = bed.hub.folder.join("vm-1/identity/roots.pem");
    let kept = || std::fs::read_to_string(&roots).unwrap_or_default().matches("BEGIN CERTIFICATE").count();
    eventually("the agent keeps the new root alone", Duration::from_secs(10), || kept() == 1);
    let mut stopped = bed.agents.remove("vm-1").unwrap();
    stopped.signal("TERM");
    assert!(stopped.ended(Duration::from_secs(40)));
    let audited: Vec<Value> = bed.hub.json(&["events"]).as_array().unwrap().iter().filter(|event| event["kind"] == "ca").cloned().collect();
    assert_eq!(audited.len(), 2, "{audited:#?}");
    let _again = bed.hub.run_agent("vm-1");
    bed.hub.accepts("shop", 1);
    assert_eq!(bed.get("/").status(), 200);
    let events = bed.hub.json(&["events"]);
    let kinds: Vec<&str> = events.as_array().unwrap().iter().filter_map(|event| event["kind"].as_str()).collect();
    assert!(kinds.contains(&"disconnect") && !kinds.contains(&"refused"), "an orderly stop is no refusal: {events:#}");
}

#[test]
fn an_agent_whose_certificate_expired_serves_no_more_and_is_told_what_to_do() {
    let shop = Workload::named("shop");
    let life = format!("certificate_lifetime = \"{}s\"", LIFE.as_secs());
    let mut bed = Bed::start_with(&life, &http(&rule("{ uplink = \"shop\" }")));
    let hub = bed.hub.json(&["status"])["tunnel_address"].as_str().unwrap().parse().unwrap();
    let network = Relay::start(hub);
    bed.hub.dials("vm-1", &[network.address]);
    bed = bed.agent("vm-1", &shop.uplink("shop", "")).ready("shop", 1);
    assert_eq!(bed.get("/").status(), 200);
    // Nothing renews a certificate whose VM reaches no hub until it has ended.
    network.dark(true);
    let (dark, requests) = (Instant::now(), shop.seen());
    let said = |bed: &Bed, what: &[&str]| what.iter().all(|what| bed.hub.log("vm-1").contains(what));
    eventually("the end is foretold", LIFE + Duration::from_secs(5), || said(&bed, &["cannot be renewed", "figspan-agent doctor"]));
    std::thread::sleep((LIFE + Duration::from_secs(1)).saturating_sub(dark.elapsed()));
    network.dark(false);
    // Within its grace the agent may still ask, and learns why it is refused.
    eventually("the hub refuses it and says why", Duration::from_secs(20), || {
        said(&bed, &["refuses our certificate: it has expired", "join again"])
    });
    let ended = "certificate has expired and nothing is served";
    eventually("the agent gives up", LIFE + GRACE + Duration::from_secs(5), || {
        assert_eq!(bed.get("/").status(), 503);
        // A pace that leaves a small machine time for the rest.
        std::thread::sleep(Duration::from_millis(100));
        said(&bed, &[ended, "figspan-agent join"])
    });
    assert!(dark.elapsed() > GRACE, "it does not give up before its grace is over: {:?}", dark.elapsed());
    assert_eq!(bed.hub.json(&["status"])["tunnels"], 0);

    let mut stopped = bed.agents.remove("vm-1").unwrap();
    stopped.signal("TERM");
    assert!(stopped.ended(Duration::from_secs(40)));
    let _again = bed.hub.run_agent("vm-1");
    eventually("it says why after a restart", Duration::from_secs(10), || said(&bed, &["expired", "join"]));
    assert_eq!((&bed.hub.json(&["status"])["tunnels"], bed.get("/").status(), shop.seen()), (&Value::from(0), 503, requests));
}

#[test]
fn an_agent_stopped_while_its_certificate_expires_is_refused_with_clocks_and_the_way_back() {
    let shop = Workload::named("shop");
    let mut bed = bed(&shop);
    let mut stopped = bed.agents.remove("vm-1").unwrap();
    stopped.signal("TERM");
    assert!(stopped.ended(Duration::from_secs(40)));
    std::thread::sleep(LIFE + Duration::from_secs(1));
    let _again = bed.hub.run_agent("vm-1");
    let said = || std::fs::read_to_string(bed.hub.folder.join("vm-1.log")).unwrap();
    eventually("it says why", Duration::from_secs(10), || {
        let said = said();
        said.contains("refuses our certificate: it has expired") && said.contains("clock says") && said.contains("join again")
    });
    assert_eq!((&bed.hub.json(&["status"])["tunnels"], bed.get("/").status()), (&Value::from(0), 503), "{}", said());
}
