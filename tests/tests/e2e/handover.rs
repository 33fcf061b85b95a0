//! An upgrade of the only agent: a new process takes over from the one that serves, and nobody who asks notices.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use figspan_tests::balancer::{Arrived, Balanced, bookkeeper};
use figspan_tests::bed::{Bed, http, rule};
use figspan_tests::process::{Process, eventually};
use figspan_tests::web::{Connection, Message, Workload, ok};

const SOON: Duration = Duration::from_secs(20);

/// A service manager as an agent sees it.
pub struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    /// The main process, as it was told last; ended with this value.
    main: Option<u32>,
}

impl Manager {
    pub fn new(bed: &Bed) -> Self {
        let path = bed.hub.folder.join("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        Self { socket, path, main: None }
    }

    pub fn run(&self, bed: &Bed) -> Process {
        bed.hub.run_agent_with("vm-1", &[("NOTIFY_SOCKET", self.path.as_os_str()), ("WATCHDOG_USEC", "1000000".as_ref())])
    }

    /// Waits for a message with that line, or one that begins so; what was said until then.
    pub fn hears(&self, wanted: &str) -> Vec<String> {
        let (deadline, mut said) = (Instant::now() + SOON, Vec::new());
        let mut bytes = [0; 4096];
        while Instant::now() < deadline {
            let count = self.socket.recv(&mut bytes).unwrap_or_else(|error| panic!("nothing instead of {wanted}: {error}: {said:?}"));
            said.extend(String::from_utf8_lossy(&bytes[..count]).lines().map(str::to_owned));
            if said.last().is_some_and(|line| line.starts_with(wanted)) {
                return said;
            }
        }
        panic!("never said {wanted}: {said:?}");
    }

    /// Waits for the handover and for the new process's word.
    pub fn hears_of_the_new_one(&mut self) {
        let said = self.hears("MAINPID=");
        self.main = said.last().and_then(|line| line.strip_prefix("MAINPID=")).and_then(|id| id.parse().ok());
        let before = said.iter().filter(|line| line.starts_with("STOPPING") || line.starts_with("READY")).count();
        assert_eq!(before, 0, "the service neither stops nor starts: {said:?}");
        let after = self.hears("READY=1");
        assert!(!after.iter().any(|line| line.starts_with("STOPPING")), "{after:?}");
        self.hears("WATCHDOG=1");
    }

    fn signal(&self, signal: &str) {
        let main = self.main.expect("there is a new process");
        assert!(Command::new("kill").args([format!("-{signal}"), main.to_string()]).status().unwrap().success());
    }

    fn main_is_alive(&self) -> bool {
        self.main.is_some_and(|id| std::path::Path::new(&format!("/proc/{id}/stat")).exists())
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        if self.main_is_alive() {
            self.signal("KILL");
        }
    }
}

fn instances(bed: &Bed) -> Vec<String> {
    let agent = bed.hub.json(&["get", "agents"])[0].clone();
    agent["instances"].as_array().into_iter().flatten().filter_map(|instance| instance.as_str().map(str::to_owned)).collect()
}

/// One hub and one agent, which runs under the manager.
fn bed(workload: &Workload) -> (Bed, Manager, Process) {
    let mut bed = Bed::start(&http(&rule("{ uplink = \"shop\" }"))).agent("vm-1", &workload.uplink("shop", "")).ready("shop", 1);
    let mut first = bed.agents.remove("vm-1").unwrap();
    first.signal("TERM");
    assert!(first.ended(SOON));
    let manager = Manager::new(&bed);
    let agent = manager.run(&bed);
    manager.hears("READY=1");
    bed.hub.accepts("shop", 1);
    (bed, manager, agent)
}

fn load(bed: &Bed) -> Balanced {
    let health = bed.hub.json(&["status"])["metrics_address"].as_str().and_then(|text| text.parse().ok()).unwrap();
    let load = Balanced::start(&[(bed.web(), health)], 4);
    eventually("there is load", SOON, || load.ready(0));
    load
}

#[test]
fn the_only_agent_is_replaced_twice_under_load_and_no_request_of_any_method_is_lost() {
    let arrived = Arrived::default();
    let shop = bookkeeper(&arrived);
    let (bed, mut manager, mut agent) = bed(&shop);
    let load = load(&bed);
    let first = instances(&bed);
    agent.signal("USR2");
    manager.hears_of_the_new_one();
    assert!(agent.ended(SOON), "the old process finishes and ends well");
    eventually("the new process alone is there", SOON, || instances(&bed).len() == 1 && instances(&bed) != first);
    let second = instances(&bed);
    let old = manager.main;
    manager.signal("USR2");
    manager.hears_of_the_new_one();
    assert_ne!(manager.main, old);
    eventually("the third process alone is there", SOON, || instances(&bed).len() == 1 && instances(&bed) != second);

    // Whoever asks how the agent is asks the new one, and its file stays when the old one ends.
    let status = bed.hub.folder.join("vm-1.sock");
    assert!(std::os::unix::net::UnixStream::connect(&status).is_ok());
    let (asked, wrong) = load.end();
    assert!(wrong.is_empty(), "{} of {} went wrong: {:#?}", wrong.len(), asked.len(), &wrong[..wrong.len().min(5)]);
    let arrived = arrived.lock().unwrap_or_else(PoisonError::into_inner);
    let twice: Vec<_> = asked.iter().filter(|id| arrived.get(*id) != Some(&1)).collect();
    assert!(twice.is_empty() && asked.len() > 300, "of {} these did not arrive once: {twice:?}", asked.len());
    manager.signal("TERM");
    manager.hears("STOPPING=1");
    eventually("the last one ends", SOON, || !manager.main_is_alive());
}

#[test]
fn a_request_that_runs_through_a_handover_is_finished_by_the_old_process() {
    let slow = Workload::http(|request: &Message| {
        if request.target() == "/slow" {
            std::thread::sleep(Duration::from_secs(4));
        }
        ok("done")
    });
    let (bed, mut manager, mut agent) = bed(&slow);
    let web = bed.web();
    let running = std::thread::spawn(move || Connection::open(web).post("/slow", b"x"));
    eventually("it runs", SOON, || slow.seen() == 1);
    agent.signal("USR2");
    manager.hears_of_the_new_one();
    // Nobody's child, so that the manager hears at once if it dies while the old one still has work.
    let parent = std::fs::read_to_string(format!("/proc/{}/status", manager.main.unwrap())).unwrap();
    assert!(parent.contains("\nPPid:\t") && !parent.contains(&format!("\nPPid:\t{}\n", agent.id())), "{parent}");
    assert_eq!(bed.client().post("/", b"x").status(), 200);
    let answer = running.join().unwrap();
    assert_eq!((answer.status(), answer.text().as_str(), slow.seen()), (200, "done", 2));
    assert!(agent.ended(SOON));
}

#[test]
fn a_new_process_that_cannot_start_changes_nothing() {
    let arrived = Arrived::default();
    let shop = bookkeeper(&arrived);
    let (bed, manager, agent) = bed(&shop);
    let load = load(&bed);
    let (before, file) = (instances(&bed), bed.hub.folder.join("vm-1.toml"));
    let settings = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{settings}\nnonsense = 1\n")).unwrap();
    agent.signal("USR2");
    eventually("it says so", SOON, || bed.hub.log("vm-1").contains("this one goes on"));
    assert_eq!(instances(&bed), before);
    // The new process may end before the load has come to 20.
    let count = || arrived.lock().unwrap_or_else(PoisonError::into_inner).len();
    let then = count();
    eventually("requests go on", SOON, || count() > then + 20);
    let (asked, wrong) = load.end();
    assert!(wrong.is_empty() && asked.len() > 20, "{} of {}: {:?}", wrong.len(), asked.len(), wrong.first());
    drop((agent, manager));
}
