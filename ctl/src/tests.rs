//! The command line against a hub that answers as the admin API says it does.

mod answers;
mod fake_hub;

use std::path::Path;
use std::sync::{Arc, Mutex};

use fake_hub::{FakeHub, Reply};
use figspan_tunnel::front_tls::PemPair;
use serde_json::json;

use crate::{Exit, Surroundings, Terminal};

/// What a run printed, and how it ended.
struct Ran {
    exit: Exit,
    out: String,
    err: String,
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Sink {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn ctl(hub: &str, args: &[&str]) -> Ran {
    let (out, err) = (Sink::default(), Sink::default());
    let around = Surroundings { hub: Some(hub.to_owned()), operator: "ada@desk".to_owned() };
    let mut terminal = Terminal::plain(out.clone(), err.clone());
    let exit = crate::execute("figspanctl", args.iter().map(Into::into), &around, &mut terminal);
    Ran { exit, out: out.text(), err: err.text() }
}

#[test]
fn a_grant_is_one_line_that_keeps_the_secret_out_of_process_lists() {
    let hub = FakeHub::start(|_| Reply::ok(answers::created_grant()));
    let ran = ctl(&hub.address(), &["grant", "create", "vm-1", "--uplinks", "monolith,orders-*", "--ttl", "15m", "--dial", "hub:7443"]);
    assert_eq!(ran.exit, Exit::Done, "{}", ran.err);
    assert_eq!(ran.out, " printf %s 'figspan1.abc' | sudo figspan-agent join --token-file -\n");
    assert!(ran.err.contains("Paste this on the VM"), "{}", ran.err);
    let asked = hub.only();
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/v1/grants"));
    assert_eq!(asked.operator, "ada@desk");
    let wanted = json!({"agent": "vm-1", "uplinks": ["monolith", "orders-*"], "ttl_seconds": 900, "uses": 1, "hubs": ["hub:7443"], "dry_run": false});
    assert_eq!(asked.json(), wanted);

    let piped = ctl(&hub.address(), &["grant", "create", "vm-1", "--uplinks", "monolith", "--token-only"]);
    assert_eq!(piped.out, "figspan1.abc\n");
}

#[test]
fn grants_for_several_agents_need_a_template_or_any_name() {
    let ran = ctl("unix:/nowhere", &["grant", "create", "vm-1", "--uplinks", "a", "--uses", "3"]);
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.err.contains("--any-name") && ran.err.contains("'vm-1-{n}'"), "{}", ran.err);
    let ran = ctl("unix:/nowhere", &["grant", "create", "vm-{n}-{n}", "--uplinks", "a", "--uses", "3"]);
    assert!(ran.exit == Exit::Usage && ran.err.contains("one {n} or one {hostname}"), "{}", ran.err);
    assert_eq!(ctl("unix:/nowhere", &["grant", "create", "--uplinks", "a"]).exit, Exit::Usage);
}

#[test]
fn uplinks_are_listed_as_a_table_and_as_the_apis_own_json() {
    let hub = FakeHub::start(|_| Reply::ok(json!([answers::uplink(100, 0)])));
    let table = ctl(&hub.address(), &["get", "uplinks"]);
    let wanted = "NAME      PROTOCOL  WEIGHT  BY      READY  IN FLIGHT  PICKED  FAILED  STATE\n\
                  monolith  http1     100     agents  2/2    0          10      1       ready\n";
    assert_eq!(table.out, wanted, "{}", table.err);
    let json = ctl(&hub.address(), &["get", "uplinks", "-o", "json"]);
    let read: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(read[0]["endpoints"][1]["agent"], "vm-2");
    let yaml = ctl(&hub.address(), &["get", "uplinks", "-o", "yaml"]);
    assert!(yaml.out.starts_with("- name: monolith\n"), "{}", yaml.out);
}

#[test]
fn describe_shows_each_agent_and_why_one_takes_nothing() {
    let hub = FakeHub::start(|_| Reply::ok(answers::uplink(25, 3)));
    let ran = ctl(&hub.address(), &["describe", "uplink", "monolith"]);
    assert_eq!(hub.only().path, "/v1/uplinks/monolith");
    let wanted = "\
Name:       monolith
State:      ready
Protocol:   http1
Weight:     25
Override:   25 by ada@desk at 2026-11-21T04:00:00Z: trying
In flight:  3
Picked:     10
Failed:     1
Agents:
  AGENT  ZONE   WEIGHT  ADVERTISED  READY  TUNNELS  IN FLIGHT  POOLED  OPEN  PICKED  FAILED  WHY NOT
  vm-1   eu-1a  100     100         yes    2        3          1       1     5       1       -
  vm-2   -      100     100         yes    2        0          1       1     5       0       -
";
    assert_eq!(ran.out, wanted, "{}", ran.err);
}

#[test]
fn a_ca_change_is_two_commands_that_say_where_it_stands() {
    let ca = |states: &[&str], changing, safe, untold: &[&str]| {
        let root = |state: &&str| json!({"pin": format!("sha256:{state}"), "state": state, "since": null, "until": null});
        let roots: Vec<_> = states.iter().map(root).collect();
        json!({"given": false, "changing": changing, "roots": roots, "certificate_lifetime": 86400, "safe_to_finish": safe,
               "untold": untold, "on_old_root": []})
    };
    let hub = FakeHub::start(move |asked| match asked.path.as_str() {
        "/v1/ca" => Reply::ok(ca(&["issues", "next"], true, false, &["vm-1"])),
        _ => Reply::ok(json!({"ca": ca(&["issues", "old"], false, false, &[]), "left_behind": ["vm-1"], "dry_run": false})),
    });
    let shown = ctl(&hub.address(), &["ca", "show"]);
    let wanted = "\
STATE   SINCE  TRUSTED UNTIL  PIN
issues  -      -              sha256:issues
next    -      -              sha256:next
Certificates live:      86400 s
Change:                 begun; wait until every agent has been told the new root
Agents not told:        vm-1
Agents on an old root:  none
";
    assert_eq!(shown.out, wanted, "{}", shown.err);
    assert_eq!(hub.only().path, "/v1/ca");
    let hub_address = hub.address();
    assert_eq!(ctl(&hub_address, &["ca", "begin"]).exit, Exit::Usage, "a change has a reason");
    let finished = ctl(&hub_address, &["ca", "finish", "--force", "--reason", "drill"]);
    assert!(finished.out.contains("runs out by itself") && finished.out.contains("Left behind, to join again: vm-1"), "{}", finished.out);
}

#[test]
fn a_weight_waits_until_every_shard_works_with_it() {
    let hub = FakeHub::start({
        let mut looks = 0;
        move |asked| {
            if asked.method == "PUT" {
                return Reply::ok(answers::weight_change(100, 25, Some(7), &[]));
            }
            looks += 1;
            Reply::ok(answers::status(7, if looks < 3 { 6 } else { 7 }))
        }
    });
    let ran = ctl(&hub.address(), &["uplink", "weight", "monolith", "25", "--reason", "trying", "--wait"]);
    assert_eq!(ran.exit, Exit::Done, "{}", ran.err);
    assert_eq!(ran.out, "monolith: weight 100 -> 25, generation 7, live on every shard of hub-0\n");
    assert!(ran.err.contains("waiting for shards of hub-0 that still work with generation 6"), "{}", ran.err);
    let asked = &hub.asked()[0];
    assert_eq!(asked.path, "/v1/uplinks/monolith/weight");
    assert_eq!(asked.json(), json!({"weight": 25, "agent": null, "reason": "trying", "dry_run": false}));
}

#[test]
fn a_drain_waits_for_the_verdict_and_shows_its_proof() {
    let hub = FakeHub::start({
        let mut looks = 0;
        move |asked| {
            if asked.method == "PUT" {
                return Reply::ok(answers::weight_change(25, 0, Some(8), &["hub-0"]));
            }
            looks += 1;
            Reply::ok(answers::verdict(looks > 2))
        }
    });
    let ran = ctl(&hub.address(), &["drain", "uplink", "monolith", "--agent", "vm-1", "--wait", "--reason", "moved"]);
    assert_eq!(ran.exit, Exit::Done, "{}", ran.err);
    let wanted = "\
monolith: drained
  Weight is 0:     yes
  Confirmed by:    hub-0
  In flight:       0
  Pooled:          0
  Sessions left:   none are kept
  Open at agents:  vm-1 0, vm-2 0
";
    assert_eq!(ran.out, wanted);
    assert_eq!(ran.err.matches("waiting for 3 requests in flight").count(), 1, "each change of what is waited for once: {}", ran.err);
    let asked = hub.asked();
    assert_eq!(asked[0].json()["weight"], 0);
    assert_eq!(asked[1].path, "/v1/uplinks/monolith/drain?agent=vm-1");
}

#[test]
fn a_wait_that_runs_out_of_time_has_its_own_exit_code() {
    let hub = FakeHub::start(|asked| {
        if asked.method == "PUT" {
            Reply::ok(answers::weight_change(25, 0, Some(8), &["hub-0"]))
        } else {
            Reply::ok(answers::verdict(false))
        }
    });
    let ran = ctl(&hub.address(), &["drain", "uplink", "monolith", "--wait", "--timeout", "300ms", "--reason", "moved"]);
    assert_eq!((ran.exit, ran.exit.code()), (Exit::TimedOut, 3));
    assert!(ran.err.contains("gave up after 300ms") && ran.err.contains("3 requests in flight"), "{}", ran.err);
    assert_eq!(ran.out, "");
}

#[test]
fn a_dry_run_says_that_nothing_was_changed() {
    let hub = FakeHub::start(|_| {
        let mut change = answers::weight_change(100, 0, None, &[]);
        change["dry_run"] = json!(true);
        Reply::ok(change)
    });
    let ran = ctl(&hub.address(), &["drain", "uplink", "monolith", "--dry-run", "--reason", "x"]);
    assert_eq!(ran.out, "monolith: weight 100 -> 0 (dry run: nothing was changed)\n");
    assert_eq!(hub.only().json()["dry_run"], true);
}

#[test]
fn undrain_takes_the_override_back_and_says_when_that_is_still_a_drain() {
    let hub = FakeHub::start(|_| Reply::ok(answers::weight_change(0, 0, Some(9), &["hub-0"])));
    let ran = ctl(&hub.address(), &["undrain", "uplink", "monolith", "--reason", "back"]);
    assert_eq!(ran.exit, Exit::Done);
    assert_eq!(hub.only().method, "DELETE");
    assert!(ran.err.contains("still drains"), "{}", ran.err);
}

#[test]
fn revoking_needs_a_reason_and_says_how_many_tunnels_it_cut() {
    let hub = FakeHub::start(|_| Reply::ok(json!({"subject": "agent vm-1", "tunnels_closed": 2, "dry_run": false})));
    assert_eq!(ctl(&hub.address(), &["agent", "revoke", "vm-1"]).exit, Exit::Usage);
    let ran = ctl(&hub.address(), &["agent", "revoke", "vm-1", "--reason", "stolen"]);
    assert_eq!(ran.out, "agent vm-1: revoked, 2 tunnels cut\n");
    assert_eq!(hub.only().json(), json!({"reason": "stolen", "dry_run": false}));
}

#[test]
fn explain_sends_the_request_as_a_client_would() {
    let hub = FakeHub::start(|_| Reply::ok(answers::explanation()));
    let ran = ctl(&hub.address(), &["explain", "GET", "http://shop.example/orders/1", "-H", "X-Beta: yes", "--client", "10.1.2.3"]);
    let wanted = "\
Target:            http://shop.example/orders/1
Refused:           no
Rule:              shop/orders
Next:              uplink monolith via vm-1
Hub's own answer:  -
Why:
  path /orders is the longest prefix
Policies:
  sessions by cookie figspan for 1h
What they do with it:
  pins: pin to uplink monolith for a signed x-figspan-pin: does not hold for this client
  timeouts: 5s to reach the workload
  timeouts: 15s for the request
Backends:
  BACKEND          TIER                                         WEIGHT         WANTED  OBSERVED  PICKED  READY
  uplink monolith  0 failing back, 37.0 % for 20.0 s (latency)  25 (file: 90)  71.4 %  70.0 %    700     2/2
Attempts, if each fails:
  1. uplink monolith on agent vm-1
  2. uplink monolith on agent vm-2
Goes on to the next one when:
  no workload saw it: always
";
    assert_eq!(ran.out, wanted, "{}", ran.err);
    let sent = hub.only().json();
    assert_eq!((&sent["headers"], &sent["client"]), (&json!([["x-beta", "yes"]]), &json!("10.1.2.3")));
    assert_eq!(ctl(&hub.address(), &["explain", "GET", "http://x/", "-H", "no colon"]).exit, Exit::Usage);
}

#[test]
fn explaining_a_connection_names_its_listener_server_name_and_client() {
    let hub = FakeHub::start(|_| Reply::ok(answers::explanation()));
    let ran = ctl(&hub.address(), &["explain-connection", "tls", "--server-name", "a.example", "--client", "10.1.2.3"]);
    assert!(ran.out.contains("Attempts, if each fails:"), "{} {}", ran.out, ran.err);
    let sent = hub.only();
    assert_eq!(
        (sent.path.as_str(), sent.json()),
        ("/v1/explain-connection", json!({"listener": "tls", "server_name": "a.example", "client": "10.1.2.3"}))
    );
    assert_eq!(ctl(&hub.address(), &["explain-connection"]).exit, Exit::Usage);
}

#[test]
fn a_refusal_is_told_in_the_hubs_words() {
    let problem = json!({"status": 404, "title": "no uplink `mono`", "detail": "known are: monolith"});
    let hub = FakeHub::start(move |_| Reply { status: 404, body: problem.to_string() });
    let ran = ctl(&hub.address(), &["describe", "uplink", "mono"]);
    assert_eq!((ran.exit, ran.exit.code()), (Exit::Failed, 1));
    assert_eq!(ran.err, "figspanctl: no uplink `mono`: known are: monolith\n");

    let hub = FakeHub::start(|_| Reply { status: 502, body: "<html>\u{1b}[31mproxy".to_owned() });
    let ran = ctl(&hub.address(), &["status"]);
    assert_eq!(ran.err, "figspanctl: the hub answered 502 Bad Gateway: <html>?[31mproxy\n");
}

#[test]
fn an_answer_of_another_shape_names_the_path_and_the_mend() {
    let hub = FakeHub::start(|_| Reply::ok(json!({"replica": 7})));
    let ran = ctl(&hub.address(), &["status"]);
    assert_eq!(ran.exit, Exit::Failed);
    assert!(ran.err.contains("/v1/status") && ran.err.contains("compare `version`"), "{}", ran.err);
}

#[test]
fn a_missing_socket_asks_whether_the_hub_runs() {
    let dir = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", dir.path().join("admin.sock").display());
    let ran = ctl(&socket, &["status"]);
    assert_eq!(ran.exit, Exit::Failed);
    assert!(ran.err.contains(&socket) && ran.err.contains("is the hub running"), "{}", ran.err);
}

#[test]
fn a_socket_that_nobody_serves_says_that_the_hub_has_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let ran = ctl(&format!("unix:{}", path.display()), &["status"]);
    assert!(ran.err.contains("the hub has stopped"), "{}", ran.err);
}

