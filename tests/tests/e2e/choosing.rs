//! Who gets a request: hashes that hold over restarts, load that decides, endpoints that warm up first, the hub's own zone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use figspan_tests::bed::{Bed, http, rule};
use figspan_tests::process::eventually;
use figspan_tests::web::{Workload, ok};

fn policy(uplink: &str, asked: &str) -> String {
    format!("\n[[backend_policy]]\nuplink = \"{uplink}\"\nload_balancing = {{ {asked} }}\n")
}

#[test]
fn a_hashed_key_stays_over_a_restart_and_a_raised_weight_moves_only_what_it_adds() {
    const KEYS: usize = 200;
    let (one, two, new) = (Workload::named("one"), Workload::named("two"), Workload::named("new"));
    let config = |old: u32, new: u32| {
        let rule = rule(&format!("{{ uplink = \"old\", weight = {old} }}, {{ uplink = \"new\", weight = {new} }}"));
        http(&(rule + "hash = { on = \"header:x-user\" }\n"))
    };
    let mut bed = Bed::start(&config(90, 10))
        .agent("vm-1", &(one.uplink("old", "") + &new.uplink("new", "")))
        .agent("vm-2", &two.uplink("old", ""))
        .ready("old", 2)
        .ready("new", 1);
    let places = |bed: &Bed| -> Vec<String> {
        let mut client = bed.client();
        let place = |key| client.ask("GET", "/", &format!("x-user: u{key}\r\n"), b"").expect("an answer").text();
        (0..KEYS).map(place).collect()
    };
    let on = |places: &[String], name: &str| places.iter().filter(|place| *place == name).count();
    let first = places(&bed);
    assert_eq!(places(&bed), first, "the same key, the same place");
    assert!((10..=32).contains(&on(&first, "new")), "a tenth: {}", on(&first, "new"));
    assert!(on(&first, "one").min(on(&first, "two")) > KEYS / 4, "the agents share the rest: {first:?}");

    bed.hub.rewrite(&config(75, 25));
    eventually("the raised weight is in force", Duration::from_secs(5), || places(&bed) != first);
    let second = places(&bed);
    assert!((36..=66).contains(&on(&second, "new")), "a quarter: {}", on(&second, "new"));
    for (key, (before, after)) in first.iter().zip(&second).enumerate() {
        assert!(before == after || after == "new", "u{key} moved from {before} to {after}");
    }

    bed.hub.restart();
    bed.hub.accepts("old", 2);
    bed.hub.accepts("new", 1);
    assert_eq!(places(&bed), second);
}

#[test]
fn by_load_an_agent_that_answers_slowly_gets_less_than_its_weight() {
    let fast = Workload::named("fast");
    let slow = Workload::http(|request| {
        if request.target() != "/healthz" {
            std::thread::sleep(Duration::from_millis(100));
        }
        ok("slow")
    });
    let bed = Bed::start(&(http(&rule("{ uplink = \"shop\" }")) + &policy("shop", "method = \"LeastLoad\"")))
        .agent("vm-1", &fast.uplink("shop", ""))
        .agent("vm-2", &slow.uplink("shop", "weight = 200"))
        .ready("shop", 2);
    let clients: Vec<_> = (0..4).map(|_| bed.client()).collect();
    let load =
        clients.into_iter().map(|mut client| std::thread::spawn(move || (0..50).for_each(|_| assert_eq!(client.get("/").status(), 200))));
    load.collect::<Vec<_>>().into_iter().for_each(|client| client.join().unwrap());
    assert_eq!(fast.seen() + slow.seen(), 200);
    assert!(slow.seen() < 50, "by weight it would have 133, and has {}", slow.seen());
}

/// How an endpoint of the first backend stands.
fn verdict(bed: &Bed, name: &str) -> String {
    let backends = bed.hub.json(&["get", "backends"]);
    let endpoints = backends[0]["endpoints"].as_array().cloned().unwrap_or_default();
    let found = endpoints.iter().find(|endpoint| endpoint["name"] == name);
    found.and_then(|endpoint| endpoint["verdict"].as_str()).unwrap_or_default().to_owned()
}

