//! Failover through real hub and agents: what makes a tier fail, how it is held away, and how it comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use figspan_tests::bed::{Bed, http, rule};
use figspan_tests::mortal::Mortal;
use figspan_tests::process::{eventually, text};
use figspan_tests::web::{Connection, Workload, ok};
use serde_json::Value;

const CHECK: &str = "health = { type = \"http\", path = \"/healthz\", interval = \"100ms\", rise = 1, fall = 1 }";

/// A rule with the uplink `main`, and `spare` behind it.
fn guarded(failover: &str) -> String {
    rule("{ uplink = \"main\" }, { uplink = \"spare\", fallback = 1 }") + &format!("failover = {{ {failover} }}\n")
}

fn bed(failover: &str, main: &Workload, spare: &Workload) -> Bed {
    Bed::start(&http(&guarded(failover)))
        .agent("vm-main", &main.uplink("main", ""))
        .agent("vm-spare", &spare.uplink("spare", ""))
        .ready("main", 1)
        .ready("spare", 1)
}

/// Tier 0 of the only rule.
fn tier(bed: &Bed) -> Value {
    bed.hub.json(&["get", "route", "shop"])["rules"][0]["tiers"][0].clone()
}

fn is(bed: &Bed, state: &str) -> bool {
    tier(bed)["state"] == state
}

/// A workload whose answers can be 503.
fn moody(name: &'static str) -> (Workload, Arc<AtomicBool>) {
    let broken = Arc::new(AtomicBool::new(false));
    let state = Arc::clone(&broken);
    let busy = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
    let workload = Workload::http(move |_| if state.load(Ordering::SeqCst) { busy.to_owned() } else { ok(name) });
    (workload, broken)
}

#[test]
fn a_status_moves_the_next_requests_and_repeats_none_and_the_tier_comes_back_by_a_growing_share() {
    let ((main, broken), spare) = (moody("main"), Workload::named("spare"));
    let bed = bed("on_status = [\"503-504\"], hold = \"1s\", failback = \"2s\"", &main, &spare);
    let mut client = bed.client();
    assert_eq!(client.post("/", b"order").text(), "main");
    broken.store(true, Ordering::SeqCst);
    let statuses: Vec<u16> = (0..20).map(|_| client.post("/", b"order").status()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 503).count(), 5, "five of ten: {statuses:?}");
    assert!(statuses[5..].iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!((main.seen(), spare.seen()), (6, 15), "each order once");
    let told = tier(&bed);
    assert_eq!(
        (told["state"].as_str(), told["cause"].as_str(), told["failovers"].as_u64()),
        (Some("held"), Some("status"), Some(1)),
        "{told}"
    );
    let explained = text(&bed.hub.ctl(&["explain", "POST", "http://shop.example/"]));
    assert!(explained.contains("tier 0 is held for") && explained.contains("it failed (status)"), "{explained}");
    assert!(explained.contains("uplink spare on agent vm-spare") && explained.contains("failover: 5 of 10 answers fail"), "{explained}");

    // It is tried after its hold, fails with the first answer, and is left at once.
    eventually("it is tried", Duration::from_secs(5), || client.get("/").status() == 503);
    assert!((0..20).all(|_| client.get("/").text() == "spare"), "one failure is enough while it comes back");
    let metrics = bed.metrics();
    let labels = "route=\"shop\",rule=\"0\",tier=\"0\"";
    for line in [
        format!("figspan_failovers_total{{{labels},cause=\"status\"}} 2"),
        format!("figspan_tier_state{{{labels},state=\"held\"}} 1"),
        format!("figspan_tier_share_ratio{{{labels}}} 0.0"),
        "figspan_share_wanted_ratio{route=\"shop\",rule=\"0\",backend_kind=\"uplink\",backend=\"spare\"} 1.0".to_owned(),
    ] {
        assert!(metrics.contains(&line), "{line} is not in {metrics}");
    }

    broken.store(false, Ordering::SeqCst);
    eventually("it comes back", Duration::from_secs(5), || client.get("/").text() == "main");
    let begun = Instant::now();
    let mut seconds = [[0usize; 2]; 2];
    while begun.elapsed() < Duration::from_secs(2) {
        let answer = client.get("/").text();
        seconds[begun.elapsed().as_secs().min(1) as usize][usize::from(answer == "main")] += 1;
    }
    let share = |[spare, main]: [usize; 2]| main as f64 / (main + spare) as f64;
    assert!((0.15..0.45).contains(&share(seconds[0])) && (0.6..0.95).contains(&share(seconds[1])), "about 29 % and 76 %: {seconds:?}");
    eventually("it is back", Duration::from_secs(2), || client.get("/").text() == "main" && is(&bed, "up"));
    assert!((0..20).all(|_| client.get("/").text() == "main"));
    let log = bed.hub.log("hub");
    for words in ["tier of backends failed", "tier of backends is tried again", "tier of backends is back"] {
        assert!(log.contains(words), "{words}: {log}");
    }
}