#[test]
fn a_token_goes_to_a_hub_on_tcp() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "s3cret\n").unwrap();
    let hub = FakeHub::start_tcp(|_| Reply::ok(answers::status(1, 1)));
    let ran = ctl(&hub.address(), &["status", "--token-file", file.to_str().unwrap()]);
    assert_eq!(ran.exit, Exit::Done, "{}", ran.err);
    assert_eq!(hub.only().authorization, "Bearer s3cret");
    assert!(ran.out.starts_with("Replica:           hub-0\nReady:             yes\n"), "{}", ran.out);
}

/// A certificate that is its own root, and the files of it.
fn certificate(dir: &Path, name: &str) -> PemPair {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    let pair = PemPair { source: name.to_owned(), certificate: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() };
    std::fs::write(dir.join(format!("{name}.pem")), &pair.certificate).unwrap();
    std::fs::write(dir.join(format!("{name}.key")), &pair.key).unwrap();
    pair
}

#[test]
fn an_https_hub_is_believed_only_with_the_right_ca() {
    let dir = tempfile::tempdir().unwrap();
    let (pair, _) = (certificate(dir.path(), "localhost"), certificate(dir.path(), "other"));
    let hub = FakeHub::start_tls(&pair, None, |_| Reply::ok(answers::status(1, 1)));
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let ran = ctl(&hub.address(), &["status", "--ca", &file("localhost.pem")]);
    assert_eq!(ran.exit, Exit::Done, "{}", ran.err);
    let ran = ctl(&hub.address(), &["status", "--ca", &file("other.pem")]);
    assert_eq!(ran.exit, Exit::Failed);
    assert!(ran.err.contains("TLS:") && ran.err.contains("--ca FILE"), "{}", ran.err);
    assert_eq!(hub.asked().len(), 1, "nothing is asked of a hub that is not believed");
}

