//! figspan as an operator runs it: `figspan-hub`, `figspan-agent` and `figspanctl`, each a process of its own, set up by files.
//!
//! For what only processes can show: `kill -9`, signals, CPU time, resident memory, and programs of other makers around them.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use crate::port;

/// Waits for a condition; panics with `what` when it does not come.
pub fn eventually(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < deadline, "{what}: not within {deadline:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A process that ends with this value, at the latest.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
}

impl Process {
    /// Starts a program of figspan in a folder; what it says goes to `<name>.log` there.
    pub fn start(binary: &str, folder: &Path, name: &str, arguments: &[&str]) -> Self {
        Self::start_with(binary, folder, name, arguments, &[])
    }

    /// The same with variables of its environment.
    pub fn start_with(binary: &str, folder: &Path, name: &str, arguments: &[&str], variables: &[(&str, &OsStr)]) -> Self {
        let log = std::fs::File::create(folder.join(format!("{name}.log"))).expect("the folder can be written");
        let child = command(binary, folder)
            .args(arguments)
            .envs(variables.iter().copied())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn();
        Self { name: name.to_owned(), child: child.unwrap_or_else(|error| panic!("{binary}: {error}")) }
    }

    /// A process that was started in another way.
    pub fn of(name: &str, child: Child) -> Self {
        Self { name: name.to_owned(), child }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name: `TERM`, `HUP`, `STOP`, `KILL`.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").arg(format!("-{signal}")).arg(self.id().to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()), "{}: cannot send {signal}", self.name);
    }

    /// Waits for its end; whether it ended well.
    pub fn ended(&mut self, deadline: Duration) -> bool {
        let mut status = None;
        eventually(&format!("{} ends", self.name), deadline, || {
            status = self.child.try_wait().expect("a child can be waited for");
            status.is_some()
        });
        status.is_some_and(|status| status.success())
    }

    /// User and system time so far, in seconds.
    pub fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).expect("the process runs");
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let ticks: f64 = fields[11..13].iter().map(|field| field.parse::<f64>().expect("a number of ticks")).sum();
        // USER_HZ is 100 on every Linux that figspan runs on.
        ticks / 100.0
    }

    /// See [`own_memory`].
    pub fn own_memory(&self) -> u64 {
        own_memory(self.id())
    }

    /// Resident memory in MiB.
    pub fn rss(&self) -> f64 {
        self.memory("VmRSS:")
    }

    /// The most that was ever resident, in MiB.
    pub fn most_resident(&self) -> f64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, which: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix(which)).expect("the kernel says it");
        line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number of kB") / 1024.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a program lies: in the folder that `FIGSPAN_PROGRAMS` names, else beside this one, of the same build.
///
/// A path is taken as it is: for programs of another version.
pub fn binary(name: &str) -> PathBuf {
    if Path::new(name).is_absolute() {
        return name.into();
    }
    if let Some(folder) = std::env::var_os("FIGSPAN_PROGRAMS") {
        return crate::architecture::root().join(folder).join(name);
    }
    let this = std::env::current_exe().expect("a program knows its path");
    let folder = this.ancestors().find(|folder| folder.join(name).is_file());
    folder
        .unwrap_or_else(|| {
            panic!("{name} is not built beside {}: cargo build -p figspan-hub -p figspan-agent -p figspan-ctl", this.display())
        })
        .join(name)
}

fn command(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(binary(name));
    command.current_dir(folder);
    command
}

/// A hub in a folder of its own, with `hub.toml`, state and admin socket there.
#[derive(Debug)]
pub struct HubProcess {
    /// Where its files are.
    pub folder: PathBuf,
    /// The process.
    pub process: Process,
    /// Where its tunnels and its metrics are, at every start.
    sockets: [SocketAddr; 2],
    /// What its `[hub]` section says beside the usual.
    hub: String,
    /// Where the programs of its version are, if it is another than ours.
    version: Option<PathBuf>,
}

impl HubProcess {
    /// Starts one; `config` is what comes behind the sections that every hub of a test needs (`write`).
    pub fn start(folder: &Path, config: &str) -> Self {
        Self::start_with(folder, "", config)
    }

    /// The same with more keys of its `[hub]` section.
    pub fn start_with(folder: &Path, hub: &str, config: &str) -> Self {
        Self::launch(folder, Self::anywhere(), hub, config, None)
    }

    /// The same of another version, whose `figspan-hub` and `figspanctl` are in that folder.
    pub fn start_of(version: &Path, folder: &Path, hub: &str, config: &str) -> Self {
        Self::launch(folder, Self::anywhere(), hub, config, Some(version.to_owned()))
    }

