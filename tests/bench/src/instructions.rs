//! Instructions of one request and of 1 MiB, counted by callgrind: nearly the same on a noisy machine, so a regression shows.
//!
//! Each program in turn runs under valgrind while the other runs as it is; counting is switched on for a number of requests only.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use figspan_tests::process::{HubProcess, binary};
use serde::{Deserialize, Serialize};

use crate::bed::{Bed, port};
use crate::chains::figspan::{HUB, log};
use crate::load;
use crate::origin::{Addresses, PART, SMALL};

/// What may lie between two counts of the same program.
pub const TOLERANCE: f64 = 0.03;

/// Connections that ask at a time: what a request costs depends on how many share a packet.
const CONNECTIONS: usize = 32;

/// Requests before counting begins, so that pools are filled.
const WARM: u64 = 500;

/// Requests that are counted.
const REQUESTS: u64 = 4_000;

/// Times that they are counted; the least counts. Beside other work fewer requests share a packet, which makes each of them dearer.
const TIMES: usize = 5;

/// Instructions in user space.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Hub, one request of 200 B among 32 connections.
    pub hub_request: u64,
    /// Agent, the same.
    pub agent_request: u64,
    /// Hub, 1 MiB of one download.
    pub hub_mebibyte: u64,
    /// Agent, the same.
    pub agent_mebibyte: u64,
}

impl Counts {
    /// Name and value of each.
    pub fn rows(&self) -> [(&'static str, u64); 4] {
        [
            ("hub, one request", self.hub_request),
            ("agent, one request", self.agent_request),
            ("hub, 1 MiB", self.hub_mebibyte),
            ("agent, 1 MiB", self.agent_mebibyte),
        ]
    }

    /// Reads a recorded baseline.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}; record one with --record", file.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is not a baseline", file.display()))
    }

    /// Records this as the baseline.
    pub fn record(&self, file: &Path) -> anyhow::Result<()> {
        let head = "# Instructions in user space, counted by callgrind over release builds: `just instructions` compares, `just instructions --record` writes.\n";
        std::fs::write(file, format!("{head}{}", toml::to_string(self)?))?;
        Ok(())
    }

    /// What got dearer by more than the tolerance.
    pub fn worse_than(&self, baseline: &Self) -> Vec<String> {
        let pairs = self.rows().into_iter().zip(baseline.rows());
        pairs
            .filter(|((_, now), (_, then))| *now as f64 > *then as f64 * (1.0 + TOLERANCE))
            .map(|((what, now), (_, then))| {
                format!("{what}: {now} instructions, {:+.1} % of the recorded {then}", (now as f64 / then as f64 - 1.0) * 100.0)
            })
            .collect()
    }
}