#[test]
fn a_hub_that_asks_for_a_certificate_is_shown_one() {
    let dir = tempfile::tempdir().unwrap();
    let (server, operator) = (certificate(dir.path(), "localhost"), certificate(dir.path(), "operator"));
    let hub = FakeHub::start_tls(&server, Some(&operator.certificate), |_| Reply::ok(answers::status(1, 1)));
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (ca, own, key) = (file("localhost.pem"), file("operator.pem"), file("operator.key"));
    let ran = ctl(&hub.address(), &["status", "--ca", &ca, "--certificate", &own, "--key", &key]);
    assert_eq!(ran.exit, Exit::Done, "{}", ran.err);
    let ran = ctl(&hub.address(), &["status", "--ca", &ca]);
    assert_eq!(ran.exit, Exit::Failed, "{}", ran.out);
    assert_eq!(ctl(&hub.address(), &["status", "--ca", &ca, "--certificate", &own]).exit, Exit::Usage);
    assert_eq!(hub.asked().len(), 1);
}

#[test]
fn check_sends_the_file_and_exits_78_on_errors() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hub.toml");
    std::fs::write(&file, "[hub]\nshard = 2\n").unwrap();
    let hub =
        FakeHub::start(|_| Reply::ok(json!({"errors": ["request:2:1: unknown key `shard`; did you mean `shards`?"], "warnings": []})));
    let ran = ctl(&hub.address(), &["check", file.to_str().unwrap()]);
    assert_eq!((ran.exit, ran.exit.code()), (Exit::Config, 78));
    assert_eq!(ran.out, format!("  error: {}:2:1: unknown key `shard`; did you mean `shards`?\n", file.display()));
    assert_eq!(hub.only().body, "[hub]\nshard = 2\n");

    let ran = ctl(&hub.address(), &["check", "/nowhere/hub.toml"]);
    assert!(ran.exit == Exit::Failed && ran.err.contains("cannot read /nowhere/hub.toml"), "{}", ran.err);
}

