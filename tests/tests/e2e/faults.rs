//! Faults of agents and of those who pretend to be one: what others notice of them, and for how long.

use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use figspan_proto::control::{AgentHello, FromAgent};
use figspan_proto::reset::Close;
use figspan_tests::bed::{Bed, http, rule};
use figspan_tests::process::{binary, eventually, text};
use figspan_tests::simulated::{Simulated, join, uplink};
use figspan_tests::web::{Connection, Workload, ok};
use figspan_tunnel::Tunnel;
use futures_util::StreamExt;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn tunnel_address(bed: &Bed) -> SocketAddr {
    bed.hub.json(&["status"])["tunnel_address"].as_str().and_then(|text| text.parse().ok()).unwrap()
}

/// Which tunnels an agent has: each one's shard and beginning.
fn tunnels(bed: &Bed, agent: &str) -> Vec<String> {
    let agents = bed.hub.json(&["get", "agents"]);
    let found = agents.as_array().unwrap().iter().find(|found| found["name"] == agent).cloned().unwrap_or_default();
    found["tunnels"].as_array().into_iter().flatten().map(|tunnel| format!("{} {}", tunnel["shard"], tunnel["since"])).collect()
}

/// Asks until told to stop; the number of requests and how long the slowest took. Panics at the first that is not a 200.
fn ask_on(web: SocketAddr, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<(usize, Duration)> {
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        let (mut client, mut asked, mut slowest) = (Connection::open(web), 0, Duration::ZERO);
        while !stop.load(Ordering::SeqCst) {
            let start = Instant::now();
            let answer = client.get("/");
            assert_eq!(answer.status(), 200, "{answer:?} after {:?}", start.elapsed());
            (asked, slowest) = (asked + 1, slowest.max(start.elapsed()));
            std::thread::sleep(Duration::from_millis(3));
        }
        (asked, slowest)
    })
}

#[test]
fn without_its_only_agent_an_uplink_is_a_503_within_a_second_and_a_half_and_back_within_two_of_its_return() {
    let shop = Workload::named("shop");
    let mut bed = Bed::start(&http(&rule("{ uplink = \"shop\" }"))).agent("vm-1", &shop.uplink("shop", "")).ready("shop", 1);
    assert_eq!(bed.get("/").text(), "shop");
    bed.agents.remove("vm-1").unwrap().signal("KILL");
    let killed = Instant::now();
    // Asked each on a connection and a thread of its own: those that are under way when the agent dies have to wait.
    let web = bed.web();
    let mut under_way = Vec::new();
    let refused = loop {
        let (send, answered) = std::sync::mpsc::channel();
        under_way.push(std::thread::spawn(move || {
            let answer = Connection::open(web).get("/");
            let _ = send.send(answer.clone());
            answer
        }));
        match answered.recv_timeout(Duration::from_millis(100)) {
            Ok(answer) if answer.status() == 503 => break answer,
            _ => assert!(killed.elapsed() < Duration::from_millis(1500), "still no 503"),
        }
    };
    assert!(killed.elapsed() < Duration::from_millis(1600), "{:?}", killed.elapsed());
    assert!(!refused.field("retry-after").is_empty() && refused.field("proxy-status").contains("error="), "{refused:?}");

    let again = bed.hub.run_agent("vm-1");
    let returned = Instant::now();
    eventually("it is back", Duration::from_secs(2), || bed.get("/").status() == 200);
    println!("503 after the kill, back {:?} after the return", returned.elapsed());
    drop(again);
    // Nobody knows what became of those: each is told so, in bounded time, with a reason.
    for request in under_way {
        let answer = request.join().unwrap();
        assert!(matches!(answer.status(), 200 | 502 | 503 | 504), "{answer:?}");
        assert!(answer.status() == 200 || answer.field("proxy-status").contains("error="), "{answer:?}");
    }
    assert!(killed.elapsed() < Duration::from_secs(9), "{:?}", killed.elapsed());
}

