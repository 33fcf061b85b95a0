//! The open-ended run, without a terminal: what it prints works as printed, and nothing outlives it.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

struct Live {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Live {
    fn start(dir: &Path, args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_figspan-try"))
            .args(["--no-tui"])
            .args(args)
            .env("TMPDIR", dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Lines up to and with the first that fits.
    fn until(&mut self, fits: impl Fn(&str) -> bool) -> Vec<String> {
        let mut read = Vec::new();
        for line in &mut self.lines {
            let line = line.unwrap();
            read.push(line.clone());
            if fits(&line) {
                return read;
            }
        }
        panic!("it ended: {read:#?}");
    }

    /// Processes that it started.
    fn children(&self) -> Vec<u32> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let lists = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default());
        lists.flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()).collect()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a process still does something (a zombie that nobody has collected does not).
fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

fn shell(command: &str) -> (bool, String) {
    let ran = Command::new("sh").arg("-c").arg(command).stdin(Stdio::null()).output().unwrap();
    (ran.status.success(), String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr))
}

#[test]
fn the_commands_that_it_prints_work_as_printed() {
    let dir = tempfile::tempdir().unwrap();
    let mut live = Live::start(dir.path(), &[]);
    let printed = live.until(|line| line.contains("explain GET"));
    let command = |wanted: &str| {
        printed.iter().find(|line| line.contains(wanted)).unwrap_or_else(|| panic!("{wanted}: {printed:#?}")).trim().to_owned()
    };

    let (ok, said) = shell(&command("uplink weight"));
    assert!(ok && said.contains("monolith: weight 90 -> 10") && said.contains("live on every shard of try"), "{said}");
    live.until(|line| line.contains("monolith wanted 50.0 %"));

    let (ok, said) = shell(&command(" drain uplink"));
    assert!(ok && said.contains("monolith: drained") && said.contains("vm-1 0, vm-2 0"), "{said}");
    live.until(|line| line.contains("monolith wanted 0.0 %"));

    let (ok, said) = shell(&command("undrain uplink"));
    assert!(ok && said.contains("monolith: weight 0 -> 90"), "{said}");
    let (ok, said) = shell(&command("explain GET"));
    assert!(ok && said.contains("uplink monolith"), "{said}");
}

#[test]
fn agents_end_with_it_however_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let mut live = Live::start(dir.path(), &[]);
    live.until(|line| line.contains("requests/s"));
    let agents = live.children();
    assert_eq!(agents.len(), 2, "two agents are processes of their own");
    assert!(agents.iter().all(|pid| lives(*pid)));
    live.child.kill().unwrap();
    eventually("agents outlive a parent that was killed", || !agents.iter().any(|pid| lives(*pid)));
}

#[test]
fn it_ends_by_itself_in_time_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut live = Live::start(dir.path(), &["--duration", "2s", "--agents", "1"]);
    live.until(|line| line.contains("agents 1/1"));
    assert!(live.child.wait().unwrap().success());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_kept_directory_serves_again_although_everything_was_drained() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    for _ in 0..2 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_figspan-try"));
        command.args(["--once", "--duration", "2s", "--rate", "300", "--state-dir"]).arg(&state).stdin(Stdio::null());
        let ran = command.output().unwrap();
        let said = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{said}");
    }
    assert!(state.join("agents/vm-1/state/identity/chain.pem").exists() && !state.join("agents/vm-1/token").exists());
}
