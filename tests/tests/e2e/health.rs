//! Breakers, ejection, checks of services and failover, through real hub and agents.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use figspan_tests::bed::{Bed, http, rule};
use figspan_tests::process::eventually;
use figspan_tests::web::{Connection, Message, Workload, ok};

const CHECK: &str = "health = { type = \"http\", path = \"/healthz\", interval = \"100ms\", rise = 1, fall = 1 }";

const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";

fn service(name: &str, addresses: &[SocketAddr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
    format!("[[service]]\nname = \"{name}\"\naddresses = {addresses:?}\n\n")
}

/// A workload whose answers can be broken.
fn breakable(name: &'static str) -> (Workload, Arc<AtomicBool>) {
    let broken = Arc::new(AtomicBool::new(false));
    let state = Arc::clone(&broken);
    let workload =
        Workload::http(
            move |request| {
                if state.load(Ordering::SeqCst) && request.target() != "/healthz" { UNAVAILABLE.to_owned() } else { ok(name) }
            },
        );
    (workload, broken)
}

fn is_breaker(answer: &Message) -> bool {
    answer.status() == 503 && answer.field("proxy-status").contains("breaker-open") && answer.field("retry-after") == "1"
}

#[test]
fn killing_the_member_with_all_the_weight_is_a_503_at_once_and_traffic_resumes_without_a_reload() {
    let (old, new) = (Workload::named("old"), Workload::named("new"));
    let mut bed = Bed::start(&http(&rule("{ uplink = \"old\", weight = 0 }, { uplink = \"new\", weight = 1 }")))
        .agent("vm-old", &old.uplink("old", CHECK))
        .agent("vm-new", &new.uplink("new", CHECK))
        .ready("old", 1)
        .ready("new", 1);
    assert_eq!(bed.get("/").text(), "new");
    drop(bed.agents.remove("vm-new"));
    let killed = Instant::now();
    // There is nobody else to ask, and a tunnel that is silent may come back: the request waits until the tunnel counts as dead.
    let first = bed.get("/");
    assert!(matches!(first.status(), 502..=504) && first.field("proxy-status").contains("error="), "{first:?}");
    assert!(killed.elapsed() < Duration::from_secs(8), "an answer, not a hang: {:?}", killed.elapsed());
    eventually("nobody is ready", Duration::from_secs(5), || bed.get("/").status() == 503);
    assert_eq!(bed.get("/").field("retry-after"), "1");
    bed.agents.insert("vm-new".to_owned(), bed.hub.run_agent("vm-new"));
    eventually("it is back", Duration::from_secs(10), || bed.get("/").text() == "new");
    assert_eq!(old.seen(), 0, "weight 0 gets nothing, whoever dies");
}

#[test]
fn a_fallback_takes_over_within_the_same_request_over_http_and_tcp() {
    let (main, spare) = (Workload::named("main"), Workload::named("spare"));
    let backends = "{ uplink = \"main\", weight = 1 }, { service = \"spare\", fallback = 1 }";
    let tcp = "\n[[listener]]\nname = \"db\"\naddress = \"127.0.0.1:0\"\nprotocol = \"TCP\"\n\n[[tcp_route]]\nname = \"db\"\nlisteners = [\"db\"]\n\
         backend_refs = [{ uplink = \"raw\", weight = 1 }, { service = \"spare\", fallback = 1 }]\n";
    let config = service("spare", &[spare.address]) + &http(&rule(backends)) + tcp;
    let uplinks = main.uplink("main", CHECK) + &main.uplink("raw", "protocol = \"tcp\"");
    let mut bed = Bed::start(&config).agent("vm-main", &uplinks).ready("main", 1).ready("raw", 1);
    let db = bed.hub.listener(1);
    let over_tcp = || Connection::open(db).get("/").text();
    assert_eq!((bed.get("/").text(), over_tcp()), ("main".to_owned(), "main".to_owned()));
    drop(bed.agents.remove("vm-main"));
    for _ in 0..5 {
        assert_eq!(bed.get("/").text(), "spare", "no request fails");
    }
    eventually("connections go to the fallback", Duration::from_secs(5), || over_tcp() == "spare");
    bed.agents.insert("vm-main".to_owned(), bed.hub.run_agent("vm-main"));
    eventually("http is back", Duration::from_secs(10), || bed.get("/").text() == "main");
    eventually("tcp is back", Duration::from_secs(10), || over_tcp() == "main");
}

#[test]
fn a_breaker_opens_at_half_errors_answers_503_by_itself_and_closes_after_its_probes() {
    let (shop, broken) = breakable("shop");
    let policy = "[[backend_policy]]\nuplink = \"shop\"\ncircuit_breaker = { error_ratio = 0.5, min_requests = 10, window = \"10s\", open = \"500ms\", probes = 2 }\n";
    let bed =
        Bed::start(&(http(&rule("{ uplink = \"shop\" }")) + "\n" + policy)).agent("vm-1", &shop.uplink("shop", CHECK)).ready("shop", 1);
    assert_eq!(bed.get("/").text(), "shop");
    broken.store(true, Ordering::SeqCst);
    let mut client = bed.client();
    eventually("the breaker opens", Duration::from_secs(10), || is_breaker(&client.get("/")));
    let seen = shop.seen();
    for _ in 0..20 {
        let answer = client.get("/");
        if !is_breaker(&answer) {
            break;
        }
    }
    assert!(shop.seen() <= seen + 2, "an open breaker spares the workload: {} after {seen}", shop.seen());
    broken.store(false, Ordering::SeqCst);
    eventually("probes close it", Duration::from_secs(10), || client.get("/").status() == 200);
    eventually("it has closed", Duration::from_secs(5), || {
        client.get("/");
        bed.metrics().contains("figspan_health_changes_total{change=\"breaker_closed\"} 1")
    });
}

#[test]
fn a_breaker_sheds_tcp_connections_to_a_backend_that_refuses_them_and_the_fallback_gets_them() {
    let spare = Workload::named("spare");
    let gone = Workload::named("gone");
    let dead = gone.address;
    drop(gone);
    let policy = "[[backend_policy]]\nservice = \"dead\"\ncircuit_breaker = { min_requests = 3, open = \"60s\" }\n\n";
    let config = service("spare", &[spare.address])
        + &service("dead", &[dead])
        + policy
        + "[[listener]]\nname = \"db\"\naddress = \"127.0.0.1:0\"\nprotocol = \"TCP\"\n\n[[tcp_route]]\nname = \"db\"\nlisteners = [\"db\"]\n\
           backend_refs = [{ service = \"dead\" }, { service = \"spare\", fallback = 1 }]\n";
    let bed = Bed::start(&config);
    let failures = || {
        let metrics = bed.metrics();
        let line = metrics
            .lines()
            .find(|line| line.starts_with("figspan_failures_total") && line.contains("connect-refused"))
            .unwrap_or("0")
            .to_owned();
        line.rsplit(' ').next().and_then(|count| count.parse::<u32>().ok()).unwrap()
    };
    eventually("the breaker opens", Duration::from_secs(10), || {
        assert_eq!(bed.get("/").text(), "spare");
        bed.metrics().contains("figspan_health_changes_total{change=\"breaker_opened\"} 1")
    });
    let before = failures();
    for _ in 0..10 {
        assert_eq!(bed.get("/").text(), "spare");
    }
    assert_eq!(failures(), before, "nobody knocks there any more");
}

#[test]
fn an_endpoint_that_fails_three_times_in_a_row_is_left_out_and_the_last_one_is_not() {
    let ((one, one_broken), (two, two_broken)) = (breakable("one"), breakable("two"));
    let policy = "[[backend_policy]]\nservice = \"shop\"\noutlier_ejection = { base = \"60s\" }\n\n";
    let bed = Bed::start(&(service("shop", &[one.address, two.address]) + policy + &http(&rule("{ service = \"shop\" }"))));
    one_broken.store(true, Ordering::SeqCst);
    let statuses: Vec<u16> = (0..40).map(|_| bed.get("/").status()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 503).count(), 3, "{statuses:?}");
    let seen = one.seen();
    two_broken.store(true, Ordering::SeqCst);
    for _ in 0..10 {
        assert_eq!(bed.get("/").field("figspan-reason"), "", "an answer of the workload, not of the hub");
    }
    assert_eq!(one.seen(), seen, "the ejected one stays out");
    assert!(two.seen() >= 10 + 37, "the last one is never ejected");
    assert!(bed.metrics().contains("figspan_health_changes_total{change=\"ejected\"} 1"));
}

