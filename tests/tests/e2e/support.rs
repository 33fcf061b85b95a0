//! What a person far away gets to see of a VM: the support bundle, and logs that tell more for a while.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use figspan_tests::bed::{Bed, http, rule};
use figspan_tests::process::{binary, eventually, text};
use figspan_tests::web::Workload;
use serde_json::Value;

fn bed(shop: &Workload) -> Bed {
    let uplink = shop.uplink("shop", "health = { type = \"http\", path = \"/healthz?token=PLANTED-path\" }\n# password: PLANTED-comment");
    Bed::start(&http(&rule("{ uplink = \"shop\" }"))).agent("vm-1", &uplink).ready("shop", 1)
}

fn agent(folder: &Path, arguments: &[&str]) -> Output {
    let path = format!("{}/bin:{}", folder.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(binary("figspan-agent"));
    command.current_dir(folder).args(arguments).env("PATH", path).output().unwrap()
}

/// The parts of a bundle.
fn unpacked(bundle: &Path) -> BTreeMap<String, String> {
    let packed = std::fs::File::open(bundle).unwrap();
    let mut parts = BTreeMap::new();
    for entry in tar::Archive::new(flate2::read::GzDecoder::new(packed)).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().strip_prefix("figspan-support").unwrap().display().to_string();
        assert_eq!(entry.header().mode().unwrap(), 0o600, "{name}");
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        parts.insert(name, content);
    }
    parts
}

#[test]
fn a_support_bundle_holds_what_helps_and_no_secret() {
    let shop = Workload::named("shop");
    let bed = bed(&shop);
    let folder = &bed.hub.folder;
    // A journal in which somebody was careless.
    std::fs::create_dir(folder.join("bin")).unwrap();
    let token = std::fs::read_to_string(folder.join("vm-1.token")).unwrap();
    let key = std::fs::read_to_string(folder.join("vm-1/identity/key.pem")).unwrap();
    let journal = format!(
        "#!/bin/sh\ncat <<'END'\nsome line of vm-1\nprintf %s '{token}'\n{key}\nAuthorization: Bearer PLANTED-bearer\n\
         postgres://shop:PLANTED-url@db/shop\nDB_PASSWORD=PLANTED-variable\n\"api_key\": \"PLANTED-json\"\nCookie: sid=PLANTED-cookie\n$*\nEND\n"
    );
    std::fs::write(folder.join("bin/journalctl"), journal.replace("$*\nEND", "END\necho \"$@\"")).unwrap();
    std::fs::set_permissions(folder.join("bin/journalctl"), std::fs::Permissions::from_mode(0o755)).unwrap();

    let made = agent(folder, &["support-bundle", "--config", "vm-1.toml", "-o", "bundle.tar.gz", "--since", "2h", "--qlog", "1s"]);
    assert!(made.status.success(), "{}", text(&made));
    let bundle = folder.join("bundle.tar.gz");
    let meta = std::fs::metadata(&bundle).unwrap();
    assert!(meta.permissions().mode() & 0o777 == 0o600 && meta.len() < 1 << 20, "{meta:?}");
    let parts = unpacked(&bundle);
    let wanted = [
        "MANIFEST.txt",
        "doctor.json",
        "journal.txt",
        "limits.txt",
        "log-level.json",
        "metrics.txt",
        "qlog.sqlog",
        "settings/01-vm-1.toml",
        "sockets.txt",
        "status.json",
        "versions.json",
    ];
    for name in wanted {
        assert!(parts.contains_key(name) && parts["MANIFEST.txt"].contains(name) | (name == "MANIFEST.txt"), "{name}: {:?}", parts.keys());
        assert!(text(&made).contains(name), "{name}: {}", text(&made));
    }
    // What is not a secret is there.
    assert!(parts["journal.txt"].contains("some line of vm-1") && parts["journal.txt"].contains("--since -7200s"));
    let json =
        |name: &str| -> Value { serde_json::from_str(&parts[name]).unwrap_or_else(|error| panic!("{name}: {error}: {}", parts[name])) };
    assert!(json("status.json")["tunnels"][0]["statistics"]["sent_bytes"].as_u64().unwrap() > 1000, "{}", parts["status.json"]);
    assert_eq!((&json("doctor.json")["agent"], &json("log-level.json")["configured"]), (&"vm-1".into(), &"info".into()));
    assert!(json("versions.json")["kernel"].as_str().unwrap().starts_with("Linux "));
    assert!(parts["metrics.txt"].contains("figspan_agent_tunnel_up") && parts["limits.txt"].contains("Max open files"));
    assert!(parts["settings/01-vm-1.toml"].contains(&shop.address.to_string()), "{}", parts["settings/01-vm-1.toml"]);
    assert!(parts["sockets.txt"].lines().count() > 6, "{}", parts["sockets.txt"]);
    for word in ["packet_sent", "packet_received", "metrics_updated"] {
        assert!(parts["qlog.sqlog"].contains(word), "{word}");
    }
    // What is a secret is not: neither in a part, nor in what was printed.
    let secrets: Vec<&str> =
        [token.trim().strip_prefix("figspan1.").unwrap()].into_iter().chain(key.lines().filter(|line| !line.contains("KEY"))).collect();
    for (name, content) in parts.iter().map(|(name, content)| (name.as_str(), content.clone())).chain([("printed", text(&made))]) {
        assert!(!content.contains("PLANTED"), "{name}: {content}");
        for secret in &secrets {
            assert!(!content.contains(&secret[..secret.len().min(24)]), "{name}");
        }
    }
    // The hub saw an agent of that name come and go, and nobody noticed.
    assert_eq!(bed.get("/").status(), 200);
}

