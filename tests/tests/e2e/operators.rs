//! What an operator has at hand: `figspanctl`'s forms of output, its files, the metrics endpoint, and the access log.

use std::time::Duration;

use figspan_tests::bed::{Bed, http, rule};
use figspan_tests::process::{eventually, text};
use figspan_tests::web::{Connection, Workload};

fn shop(config: &str) -> (Workload, Bed) {
    let shop = Workload::named("shop");
    let config = format!("{config}\n{}", http(&rule("{ uplink = \"shop\" }")));
    let bed = Bed::start(&config).agent("vm-1", &shop.uplink("shop", "health = { type = \"none\" }")).ready("shop", 1);
    (shop, bed)
}

#[test]
fn every_view_is_told_as_table_as_json_and_as_the_same_in_yaml() {
    let (_shop, bed) = shop("");
    let views: &[&[&str]] = &[
        &["get", "agents"],
        &["get", "uplinks"],
        &["get", "routes"],
        &["describe", "agent", "vm-1"],
        &["describe", "uplink", "shop"],
        &["describe", "route", "shop"],
        &["grant", "list"],
        &["explain", "GET", "http://shop.example/"],
    ];
    for view in views {
        let yaml = bed.hub.ctl(&[view, &["-o", "yaml"][..]].concat());
        assert!(yaml.status.success(), "{view:?}: {}", text(&yaml));
        let value: serde_json::Value = serde_yaml_ng::from_slice(&yaml.stdout).unwrap_or_else(|error| panic!("{view:?}: {error}"));
        let shape = |value: &serde_json::Value| match value {
            serde_json::Value::Array(list) => list.len(),
            value => value.as_object().map_or(0, serde_json::Map::len),
        };
        assert_eq!(shape(&value), shape(&bed.hub.json(view)), "{view:?}: {value}");
        let table = bed.hub.ctl(view);
        assert!(table.status.success() && !table.stdout.is_empty() && !text(&table).starts_with(['{', '[']), "{view:?}: {}", text(&table));
    }
}

#[test]
fn a_dry_run_of_every_change_changes_nothing() {
    let (_shop, bed) = shop("");
    let before = (bed.hub.json(&["get", "uplinks"])[0]["weight"].clone(), bed.hub.json(&["grant", "list"]));
    let grant = before.1[0]["id"].as_str().unwrap_or_default().to_owned();
    let changes: &[&[&str]] = &[
        &["uplink", "weight", "shop", "0", "--reason", "look"],
        &["drain", "uplink", "shop", "--reason", "look"],
        &["undrain", "uplink", "shop", "--reason", "look"],
        &["grant", "create", "vm-9", "--uplinks", "*"],
        &["grant", "revoke", &grant, "--reason", "look"],
        &["agent", "revoke", "vm-1", "--reason", "look"],
    ];
    for change in changes {
        let done = bed.hub.ctl(&[change, &["--dry-run"][..]].concat());
        assert!(done.status.success(), "{change:?}: {}", text(&done));
    }
    assert_eq!((bed.hub.json(&["get", "uplinks"])[0]["weight"].clone(), bed.hub.json(&["grant", "list"])), before);
    assert_eq!(bed.get("/").status(), 200);
    let events = bed.hub.json(&["events"]);
    assert!(events.as_array().unwrap().iter().all(|event| event["kind"] != "weight"), "{events}");
}

#[test]
fn check_names_the_line_and_exits_with_78() {
    let (_shop, bed) = shop("");
    std::fs::write(bed.hub.folder.join("bad.toml"), "[hub]\nreplika = \"x\"\n\n[limits]\nheader_bytes = 7.5\n").unwrap();
    let checked = bed.hub.ctl(&["check", "bad.toml"]);
    assert_eq!(checked.status.code(), Some(78), "{}", text(&checked));
    assert!(
        text(&checked).contains("replika") && text(&checked).contains("header_bytes") && text(&checked).contains(":2:"),
        "{}",
        text(&checked)
    );
    assert!(bed.hub.ctl(&["check", "hub.toml"]).status.success());
    assert_eq!(bed.get("/").status(), 200);
}

