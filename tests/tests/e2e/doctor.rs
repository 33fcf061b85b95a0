//! `figspan-agent doctor`: what is right passes, and each planted fault is named by its check and by no other.

use std::ffi::OsString;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use figspan_proto::join::Token;
use figspan_proto::name::{Role, SpiffeId};
use figspan_tests::bed::{Bed, http, rule};
use figspan_tests::clock::WrongClock;
use figspan_tests::process::{Process, binary, text};
use figspan_tests::relay::Relay;
use figspan_tests::web::{Workload, ok};
use figspan_tunnel::KeyPair;
use figspan_tunnel::ca::Ca;
use serde_json::Value;

const DAY: Duration = Duration::from_secs(86_400);

/// A hub whose CA the test has too, and an agent that serves a workload.
struct Clinic {
    bed: Bed,
    ca: Ca,
    shop: Workload,
    clock: WrongClock,
    _files: tempfile::TempDir,
    /// What is true of this machine whatever is planted.
    usual: Vec<(String, String)>,
}

/// A copy of the agent's files, to be harmed.
struct Patient<'a> {
    clinic: &'a Clinic,
    folder: PathBuf,
    hubs: String,
    top: String,
    uplinks: String,
    socket: PathBuf,
    arguments: Vec<String>,
    variables: Vec<(&'static str, OsString)>,
    /// What has to live while doctor looks.
    held: Vec<Box<dyn std::any::Any>>,
}

impl Clinic {
    fn open() -> Self {
        let files_of_it = tempfile::Builder::new().prefix("figspan-").tempdir().unwrap();
        let folder = files_of_it.path();
        let ca = Ca::create(&"figspan.local".parse().unwrap(), SystemTime::now()).unwrap();
        let clock = WrongClock::build(folder);
        let (certificate, key) = (folder.join("ca.pem"), folder.join("ca.key"));
        std::fs::write(&certificate, ca.certificate_pem()).unwrap();
        std::fs::write(&key, ca.key_pem()).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        let files = format!("[ca]\ncertificate = {certificate:?}\nkey = {key:?}\n\n");
        let shop = Workload::named("shop");
        let bed = Bed::start(&(files + &http(&rule("{ uplink = \"shop\" }"))))
            .agent("vm-1", &shop.uplink("shop", ""))
            .ready("shop", 1)
            .covered("vm-1");
        let mut clinic = Self { bed, ca, shop, clock, _files: files_of_it, usual: Vec::new() };
        let healthy = clinic.patient("healthy").look();
        let usual = found(&healthy.1);
        // Kernels differ in what buffers they give, machines in what room they have left.
        assert!(usual.iter().all(|(check, mark)| ["udp-buffers", "disk"].contains(&check.as_str()) && mark == "WARN"), "{:#}", healthy.1);
        let skew = healthy.1["checks"].as_array().unwrap().iter().find(|check| check["check"] == "version-skew").unwrap();
        assert_eq!(skew["mark"], "PASS", "{skew}");
        clinic.usual = usual;
        clinic
    }

    fn patient(&self, name: &str) -> Patient<'_> {
        let folder = self.bed.hub.folder.join("patients").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let copied = Command::new("cp").arg("-a").arg(self.bed.hub.folder.join("vm-1")).arg(folder.join("state")).status().unwrap();
        assert!(copied.success());
        Patient {
            clinic: self,
            folder,
            hubs: String::new(),
            top: String::new(),
            uplinks: self.shop.uplink("shop", ""),
            socket: self.bed.hub.folder.join("vm-1.sock"),
            arguments: Vec::new(),
            variables: Vec::new(),
            held: Vec::new(),
        }
    }

    fn tunnel_address(&self) -> std::net::SocketAddr {
        self.bed.hub.json(&["status"])["tunnel_address"].as_str().and_then(|text| text.parse().ok()).unwrap()
    }
}