    /// Makes it another version from its next start on; `None`: ours.
    pub fn becomes(&mut self, version: Option<&Path>) {
        self.version = version.map(Path::to_owned);
    }

    fn program(version: Option<&PathBuf>, name: &str) -> String {
        version.map_or_else(|| name.to_owned(), |folder| folder.join(name).display().to_string())
    }

    /// The same with its own sockets at fixed ports of an address of the loopback: tunnel 7443, metrics 9464.
    pub fn start_at(folder: &Path, address: Ipv4Addr, hub: &str, config: &str) -> Self {
        Self::launch(folder, [(address, 7443).into(), (address, 9464).into()], hub, config, None)
    }

    fn anywhere() -> [SocketAddr; 2] {
        [port::kept(), (Ipv4Addr::LOCALHOST, 0).into()]
    }

    fn launch(folder: &Path, sockets: [SocketAddr; 2], hub: &str, config: &str, version: Option<PathBuf>) -> Self {
        Self::write(folder, sockets, hub, config);
        let program = Self::program(version.as_ref(), "figspan-hub");
        let process = Process::start(&program, folder, "hub", &["run", "--config", "hub.toml"]);
        let hub = Self { folder: folder.to_owned(), process, sockets, hub: hub.to_owned(), version };
        eventually("the hub answers on its admin socket", Duration::from_secs(20), || hub.ctl(&["status"]).status.success());
        hub
    }

    fn write(folder: &Path, [tunnel, metrics]: [SocketAddr; 2], hub: &str, config: &str) {
        let folder_text = folder.display();
        // Few tests have a load balancer that wants to be told.
        let lame_duck = if hub.contains("lame_duck") { "" } else { "lame_duck = \"0s\"\n" };
        let replica = if hub.contains("replica") { "" } else { "replica = \"hub-0\"\n" };
        let tunnel = if config.contains("[tunnel]") { String::new() } else { format!("[tunnel]\naddress = \"{tunnel}\"\n\n") };
        let base = format!(
            "[hub]\n{replica}{lame_duck}state_dir = \"{folder_text}/hub-state\"\nshards = 2\n{hub}\n\n{tunnel}\
             [admin]\nsocket = \"{folder_text}/admin.sock\"\n\n[metrics]\naddress = \"{metrics}\"\n\n"
        );
        // Beside the file and then over it, as an editor or a ConfigMap does.
        std::fs::write(folder.join("hub.toml.new"), base + config).expect("the folder can be written");
        std::fs::rename(folder.join("hub.toml.new"), folder.join("hub.toml")).expect("the folder can be written");
    }

    /// Ends the hub as its service manager would, and starts it again on the same state and addresses.
    pub fn restart(&mut self) {
        self.process.signal("TERM");
        assert!(self.process.ended(Duration::from_secs(40)), "the hub did not end well");
        self.start_again();
    }

    /// Starts it anew when it has ended, whatever made it end.
    pub fn start_again(&mut self) {
        let program = Self::program(self.version.as_ref(), "figspan-hub");
        self.process = Process::start(&program, &self.folder, "hub-again", &["run", "--config", "hub.toml"]);
        eventually("the hub answers again", Duration::from_secs(20), || self.ctl(&["status"]).status.success());
    }

    /// Changes the file under the running hub.
    pub fn rewrite(&self, config: &str) {
        self.rewrite_with(&self.hub, config);
    }

    /// The same with other keys of its `[hub]` section, until it is rewritten again.
    pub fn rewrite_with(&self, hub: &str, config: &str) {
        Self::write(&self.folder, self.sockets, hub, config);
    }

    /// Runs figspanctl against it.
    pub fn ctl(&self, arguments: &[&str]) -> Output {
        let hub = format!("unix:{}/admin.sock", self.folder.display());
        let program = Self::program(self.version.as_ref(), "figspanctl");
        command(&program, &self.folder).args(["--hub", &hub]).args(arguments).output().expect("figspanctl runs")
    }

