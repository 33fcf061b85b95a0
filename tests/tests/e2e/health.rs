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

#[test]
fn a_thousand_reloads_under_load_change_no_breaker_no_ejection_and_nothing_under_way() {
    let (shop, slow_started) = {
        let started = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&started);
        let shop = Workload::http(move |request| {
            if request.target() == "/slow" {
                count.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_secs(4));
            }
            ok("shop")
        });
        (shop, started)
    };
    // One member of the service fails its checks from the beginning, one backend of another rule is behind an open breaker.
    let down = Workload::http(|request| if request.target() == "/healthz" { UNAVAILABLE.to_owned() } else { ok("down") });
    let (sick, broken) = breakable("sick");
    broken.store(true, Ordering::SeqCst);
    let policies = "[[backend_policy]]\nservice = \"shop\"\nhealth_check = { type = \"http\", path = \"/healthz\", interval = \"200ms\" }\n\n\
                    [[backend_policy]]\nservice = \"sick\"\ncircuit_breaker = { min_requests = 5, open = \"5m\" }\n\n";
    let rules = "[[http_route.rules]]\nmatches = [{ path = { value = \"/sick\" } }]\nbackend_refs = [{ service = \"sick\" }]\n\n"
        .to_owned()
        + &rule("{ service = \"shop\" }");
    let config = service("shop", &[shop.address, down.address]) + &service("sick", &[sick.address]) + policies + &http(&rules);
    let bed = Bed::start(&config);
    eventually("the one that is down is known", Duration::from_secs(5), || bed.hub.log("hub").contains("address of a service is down"));
    eventually("the breaker opens", Duration::from_secs(10), || is_breaker(&bed.get("/sick")));
    let (down_before, sick_before) = (down.seen(), sick.seen());
    let web = bed.web();
    let slow = std::thread::spawn(move || Connection::open(web).get("/slow").text());
    eventually("a request is under way", Duration::from_secs(5), || slow_started.load(Ordering::SeqCst) == 1);
    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..2)
        .map(|_| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let (mut client, mut count) = (Connection::open(web), 0);
                while !stop.load(Ordering::SeqCst) {
                    assert_eq!(client.get("/").text(), "shop");
                    assert!(is_breaker(&client.get("/sick")), "the breaker stays open");
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
    let served: i32 = load.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert!(served > 100, "under load: {served}");
    assert_eq!((down.seen(), sick.seen()), (down_before, sick_before), "no request to the member that is down");
    assert_eq!(slow.join().unwrap(), "shop", "what was under way was not cut");
    assert!(bed.metrics().contains("figspan_health_changes_total{change=\"breaker_opened\"} 1"));
}
