//! What this machine says: versions, limits, the agent's sockets, its part of the journal. All of it read, nothing changed.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::oneshot;

use crate::advertise::SOFTWARE;

/// The unit whose journal is read.
const UNIT: &str = "figspan-agent";
/// Most lines of the journal, the newest.
const LINES: &str = "20000";
/// How long another program may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// What runs here.
#[derive(Debug, Serialize)]
pub(super) struct Versions {
    agent: &'static str,
    program: String,
    kernel: String,
    machine: &'static str,
    distribution: String,
    systemd: String,
    uptime_seconds: String,
}

pub(super) async fn versions() -> Versions {
    let kernel = |file: &str| fs::read_to_string(Path::new("/proc/sys/kernel").join(file)).unwrap_or_default().trim().to_owned();
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let distribution = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("unknown").trim_matches('"');
    let systemd = said("systemctl", &["--version"]).await;
    Versions {
        agent: SOFTWARE,
        program: std::env::current_exe().map_or_else(|error| error.to_string(), |path| path.display().to_string()),
        kernel: format!("{} {} {}", kernel("ostype"), kernel("osrelease"), kernel("version")),
        machine: std::env::consts::ARCH,
        distribution: distribution.to_owned(),
        systemd: systemd.map_or_else(|why| why, |text| text.lines().next().unwrap_or_default().to_owned()),
        uptime_seconds: fs::read_to_string("/proc/uptime").unwrap_or_default().split(' ').next().unwrap_or_default().to_owned(),
    }
}

/// The host's name as it fits a file's.
pub(super) fn name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.')).take(63).collect();
    if name.is_empty() { "host".to_owned() } else { name }
}

/// Limits of the agent's process, and of the kernel for all sockets.
pub(super) fn limits(process: Option<u32>) -> String {
    let mut files: Vec<PathBuf> = Vec::new();
    if let Some(process) = process {
        files.extend(["limits", "status", "cgroup"].map(|file| Path::new("/proc").join(process.to_string()).join(file)));
    }
    let sysctls = [
        "net/core/rmem_max",
        "net/core/wmem_max",
        "net/core/somaxconn",
        "net/ipv4/ip_local_port_range",
        "net/ipv4/ip_no_pmtu_disc",
        "net/ipv4/tcp_mtu_probing",
        "net/netfilter/nf_conntrack_count",
        "net/netfilter/nf_conntrack_max",
        "fs/file-nr",
    ];
    files.extend(sysctls.map(|file| Path::new("/proc/sys").join(file)));
    files.extend(["/proc/net/snmp", "/proc/net/netstat", "/proc/loadavg", "/proc/meminfo"].map(PathBuf::from));
    for entry in fs::read_dir("/sys/class/net").into_iter().flatten().flatten() {
        files.push(entry.path().join("mtu"));
    }
    let mut text = String::new();
    for file in files {
        let content = fs::read_to_string(&file).unwrap_or_else(|error| format!("({error})\n"));
        text.push_str(&format!("== {}\n{content}", file.display()));
    }
    text
}

/// The kernel's lines about the process's sockets, and about no other's.
pub(super) fn sockets(process: u32) -> String {
    let process = Path::new("/proc").join(process.to_string());
    let links = match fs::read_dir(process.join("fd")) {
        Ok(entries) => entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok()),
        Err(error) => return format!("{}: {error}; run it as root\n", process.display()),
    };
    let links: Vec<String> = links.map(|link| link.to_string_lossy().into_owned()).collect();
    let own: HashSet<&str> = links.iter().filter_map(|link| link.strip_prefix("socket:[")?.strip_suffix(']')).collect();
    let mut text = format!("{} descriptors, {} sockets\n", links.len(), own.len());
    for table in ["udp", "udp6", "tcp", "tcp6"] {
        let lines = fs::read_to_string(process.join("net").join(table)).unwrap_or_default();
        text.push_str(&format!("== {table}\n"));
        for (number, line) in lines.lines().enumerate() {
            if number == 0 || line.split_whitespace().nth(9).is_some_and(|inode| own.contains(inode)) {
                text.push_str(line.trim_end());
                text.push('\n');
            }
        }
    }
    text
}

/// The unit's lines of the journal; an error says why there are none.
pub(super) async fn journal(since: Duration) -> Result<String, String> {
    let since = format!("-{}s", since.as_secs());
    let text = said("journalctl", &["--no-pager", "-q", "-u", UNIT, "-o", "short-iso-precise", "-n", LINES, "--since", &since]).await?;
    if text.trim().is_empty() { Err(format!("the journal has no line of {UNIT} since then, or is not for this user")) } else { Ok(text) }
}

/// What a program says on its standard output.
async fn said(program: &'static str, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C").stdin(Stdio::null());
    // A thread and not a task: of a program that hangs, nobody waits for the end.
    let (tell, told) = oneshot::channel();
    let started = std::thread::Builder::new().name("bundle".into()).spawn(move || tell.send(command.output()));
    started.map_err(|error| error.to_string())?;
    let output = tokio::time::timeout(PATIENCE, told).await.map_err(|_| format!("{program} took more than {} s", PATIENCE.as_secs()))?;
    match output.map_err(|_| format!("{program} was not waited for"))? {
        Err(error) => Err(format!("{program}: {error}")),
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => Err(format!("{program}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())),
    }
}
