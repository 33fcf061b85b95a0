//! A change takes effect without losing a request; a bad one changes nothing but the status that shows it.

use std::time::Duration;

use figspan_tests::bed::{Bed, http, rule};
use figspan_tests::process::{eventually, text};
use figspan_tests::web::{Connection, Workload};

#[test]
fn a_reload_keeps_connections_counters_and_overrides() {
    let (old, new) = (Workload::named("old"), Workload::named("new"));
    let bed = Bed::start(&http(&rule("{ uplink = \"old\" }")))
        .agent("vm-1", &(old.uplink("old", "") + &new.uplink("new", "")))
        .ready("old", 1)
        .ready("new", 1);
    bed.hub.json(&["uplink", "weight", "old", "50", "--reason", "test"]);
    let mut client = bed.client();
    for _ in 0..10 {
        client.get("/");
    }
    bed.hub.rewrite(&http(&rule("{ uplink = \"new\" }")));
    let mut sent = 10;
    eventually("the new route is in force", Duration::from_secs(5), || {
        sent += 1;
        client.get("/").text() == "new"
    });
    assert_eq!(old.seen() + new.seen(), sent, "every request on the one connection was answered");
    let uplinks = bed.hub.json(&["get", "uplinks"]);
    let kept = uplinks.as_array().unwrap().iter().find(|uplink| uplink["name"] == "old").unwrap();
    assert!(kept["picked"].as_u64().unwrap() >= 10 && kept["weight"] == 50, "{kept}");
}

#[test]
fn a_bad_file_is_refused_with_every_mistake_and_the_old_one_runs_on() {
    let shop = Workload::named("shop");
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }"))).agent("vm-1", &shop.uplink("shop", "")).ready("shop", 1);
    let bad = http(&rule("{ uplink = \"shop\", wieght = 3 }")).replace("protocol = \"HTTP\"", "protocol = \"HTPT\"");
    bed.hub.rewrite(&bad);
    eventually("status shows the mistakes", Duration::from_secs(5), || {
        let errors = bed.hub.json(&["status"])["config"]["errors"].to_string();
        errors.contains("wieght") && errors.contains("HTPT") && errors.contains("hub.toml:")
    });
    assert_eq!(bed.get("/").status(), 200);
    assert!(bed.metrics().contains("figspan_config_last_reload_successful 0"), "{}", bed.metrics());
    bed.hub.rewrite(&http(&rule("{ uplink = \"shop\" }")));
    eventually("the mended file is in force", Duration::from_secs(5), || {
        bed.hub.json(&["status"])["config"]["errors"].as_array().is_some_and(Vec::is_empty)
    });
    assert!(bed.metrics().contains("figspan_config_last_reload_successful 1"));
}

#[test]
fn sighup_reads_the_file_again_although_nothing_changed() {
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }")));
    let loaded = || bed.hub.json(&["status"])["config"]["loaded"].as_str().expect("a time").to_owned();
    let first = loaded();
    // Whole seconds are shown, so that the signal is sent until one has passed.
    eventually("the file was read again", Duration::from_secs(5), || {
        bed.hub.process.signal("HUP");
        std::thread::sleep(Duration::from_millis(100));
        loaded() > first
    });
}

#[test]
fn readyz_names_what_it_waits_for() {
    let bed = Bed::start_with("lame_duck = \"10s\"", &http(&rule("{ uplink = \"shop\" }")));
    let address = bed.hub.json(&["status"])["metrics_address"].as_str().and_then(|text| text.parse().ok()).unwrap();
    let readyz = || Connection::open(address).get("/readyz");
    assert_eq!((readyz().status(), readyz().text().as_str()), (200, "ready\n"));
    bed.hub.process.signal("TERM");
    eventually("the hub is leaving", Duration::from_secs(5), || readyz().status() == 503);
    assert_eq!(readyz().text(), "waiting for nothing: the hub is leaving; send new work elsewhere\n");
    assert_eq!(Connection::open(address).get("/livez").status(), 200);
}

#[test]
fn a_hub_that_starts_again_is_ready_when_the_agents_that_it_knew_are_back() {
    let shop = Workload::named("shop");
    let mut bed = Bed::start(&http(&rule("{ uplink = \"shop\" }"))).agent("vm-1", &shop.uplink("shop", "")).ready("shop", 1);
    drop(bed.agents.remove("vm-1"));
    bed.hub.restart();
    let status = bed.hub.json(&["status"]);
    let address = status["metrics_address"].as_str().and_then(|text| text.parse().ok()).unwrap();
    let readyz = || Connection::open(address).get("/readyz");
    let waiting = readyz();
    assert_eq!(waiting.status(), 503, "{waiting:?}");
    assert!(waiting.text().starts_with("waiting for agents vm-1 to come back, for "), "{}", waiting.text());
    assert!(status["ready"] == false && status["waiting_for"][0].as_str().unwrap().contains("vm-1"), "{status}");
    assert_eq!(Connection::open(address).get("/livez").status(), 200, "it lives, whoever is away");
    let back = bed.hub.run_agent("vm-1");
    bed.agents.insert("vm-1".to_owned(), back);
    eventually("ready once it is back, well before its time to wait is over", Duration::from_secs(8), || readyz().status() == 200);
    assert_eq!(bed.get("/").text(), "shop");
}

#[test]
fn reloads_under_load_lose_nothing() {
    let shop = Workload::named("shop");
    let config = http(&rule("{ uplink = \"shop\" }"));
    let bed = Bed::start(&config).agent("vm-1", &shop.uplink("shop", "")).ready("shop", 1);
    let web = bed.web();
    let load = std::thread::spawn(move || {
        let mut client = Connection::open(web);
        for _ in 0..1_000 {
            assert_eq!(client.post("/", b"order").status(), 200);
        }
    });
    let mut reloads = 0;
    while !load.is_finished() {
        bed.hub.rewrite(&format!("{config}# {reloads}\n"));
        bed.hub.process.signal("HUP");
        reloads += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    load.join().unwrap();
    assert_eq!(shop.seen(), 1_000);
    assert!(reloads > 3);
}

#[test]
fn check_exits_with_78_and_says_how_to_mend() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("hub.toml"), "[[listner]]\nname = \"web\"\n").unwrap();
    std::fs::write(folder.path().join("agent.toml"), "[[uplink]]\nname = \"A B\"\nadress = \"127.0.0.1:1\"\n").unwrap();
    for (program, file, wanted) in [("figspan-hub", "hub.toml", "listener"), ("figspan-agent", "agent.toml", "address")] {
        let path = folder.path().join(file);
        let output =
            std::process::Command::new(figspan_tests::process::binary(program)).args(["check", "--config"]).arg(&path).output().unwrap();
        let said = text(&output);
        assert_eq!(output.status.code(), Some(78), "{program}: {said}");
        assert!(said.contains(&format!("{file}:")) && said.contains(wanted), "{program}: {said}");
    }
}