#[test]
fn answers_that_do_not_come_in_time_move_the_next_requests_while_the_slow_ones_are_waited_for() {
    let slow = Arc::new(AtomicBool::new(false));
    let state = Arc::clone(&slow);
    let main = Workload::http(move |_| {
        while state.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        ok("main")
    });
    let spare = Workload::named("spare");
    let bed = bed("latency = \"100ms\", hold = \"1m\"", &main, &spare);
    assert_eq!(bed.get("/").text(), "main");
    slow.store(true, Ordering::SeqCst);
    let web = bed.web();
    let waiting: Vec<_> = (0..5).map(|_| std::thread::spawn(move || Connection::open(web).get("/").text())).collect();
    eventually("five are late", Duration::from_secs(5), || is(&bed, "held"));
    assert_eq!(tier(&bed)["cause"], "latency");
    assert_eq!(bed.get("/").text(), "spare", "while the others wait");
    slow.store(false, Ordering::SeqCst);
    assert!(waiting.into_iter().all(|client| client.join().unwrap() == "main"), "what was under way ends where it was");
    assert_eq!((main.seen(), spare.seen()), (6, 1));
    assert!((0..10).all(|_| bed.get("/").text() == "spare"), "held");
}

#[test]
fn an_agent_that_is_lost_and_comes_back_is_held_away_over_http_and_tcp() {
    let (main, spare) = (Workload::named("main"), Workload::named("spare"));
    let failover = "failover = { hold = \"1500ms\", failback = \"0s\" }\n";
    let tcp = "\n[[listener]]\nname = \"db\"\naddress = \"127.0.0.1:0\"\nprotocol = \"TCP\"\n\n[[tcp_route]]\nname = \"db\"\nlisteners = [\"db\"]\n\
         backend_refs = [{ uplink = \"raw\" }, { uplink = \"raw-spare\", fallback = 1 }]\n"
        .to_owned()
        + failover;
    let config = http(&(rule("{ uplink = \"main\" }, { uplink = \"spare\", fallback = 1 }") + failover)) + &tcp;
    let both = |workload: &Workload, web: &str, raw: &str| workload.uplink(web, "") + &workload.uplink(raw, "protocol = \"tcp\"");
    let mut bed = Bed::start(&config)
        .agent("vm-main", &both(&main, "main", "raw"))
        .agent("vm-spare", &both(&spare, "spare", "raw-spare"))
        .ready("main", 1)
        .ready("raw", 1)
        .ready("raw-spare", 1)
        .ready("spare", 1);
    let db = bed.hub.listener(1);
    let over_tcp =
        || Connection::try_open(db).and_then(|mut tcp| tcp.ask("GET", "/", "", b"")).map(|answer| answer.text()).unwrap_or_default();
    assert_eq!((bed.get("/").text(), over_tcp()), ("main".to_owned(), "main".to_owned()));
    drop(bed.agents.remove("vm-main"));
    eventually("both go to the spare", Duration::from_secs(10), || bed.get("/").text() == "spare" && over_tcp() == "spare");
    let tiers =
        || [0, 1].map(|route| bed.hub.json(&["get", "routes"])[route]["rules"][0]["tiers"][0]["state"].as_str().unwrap().to_owned());
    eventually("both tiers are seen to fail", Duration::from_secs(10), || {
        let _ = (bed.get("/"), over_tcp());
        tiers() == ["held", "held"]
    });
    let agent = bed.hub.run_agent("vm-main");
    bed.hub.accepts("main", 1);
    bed.hub.accepts("raw", 1);
    assert_eq!((bed.get("/").text(), over_tcp()), ("spare".to_owned(), "spare".to_owned()), "ready, and held");
    eventually("both are back", Duration::from_secs(10), || bed.get("/").text() == "main" && over_tcp() == "main");
    assert_eq!(tiers(), ["up", "up"]);
    bed.agents.insert("vm-main".to_owned(), agent);
}