/// Counts all four.
pub fn count(bed: &Bed, origin: Addresses, say: &mut dyn FnMut(&str)) -> anyhow::Result<Counts> {
    let valgrind = bed.find("valgrind").context("valgrind counts instructions and is not installed; run tests/bench/install")?;
    say("counting instructions of the hub");
    let (hub_request, hub_mebibyte) = one(bed, origin, &valgrind, Program::Hub)?;
    say("counting instructions of the agent");
    let (agent_request, agent_mebibyte) = one(bed, origin, &valgrind, Program::Agent)?;
    Ok(Counts { hub_request, agent_request, hub_mebibyte, agent_mebibyte })
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Program {
    Hub,
    Agent,
}

fn one(bed: &Bed, origin: Addresses, valgrind: &Path, which: Program) -> anyhow::Result<(u64, u64)> {
    let folder = bed.path().join(format!("counted-{which:?}").to_lowercase());
    std::fs::create_dir(&folder)?;
    // Fixed addresses: the counted program takes the place of the one that set all up.
    let (web, tunnel) = (port(), port());
    let routes = HUB.replacen("127.0.0.1:0", &web.to_string(), 1);
    let mut hub = HubProcess::start(&folder, &format!("[tunnel]\naddress = \"{tunnel}\"\n{}{routes}", log(false)));
    let mut agent = hub.agent("vm-1", "*", &format!("[[uplink]]\nname = \"web\"\naddress = \"{}\"\n", origin.http));
    hub.accepts("web", 1);
    let (replaced, program, arguments) = match which {
        Program::Hub => (&mut hub.process, "figspan-hub", ["run", "--config", "hub.toml"]),
        Program::Agent => (&mut agent, "figspan-agent", ["run", "--config", "vm-1.toml"]),
    };
    replaced.signal("TERM");
    replaced.ended(Duration::from_secs(40));
    let mut counted = Counted::start(valgrind, &folder, program, &arguments)?;
    counted.answers(web)?;
    load::exactly(web, "/small", SMALL, CONNECTIONS, WARM)?;
    let mut request = u64::MAX;
    for _ in 0..TIMES {
        counted.count(true)?;
        let done = load::exactly(web, "/small", SMALL, CONNECTIONS, REQUESTS)?;
        request = request.min(counted.take()? / done.count);
    }
    counted.count(true)?;
    let done = load::bulk(web, "/files/part", PART, 1)?;
    let mebibyte = counted.take()? / (done.bytes >> 20);
    Ok((request, mebibyte))
}

/// A program under callgrind.
struct Counted {
    child: std::process::Child,
    folder: std::path::PathBuf,
    dumps: usize,
}

impl Counted {
    fn start(valgrind: &Path, folder: &Path, program: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let log = std::fs::File::create(folder.join("valgrind.log"))?;
        let child = Command::new(valgrind)
            .args(["--tool=callgrind", "--instr-atstart=no", "--callgrind-out-file=counts"])
            .arg(binary(program))
            .args(arguments)
            .current_dir(folder)
            .stdout(log.try_clone()?)
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()?;
        Ok(Self { child, folder: folder.to_owned(), dumps: 0 })
    }

    /// Waits until a request comes through; valgrind makes a start take long.
    fn answers(&mut self, web: std::net::SocketAddr) -> anyhow::Result<()> {
        let start = Instant::now();
        while load::exactly(web, "/small", SMALL, 1, 1).is_err() {
            if self.child.try_wait()?.is_some() || start.elapsed() > Duration::from_secs(90) {
                bail!("nothing is served under valgrind: {}", std::fs::read_to_string(self.folder.join("valgrind.log"))?);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    fn control(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let done = Command::new("callgrind_control").args(arguments).arg(self.child.id().to_string()).current_dir(&self.folder).output()?;
        ensure!(done.status.success(), "callgrind_control {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        Ok(())
    }

    fn count(&self, on: bool) -> anyhow::Result<()> {
        self.control(&["-i", if on { "on" } else { "off" }])
    }

    /// Instructions counted since the last time.
    fn take(&mut self) -> anyhow::Result<u64> {
        self.count(false)?;
        self.control(&["-d"])?;
        self.dumps += 1;
        let file = self.folder.join(format!("counts.{}", self.dumps));
        let start = Instant::now();
        loop {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            if let Some(totals) = text.lines().find_map(|line| line.strip_prefix("totals: ")) {
                return totals.trim().parse().context("callgrind's totals are no number");
            }
            ensure!(start.elapsed() < Duration::from_secs(30), "callgrind wrote no {}", file.display());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_worse_only_beyond_the_tolerance() {
        let baseline = Counts { hub_request: 1000, agent_request: 1000, hub_mebibyte: 1000, agent_mebibyte: 1000 };
        let now = Counts { hub_request: 1029, agent_request: 1031, hub_mebibyte: 900, agent_mebibyte: 1000 };
        let worse = now.worse_than(&baseline);
        assert_eq!(worse.len(), 1, "{worse:?}");
        assert!(worse[0].starts_with("agent, one request: 1031 instructions, +3.1 %"), "{worse:?}");
    }

    #[test]
    fn the_recorded_baseline_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let (file, counts) =
            (folder.path().join("baseline.toml"), Counts { hub_request: 1, agent_request: 2, hub_mebibyte: 3, agent_mebibyte: 4 });
        counts.record(&file).unwrap();
        assert_eq!(Counts::read(&file).unwrap(), counts);
    }
}