#[test]
fn an_address_of_a_service_that_is_down_gets_no_request_until_it_is_up() {
    let healthy = Arc::new(AtomicBool::new(true));
    let state = Arc::clone(&healthy);
    let moody =
        Workload::http(
            move |request| {
                if request.target() == "/healthz" && !state.load(Ordering::SeqCst) { UNAVAILABLE.to_owned() } else { ok("moody") }
            },
        );
    let steady = Workload::named("steady");
    let policy = "[[backend_policy]]\nservice = \"shop\"\nhealth_check = { type = \"http\", path = \"/healthz\", interval = \"50ms\", rise = 1, fall = 1 }\n\n";
    let bed = Bed::start(&(service("shop", &[moody.address, steady.address]) + policy + &http(&rule("{ service = \"shop\" }"))));
    let both = || (0..4).map(|_| bed.get("/").text()).any(|text| text == "moody");
    eventually("both are used", Duration::from_secs(5), both);
    healthy.store(false, Ordering::SeqCst);
    eventually("the sick one is left out", Duration::from_secs(5), || bed.hub.log("hub").contains("address of a service is down"));
    let before = moody.seen();
    for _ in 0..10 {
        assert_eq!(bed.get("/").text(), "steady");
    }
    assert_eq!(moody.seen(), before);
    healthy.store(true, Ordering::SeqCst);
    eventually("it is back", Duration::from_secs(5), both);
}