#[test]
fn a_post_on_a_tunnel_that_died_silently_is_a_502_that_says_why_and_is_never_repeated() {
    let dead = Workload::raw(|mut connection| while connection.some(1024).is_ok_and(|read| !read.is_empty()) {});
    let good = Workload::named("good");
    let none = "health = { type = \"none\" }";
    let mut bed = Bed::start(&http(&rule("{ uplink = \"shop\" }"))).agent("vm-1", &dead.uplink("shop", none)).ready("shop", 1);
    let web = bed.web();
    let post = std::thread::spawn(move || {
        let start = Instant::now();
        (Connection::open(web).post("/", b"one bicycle"), start.elapsed())
    });
    eventually("the workload has it", Duration::from_secs(5), || dead.connections.load(Ordering::SeqCst) == 1);
    bed = bed.agent("vm-2", &good.uplink("shop", none)).ready("shop", 2);
    bed.agents.remove("vm-1").unwrap().signal("KILL");
    let (answer, took) = post.join().unwrap();
    assert_eq!(answer.status(), 502, "{answer:?}");
    assert!(answer.field("proxy-status").contains("error="), "{answer:?}");
    assert!(took < Duration::from_secs(15), "the tunnel is given up after its idle time: {took:?}");
    assert_eq!(good.seen(), 0, "what may have been seen is not sent again");
}

#[test]
fn a_frozen_agent_fails_no_get_and_thaws_with_its_tunnels_and_sessions() {
    let (one, two) = (Workload::named("one"), Workload::named("two"));
    let echo = Workload::raw(|mut connection| {
        while let Ok(some) = connection.some(1024) {
            if some.is_empty() || connection.write.write_all(&some).is_err() {
                return;
            }
        }
    });
    let session = "[[listener]]\nname = \"echo\"\naddress = \"127.0.0.1:0\"\nprotocol = \"TCP\"\n\n[[tcp_route]]\nname = \"echo\"\nlisteners = [\"echo\"]\nbackend_refs = [{ uplink = \"echo\" }]\n";
    let bed = Bed::start(&format!("{}{session}", http(&rule("{ uplink = \"shop\" }"))))
        .agent("vm-1", &(one.uplink("shop", "") + &echo.uplink("echo", "protocol = \"tcp\"")))
        .agent("vm-2", &two.uplink("shop", ""))
        .ready("shop", 2)
        .ready("echo", 1);
    eventually("both shards are reached", Duration::from_secs(5), || tunnels(&bed, "vm-1").len() == 2);
    let before = tunnels(&bed, "vm-1");
    let mut session = Connection::open(bed.hub.listener(1));
    session.send("hello");
    assert_eq!(session.exactly(5).unwrap(), b"hello");
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4).map(|_| ask_on(bed.web(), &stop)).collect();

    bed.agents["vm-1"].signal("STOP");
    let frozen = Instant::now();
    session.send("while frozen");
    let accepting = || {
        bed.hub
            .json(&["get", "uplinks"])
            .as_array()
            .unwrap()
            .iter()
            .filter(|uplink| uplink["name"] == "shop")
            .flat_map(|uplink| uplink["endpoints"].as_array().cloned().unwrap_or_default())
            .filter(|endpoint| endpoint["accepts"] == true)
            .count()
    };
    eventually("the frozen agent is left out", Duration::from_millis(1500), || accepting() == 1);
    // The fault itself lasts three seconds.
    std::thread::sleep(Duration::from_secs(3).saturating_sub(frozen.elapsed()));
    bed.agents["vm-1"].signal("CONT");
    eventually("it is back", Duration::from_secs(3), || accepting() == 2);
    assert_eq!(session.exactly(12).unwrap(), b"while frozen");
    let seen = one.seen();
    eventually("it serves again", Duration::from_secs(3), || one.seen() > seen);
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        let (asked, slowest) = client.join().expect("no GET failed");
        assert!(slowest < Duration::from_secs(3), "one of {asked} took {slowest:?}");
    }
    assert_eq!(tunnels(&bed, "vm-1"), before, "the same tunnels all along");
}