impl Patient<'_> {
    fn file(&self) -> PathBuf {
        self.folder.join("agent.toml")
    }

    fn identity(&self, file: &str) -> PathBuf {
        self.folder.join("state/identity").join(file)
    }

    fn write(&self) {
        let Self { folder, hubs, top, uplinks, socket, .. } = self;
        let settings = format!("state_dir = \"{}/state\"\n{hubs}{top}\n[status]\nsocket = {socket:?}\n\n{uplinks}", folder.display());
        // What was planted before is kept: its mode.
        std::fs::write(self.file(), settings).unwrap();
    }

    /// The exit code and the report.
    fn look(&self) -> (i32, Value) {
        self.write();
        let output = Command::new(binary("figspan-agent"))
            .current_dir(&self.folder)
            .args(["doctor", "--config", "agent.toml", "-o", "json"])
            .args(&self.arguments)
            .envs(self.variables.iter().cloned())
            .output()
            .unwrap();
        let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
        (output.status.code().unwrap(), report)
    }

    /// Dials a relay to the hub, which is harmed so.
    fn relay(&mut self, harm: impl Fn(&Relay)) {
        self.harm(Relay::start(self.clinic.tunnel_address()), harm);
    }

    /// The same where TCP passes beside it.
    fn relay_with_tcp(&mut self, harm: impl Fn(&Relay)) {
        self.harm(Relay::start_with_tcp(self.clinic.tunnel_address()), harm);
    }

    fn harm(&mut self, relay: Relay, harm: impl Fn(&Relay)) {
        harm(&relay);
        self.hubs = format!("hubs = [\"{}\"]\n", relay.address);
        self.held.push(Box::new(relay));
    }

    /// A certificate of that age and life in the place of the agent's own, for the agent's own key.
    fn certificate(&self, age: Duration, life: Duration) {
        let key = KeyPair::from_pem(&std::fs::read_to_string(self.identity("key.pem")).unwrap()).unwrap();
        let id = SpiffeId { trust_domain: self.clinic.ca.trust_domain().clone(), role: Role::Agent("vm-1".parse().unwrap()) };
        let chain = self.clinic.ca.issue(&id, &key.csr().unwrap(), SystemTime::now() - age, life).unwrap();
        std::fs::write(self.identity("chain.pem"), figspan_tunnel::Identity::from_der(chain, &key).unwrap().chain_pem()).unwrap();
    }

    /// Another agent that runs, whose files and socket are looked at.
    fn other(&mut self, name: &str, allowed: &str, settings: &str, shell: &str) {
        let hub = &self.clinic.bed.hub;
        let grant = hub.json(&["grant", "create", name, "--uplinks", allowed, "--ttl", "5m"]);
        std::fs::remove_dir_all(self.folder.join("state")).unwrap();
        self.socket = self.folder.join("agent.sock");
        self.top.push_str(settings);
        self.write();
        std::fs::write(self.folder.join("token"), grant["token"].as_str().unwrap()).unwrap();
        let joined = Command::new(binary("figspan-agent"))
            .current_dir(&self.folder)
            .args(["join", "--config", "agent.toml", "--token-file", "token"])
            .output()
            .unwrap();
        assert!(joined.status.success(), "{}", text(&joined));
        let script = format!("{shell} exec {} run --config agent.toml", binary("figspan-agent").display());
        let log = std::fs::File::create(self.folder.join("agent.log")).unwrap();
        let child = Command::new("sh").args(["-c", &script]).current_dir(&self.folder).stderr(log).spawn().unwrap();
        self.held.push(Box::new(Process::of("agent", child)));
        figspan_tests::process::eventually("the agent has its tunnels", Duration::from_secs(20), || {
            let status = Command::new(binary("figspan-agent"))
                .current_dir(&self.folder)
                .args(["status", "--config", "agent.toml", "-o", "json"])
                .output()
                .unwrap();
            let status: Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
            let wanted = if settings.contains("tunnels_per_hub = 1") { 1 } else { 2 };
            let judged = status["uplinks"]
                .as_array()
                .is_some_and(|all| all.iter().all(|uplink| !uplink["weight_in_force"].is_null() || !uplink["refused"].is_null()));
            judged && status["tunnels"].as_array().is_some_and(|tunnels| tunnels.len() == wanted)
        });
    }
}

/// Checks that warn or fail, with their marks.
fn found(report: &Value) -> Vec<(String, String)> {
    let checks = report["checks"].as_array().unwrap_or_else(|| panic!("{report}"));
    let bad = checks.iter().filter(|check| check["mark"] == "FAIL" || check["mark"] == "WARN");
    bad.map(|check| {
        assert!(check["mend"].as_str().is_some_and(|mend| !mend.is_empty()), "a mend for each: {check}");
        (check["check"].as_str().unwrap().to_owned(), check["mark"].as_str().unwrap().to_owned())
    })
    .collect()
}