/// Asks a hub to read its file again, over one connection to its admin socket.
struct Reloads(UnixStream);

impl Reloads {
    fn once(&mut self) {
        self.0.write_all(b"POST /v1/reload HTTP/1.1\r\nhost: hub\r\ncontent-length: 0\r\n\r\n").unwrap();
        let (mut bytes, mut some) = (Vec::new(), [0; 4096]);
        loop {
            let text = String::from_utf8_lossy(&bytes);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                assert!(head.starts_with("HTTP/1.1 200"), "{text}");
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
                if body.len() >= length.parse().unwrap() {
                    return;
                }
            }
            let count = self.0.read(&mut some).unwrap();
            assert!(count > 0, "the admin socket closed");
            bytes.extend_from_slice(&some[..count]);
        }
    }
}

/// Rules with something to keep over a reload, and what they ask of backends.
const KEPT: &str = r#"
[[http_route.rules]]
name = "sick"
matches = [{ path = { value = "/sick" } }]
backend_refs = [{ service = "sick" }]

[[http_route.rules]]
name = "slow"
matches = [{ path = { value = "/slow" } }]
in_flight = { per = "client", max = 1 }
backend_refs = [{ service = "slow" }]

[[http_route.rules]]
name = "limited"
matches = [{ path = { value = "/limited" } }]
rate_limits = [{ per = "client", requests = 2, period = "1h" }]
backend_refs = [{ service = "shop" }]

[[http_route.rules]]
name = "sticky"
matches = [{ path = { value = "/sticky" } }]
session_persistence = { name = "stay", ttl = "1h" }
backend_refs = [{ uplink = "left" }, { uplink = "right" }]

[[http_route.rules]]
name = "tiers"
matches = [{ path = { value = "/tiers" } }]
failover = { on_status = [503], hold = "10m" }
backend_refs = [{ service = "bad" }, { service = "slow", fallback = 1 }]

[[http_route.rules]]
name = "rest"
backend_refs = [{ service = "shop" }]

[[backend_policy]]
service = "shop"
health_check = { type = "http", path = "/healthz", interval = "200ms" }

[[backend_policy]]
service = "sick"
circuit_breaker = { min_requests = 5, open = "5m" }

[[backend_policy]]
service = "slow"
limits = { requests = 10 }
"#;

/// What operators are told of the state that reloads must not change, in order.
fn kept(bed: &Bed) -> Vec<serde_json::Value> {
    let backends = bed.hub.json(&["get", "backends"]);
    let of = |name: &str| backends.as_array().unwrap().iter().find(|backend| backend["name"] == name).unwrap().clone();
    let tier = bed.hub.json(&["get", "route", "shop"])["rules"][4]["tiers"][0].clone();
    let breaker = &of("sick")["endpoints"][0]["breaker"];
    vec![
        breaker["state"].clone(),
        breaker["opened"].clone(),
        of("slow")["requests"]["used"].clone(),
        of("left")["endpoints"][0]["sessions"].clone(),
        of("right")["endpoints"][0]["sessions"].clone(),
        tier["state"].clone(),
        tier["cause"].clone(),
        tier["failovers"].clone(),
    ]
}