#[test]
fn a_request_that_may_not_be_tried_again_stays_with_a_silent_tunnel_and_is_answered_when_it_speaks() {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let one = Workload::http(move |_| {
        let _ = held.lock().unwrap().recv_timeout(Duration::from_secs(20));
        ok("one")
    });
    let two = Workload::named("two");
    let none = "health = { type = \"none\" }";
    let rules = rule("{ uplink = \"shop\" }") + "retry = { attempts = 0 }\n";
    let bed = Bed::start(&http(&rules)).agent("vm-1", &one.uplink("shop", none)).ready("shop", 1);
    let web = bed.web();
    let asked = std::thread::spawn(move || Connection::open(web).get("/"));
    eventually("the workload has it", Duration::from_secs(5), || one.seen() == 1);
    let bed = bed.agent("vm-2", &two.uplink("shop", none)).ready("shop", 2);
    bed.agents["vm-1"].signal("STOP");
    release.send(()).unwrap();
    // Far above what a tunnel may be silent before requests that have somewhere to go leave it.
    std::thread::sleep(Duration::from_millis(2500));
    bed.agents["vm-1"].signal("CONT");
    let answer = asked.join().unwrap();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "one"), "{answer:?}");
}

#[test]
fn garbage_on_the_tunnels_port_disturbs_nobody() {
    let shop = Workload::named("shop");
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }"))).agent("vm-1", &shop.uplink("shop", "")).ready("shop", 1);
    eventually("both shards are reached", Duration::from_secs(5), || tunnels(&bed, "vm-1").len() == 2);
    let before = tunnels(&bed, "vm-1");
    let stop = Arc::new(AtomicBool::new(false));
    let client = ask_on(bed.web(), &stop);
    let (hub, socket) = (tunnel_address(&bed), UdpSocket::bind("127.0.0.1:0").unwrap());
    for number in 0..5000_u32 {
        let mut bytes: Vec<u8> = (0..rand::random_range(1..1400)).map(|_| rand::random()).collect();
        // Long headers of version 1, of an unknown version, short headers, and anything.
        match number % 4 {
            0 => bytes.splice(..bytes.len().min(5), [0xc3, 0, 0, 0, 1]).for_each(drop),
            1 => bytes.splice(..bytes.len().min(5), [0xff, 9, 9, 9, 9]).for_each(drop),
            2 => bytes[0] = 0x40,
            _ => {}
        }
        let _ = socket.send_to(&bytes, hub);
    }
    stop.store(true, Ordering::SeqCst);
    client.join().expect("no request failed");
    assert_eq!(bed.get("/").text(), "shop");
    assert_eq!(tunnels(&bed, "vm-1"), before);
}

/// Dials as an agent and answers the control stream with `speak`; how the hub closed the tunnel.
async fn closed_after<F: Future>(bed: &Bed, name: &str, speak: impl FnOnce(figspan_tunnel::Stream) -> F) -> figspan_tunnel::Closed {
    let credentials = join(&bed.hub, name, "*").await;
    let tunnel: Tunnel = figspan_tunnel::agent::dial(tunnel_address(bed), 0, &credentials).await.unwrap();
    let control = tunnel.accept().await.unwrap();
    let talk = speak(control);
    tokio::pin!(talk);
    tokio::select! {
        _ = async { talk.await; std::future::pending::<()>().await } => unreachable!("it waits for ever"),
        closed = tokio::time::timeout(Duration::from_secs(15), tunnel.closed()) => closed.expect("the hub closes the tunnel"),
    }
}