#[test]
fn an_address_that_the_hubs_own_checks_bring_back_comes_to_its_share_by_and_by() {
    let healthy = Arc::new(AtomicBool::new(true));
    let state = Arc::clone(&healthy);
    let moody = Workload::http(move |request| {
        let down = request.target() == "/healthz" && !state.load(Ordering::SeqCst);
        if down { "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".to_owned() } else { ok("moody") }
    });
    let steady = Workload::named("steady");
    let [one, two] = [steady.address, moody.address].map(|address| address.to_string());
    let service = format!("[[service]]\nname = \"orders\"\naddresses = [\"{one}\", \"{two}\"]\n\n");
    let check = "health_check = { type = \"http\", path = \"/healthz\", interval = \"50ms\", rise = 1, fall = 1 }\n";
    let policy = format!("\n[[backend_policy]]\nservice = \"orders\"\nload_balancing = {{ slow_start = \"2s\" }}\n{check}");
    let bed = Bed::start(&(service + &http(&rule("{ service = \"orders\" }")) + &policy));
    let mut client = bed.client();
    let mut of_40 = || (0..40).filter(|_| client.get("/").text() == "moody").count();
    let all_warm = || verdict(&bed, &one) == "ready" && verdict(&bed, &two) == "ready";
    eventually("both are warm", Duration::from_secs(10), all_warm);
    assert_eq!(of_40(), 20);

    healthy.store(false, Ordering::SeqCst);
    eventually("a check has failed", Duration::from_secs(10), || verdict(&bed, &two) == "unready");
    assert_eq!(of_40(), 0);
    healthy.store(true, Ordering::SeqCst);
    eventually("it is back", Duration::from_secs(10), || verdict(&bed, &two) == "slow-starting");
    let cold = of_40();
    assert!((1..14).contains(&cold), "about a tenth of its share at first, and had {cold} of 40");
    assert_eq!(verdict(&bed, &one), "ready", "the other one stays warm");
    eventually("it has its whole share", Duration::from_secs(10), || of_40() == 20);
}

#[test]
fn an_agent_that_has_recovered_comes_to_its_share_by_and_by() {
    let healthy = Arc::new(AtomicBool::new(false));
    let state = Arc::clone(&healthy);
    let moody = Workload::http(move |request| {
        let down = request.target() == "/healthz" && !state.load(Ordering::SeqCst);
        if down { "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".to_owned() } else { ok("moody") }
    });
    let steady = Workload::named("steady");
    let check = "health = { type = \"http\", path = \"/healthz\", interval = \"50ms\", rise = 1, fall = 1 }";
    let bed = Bed::start(&(http(&rule("{ uplink = \"shop\" }")) + &policy("shop", "slow_start = \"2s\"")))
        .agent("vm-1", &steady.uplink("shop", check))
        .agent("vm-2", &moody.uplink("shop", check));
    eventually("one agent is warm", Duration::from_secs(10), || verdict(&bed, "vm-1") == "ready");
    eventually("the other is known and not ready", Duration::from_secs(10), || verdict(&bed, "vm-2") == "unready");
    let mut client = bed.client();
    healthy.store(true, Ordering::SeqCst);
    eventually("it is back", Duration::from_secs(10), || client.get("/").text() == "moody");
    let mut of_40 = || (0..40).filter(|_| client.get("/").text() == "moody").count();
    let cold = of_40();
    assert!(cold < 14, "about a tenth of its share at first, and had {cold} of 40");
    eventually("it has its whole share", Duration::from_secs(10), || of_40() == 20);
}