#[test]
fn events_are_told_once_each_and_in_order() {
    let hub = FakeHub::start(|_| Reply::ok(json!([answers::event(4), answers::event(5)])));
    let ran = ctl(&hub.address(), &["events", "--since", "4"]);
    assert_eq!(ran.out, "    5  2026-11-21T04:00:00Z  weight      trying  (ada@desk)\n", "{}", ran.err);
    assert_eq!(hub.only().path, "/v1/events?since=4&limit=1000");
}

/// What a hub says when a test has seen enough of an endless command.
fn enough() -> Reply {
    Reply { status: 503, body: json!({"status": 503, "title": "enough", "detail": "the test ends here"}).to_string() }
}

#[test]
fn a_watch_prints_again_only_what_has_changed() {
    let hub = FakeHub::start({
        let mut looks = 0;
        move |_| {
            looks += 1;
            match looks {
                1..=3 => Reply::ok(json!([answers::uplink(100, 0)])),
                4 => Reply::ok(json!([answers::uplink(25, 0)])),
                _ => enough(),
            }
        }
    });
    let ran = ctl(&hub.address(), &["get", "uplinks", "--watch", "-o", "json"]);
    assert_eq!(ran.exit, Exit::Failed);
    let weights: Vec<_> =
        ran.out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()[0]["weight"].clone()).collect();
    assert_eq!(weights, [json!(100), json!(25)]);
}