#[test]
fn garbage_on_a_control_stream_closes_that_tunnel_alone_and_says_why() {
    let shop = Workload::named("shop");
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }"))).agent("vm-1", &shop.uplink("shop", "")).ready("shop", 1);
    eventually("both shards are reached", Duration::from_secs(5), || tunnels(&bed, "vm-1").len() == 2);
    let before = tunnels(&bed, "vm-1");
    let stop = Arc::new(AtomicBool::new(false));
    let client = ask_on(bed.web(), &stop);
    let closed = runtime().block_on(closed_after(&bed, "sim-garbage", |mut control| async move {
        let garbage: Vec<u8> = (0..20_000).map(|_| rand::random()).collect();
        let _ = control.write_chunk(garbage.into()).await;
        // Held open, so that the end is the hub's doing.
        std::future::pending::<()>().await;
    }));
    assert_eq!((closed.by_peer, closed.close), (true, Some(Close::Protocol)), "{closed:?}");
    stop.store(true, Ordering::SeqCst);
    client.join().expect("no request failed");
    assert_eq!(tunnels(&bed, "vm-1"), before);
    eventually("operators are told", Duration::from_secs(3), || {
        bed.hub
            .json(&["events"])
            .as_array()
            .unwrap()
            .iter()
            .any(|event| event["subject"] == "sim-garbage" && event.to_string().contains("control stream"))
    });
}

#[test]
fn an_agent_of_another_protocol_version_is_refused_and_both_sides_hear_which_versions_there_are() {
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }")));
    let closed = runtime().block_on(closed_after(&bed, "sim-old", |control| async move {
        let time_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64);
        let hello = FromAgent::Hello(AgentHello { version: 99, software: "simulated".into(), instance: "one".into(), time_ms, zone: None });
        let answers = move |_from_hub| futures_util::stream::iter([Ok(hello.into())]).chain(futures_util::stream::pending()).boxed();
        let _ = figspan_tunnel::grpc::serve(control, answers).await;
    }));
    assert_eq!((closed.by_peer, closed.close), (true, Some(Close::Version)), "{closed:?}");
    assert!(closed.detail.contains("version"), "{closed:?}");
    let why = "speaks version 99 of the control protocol, this hub 1 to 1";
    eventually("operators are told", Duration::from_secs(3), || bed.hub.json(&["events"]).to_string().contains(why));
    eventually("the log says it", Duration::from_secs(3), || bed.hub.log("hub").contains(why));
}

#[test]
fn a_flood_of_advertisements_is_held_back_and_ended_while_others_are_served() {
    let shop = Workload::named("shop");
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }"))).agent("vm-1", &shop.uplink("shop", "")).ready("shop", 1);
    let before = bed.hub.process.rss();
    let stop = Arc::new(AtomicBool::new(false));
    let client = ask_on(bed.web(), &stop);
    let runtime = runtime();
    let agent = runtime.block_on(async { Simulated::connect(&bed.hub, &join(&bed.hub, "sim-flood", "*").await, 1).await });
    for number in 0..60_000_u64 {
        let mut uplink = uplink(&format!("flood-{}", number % 100));
        uplink.weight = u32::try_from(number % 90 + 1).unwrap().try_into().unwrap();
        agent.say(FromAgent::Upsert { generation: number + 2, uplink });
    }
    let closed = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), agent.tunnel.closed()).await });
    let closed = closed.expect("the hub loses its patience");
    assert_eq!(closed.close, Some(Close::Protocol), "{closed:?}");
    stop.store(true, Ordering::SeqCst);
    let (asked, slowest) = client.join().expect("no request of others failed");
    assert!(slowest < Duration::from_secs(2), "one of {asked} requests took {slowest:?}");
    assert!(bed.hub.process.rss() - before < 64.0, "{before} MiB before, {} after", bed.hub.process.rss());
    eventually("what it offered is withdrawn", Duration::from_secs(3), || {
        let uplinks = bed.hub.json(&["get", "uplinks"]);
        let mut flooded = uplinks.as_array().unwrap().iter().filter(|uplink| uplink["name"] != "shop");
        flooded.all(|uplink| {
            uplink["endpoints"].as_array().is_none_or(|endpoints| endpoints.iter().all(|endpoint| endpoint["accepts"] == false))
        })
    });
    eventually("operators are told", Duration::from_secs(3), || bed.hub.json(&["events"]).to_string().contains("entries a second"));
}

