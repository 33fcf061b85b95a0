//! Who may join, what an agent may advertise, and how both end.

use std::time::{Duration, Instant};

use figspan_tests::bed::{Bed, http, rule};
use figspan_tests::process::{binary, eventually, text};
use figspan_tests::web::Workload;

#[test]
fn a_grant_joins_once_and_its_secret_shows_nowhere() {
    let shop = Workload::named("shop");
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }"))).agent("vm-1", &shop.uplink("shop", "")).ready("shop", 1);
    let folder = &bed.hub.folder;
    let token = std::fs::read_to_string(folder.join("vm-1.token")).unwrap();
    std::fs::write(folder.join("again.toml"), format!("state_dir = \"{}/again\"\n", folder.display())).unwrap();
    let join = |token_file: &str| {
        let mut command = std::process::Command::new(binary("figspan-agent"));
        command.current_dir(folder).args(["join", "--config", "again.toml", "--token-file", token_file]);
        command.output().unwrap()
    };
    let again = join("vm-1.token");
    assert!(!again.status.success() && text(&again).contains("redeemed"), "{}", text(&again));
    // A token with another pin is refused before anything is sent.
    let mut wrong: figspan_proto::join::Token = token.parse().unwrap();
    wrong.pin.0[0] ^= 1;
    std::fs::write(folder.join("wrong.token"), wrong.to_string()).unwrap();
    let pinned = join("wrong.token");
    assert!(!pinned.status.success() && text(&pinned).contains("not the one that the token names"), "{}", text(&pinned));
    // A grant whose time has passed.
    let grant = bed.hub.json(&["grant", "create", "vm-2", "--uplinks", "shop", "--ttl", "1s"]);
    std::fs::write(folder.join("late.token"), grant["token"].as_str().unwrap()).unwrap();
    eventually("the grant's time passes", Duration::from_secs(5), || {
        bed.hub.json(&["grant", "list"]).as_array().unwrap().iter().any(|grant| grant["state"] == "expired")
    });
    let late = join("late.token");
    assert!(late.status.code() == Some(77) && text(&late).contains("time has passed"), "{}", text(&late));
    // The secret is in no file of the hub and in no log.
    let secret = token.trim().strip_prefix("figspan1.").unwrap();
    for file in figspan_tests::architecture::files(folder, "") {
        if !file.to_string_lossy().ends_with(".token") {
            let bytes = std::fs::read(&file).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&bytes).contains(&secret[20..60]), "{}", file.display());
        }
    }
    let key = std::fs::metadata(folder.join("vm-1/identity/key.pem")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&key.permissions()) & 0o777, 0o600);
}

#[test]
fn an_uplink_outside_the_grant_is_refused_and_shown() {
    let shop = Workload::named("shop");
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }, { uplink = \"secret\" }")));
    let uplinks = shop.uplink("shop", "") + &shop.uplink("secret", "");
    let _agent = bed.hub.agent("vm-1", "shop,orders-*", &uplinks);
    bed.hub.accepts("shop", 1);
    let agent = bed.hub.json(&["get", "agents"])[0].clone();
    assert_eq!((agent["uplinks"][0].as_str(), agent["refused"][0]["uplink"].as_str()), (Some("shop"), Some("secret")), "{agent}");
    let uplinks = bed.hub.json(&["get", "uplinks"]);
    assert!(uplinks.as_array().unwrap().iter().all(|uplink| uplink["name"] != "secret"), "{uplinks}");
    assert!(bed.hub.json(&["events"]).as_array().unwrap().iter().any(|event| event["kind"] == "refused"));
}

#[test]
fn a_revoked_agent_is_cut_off_within_a_second_and_stays_out() {
    let shop = Workload::named("shop");
    let mut bed =
        Bed::start(&http(&rule("{ uplink = \"shop\" }"))).agent("vm-1", &shop.uplink("shop", "")).ready("shop", 1).covered("vm-1");
    let tunnels = bed.hub.json(&["get", "agents"])[0]["tunnels"].as_array().unwrap().len();
    assert_eq!(tunnels, 2, "one tunnel to each shard");
    let start = Instant::now();
    let revoked = bed.hub.ctl(&["agent", "revoke", "vm-1", "--reason", "lost"]);
    assert!(revoked.status.success(), "{}", text(&revoked));
    eventually("its tunnels are closed", Duration::from_secs(1), || bed.hub.json(&["status"])["tunnels"] == 0);
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(bed.get("/").status(), 503);
    bed.hub.restart();
    let again = bed.hub.run_agent("vm-1");
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(bed.hub.json(&["status"])["tunnels"], 0, "it stays out, also after a restart of the hub");
    drop(again);
}

#[test]
fn nothing_listens_on_the_vm() {
    let shop = Workload::named("shop");
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }"))).agent("vm-1", &shop.uplink("shop", "")).ready("shop", 1);
    let sockets = format!("/proc/{}/fd", bed.agents["vm-1"].id());
    let inodes: Vec<String> = std::fs::read_dir(sockets)
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter_map(|link| Some(link.to_string_lossy().strip_prefix("socket:[")?.trim_end_matches(']').to_owned()))
        .collect();
    assert!(!inodes.is_empty());
    for table in ["tcp", "tcp6"] {
        for line in std::fs::read_to_string(format!("/proc/net/{table}")).unwrap().lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // State 0A is LISTEN (include/net/tcp_states.h).
            assert!(!(fields[3] == "0A" && inodes.iter().any(|inode| inode == fields[9])), "the agent listens: {line}");
        }
    }
}

#[test]
fn an_agent_that_has_not_joined_says_how_and_exits_with_77() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("agent.toml"), format!("state_dir = \"{}\"\n", folder.path().display())).unwrap();
    let output = std::process::Command::new(binary("figspan-agent"))
        .args(["run", "--config"])
        .arg(folder.path().join("agent.toml"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(77), "{}", text(&output));
    assert!(text(&output).contains("figspanctl grant create"), "{}", text(&output));
}
