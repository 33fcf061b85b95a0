//! Ends, wanted and unwanted: nobody's request is lost while another serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use figspan_tests::bed::{Bed, http, rule};
use figspan_tests::web::{Connection, Message, Workload, ok};

fn bed(one: &Workload, two: &Workload) -> Bed {
    Bed::start(&http(&rule("{ uplink = \"shop\" }")))
        .agent("vm-1", &one.uplink("shop", ""))
        .agent("vm-2", &two.uplink("shop", ""))
        .ready("shop", 2)
}

/// Clients that ask again and again until told to stop; what went wrong.
fn ask_on(web: std::net::SocketAddr, post: bool, stop: &Arc<AtomicBool>) -> Vec<std::thread::JoinHandle<(usize, Vec<String>)>> {
    let ask = move |stop: &AtomicBool| {
        let (mut asked, mut wrong) = (0, Vec::new());
        let mut client = Connection::open(web);
        while !stop.load(Ordering::SeqCst) && asked < 100_000 {
            let start = Instant::now();
            let answer = if post { client.post("/", b"one") } else { client.get("/") };
            if answer.status() != 200 || start.elapsed() > Duration::from_secs(3) {
                wrong.push(format!("{} after {:?}: {:?}", answer.status(), start.elapsed(), answer.fields));
            }
            asked += 1;
            std::thread::sleep(Duration::from_millis(3));
        }
        (asked, wrong)
    };
    (0..4)
        .map(|_| {
            std::thread::spawn({
                let stop = Arc::clone(stop);
                move || ask(&stop)
            })
        })
        .collect()
}

fn finish(clients: Vec<std::thread::JoinHandle<(usize, Vec<String>)>>, stop: &AtomicBool) -> usize {
    stop.store(true, Ordering::SeqCst);
    let results: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    let wrong: Vec<_> = results.iter().flat_map(|(_, wrong)| wrong).collect();
    assert!(wrong.is_empty(), "{} went wrong: {:?}", wrong.len(), &wrong[..wrong.len().min(5)]);
    results.iter().map(|(asked, _)| asked).sum()
}

#[test]
fn sigterm_of_an_agent_loses_no_post_while_another_serves() {
    let (one, two) = (Workload::named("one"), Workload::named("two"));
    let mut bed = bed(&one, &two);
    let stop = Arc::new(AtomicBool::new(false));
    let clients = ask_on(bed.web(), true, &stop);
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(400));
        let mut agent = bed.agents.remove("vm-1").unwrap();
        agent.signal("TERM");
        assert!(agent.ended(Duration::from_secs(15)));
        std::thread::sleep(Duration::from_millis(200));
        bed.agents.insert("vm-1".to_owned(), bed.hub.run_agent("vm-1"));
        bed.hub.accepts("shop", 2);
    }
    let asked = finish(clients, &stop);
    assert_eq!(one.seen() + two.seen(), asked, "each POST arrived once");
}

#[test]
fn kill_9_of_an_agent_fails_no_get_and_is_noticed_within_a_second_and_a_half() {
    let (one, two) = (Workload::named("one"), Workload::named("two"));
    let mut bed = bed(&one, &two);
    let stop = Arc::new(AtomicBool::new(false));
    let clients = ask_on(bed.web(), false, &stop);
    std::thread::sleep(Duration::from_millis(500));
    bed.agents.remove("vm-1").unwrap().signal("KILL");
    let killed = Instant::now();
    figspan_tests::process::eventually("the dead agent's endpoint is left out", Duration::from_millis(1500), || {
        let endpoints = bed.hub.json(&["get", "uplinks"])[0]["endpoints"].as_array().cloned().unwrap_or_default();
        endpoints.iter().filter(|endpoint| endpoint["accepts"] == true).count() == 1
    });
    println!("noticed after {:?}", killed.elapsed());
    std::thread::sleep(Duration::from_secs(1));
    finish(clients, &stop);
}

#[test]
fn sigterm_of_the_hub_lets_running_requests_finish() {
    let slow = Workload::http(|request: &Message| {
        if request.target() == "/slow" {
            std::thread::sleep(Duration::from_millis(1500));
        }
        ok("done")
    });
    let mut bed = Bed::start(&http(&rule("{ uplink = \"shop\" }"))).agent("vm-1", &slow.uplink("shop", "")).ready("shop", 1);
    let web = bed.web();
    let running: Vec<_> = (0..8).map(|_| std::thread::spawn(move || Connection::open(web).post("/slow", b"x").status())).collect();
    figspan_tests::process::eventually("all are under way", Duration::from_secs(5), || slow.seen() == 8);
    bed.hub.process.signal("TERM");
    for request in running {
        assert_eq!(request.join().unwrap(), 200);
    }
    assert!(bed.hub.process.ended(Duration::from_secs(10)), "the hub ends by itself, with 0");
}

#[test]
fn a_second_signal_ends_at_once() {
    let stuck = Workload::raw(|mut connection| while connection.some(1024).is_ok_and(|read| !read.is_empty()) {});
    let mut bed = Bed::start(&http(&rule("{ uplink = \"shop\" }"))).agent("vm-1", &stuck.uplink("shop", "")).ready("shop", 1);
    let mut client = bed.client();
    client.send("GET / HTTP/1.1\r\nhost: shop.example\r\n\r\n");
    figspan_tests::process::eventually("it is under way", Duration::from_secs(5), || {
        bed.hub.json(&["get", "uplinks"])[0]["in_flight"] == 1
    });
    let mut agent = bed.agents.remove("vm-1").unwrap();
    for process in [&mut agent, &mut bed.hub.process] {
        process.signal("TERM");
        std::thread::sleep(Duration::from_millis(300));
        process.signal("TERM");
        let start = Instant::now();
        process.ended(Duration::from_secs(3));
        assert!(start.elapsed() < Duration::from_secs(2));
    }
}

#[test]
fn a_request_is_served_within_a_tenth_of_a_second_after_the_agent_advertises() {
    let shop = Workload::named("shop");
    let bed = Bed::start(&http(&rule("{ uplink = \"flip\" }"))).agent("vm-1", &shop.uplink("shop", "")).ready("shop", 1);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let agent = runtime.block_on(async {
        let credentials = figspan_tests::simulated::join(&bed.hub, "sim", "flip").await;
        figspan_tests::simulated::Simulated::connect(&bed.hub, &credentials, 1).await
    });
    let mut times = Vec::new();
    for _ in 0..10 {
        let start = Instant::now();
        agent.advertise("flip");
        figspan_tests::process::eventually("it is served", Duration::from_secs(2), || bed.get("/").status() == 200);
        times.push(start.elapsed());
        agent.withdraw("flip");
        figspan_tests::process::eventually("it is withdrawn", Duration::from_secs(2), || bed.get("/").status() == 503);
        std::thread::sleep(Duration::from_millis(100));
    }
    times.sort();
    assert!(times[5] < Duration::from_millis(100), "{times:?}");
    let start = Instant::now();
    agent.advertise("flip");
    figspan_tests::process::eventually("it is served", Duration::from_secs(2), || bed.get("/").status() == 200);
    agent.tunnel.close(figspan_proto::reset::Close::Done);
    figspan_tests::process::eventually("a dead tunnel withdraws", Duration::from_secs(2), || bed.get("/").status() == 503);
    assert!(start.elapsed() < Duration::from_secs(3));
}
