//! Calls of services when something ends: a hub, an agent, both under load; and when there is no hub at all.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::PoisonError;
use std::time::{Duration, Instant, SystemTime};

use figspan_tests::balancer::{Arrived, Balanced, bookkeeper};
use figspan_tests::bed::Bed;
use figspan_tests::frames::{Frames, GOAWAY};
use figspan_tests::process::{HubProcess, Process, eventually};
use figspan_tests::web::{Connection, Workload, ok};

use crate::calls::{called, port, service};
use crate::handover::Manager;
use crate::replicas::own_address;

const SOON: Duration = Duration::from_secs(20);

/// Two hubs of one CA, and an agent that joined the first and knows both.
struct Site {
    hubs: Vec<HubProcess>,
    agent: Process,
    orders: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Site {
    fn start(workload: &Workload, keys: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("figspan-").tempdir().unwrap();
        let ca = figspan_tunnel::ca::Ca::create(&"figspan.local".parse().unwrap(), SystemTime::now()).unwrap();
        let (certificate, key) = (folder.path().join("ca.pem"), folder.path().join("ca.key"));
        std::fs::write(&certificate, ca.certificate_pem()).unwrap();
        std::fs::write(&key, ca.key_pem()).unwrap();
        let addresses: [Ipv4Addr; 2] = [own_address(), own_address()];
        let start = |(index, address): (usize, &Ipv4Addr)| {
            let own = folder.path().join(format!("hub-{index}"));
            std::fs::create_dir(&own).unwrap();
            let config =
                format!("[ca]\ncertificate = {certificate:?}\nkey = {key:?}\n\n{}", service("orders", "http1", &[workload.address]));
            HubProcess::start_at(&own, *address, &format!("replica = \"hub-{index}\"\n{keys}"), &config)
        };
        let hubs: Vec<_> = addresses.iter().enumerate().map(start).collect();
        let tunnels = addresses.map(|address| SocketAddr::from((address, 7443)));
        hubs[0].dials("vm-1", &tunnels);
        let agent = hubs[0].agent_calling("vm-1", "orders", &called("orders", "127.0.0.1:0", ""));
        let mut orders = None;
        eventually("the agent has all tunnels", SOON, || {
            let status = hubs[0].agent_status("vm-1");
            orders = status["services"][0]["listen"].as_str().and_then(|text| text.parse().ok());
            status["tunnels"].as_array().map(Vec::len) == Some(4)
        });
        Self { hubs, agent, orders: orders.unwrap(), _folder: folder }
    }
}

/// Load on a place where a service is called; what watches it finds it always ready.
fn load(at: SocketAddr) -> Balanced {
    let always = Workload::named("ready");
    let health = always.address;
    // Serves to the end of the test's process.
    std::mem::forget(always);
    let load = Balanced::start(&[(at, health)], 4);
    eventually("there is load", SOON, || load.ready(0));
    load
}

fn nothing_is_lost(load: Balanced, arrived: &Arrived, least: usize) {
    let (asked, wrong) = load.end();
    assert!(wrong.is_empty(), "{} of {} went wrong: {:#?}", wrong.len(), asked.len(), &wrong[..wrong.len().min(5)]);
    let arrived = arrived.lock().unwrap_or_else(PoisonError::into_inner);
    let twice: Vec<_> = asked.iter().filter(|id| arrived.get(*id) != Some(&1)).collect();
    assert!(twice.is_empty() && asked.len() > least, "of {} these did not arrive once: {twice:?}", asked.len());
}

#[test]
fn hubs_restart_in_turn_and_no_call_of_any_method_is_lost() {
    let arrived = Arrived::default();
    let orders = bookkeeper(&arrived);
    let mut site = Site::start(&orders, "lame_duck = \"1s\"");
    let load = load(site.orders);
    for hub in [0, 1] {
        site.hubs[hub].restart();
        let hubs = &site.hubs;
        eventually("its tunnels are back", SOON, || hubs[0].agent_status("vm-1")["tunnels"].as_array().map(Vec::len) == Some(4));
    }
    nothing_is_lost(load, &arrived, 300);
}

#[test]
fn a_killed_hub_breaks_only_what_it_carried_and_half_a_post_is_never_sent_twice() {
    let orders = Workload::http(|request| ok(&request.text()));
    let mut site = Site::start(&orders, "");
    // Half a request at each hub, whichever takes which.
    let mut halves: Vec<Connection> = (0..8).map(|_| Connection::open(site.orders)).collect();
    for half in &mut halves {
        half.send("POST /half HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf ");
    }
    let open = |hubs: &[HubProcess], hub: usize| hubs[hub].json(&["get", "agents"])[0]["calls_open"].as_u64().unwrap_or(0);
    eventually("all are taken", SOON, || open(&site.hubs, 0) + open(&site.hubs, 1) == 8);
    let broken = open(&site.hubs, 0) as usize;
    assert!(broken > 0 && broken < 8, "both hubs take calls: {broken} of 8");
    site.hubs[0].process.signal("KILL");
    assert!(!site.hubs[0].process.ended(SOON));
    let began = Instant::now();
    for _ in 0..10 {
        assert_eq!(Connection::open(site.orders).post("/", b"whole").text(), "whole", "the other hub takes all");
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let mut ended_well = 0;
    for half in &mut halves {
        let _ = half.write.write_all(b"more.");
        ended_well += usize::from(half.answer(true).is_ok_and(|answer| answer.text() == "half more."));
    }
    assert_eq!(ended_well, 8 - broken);
    assert_eq!(orders.seen(), 10 + ended_well, "no half of a request was sent anew");
    drop(site.agent);
}

#[test]
fn an_upgrade_of_the_agent_hands_its_places_over_and_no_call_is_lost() {
    let arrived = Arrived::default();
    let orders = bookkeeper(&arrived);
    let bed = Bed::start(&service("orders", "http1", &[orders.address]));
    let socket = bed.hub.folder.join("orders.sock");
    let places = called("orders", "127.0.0.1:0", "") + &called("orders", &format!("unix:{}", socket.display()), "");
    // Joined by a first process; the second one runs under the manager.
    let mut first = bed.hub.agent_calling("vm-1", "orders", &places);
    port(&bed, "vm-1", 0);
    first.signal("TERM");
    assert!(first.ended(SOON) && !socket.exists(), "a place is closed with its agent");
    let mut manager = Manager::new(&bed);
    let mut agent = manager.run(&bed);
    manager.hears("READY=1");
    let at = port(&bed, "vm-1", 0);
    let load = load(at);
    let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&socket).unwrap());
    agent.signal("USR2");
    manager.hears_of_the_new_one();
    assert!(agent.ended(SOON), "the old process finishes and ends well");
    assert_eq!(std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&socket).unwrap()), inode, "the same socket, in other hands");
    assert_eq!(port(&bed, "vm-1", 0), at);
    let mut process = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    process.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut process, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    nothing_is_lost(load, &arrived, 200);
}