#[test]
fn a_bundle_is_made_where_the_agent_is_down_and_its_settings_are_broken_and_never_over_a_file() {
    let shop = Workload::named("shop");
    let mut bed = bed(&shop);
    drop(bed.agents.remove("vm-1"));
    let folder = bed.hub.folder.clone();
    std::fs::create_dir_all(folder.join("vm-1.toml.d")).unwrap();
    std::fs::write(folder.join("vm-1.toml.d/10.toml"), "adress = \"PLANTED-value\"\n").unwrap();
    std::fs::write(folder.join("vm-1.toml.d/20.toml"), "hubs = [\"PLANTED-broken\n").unwrap();
    let made = agent(&folder, &["support-bundle", "--config", "vm-1.toml", "-o", "bundle.tar.gz"]);
    assert!(made.status.success(), "{}", text(&made));
    for missing in [
        "left out: status.json: no agent answers",
        "left out: metrics.txt",
        "left out: settings/02-20.toml: it is not TOML",
        "left out: qlog",
    ] {
        assert!(text(&made).contains(missing), "{missing}: {}", text(&made));
    }
    let parts = unpacked(&folder.join("bundle.tar.gz"));
    assert!(parts["settings/mistakes.txt"].contains("adress") && parts["doctor.json"].contains("\"FAIL\""), "{parts:?}");
    assert!(parts.values().all(|content| !content.contains("PLANTED")), "{parts:?}");
    let again = agent(&folder, &["support-bundle", "--config", "vm-1.toml", "-o", "bundle.tar.gz"]);
    assert!(again.status.code() == Some(1) && text(&again).contains("give another file with --output"), "{}", text(&again));
}

#[test]
fn an_agents_log_tells_more_for_a_while_and_then_as_configured() {
    let shop = Workload::named("shop");
    let bed = bed(&shop);
    let folder = &bed.hub.folder;
    let level = |arguments: &[&str]| {
        let output = agent(folder, &[&["log-level", "--config", "vm-1.toml"], arguments].concat());
        (output.status.success(), text(&output))
    };
    let told = || bed.hub.log("vm-1").matches(" TRACE ").count();
    assert_eq!(level(&[]), (true, "info, as configured\n".to_owned()));
    assert_eq!(told(), 0);
    let (good, said) = level(&["trace", "--for", "1m"]);
    assert!(good && said.starts_with("trace for ") && said.contains("then info as configured"), "{said}");
    eventually("the log tells more", Duration::from_secs(10), || told() > 0);
    let (good, said) = level(&["--back"]);
    assert!(good && said == "info, as configured\n", "{said}");
    // One target, which ends by itself.
    let (good, said) = level(&["debug", "--target", "figspan_tunnel", "--for", "1s"]);
    assert!(good && said.starts_with("debug for figspan_tunnel for 1s more"), "{said}");
    eventually("it ends by itself", Duration::from_secs(10), || level(&[]).1 == "info, as configured\n");
    for (wrong, why) in [
        (&["shout=loud"][..], "cannot be read"),
        (&["debug", "--for", "2days"], "1 s to 24 h"),
        (&["debug", "--target", "a b"], "no module path"),
    ] {
        let (good, said) = level(wrong);
        assert!(!good && said.contains(why), "{said}");
    }
    assert!(bed.hub.log("vm-1").contains("as somebody asked on the status socket"));
}

#[test]
fn the_hubs_log_level_is_raised_by_an_operator_and_audited() {
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }")));
    let level = || bed.hub.json(&["log-level"]);
    assert_eq!((&level()["configured"], &level()["raised"]), (&"info".into(), &Value::Null));
    let raised = bed.hub.json(&["log-level", "debug", "--for", "1m", "--target", "figspan_control", "--reason", "why is vm-1 refused"]);
    assert_eq!((&raised["raised"]["level"], &raised["raised"]["target"]), (&"debug".into(), &"figspan_control".into()), "{raised}");
    let back = bed.hub.ctl(&["log-level", "--back"]);
    assert!(back.status.success() && text(&back).contains("info, as configured"), "{}", text(&back));
    let refused = bed.hub.ctl(&["log-level", "loud=very"]);
    assert!(!refused.status.success() && text(&refused).contains("cannot be read"), "{}", text(&refused));
    bed.hub.json(&["log-level", "debug", "--for", "1s"]);
    eventually("it ends by itself", Duration::from_secs(10), || level()["raised"].is_null());
    let events = bed.hub.json(&["events"]);
    let changes: Vec<&Value> = events.as_array().unwrap().iter().filter(|event| event["kind"] == "log").collect();
    assert_eq!(changes.len(), 3, "{events}");
    assert!(
        changes[0]["message"].as_str().unwrap().contains("why is vm-1 refused") && !changes[0]["who"].as_str().unwrap().is_empty(),
        "{events}"
    );
    eventually("the audit has it", Duration::from_secs(5), || {
        std::fs::read_to_string(bed.hub.folder.join("hub-state/audit.jsonl")).unwrap_or_default().contains("why is vm-1 refused")
    });
}