    /// The same with `-o json`, read.
    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.ctl(&[arguments, &["-o", "json"]].concat());
        assert!(output.status.success(), "figspanctl {arguments:?}: {}", text(&output));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("figspanctl {arguments:?}: {error}: {}", text(&output)))
    }

    /// Where a listener is bound.
    pub fn listener(&self, index: usize) -> SocketAddr {
        self.json(&["status"])["listeners"][index]["address"].as_str().and_then(|text| text.parse().ok()).expect("the listener is bound")
    }

    /// Waits until an uplink has that many endpoints, all of which accept.
    pub fn accepts(&self, uplink: &str, endpoints: usize) {
        eventually(&format!("{uplink} has {endpoints} endpoints that accept"), Duration::from_secs(20), || {
            let all = self.json(&["get", "uplinks"]);
            let found = all.as_array().into_iter().flatten().find(|found| found["name"] == uplink).cloned().unwrap_or_default();
            let list = found["endpoints"].as_array().cloned().unwrap_or_default();
            list.len() == endpoints && list.iter().all(|endpoint| endpoint["accepts"] == true)
        });
    }

    /// Joins a VM and starts its agent, as an operator does: grant, `join`, `run`. `uplinks` is the `[[uplink]]` part of its file.
    pub fn agent(&self, name: &str, allowed: &str, uplinks: &str) -> Process {
        self.agent_with(name, allowed, uplinks, &[])
    }

    /// The same with more arguments of `join`.
    pub fn agent_with(&self, name: &str, allowed: &str, uplinks: &str, join: &[&str]) -> Process {
        self.join(name, allowed, "", uplinks, join);
        self.run_agent(name)
    }

    /// The same for an agent whose processes may call those services; `settings` has its `[[service]]` parts too.
    pub fn agent_calling(&self, name: &str, services: &str, settings: &str) -> Process {
        self.join(name, "*", services, settings, &[]);
        self.run_agent(name)
    }

    /// How an agent says that it is.
    pub fn agent_status(&self, name: &str) -> serde_json::Value {
        let file = format!("{name}.toml");
        let output = command("figspan-agent", &self.folder).args(["status", "--config", &file, "-o", "json"]).output();
        serde_json::from_slice(&output.expect("the agent's program runs").stdout).unwrap_or_default()
    }

    fn join(&self, name: &str, allowed: &str, services: &str, settings: &str, join: &[&str]) {
        let folder = self.folder.display();
        let config = format!("state_dir = \"{folder}/{name}\"\n\n[status]\nsocket = \"{folder}/{name}.sock\"\n\n{settings}");
        std::fs::write(self.folder.join(format!("{name}.toml")), config).expect("the folder can be written");
        let services: &[&str] = if services.is_empty() { &[] } else { &["--services", services] };
        let grant = self.json(&[&["grant", "create", name, "--uplinks", allowed, "--ttl", "5m"], services].concat());
        let token = self.folder.join(format!("{name}.token"));
        std::fs::write(&token, grant["token"].as_str().expect("the grant has a token")).expect("the folder can be written");
        let file = format!("{name}.toml");
        let joined = command("figspan-agent", &self.folder)
            .args(["join", "--config", &file, "--token-file"])
            .arg(&token)
            .args(join)
            .output()
            .expect("the agent runs");
        assert!(joined.status.success(), "join: {}", text(&joined));
    }

    /// Makes the agent of that VM dial these addresses instead of those that its grant names.
    pub fn dials(&self, name: &str, hubs: &[SocketAddr]) {
        let folder = self.folder.join(format!("{name}.toml.d"));
        let hubs: Vec<String> = hubs.iter().map(SocketAddr::to_string).collect();
        std::fs::create_dir_all(&folder).expect("the folder can be written");
        std::fs::write(folder.join("50-hubs.toml"), format!("hubs = {hubs:?}\n")).expect("the folder can be written");
    }

    /// What a program said so far; `name` is `hub` or an agent's.
    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.join(format!("{name}.log"))).unwrap_or_default()
    }

    /// Starts the agent of a VM that has joined.
    pub fn run_agent(&self, name: &str) -> Process {
        self.run_agent_with(name, &[])
    }

    /// The same with variables of its environment.
    pub fn run_agent_with(&self, name: &str, variables: &[(&str, &OsStr)]) -> Process {
        Process::start_with("figspan-agent", &self.folder, name, &["run", "--config", &format!("{name}.toml")], variables)
    }
}

/// What a program said, both ways.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What a process has written into memory of its own since it began, in KiB: heap, stacks and what the kernel maps for them. Without
/// the pages of its file, which the kernel shares and may take back, and which differ between builds.
pub fn own_memory(id: u32) -> u64 {
    let maps = std::fs::read_to_string(format!("/proc/{id}/smaps")).expect("the process runs");
    let (mut own, mut of_file) = (0, false);
    for line in maps.lines() {
        let mut words = line.split_ascii_whitespace();
        match (words.next(), words.next()) {
            (Some("Anonymous:"), Some(kib)) if !of_file => own += kib.parse::<u64>().expect("a number of kB"),
            // A mapping: its addresses, and behind five columns its file, `[heap]`, `[stack]` or nothing.
            (Some(range), Some(_)) if range.contains('-') => of_file = words.nth(3).is_some_and(|name| name.starts_with('/')),
            _ => {}
        }
    }
    own
}