#[test]
fn completions_and_man_pages_come_without_a_hub() {
    let (_shop, bed) = shop("");
    for shell in ["bash", "zsh", "fish"] {
        let made = bed.hub.ctl(&["completions", shell]);
        assert!(made.status.success() && text(&made).contains("figspanctl"), "{shell}: {}", text(&made));
    }
    let man = bed.hub.ctl(&["man"]);
    assert!(man.status.success() && text(&man).contains(".TH"), "{}", text(&man));
    assert!(bed.hub.ctl(&["man", "--dir", "man"]).status.success());
    assert!(std::fs::read_dir(bed.hub.folder.join("man")).unwrap().count() > 10, "one page for each command");
}

#[test]
fn metrics_follow_opentelemetrys_names_and_their_labels_are_bounded() {
    let (_shop, bed) = shop("");
    let mut client = bed.client();
    for number in 0..50 {
        client.send(&format!(
            "MADE-UP-{number} /path-{number}?q={number} HTTP/1.1\r\nhost: host-{number}.example\r\nuser-agent: agent-{number}\r\n\r\n"
        ));
        assert_eq!(client.answer(true).unwrap().status(), 200);
    }
    client.get("/");
    eventually("every request is counted", Duration::from_secs(5), || bed.metrics().contains("http_request_method=\"GET\""));
    let metrics = bed.metrics();
    let series: Vec<&str> = metrics.lines().filter(|line| line.starts_with("http_server_request_duration_seconds_count{")).collect();
    assert_eq!(series.len(), 2, "GET and _OTHER, whatever clients send: {series:?}");
    assert!(series.iter().any(|line| line.contains("http_request_method=\"_OTHER\"") && line.ends_with(" 50")), "{series:?}");
    assert!(
        series.iter().all(|line| line.contains("http_route=\"shop\"") && line.contains("http_response_status_class=\"2xx\"")),
        "{series:?}"
    );
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        assert!(["http_server_", "figspan_", "process_"].iter().any(|start| line.starts_with(start)), "{line}");
        assert!(!line.contains("made-up") && !line.contains("host-1") && !line.contains("path-1"), "{line}");
    }
}

#[test]
fn a_hub_that_lives_and_is_ready_says_so() {
    let (_shop, bed) = shop("");
    let address = bed.hub.json(&["status"])["metrics_address"].as_str().unwrap().parse().unwrap();
    let mut operator = Connection::open(address);
    assert_eq!((operator.get("/livez").status(), operator.get("/readyz").status()), (200, 200));
}

#[test]
fn the_access_log_tells_requests_and_refusals_and_can_be_off() {
    for access in [true, false] {
        let (_shop, bed) = shop(&format!("[log]\nformat = \"json\"\naccess = {access}\n"));
        bed.get("/asked");
        let mut hostile = bed.client();
        hostile.send("GET /secret HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n");
        assert_eq!(hostile.answer(true).unwrap().status(), 400);
        bed.hub.process.signal("TERM");
        let log = || std::fs::read_to_string(bed.hub.folder.join("hub.log")).unwrap();
        let lines = || log().lines().filter(|line| line.contains("figspan::access")).map(str::to_owned).collect::<Vec<_>>();
        if access {
            eventually("both are logged", Duration::from_secs(5), || lines().len() == 2);
            let lines = lines();
            assert!(lines[0].contains("/asked") && lines[0].contains("vm-1"), "{lines:?}");
            assert!(lines[1].contains("\"host\"") && lines[1].contains("400") && !lines[1].contains("/secret"), "{lines:?}");
        } else {
            let mut bed = bed;
            bed.hub.process.ended(Duration::from_secs(40));
            let log = std::fs::read_to_string(bed.hub.folder.join("hub.log")).unwrap();
            assert!(!log.contains("figspan::access"), "{log}");
        }
    }
}
