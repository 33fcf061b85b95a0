//! The daemon as systemd sees it: readiness, status, watchdog, reload, drain, second signal. Its hub is away all the time.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use figspan_agent::identity::Kept;
use figspan_agent::identity::files::{Declared, Files};
use figspan_proto::name::{Role, SpiffeId};
use figspan_tunnel::testing::Authority;
use figspan_tunnel::{Identity, KeyPair};

const SOON: Duration = Duration::from_secs(20);

/// A joined agent under a service manager that this test plays.
struct Service {
    child: Child,
    manager: UnixDatagram,
    settings: PathBuf,
    _folder: tempfile::TempDir,
}

impl Service {
    fn start(drain_timeout: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let state = folder.path().join("state");
        join(&state);
        let etc = folder.path().join("etc");
        std::fs::create_dir(&etc).expect("a folder can be made");
        let settings = etc.join("agent.toml");
        let socket = folder.path().join("status.sock");
        let text = format!("state_dir = {state:?}\ndrain_timeout = \"{drain_timeout}\"\n[status]\nsocket = {socket:?}\n");
        std::fs::write(&settings, text).expect("the folder can be written");
        let notify = folder.path().join("notify.sock");
        let manager = UnixDatagram::bind(&notify).expect("a socket can be bound");
        manager.set_read_timeout(Some(SOON)).expect("a time limit can be set");
        let child = Command::new(env!("CARGO_BIN_EXE_figspan-agent"))
            .args(["run", "--config"])
            .arg(&settings)
            .env("NOTIFY_SOCKET", &notify)
            .env("WATCHDOG_USEC", "300000")
            .env_remove("WATCHDOG_PID")
            .stderr(Stdio::null())
            .spawn()
            .expect("the agent starts");
        let service = Self { child, manager, settings, _folder: folder };
        service.hears("READY=1");
        service
    }

    /// Waits for a message that has this line, or one that begins so.
    fn hears(&self, wanted: &str) -> String {
        let deadline = Instant::now() + SOON;
        let mut bytes = [0; 4096];
        while Instant::now() < deadline {
            let count = self.manager.recv(&mut bytes).unwrap_or_else(|error| panic!("the agent says nothing instead of {wanted}: {error}"));
            let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
            if text.lines().any(|line| line.starts_with(wanted)) {
                return text;
            }
        }
        panic!("the agent never said {wanted}");
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().expect("kill runs");
        assert!(sent.success());
    }

    /// Writes the settings with this behind what they begin with.
    fn write(&self, more: &str) {
        let text = std::fs::read_to_string(&self.settings).expect("the settings can be read");
        let base = text.split("[[uplink]]").next().unwrap_or_default();
        let new = self.settings.with_extension("new");
        std::fs::write(&new, format!("{base}{more}")).expect("the folder can be written");
        std::fs::rename(&new, &self.settings).expect("the folder can be written");
    }

    fn ends_with(&mut self, code: i32) {
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(status) = self.child.try_wait().expect("the agent can be waited for") {
                return assert_eq!(status.code(), Some(code));
            }
            assert!(Instant::now() < deadline, "the agent has not ended");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Leaves in `state` what a join would have left.
fn join(state: &Path) {
    let authority = Authority::new();
    let key = KeyPair::generate().expect("a key can be made");
    let id = SpiffeId { trust_domain: authority.ca.trust_domain().clone(), role: Role::Agent("vm-1".parse().expect("a name")) };
    let csr = key.csr().expect("a request");
    let chain = authority.ca.issue(&id, &csr, SystemTime::now(), Duration::from_secs(3600)).expect("a leaf can be issued");
    let kept = Kept { identity: Identity::from_der(chain, &key).expect("an identity"), key, roots: authority.ca.roots() };
    // Nobody answers there: port 9 is discard, and nothing listens on it on loopback.
    Files::new(state)
        .write_joined(&kept, &["127.0.0.1:9".to_owned()], authority.ca.trust_domain(), &Declared::default())
        .expect("the folder can be written");
}

#[test]
fn systemd_hears_ready_status_and_signs_of_life_although_the_hub_is_away() {
    let mut service = Service::start("5s");
    let status = service.hears("STATUS=");
    assert!(status.contains("0/1 replicas · 0 uplinks ready · 0 in flight · certificate 59 min"), "{status}");
    service.hears("WATCHDOG=1");
    service.hears("WATCHDOG=1");
    service.signal("TERM");
    service.hears("STOPPING=1");
    service.ends_with(0);
}

#[test]
fn a_change_of_the_file_is_taken_and_a_bad_one_leaves_the_old_and_says_so() {
    let mut service = Service::start("5s");
    service.write("[[uplink]]\nname = \"shop\"\naddress = \"127.0.0.1:1\"\nhealth = { type = \"none\" }\n");
    service.hears("STATUS=0/1 replicas · 1 uplink ready");
    service.write("[[uplink]]\nname = \"shop\"\n");
    service.hears("STATUS=0/1 replicas · 1 uplink ready · 0 in flight · certificate 59 min · last reload refused");
    service.write("");
    service.hears("STATUS=0/1 replicas · 0 uplinks ready");
    service.signal("HUP");
    service.hears("RELOADING=1");
    service.hears("READY=1");
    service.signal("INT");
    service.ends_with(0);
}