#[test]
fn following_events_tells_each_once_and_asks_only_for_newer_ones() {
    let hub = FakeHub::start({
        let mut looks = 0;
        move |_| {
            looks += 1;
            match looks {
                1 => Reply::ok(json!([answers::event(4), answers::event(5)])),
                2 => Reply::ok(json!([])),
                3 => Reply::ok(json!([answers::event(5), answers::event(6)])),
                _ => enough(),
            }
        }
    });
    let ran = ctl(&hub.address(), &["events", "--follow"]);
    let numbers: Vec<_> = ran.out.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(numbers, ["4", "5", "6"], "{}", ran.err);
    assert!(ran.err.starts_with("3 older events are not shown"), "{}", ran.err);
    let paths: Vec<_> = hub.asked().into_iter().map(|asked| asked.path).collect();
    assert_eq!(
        paths,
        [
            "/v1/events?since=0&limit=1000",
            "/v1/events?since=5&limit=1000",
            "/v1/events?since=5&limit=1000",
            "/v1/events?since=6&limit=1000"
        ]
    );
}

#[test]
fn every_command_explains_itself_in_completions_man_pages_and_help() {
    crate::command().debug_assert();
    for shell in ["bash", "zsh", "fish"] {
        let ran = ctl("unix:/nowhere", &["completions", shell]);
        assert!(ran.exit == Exit::Done && ran.out.contains("figspanctl"), "{shell}");
    }
    let dir = tempfile::tempdir().unwrap();
    let ran = ctl("unix:/nowhere", &["man", "--dir", dir.path().to_str().unwrap()]);
    assert_eq!(ran.exit, Exit::Done, "{}", ran.err);
    let pages = std::fs::read_dir(dir.path()).unwrap().count();
    assert!(pages >= 20, "{pages} pages");
    assert!(dir.path().join("figspanctl-uplink-weight.1").exists());

    let help = ctl("unix:/nowhere", &["--help"]);
    assert!(help.exit == Exit::Done && help.out.contains("Exit codes: 0 done"), "{}", help.out);
    fn undocumented(command: &clap::Command) -> Vec<String> {
        let mut found: Vec<_> = command
            .get_arguments()
            .filter(|arg| arg.get_help().is_none())
            .map(|arg| format!("{} {}", command.get_name(), arg.get_id()))
            .collect();
        found.extend(command.get_subcommands().filter(|sub| sub.get_about().is_none()).map(|sub| sub.get_name().to_owned()));
        found.extend(command.get_subcommands().flat_map(undocumented));
        found
    }
    assert_eq!(undocumented(&crate::command()), Vec::<String>::new());
}

#[test]
fn kubectl_finds_the_plugin_under_its_own_name() {
    assert_eq!(crate::name_of("/usr/bin/kubectl-figspan".as_ref()), "kubectl figspan");
    assert_eq!(crate::name_of("/usr/bin/figspanctl".as_ref()), "figspanctl");
    let (out, err) = (Sink::default(), Sink::default());
    let exit = crate::execute(
        "kubectl figspan",
        ["uplink", "--help"].map(Into::into),
        &Surroundings::default(),
        &mut Terminal::plain(out.clone(), err),
    );
    assert!(exit == Exit::Done && out.text().contains("Usage: kubectl figspan uplink"), "{}", out.text());
}

#[test]
fn version_serves_with_and_without_a_hub() {
    let hub = FakeHub::start(|_| Reply::ok(answers::status(1, 1)));
    assert_eq!(ctl(&hub.address(), &["version"]).out, format!("figspanctl {}\nhub 0.1.0\n", env!("CARGO_PKG_VERSION")));
    let ran = ctl("unix:/nowhere/admin.sock", &["version"]);
    assert_eq!((ran.exit, ran.out), (Exit::Done, format!("figspanctl {}\n", env!("CARGO_PKG_VERSION"))));
}
