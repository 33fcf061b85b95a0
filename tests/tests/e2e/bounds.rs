//! Limits of a backend as a whole: a bounded number gets in, a bounded number waits, and the rest hears when to come back.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use figspan_tests::bed::{Bed, http, rule};
use figspan_tests::process::eventually;
use figspan_tests::web::{Connection, Message, Workload, ok};

const NO_CHECK: &str = "health = { type = \"none\" }";

/// Whether answers may go, requests now, and the most at once.
#[derive(Default)]
struct Work {
    open: bool,
    now: usize,
    most: usize,
}

/// A workload that answers only when it may, and knows the most that it had to do at once.
struct Held {
    workload: Workload,
    gate: Arc<(Mutex<Work>, Condvar)>,
}

impl Held {
    fn start() -> Self {
        let gate: Arc<(Mutex<Work>, Condvar)> = Arc::default();
        let inner = Arc::clone(&gate);
        let workload = Workload::http(move |_| {
            let (state, opened) = &*inner;
            let mut state = state.lock().unwrap();
            state.now += 1;
            state.most = state.most.max(state.now);
            let (mut state, _) = opened.wait_timeout_while(state, Duration::from_secs(10), |state| !state.open).unwrap();
            state.now -= 1;
            ok("held")
        });
        Self { workload, gate }
    }

    /// Lets all answers go, from now on.
    fn open(&self) {
        self.gate.0.lock().unwrap().open = true;
        self.gate.1.notify_all();
    }

    /// Most requests at once so far.
    fn most(&self) -> usize {
        self.gate.0.lock().unwrap().most
    }
}

fn config(backends: &str, limits: &str) -> String {
    http(&rule(backends)) + &format!("\n[[backend_policy]]\nuplink = \"shop\"\nlimits = {{ {limits} }}\n")
}

fn bed(held: &Held, limits: &str) -> Bed {
    Bed::start(&config("{ uplink = \"shop\" }", limits)).agent("vm-1", &held.workload.uplink("shop", NO_CHECK)).ready("shop", 1)
}

/// A request on a thread of its own.
fn later(bed: &Bed) -> std::thread::JoinHandle<Message> {
    let web = bed.web();
    std::thread::spawn(move || Connection::open(web).get("/"))
}

/// What `get backends` says of a bound: used, waiting.
fn bound(bed: &Bed, which: &str) -> (u64, u64) {
    let told = bed.hub.json(&["get", "backends"])[0][which].clone();
    (told["used"].as_u64().unwrap(), told["waiting"].as_u64().unwrap())
}

fn hits(bed: &Bed, limit: &str) -> u64 {
    let name = format!("figspan_limit_hits_total{{limit=\"{limit}\"}}");
    bed.metrics().lines().find_map(|line| line.strip_prefix(&name)?.trim().parse().ok()).unwrap_or(0)
}

fn is_full(answer: &Message) -> bool {
    (answer.status(), answer.field("retry-after"), answer.field("figspan-reason")) == (503, "1", "backend-limit")
        && answer.field("proxy-status") == "figspan; error=connection_limit_reached; details=\"backend-limit\""
}

#[test]
fn requests_beyond_the_bound_wait_in_a_bounded_queue_and_the_next_is_refused_at_once() {
    let held = Held::start();
    let bed = bed(&held, "requests = 1, pending = 1, wait = \"10s\"");
    let first = later(&bed);
    eventually("one is under way", Duration::from_secs(5), || bound(&bed, "requests") == (1, 0));
    let second = later(&bed);
    eventually("one waits", Duration::from_secs(5), || bound(&bed, "requests") == (1, 1));
    let begun = Instant::now();
    let third = bed.get("/");
    assert!(is_full(&third), "{third:?}");
    assert!(begun.elapsed() < Duration::from_secs(3), "a full queue refuses at once");
    assert_eq!((held.workload.seen(), hits(&bed, "backend_requests")), (1, 1));
    held.open();
    assert_eq!((first.join().unwrap().text(), second.join().unwrap().text()), ("held".to_owned(), "held".to_owned()));
    assert_eq!((held.most(), bound(&bed, "requests").1), (1, 0), "never two at once");
    eventually("its room is free", Duration::from_secs(5), || bound(&bed, "requests") == (0, 0));
}

#[test]
fn a_request_waits_no_longer_than_it_may_and_a_tier_below_takes_it_where_there_is_one() {
    let (held, spare) = (Held::start(), Workload::named("spare"));
    let limits = "requests = 1, wait = \"300ms\"";
    let bed = bed(&held, limits);
    let first = later(&bed);
    eventually("one is under way", Duration::from_secs(5), || bound(&bed, "requests") == (1, 0));
    let begun = Instant::now();
    let second = bed.get("/");
    assert!(is_full(&second) && begun.elapsed() >= Duration::from_millis(300), "{:?}: {second:?}", begun.elapsed());
    let service = format!("\n[[service]]\nname = \"spare\"\naddresses = [\"{}\"]\n", spare.address);
    bed.hub.rewrite(&(config("{ uplink = \"shop\" }, { service = \"spare\", fallback = 1 }", limits) + &service));
    eventually("the spare takes what finds no room, a POST too", Duration::from_secs(5), || {
        bed.client().post("/", b"order").text() == "spare"
    });
    assert_eq!(held.workload.seen(), 1);
    held.open();
    assert_eq!(first.join().unwrap().text(), "held", "what was under way outlives the reload");
}

#[test]
fn connections_are_bounded_exactly_and_an_idle_one_serves_who_waits() {
    let held = Held::start();
    let bed = bed(&held, "connections = 1, pending = 8, wait = \"1s\"");
    let first = later(&bed);
    eventually("one is open", Duration::from_secs(5), || bound(&bed, "connections").0 == 1 && held.workload.seen() == 1);
    let refused = bed.get("/");
    assert!(is_full(&refused), "{refused:?}");
    assert_eq!(hits(&bed, "backend_connections"), 1);
    held.open();
    assert_eq!(first.join().unwrap().text(), "held");
    let burst: Vec<_> = (0..6).map(|_| later(&bed)).collect();
    let answers: Vec<Message> = burst.into_iter().map(|answer| answer.join().unwrap()).collect();
    assert!(answers.iter().all(|answer| answer.text() == "held"), "{answers:?}");
    assert_eq!((held.most(), bound(&bed, "connections").0), (1, 1), "never two connections, whoever asks");
}