#[test]
fn a_thousand_reloads_under_load_change_no_breaker_limit_session_or_tier_and_nothing_under_way() {
    let (shop, left, right) = (Workload::named("shop"), Workload::named("left"), Workload::named("right"));
    let (waiting, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let slow = {
        let (waiting, over) = (Arc::clone(&waiting), Arc::clone(&over));
        Workload::http(move |request| {
            if request.target() == "/slow" {
                waiting.fetch_add(1, Ordering::SeqCst);
                while !over.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            ok("slow")
        })
    };
    // One member of the service fails its checks from the beginning, one backend of another rule is behind an open breaker.
    let down = Workload::http(|request| if request.target() == "/healthz" { UNAVAILABLE.to_owned() } else { ok("down") });
    let ((sick, sick_broken), (bad, bad_broken)) = (breakable("sick"), breakable("bad"));
    sick_broken.store(true, Ordering::SeqCst);
    let services = service("shop", &[shop.address, down.address])
        + &service("sick", &[sick.address])
        + &service("bad", &[bad.address])
        + &service("slow", &[slow.address]);
    let bed = Bed::start(&(services + &http(KEPT)))
        .agent("vm-1", &(left.uplink("left", "") + &right.uplink("right", "")))
        .ready("left", 1)
        .ready("right", 1);
    eventually("the one that is down is known", Duration::from_secs(5), || bed.hub.log("hub").contains("address of a service is down"));
    eventually("the breaker opens", Duration::from_secs(10), || is_breaker(&bed.get("/sick")));
    assert_eq!(bed.get("/tiers").text(), "bad", "the tier has worked");
    bad_broken.store(true, Ordering::SeqCst);
    eventually("the tier fails", Duration::from_secs(5), || bed.get("/tiers").text() == "slow");
    let limited: Vec<u16> = (0..3).map(|_| bed.get("/limited").status()).collect();
    assert_eq!(limited, [200, 200, 429]);
    let sessions: Vec<(String, String)> = (0..4)
        .map(|_| {
            let answer = bed.get("/sticky");
            (answer.field("set-cookie").split(';').next().unwrap_or_default().to_owned(), answer.text())
        })
        .collect();
    let web = bed.web();
    let under_way = std::thread::spawn(move || Connection::open(web).get("/slow").text());
    eventually("a request is under way", Duration::from_secs(5), || waiting.load(Ordering::SeqCst) == 1);
    let (before, seen) = (kept(&bed), [&down, &sick, &bad, &shop].map(Workload::seen));
    assert_eq!(
        format!("{before:?}"),
        "[String(\"open\"), Number(1), Number(1), Number(2), Number(2), String(\"held\"), String(\"status\"), Number(1)]"
    );

    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..2)
        .map(|client| {
            let (stop, sessions) = (Arc::clone(&stop), sessions.clone());
            std::thread::spawn(move || {
                let (mut client, mut count) = (Connection::open(web), client);
                while !stop.load(Ordering::SeqCst) {
                    assert_eq!(client.get("/").text(), "shop");
                    assert!(is_breaker(&client.get("/sick")), "the breaker stays open");
                    assert_eq!(client.get("/limited").status(), 429, "the debt stays");
                    assert_eq!(client.get("/slow").status(), 429, "one is under way");
                    assert_eq!(client.get("/tiers").text(), "slow", "the tier stays held");
                    let (cookie, side) = &sessions[count % sessions.len()];
                    let answer = client.ask("GET", "/sticky", &format!("cookie: {cookie}\r\n"), b"").unwrap();
                    assert_eq!((&answer.text(), answer.field("set-cookie")), (side, ""), "a session stays, and is known");
                    count += 1;
                }
                count
            })
        })
        .collect();
    let mut reloads = Reloads(UnixStream::connect(bed.hub.folder.join("admin.sock")).unwrap());
    for _ in 0..1000 {
        reloads.once();
    }
    stop.store(true, Ordering::SeqCst);
    let served: usize = load.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert!(served > 50, "under load: {served}");
    assert_eq!([&down, &sick, &bad].map(Workload::seen), seen[..3], "no request to the member that is down, to the cut off, to the held");
    assert_eq!(shop.seen(), seen[3] + served - 1, "each got one answer");
    assert_eq!(kept(&bed), before);
    over.store(true, Ordering::SeqCst);
    assert_eq!(under_way.join().unwrap(), "slow", "what was under way was not cut");
    assert_eq!(bed.get("/slow").text(), "slow", "and its place is free again");
    assert_eq!(kept(&bed)[2], 0);
}
