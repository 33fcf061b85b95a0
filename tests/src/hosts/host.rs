//! One VM: a Debian root tree with systemd as its first process, booted by systemd-nspawn in a network namespace of the harness.
//!
//! Its files outlive power off, reboot and a pulled plug, as a disk does; all of it goes when the value is dropped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use super::tree::{self, CACHE, Tree};
use super::{Namespace, run};
use crate::process::{eventually, text};

/// Longest time that a boot or a power off may take, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// systemd-nspawn ends so when the guest asked for a reboot.
const REBOOT: i32 = 133;

/// Puts itself into control groups of its own and becomes systemd-nspawn. Arguments: groups, folder, name, namespace.
const BOOT: &str = r#"
for group in $1; do mkdir -p "$group"; echo $BASHPID > "$group/cgroup.procs"; done
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
exec setsid -w systemd-nspawn --quiet --directory="$2" --machine="$3" --register=no --keep-unit \
  --network-namespace-path="$4" --boot --console=pipe --kill-signal=SIGRTMIN+3 --resolv-conf=off --timezone=off \
  --system-call-filter=bpf --capability=CAP_BPF,CAP_PERFMON,CAP_NET_ADMIN
"#;

/// A VM.
#[derive(Debug)]
pub struct Host {
    /// Its network.
    pub namespace: Namespace,
    name: String,
    folder: PathBuf,
    nspawn: Option<Child>,
    init: u32,
}

impl Host {
    /// Makes a VM whose files are those of a root tree, and its network, which leads nowhere yet. `unique` names it on this machine,
    /// `name` is its own host name.
    pub fn new(tree: Tree, unique: &str, name: &str) -> Self {
        let folder = Path::new(CACHE).join("hosts").join(unique);
        for part in ["upper", "work", "root"] {
            fs::create_dir_all(folder.join(part)).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        }
        let host = Self { namespace: Namespace::new(unique), name: name.to_owned(), folder, nspawn: None, init: 0 };
        let part = |part: &str| host.folder.join(part).display().to_string();
        let layers = format!("lowerdir={},upperdir={},workdir={}", tree::made(tree).display(), part("upper"), part("work"));
        run("mount", &["-t", "overlay", "overlay", "-o", &layers, &part("root")]);
        host.write("/etc/machine-id", "");
        host.write("/etc/hostname", &format!("{name}\n"));
        host.write("/etc/hosts", &format!("127.0.0.1 localhost\n127.0.1.1 {name}\n"));
        host
    }