#[test]
fn a_breaker_that_opens_makes_its_tier_fail_and_its_probes_are_the_first_requests_back() {
    let ((main, broken), spare) = (moody("main"), Workload::named("spare"));
    let policy = "\n[[backend_policy]]\nuplink = \"main\"\ncircuit_breaker = { min_requests = 5, open = \"300ms\", probes = 2 }\n";
    let bed = Bed::start(&(http(&guarded("hold = \"1s\", failback = \"1s\"")) + policy))
        .agent("vm-1", &(main.uplink("main", "") + &spare.uplink("spare", "")))
        .ready("main", 1)
        .ready("spare", 1);
    let mut client = bed.client();
    assert_eq!(client.get("/").text(), "main");
    broken.store(true, Ordering::SeqCst);
    eventually("the breaker opens", Duration::from_secs(5), || client.get("/").text() == "spare");
    assert_eq!((tier(&bed)["state"].as_str(), tier(&bed)["cause"].as_str()), (Some("held"), Some("shut")));
    broken.store(false, Ordering::SeqCst);
    let (held, seen) = (Instant::now(), main.seen());
    while held.elapsed() < Duration::from_millis(700) {
        assert_eq!(client.get("/").text(), "spare", "half-open, and still held");
    }
    assert_eq!(main.seen(), seen);
    eventually("all of it is back", Duration::from_secs(10), || client.get("/").text() == "main" && is(&bed, "up"));
    assert!(bed.metrics().contains("figspan_health_changes_total{change=\"breaker_closed\"} 1"));
}

/// Acceptance: the weight-1 member of 0 and 1 dies with its workload; what comes next is a refusal or the fallback, at once.
#[test]
fn killing_the_workload_with_all_the_weight_is_a_503_within_one_request_or_connection_and_it_resumes_without_a_reload() {
    let (old, mut new) = (Workload::named("old"), Mortal::start("new"));
    let tcp = "\n[[listener]]\nname = \"db\"\naddress = \"127.0.0.1:0\"\nprotocol = \"TCP\"\n\n[[tcp_route]]\nname = \"db\"\nlisteners = [\"db\"]\n\
         backend_refs = [{ uplink = \"old-raw\", weight = 0 }, { uplink = \"new-raw\", weight = 1 }]\n";
    let config = http(&rule("{ uplink = \"old\", weight = 0 }, { uplink = \"new\", weight = 1 }")) + tcp;
    let raw = format!("protocol = \"tcp\"\n{}", CHECK);
    let bed = Bed::start(&config)
        .agent("vm-old", &(old.uplink("old", CHECK) + &old.uplink("old-raw", &raw)))
        .agent("vm-new", &(new.uplink("new", CHECK) + &new.uplink("new-raw", &raw)))
        .ready("old", 1)
        .ready("old-raw", 1)
        .ready("new", 1)
        .ready("new-raw", 1);
    let db = bed.hub.listener(1);
    let mut client = bed.client();
    assert_eq!((client.get("/").text(), Connection::open(db).get("/").text()), ("new".to_owned(), "new".to_owned()));
    let generation = bed.hub.json(&["status"])["config"]["loaded"].clone();
    for _ in 0..2 {
        new.kill();
        let killed = Instant::now();
        let first = client.get("/");
        assert!(first.status() == 503 && first.field("proxy-status").contains("error="), "{first:?}");
        assert_eq!(first.field("retry-after"), "1", "no workload saw it, so it may be asked again");
        let refused = Connection::try_open(db).and_then(|mut connection| connection.ask("GET", "/", "", b""));
        assert!(refused.is_err(), "a connection is refused, and not left open: {refused:?}");
        assert!(killed.elapsed() < Duration::from_secs(1), "within one request, not after its time: {:?}", killed.elapsed());
        eventually("nobody is ready", Duration::from_secs(5), || client.get("/").status() == 503);
        assert_eq!(client.get("/").field("retry-after"), "1");
        new.revive();
        eventually("http resumes", Duration::from_secs(10), || client.get("/").text() == "new");
        let over_tcp = || Connection::try_open(db).and_then(|mut tcp| tcp.ask("GET", "/", "", b"")).map(|answer| answer.text());
        eventually("tcp resumes", Duration::from_secs(10), || over_tcp().is_ok_and(|answer| answer == "new"));
    }
    assert_eq!(old.seen(), 0, "weight 0 gets nothing, whoever dies");
    assert_eq!(bed.hub.json(&["status"])["config"]["loaded"], generation, "nobody has reloaded");
}