#[test]
fn an_agent_that_stops_finishes_what_runs_and_asks_kept_connections_to_go() {
    let orders = Workload::http(|request| {
        if request.target() == "/slow" {
            std::thread::sleep(Duration::from_secs(1));
        }
        ok("done")
    });
    let mut bed = Bed::start(&service("orders", "http1", &[orders.address]));
    let agent = bed.hub.agent_calling("vm-1", "orders", &called("orders", "127.0.0.1:0", ""));
    bed.agents.insert("vm-1".to_owned(), agent);
    let at = port(&bed, "vm-1", 0);
    let (mut kept, mut idle) = (Connection::open(at), Connection::open(at));
    assert_eq!((kept.get("/").text(), idle.get("/").text()), ("done".to_owned(), "done".to_owned()));
    let running = std::thread::spawn(move || Connection::open(at).post("/slow", b"x"));
    eventually("it runs", SOON, || orders.seen() == 3);
    let agent = bed.agents.get_mut("vm-1").unwrap();
    agent.signal("TERM");
    let began = Instant::now();
    let last = running.join().unwrap();
    assert_eq!((last.status(), last.text().as_str(), last.field("connection")), (200, "done", "close"));
    let answer = kept.post("/", b"x");
    assert_eq!((answer.status(), answer.field("connection")), (200, "close"), "a request that comes in time is answered");
    assert!(idle.some(1).is_ok_and(|bytes| bytes.is_empty()), "an idle connection ends in order");
    assert!(agent.ended(SOON), "nothing had to be cut");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[test]
fn without_a_hub_http_hears_when_to_come_back_and_calls_go_on_when_it_is_there_again() {
    let orders = Workload::named("orders");
    let bed = Bed::start(&service("orders", "http1", &[orders.address]));
    let mut bed = bed;
    let agent = bed.hub.agent_calling("vm-1", "orders", &called("orders", "127.0.0.1:0", ""));
    bed.agents.insert("vm-1".to_owned(), agent);
    let at = port(&bed, "vm-1", 0);
    assert_eq!(Connection::open(at).get("/").text(), "orders");
    bed.hub.process.signal("KILL");
    assert!(!bed.hub.process.ended(SOON));
    let began = Instant::now();
    let away = Connection::open(at).get("/");
    assert_eq!((away.status(), away.field("retry-after")), (503, "1"), "{away:?}");
    assert!(away.field("proxy-status").starts_with("figspan-agent; error="), "{away:?}");
    assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
    let gone = Frames::open(at).next(&[GOAWAY]);
    assert_eq!(gone.map(|frame| frame.payload[..4].to_vec()), Some(vec![0; 4]), "no request was looked at");
    bed.hub.start_again();
    eventually("calls go on", SOON, || Connection::open(at).get("/").text() == "orders");
}