    /// Its host name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where a file of it lies, seen from outside.
    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.join("root").join(path.trim_start_matches('/'))
    }

    /// Writes a file of it, as root.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        let folder = path.parent().expect("a file lies in a folder");
        fs::create_dir_all(folder).and_then(|()| fs::write(&path, text)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Reads a file of it.
    pub fn read(&self, path: &str) -> String {
        let path = self.path(path);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Copies a file of this machine into it.
    pub fn copy(&self, from: &Path, to: &str) {
        fs::copy(from, self.path(to)).unwrap_or_else(|error| panic!("{} to {to}: {error}", from.display()));
    }

    /// Boots it and waits until systemd has nothing left to start and nothing has failed.
    pub fn boot(&mut self) {
        assert!(self.nspawn.is_none(), "{} runs already", self.name);
        let console =
            fs::OpenOptions::new().create(true).append(true).open(self.folder.join("console")).expect("the folder can be written");
        let root = self.folder.join("root");
        let mut nspawn = Command::new("bash");
        nspawn.args(["-ec", BOOT, "boot", &self.groups().join(" ")]).arg(&root).args([self.namespace.name(), &self.namespace.path()]);
        nspawn.stdin(Stdio::null()).stdout(console.try_clone().expect("a file can be shared")).stderr(console);
        self.nspawn = Some(nspawn.spawn().expect("bash runs"));
        let what = format!("{} boots", self.name);
        eventually(&what, PATIENCE, || {
            self.assert_runs();
            self.find_init()
        });
        eventually(&what, PATIENCE, || {
            self.assert_runs();
            // Not --wait: the bus comes up later than the first process.
            let state = self.output("systemctl is-system-running");
            assert!(!text(&state).starts_with("degraded"), "{}", text(&self.output("systemctl --failed")));
            text(&state).trim() == "running"
        });
    }

    fn assert_runs(&mut self) {
        let ended = self.nspawn.as_mut().and_then(|child| child.try_wait().expect("a child can be waited for"));
        assert!(ended.is_none(), "{} ended while it booted: {ended:?}: {}", self.name, self.console());
    }

    /// What it printed on its console so far.
    pub fn console(&self) -> String {
        fs::read_to_string(self.folder.join("console")).unwrap_or_default()
    }

    /// Whether its first process is there yet: the child of systemd-nspawn that is number 1 in a namespace of processes of its own.
    fn find_init(&mut self) -> bool {
        let Some(nspawn) = self.nspawn.as_ref().map(Child::id) else { return false };
        let children = fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).unwrap_or_default();
        let first = children.split_whitespace().find(|child| {
            let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
            let mut ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default().split_whitespace();
            status.starts_with("Name:\tsystemd\n") && ids.clone().count() > 1 && ids.next_back() == Some("1")
        });
        self.init = first.and_then(|id| id.parse().ok()).unwrap_or(0);
        self.init != 0
    }

    /// Runs a shell command inside, as root; whatever it ends with.
    pub fn output(&self, command: &str) -> Output {
        self.command(command).output().expect("nsenter runs")
    }

    /// A shell command inside, as root, still to be started.
    pub fn command(&self, command: &str) -> Command {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["-t", &self.init.to_string(), "-m", "-u", "-i", "-n", "-p", "-C", "--", "env", "-i"]);
        nsenter.args(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=dumb", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"]);
        nsenter.args(["bash", "-c", command]).stdin(Stdio::null());
        nsenter
    }

    /// Runs a shell command inside, as root; what it printed. Panics when it fails.
    pub fn run(&self, command: &str) -> String {
        let output = self.output(command);
        assert!(output.status.success(), "{}: {command}: {}: {}", self.name, output.status, text(&output));
        text(&output)
    }

    /// Types lines into a root shell, as an operator pastes them: they are in no argument of any process. The shell, still running.
    pub fn paste(&self, lines: &str) -> Child {
        let mut shell =
            self.command("exec bash").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("nsenter runs");
        let mut keyboard = shell.stdin.take().expect("piped");
        std::io::Write::write_all(&mut keyboard, format!("{lines}\n").as_bytes()).expect("the shell reads");
        shell
    }

    /// The id of a unit's main process, as the VM counts.
    pub fn main_process(&self, unit: &str) -> u32 {
        self.property(unit, "MainPID").parse().expect("a process id")
    }

    /// A property of a unit, as `systemctl show` has it.
    pub fn property(&self, unit: &str, property: &str) -> String {
        self.run(&format!("systemctl show --value -p {property} {unit}")).trim().to_owned()
    }

    /// Waits until a unit has that property.
    pub fn has(&self, unit: &str, property: &str, value: &str, deadline: Duration) {
        let mut last = String::new();
        let start = std::time::Instant::now();
        while start.elapsed() < deadline {
            last = self.property(unit, property);
            if last == value {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{unit} on {}: {property} is {last} and not {value} after {deadline:?}: {}", self.name, self.journal(unit));
    }

    /// What a unit wrote to the journal, in all boots.
    pub fn journal(&self, unit: &str) -> String {
        self.run(&format!("journalctl --no-pager -q -o short-precise -u {unit}"))
    }

    /// Shuts it down in good order.
    pub fn power_off(&mut self) {
        self.run("systemctl poweroff");
        let status = self.ended();
        assert!(status.success(), "{} powered off with {status}: {}", self.name, self.console());
    }

    /// Shuts it down in good order and boots it again.
    pub fn reboot(&mut self) {
        self.run("systemctl reboot");
        let status = self.ended();
        assert_eq!(status.code(), Some(REBOOT), "{}: {}", self.name, self.console());
        self.boot();
    }

    /// Pulls its plug: no process of it runs on for an instant, and its network is dead.
    pub fn pull_plug(&mut self) {
        self.namespace.ip(&["link", "set", "eth0", "down"]);
        run("kill", &["-KILL", &self.init.to_string()]);
        self.ended();
    }

    /// Puts the plug back.
    pub fn plug_back(&mut self) {
        self.namespace.ip(&["link", "set", "eth0", "up"]);
        self.boot();
    }

    fn ended(&mut self) -> ExitStatus {
        let mut nspawn = self.nspawn.take().expect("it runs");
        let mut status = None;
        eventually(&format!("{} ends", self.name), PATIENCE, || {
            status = nspawn.try_wait().expect("a child can be waited for");
            status.is_some()
        });
        self.init = 0;
        status.expect("it has ended")
    }

    /// Control groups of its own, below those of the harness: a folder in each hierarchy that systemd wants to see.
    fn groups(&self) -> Vec<String> {
        let hierarchies: &[&str] = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            &["/sys/fs/cgroup"]
        } else {
            &["/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"]
        };
        hierarchies.iter().map(|hierarchy| format!("{hierarchy}/{}", self.namespace.name())).collect()
    }
}

impl Drop for Host {
    #[allow(clippy::print_stdout, reason = "the test's own output, where it has failed")]
    fn drop(&mut self) {
        if std::thread::panicking() && self.init != 0 {
            let journal = self.output("journalctl --no-pager -q -n 60 -u figspan-agent; systemctl status --no-pager figspan-agent");
            println!("--- {}: the agent's journal\n{}---", self.name, text(&journal));
        }
        if let Some(mut nspawn) = self.nspawn.take() {
            if self.init != 0 {
                let _ = Command::new("kill").args(["-KILL", &self.init.to_string()]).status();
            } else {
                let _ = nspawn.kill();
            }
            let _ = nspawn.wait();
        }
        let _ = Command::new("umount").arg(self.folder.join("root")).status();
        for group in self.groups() {
            // Deepest first; a group can be removed when no process is left in it.
            let _ = Command::new("find").args([&group, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]).output();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}