#[test]
fn killing_the_workload_with_all_the_weight_fails_over_within_one_request_and_one_connection() {
    let (old, spare, mut new) = (Workload::named("old"), Workload::named("spare"), Mortal::start("new"));
    let refs = |raw: &str| {
        format!(
            "{{ uplink = \"old{raw}\", weight = 0 }}, {{ uplink = \"new{raw}\", weight = 1 }}, {{ uplink = \"spare{raw}\", fallback = 1 }}"
        )
    };
    let failover = "failover = { hold = \"300ms\", failback = \"300ms\" }\n";
    let tcp = format!(
        "\n[[listener]]\nname = \"db\"\naddress = \"127.0.0.1:0\"\nprotocol = \"TCP\"\n\n[[tcp_route]]\nname = \"db\"\nlisteners = [\"db\"]\nbackend_refs = [{}]\n{failover}",
        refs("-raw")
    );
    let config = http(&(rule(&refs("")) + failover)) + &tcp;
    let raw = format!("protocol = \"tcp\"\n{CHECK}");
    let both = |name: &str, of: &dyn Fn(&str, &str) -> String| of(name, CHECK) + &of(&format!("{name}-raw"), &raw);
    let bed = Bed::start(&config)
        .agent("vm-1", &(both("old", &|name, more| old.uplink(name, more)) + &both("spare", &|name, more| spare.uplink(name, more))))
        .agent("vm-new", &both("new", &|name, more| new.uplink(name, more)));
    ["old", "old-raw", "spare", "spare-raw", "new", "new-raw"].iter().for_each(|uplink| bed.hub.accepts(uplink, 1));
    let db = bed.hub.listener(1);
    let over_tcp = || Connection::open(db).get("/").text();
    let mut client = bed.client();
    assert_eq!((client.get("/").text(), over_tcp()), ("new".to_owned(), "new".to_owned()));
    for _ in 0..2 {
        new.kill();
        for _ in 0..10 {
            assert_eq!(
                (client.get("/").text(), over_tcp()),
                ("spare".to_owned(), "spare".to_owned()),
                "no request and no connection fails"
            );
        }
        new.revive();
        let seen = |workload: &Workload| workload.seen();
        eventually("all of it is back without a reload", Duration::from_secs(10), || {
            let before = seen(&spare);
            let all = (0..10).all(|_| client.get("/").text() == "new" && over_tcp() == "new");
            all && seen(&spare) == before
        });
    }
    assert_eq!(old.seen(), 0, "weight 0 gets nothing, whoever dies");
}