type Plant = fn(&mut Patient<'_>);

/// Name, the one check that shall name it, its mark, a word of what is seen, and how it is planted.
const FAULTS: &[(&str, &str, &str, &str, Plant)] = &[
    ("a hub's name is unknown", "name-resolution", "FAIL", "no-such-hub.invalid", |patient| {
        patient.hubs = "hubs = [\"no-such-hub.invalid:7443\"]\n".to_owned();
    }),
    ("no hub listens", "udp-path", "FAIL", "nobody listens", |patient| {
        let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        patient.hubs = format!("hubs = [\"{closed}\"]\n");
    }),
    ("UDP is blocked", "udp-path", "FAIL", "UDP is blocked", |patient| patient.relay(|relay| relay.dark(true))),
    ("UDP is blocked and TCP passes", "udp-path", "WARN", "TCP passes, and carries the tunnels", |patient| {
        patient.relay_with_tcp(|relay| relay.dark(true));
    }),
    ("UDP is cut on the way out", "udp-path", "WARN", "UDP is cut on the way there: the hub hears nothing of this VM", |patient| {
        patient.relay_with_tcp(Relay::cut_out);
    }),
    ("UDP is cut on the way back", "udp-path", "WARN", "UDP is cut on the way back: the hub hears this VM", |patient| {
        patient.relay_with_tcp(Relay::cut_back);
    }),
    ("large packets vanish", "path-mtu", "WARN", "1280 bytes", |patient| patient.relay(|relay| relay.largest(1300))),
    ("the clock is a day ahead", "clock", "FAIL", "1day", |patient| patient.variables = patient.clinic.clock.off(86_400)),
    ("the clock is a week behind", "clock", "FAIL", "7days behind", |patient| patient.variables = patient.clinic.clock.off(-7 * 86_400)),
    ("the clock is two minutes off", "clock", "WARN", "ahead of", |patient| patient.variables = patient.clinic.clock.off(120)),
    ("the certificate has expired", "certificate", "FAIL", "expired", |patient| patient.certificate(2 * DAY, DAY)),
    ("the certificate was not renewed", "certificate", "WARN", "should have been renewed", |patient| {
        patient.certificate(DAY - DAY / 24, DAY);
    }),
    ("the hub has another CA", "ca", "FAIL", "cannot be trusted", |patient| {
        let other = Ca::create(&"figspan.local".parse().unwrap(), SystemTime::now()).unwrap();
        std::fs::write(patient.identity("roots.pem"), other.certificate_pem()).unwrap();
    }),
    ("the token is of another hub", "ca", "FAIL", "public key", |patient| {
        let grant = patient.clinic.bed.hub.json(&["grant", "create", "vm-9", "--uplinks", "shop", "--ttl", "5m"]);
        let mut token: Token = grant["token"].as_str().unwrap().parse().unwrap();
        token.pin.0[0] ^= 1;
        std::fs::write(patient.folder.join("token"), token.to_string()).unwrap();
        patient.arguments = vec!["--token-file".to_owned(), "token".to_owned()];
    }),
    ("the agent was revoked", "tunnel", "FAIL", "revoked", |patient| {
        patient.other("vm-2", "shop", "", "");
        let revoked = patient.clinic.bed.hub.ctl(&["agent", "revoke", "vm-2", "--reason", "lost"]);
        assert!(revoked.status.success());
    }),
    ("others may read the key", "files", "FAIL", "mode 644", |patient| {
        std::fs::set_permissions(patient.identity("key.pem"), std::fs::Permissions::from_mode(0o644)).unwrap();
    }),
    ("others may write the settings", "files", "WARN", "written by others", |patient| {
        patient.write();
        std::fs::set_permissions(patient.file(), std::fs::Permissions::from_mode(0o666)).unwrap();
    }),
    ("a key of the settings is misspelt", "settings", "FAIL", "drain_time", |patient| patient.top = "drain_time = \"3s\"\n".to_owned()),
    ("no workload is declared", "settings", "WARN", "no uplink", |patient| patient.uplinks.clear()),
    ("the machine has not joined", "identity", "FAIL", "has not joined", |patient| {
        std::fs::remove_dir_all(patient.folder.join("state/identity")).unwrap();
    }),
    ("the key is of another certificate", "identity", "FAIL", "chain.pem", |patient| {
        std::fs::write(patient.identity("key.pem"), KeyPair::generate().unwrap().to_pem()).unwrap();
    }),
    ("the trust domain is another", "identity", "FAIL", "other.example", |patient| {
        patient.top = "trust_domain = \"other.example\"\n".to_owned();
    }),
    ("the agent may open few files", "descriptors", "WARN", "256", |patient| patient.other("vm-3", "shop", "", "ulimit -n 256;")),
    ("no agent runs", "agent", "WARN", "no agent runs", |patient| patient.socket = patient.folder.join("none.sock")),
    ("the agent does not answer", "agent", "FAIL", "did not answer", |patient| {
        patient.socket = patient.folder.join("mute.sock");
        patient.held.push(Box::new(UnixListener::bind(&patient.socket).unwrap()));
    }),
    ("a shard has no tunnel", "coverage", "WARN", "1 of 2 shards", |patient| patient.other("vm-4", "shop", "tunnels_per_hub = 1\n", "")),
    ("the grant does not allow an uplink", "uplink", "FAIL", "refused", |patient| patient.other("vm-5", "orders", "", "")),
    ("a workload is down", "workload", "FAIL", "connection refused", |patient| {
        let gone = Workload::named("gone");
        patient.uplinks.push_str(&gone.uplink("gone", ""));
    }),
    ("a workload is ill", "workload", "FAIL", "500", |patient| {
        let ill = Workload::http(|_| ok("").replace("200", "500"));
        patient.uplinks.push_str(&ill.uplink("ill", "health = { type = \"http\", path = \"/healthz\" }"));
        patient.held.push(Box::new(ill));
    }),
];

#[test]
fn each_planted_fault_is_named_by_its_check_and_nothing_else_is_wrong() {
    assert!(FAULTS.len() >= 15);
    let clinic = Clinic::open();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let wrong = std::sync::Mutex::new(Vec::new());
    let folder = |name: &str| name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    // A few at a time: they wait more than they work.
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                while let Some((name, check, mark, word, plant)) = FAULTS.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    let mut patient = clinic.patient(&folder(name));
                    plant(&mut patient);
                    let (code, report) = patient.look();
                    let mut bad = found(&report);
                    bad.retain(|one| !clinic.usual.contains(one));
                    let seen = report["checks"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .any(|one| one["check"] == *check && format!("{} {}", one["subject"], one["seen"]).contains(word));
                    let wanted = if *check == "settings" && *mark == "FAIL" { 78 } else { if *mark == "FAIL" { 1 } else { 3 } };
                    if bad != [((*check).to_owned(), (*mark).to_owned())] || !seen || code != wanted {
                        wrong.lock().unwrap().push(format!("{name}: exit code {code}, {bad:?}\n{report:#}"));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn before_a_join_doctor_looks_at_the_way_that_a_token_names_and_the_grant_is_left() {
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }")));
    let shop = Workload::named("shop");
    let folder = &bed.hub.folder;
    let settings =
        format!("state_dir = \"{0}/vm-1\"\n[status]\nsocket = \"{0}/vm-1.sock\"\n{1}", folder.display(), shop.uplink("shop", ""));
    std::fs::write(folder.join("vm-1.toml"), settings).unwrap();
    let grant = bed.hub.json(&["grant", "create", "vm-1", "--uplinks", "shop", "--ttl", "5m"]);
    std::fs::write(folder.join("vm-1.token"), grant["token"].as_str().unwrap()).unwrap();
    let clock = WrongClock::build(folder);
    let run = |command: &str, more: &[&str], variables: Vec<(&'static str, OsString)>| {
        let mut agent = Command::new(binary("figspan-agent"));
        agent.current_dir(folder).args([command, "--config", "vm-1.toml", "--token-file", "vm-1.token"]).args(more).envs(variables);
        agent.output().unwrap()
    };
    // A clock that is a day off: the join says which one is wrong, and so does doctor, by how much.
    let refused = run("join", &[], clock.off(-86_400));
    let told = text(&refused);
    assert!(told.contains("this VM's clock is 1day behind the hub's") && told.contains("timedatectl"), "{told}");
    assert_eq!(refused.status.code(), Some(1), "the service tries again: {told}");
    let looked = run("doctor", &["-o", "json"], clock.off(-86_400));
    let report: Value = serde_json::from_slice(&looked.stdout).unwrap();
    let bad: Vec<_> = found(&report).into_iter().filter(|(check, _)| check != "udp-buffers" && check != "disk").collect();
    assert_eq!(bad, [("clock".to_owned(), "FAIL".to_owned())], "{report:#}");
    assert!(report.to_string().contains("this clock is 1day behind the hub's"), "{report:#}");
    // With the clock right, nothing fails, and the grant is as good as before.
    let looked = run("doctor", &["-o", "json"], Vec::new());
    let report: Value = serde_json::from_slice(&looked.stdout).unwrap();
    assert!(report["worst"] != "FAIL" && report["agent"].is_null(), "{report:#}");
    let joined = run("join", &[], Vec::new());
    assert!(joined.status.success(), "{}", text(&joined));
}

/// For people too.
#[test]
fn the_page_names_the_fault_and_its_mend() {
    let folder = tempfile::tempdir().unwrap();
    let settings = format!("state_dir = {:?}\n[status]\nsocket = {:?}\n", folder.path(), folder.path().join("none.sock"));
    std::fs::write(folder.path().join("agent.toml"), settings).unwrap();
    let page = page(folder.path());
    assert!(page.contains("FAIL  identity ") && page.contains("mend: run `figspan-agent join`"), "{page}");
    assert!(!page.contains(": \"") && page.contains("1 failed"), "{page}");
}

fn page(folder: &Path) -> String {
    let output = Command::new(binary("figspan-agent")).current_dir(folder).args(["doctor", "--config", "agent.toml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    text(&output)
}