#[test]
fn the_hubs_own_zone_goes_first_until_nobody_is_ready_there() {
    let sick = Arc::new(AtomicBool::new(false));
    let state = Arc::clone(&sick);
    let near = Workload::http(move |request| {
        let down = request.target() == "/healthz" && state.load(Ordering::SeqCst);
        if down { "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".to_owned() } else { ok("near") }
    });
    let far = Workload::named("far");
    let cluster = [Workload::named("cluster-a"), Workload::named("cluster-b")];
    let check = "health = { type = \"http\", path = \"/healthz\", interval = \"50ms\", rise = 1, fall = 1 }\n";
    let [a, b] = cluster.each_ref().map(|workload| workload.address);
    let service = format!(
        "[[service]]\nname = \"orders\"\naddresses = [{{ address = \"{a}\", zone = \"eu-1a\" }}, {{ address = \"{b}\", zone = \"eu-1b\" }}]\n\n"
    );
    let config = service
        + &http(&rule("{ uplink = \"shop\", weight = 3 }, { service = \"orders\", weight = 1 }"))
        + &policy("shop", "zone = \"prefer\"")
        + "[[backend_policy]]\nservice = \"orders\"\nload_balancing = { zone = \"prefer\" }\n";
    let bed = Bed::start_with("zone = \"eu-1b\"\n", &config)
        .agent_in("eu-1a", "vm-1", &far.uplink("shop", &format!("weight = 900\n{check}")))
        .agent_in("eu-1b", "vm-2", &near.uplink("shop", check))
        .ready("shop", 2);
    let counts = |requests: usize| {
        let mut client = bed.client();
        let answers: Vec<String> = (0..requests).map(|_| client.get("/").text()).collect();
        ["near", "far", "cluster-a", "cluster-b"].map(|name| answers.iter().filter(|answer| *answer == name).count())
    };
    assert_eq!(counts(40), [30, 0, 0, 10], "the shares of the backends as asked, each within the zone");

    let explained = |word: &str| {
        let told = bed.hub.json(&["explain", "GET", "http://shop.example/"])["why"].to_string();
        assert!(told.contains(word), "{word} is not in {told}");
    };
    explained("it prefers zone eu-1b, the hub's own, and an endpoint there takes it");
    let shown = bed.hub.json(&["get", "backends"]);
    let zones = |backend: usize| {
        let shown: Vec<_> = shown[backend]["endpoints"].as_array().unwrap().iter().map(|at| at["zone"].to_string()).collect();
        shown.into_iter().collect::<std::collections::BTreeSet<_>>()
    };
    let both = ["\"eu-1a\"", "\"eu-1b\""].map(str::to_owned).into();
    assert_eq!((zones(0), zones(1)), (std::collections::BTreeSet::clone(&both), both));
    let about = bed.hub.json(&["get", "agents"]);
    assert_eq!((&about[0]["zone"], &about[1]["zone"]), (&"eu-1a".into(), &"eu-1b".into()));
    let metric = |zone: &str| {
        let text = bed.metrics();
        let line =
            text.lines().find_map(|line| line.strip_prefix(&format!("figspan_zone_choices_total{{zone=\"{zone}\"}} ")).map(str::to_owned));
        line.and_then(|value| value.parse::<u64>().ok()).unwrap_or_default()
    };
    assert_eq!((metric("near"), metric("far")), (40, 0));

    sick.store(true, Ordering::SeqCst);
    let accepting = || {
        let uplinks = bed.hub.json(&["get", "uplinks"]);
        uplinks[0]["endpoints"].as_array().unwrap().iter().filter(|endpoint| endpoint["accepts"] == true).count()
    };
    eventually("nobody accepts in the zone", Duration::from_secs(10), || accepting() == 1);
    assert_eq!(counts(40), [0, 30, 0, 10], "traffic crosses, and the shares stay");
    assert_eq!(metric("far"), 30);
    sick.store(false, Ordering::SeqCst);
    bed.hub.accepts("shop", 2);
    assert_eq!(counts(40), [30, 0, 0, 10], "and returns");

    bed.hub.rewrite_with("zone = \"eu-1a\"\n", &config);
    eventually("the hub has moved", Duration::from_secs(5), || counts(4) == [0, 3, 1, 0]);
}