#[test]
fn an_uplink_that_flaps_is_dampened_and_disturbs_nobody() {
    let shop = Workload::named("shop");
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }"))).agent("vm-1", &shop.uplink("shop", "")).ready("shop", 1);
    let runtime = runtime();
    let agent = runtime.block_on(async { Simulated::connect(&bed.hub, &join(&bed.hub, "sim-flaps", "*").await, 0).await });
    let generation = || bed.hub.json(&["status"])["generation"].as_u64().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let client = ask_on(bed.web(), &stop);
    let (before, start) = (generation(), Instant::now());
    for _ in 0..3000 {
        agent.advertise("flaps");
        agent.withdraw("flaps");
    }
    agent.advertise("steady");
    eventually("the last word counts", Duration::from_secs(10), || bed.hub.json(&["get", "uplinks"]).to_string().contains("steady"));
    let (published, took) = (generation() - before, start.elapsed());
    stop.store(true, Ordering::SeqCst);
    let (asked, slowest) = client.join().expect("no request of others failed");
    assert!(slowest < Duration::from_secs(1), "one of {asked} took {slowest:?}");
    // At most one publication in 5 ms (`SPACING` of figspan-control), and a few that began before.
    let most = took.as_millis() / 5 + 20;
    assert!(u128::from(published) <= most, "{published} snapshots in {took:?}");
}

#[test]
fn of_sixteen_vms_that_redeem_one_grant_at_once_exactly_one_joins() {
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }")));
    let folder = &bed.hub.folder;
    let grant = bed.hub.json(&["grant", "create", "vm-1", "--uplinks", "shop", "--ttl", "5m"]);
    std::fs::write(folder.join("shared.token"), grant["token"].as_str().unwrap()).unwrap();
    let racers: Vec<_> = (0..16)
        .map(|number| {
            let file = format!("racer-{number}.toml");
            std::fs::write(folder.join(&file), format!("state_dir = \"{}/racer-{number}\"\n", folder.display())).unwrap();
            let mut command = std::process::Command::new(binary("figspan-agent"));
            command.current_dir(folder).args(["join", "--config", &file, "--token-file", "shared.token"]);
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let outputs: Vec<_> = racers.into_iter().map(|racer| racer.wait_with_output().unwrap()).collect();
    let winners: Vec<_> = (0..16).filter(|number| outputs[*number].status.success()).collect();
    assert_eq!(winners.len(), 1, "{:?}", outputs.iter().map(text).collect::<Vec<_>>());
    for (number, output) in outputs.iter().enumerate().filter(|(number, _)| *number != winners[0]) {
        assert!(text(output).contains("redeemed") && output.status.code() == Some(77), "{}", text(output));
        assert!(!folder.join(format!("racer-{number}/identity/chain.pem")).exists(), "a loser has no certificate");
    }
    let joined = bed.hub.json(&["events"]).as_array().unwrap().iter().filter(|event| event["kind"] == "join").count();
    assert_eq!(joined, 1, "{}", bed.hub.json(&["events"]));
}

#[test]
fn a_full_workload_passes_a_post_on_to_its_sibling() {
    let held = Arc::new(AtomicBool::new(true));
    let hold = Arc::clone(&held);
    let busy = Workload::http(move |request| {
        while request.target() == "/hold" && hold.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        ok("busy")
    });
    let free = Workload::named("free");
    let mut bed = Bed::start(&http(&rule("{ uplink = \"shop\" }")))
        .agent("vm-1", &busy.uplink("shop", "max_connections = 1\nhealth = { type = \"none\" }"))
        .ready("shop", 1);
    let web = bed.web();
    let holding = std::thread::spawn(move || Connection::open(web).get("/hold").status());
    eventually("its one place is taken", Duration::from_secs(5), || busy.seen() == 1);
    let alone = bed.client().post("/", b"x");
    assert_eq!(alone.status(), 503, "nobody else is there: {alone:?}");
    assert!(alone.field("proxy-status").contains("error="), "{alone:?}");
    bed = bed.agent("vm-2", &free.uplink("shop", "health = { type = \"none\" }")).ready("shop", 2);
    for _ in 0..10 {
        assert_eq!(bed.client().post("/", b"x").text(), "free");
    }
    held.store(false, Ordering::SeqCst);
    assert_eq!((holding.join().unwrap(), busy.seen(), free.seen()), (200, 1, 10));
}
