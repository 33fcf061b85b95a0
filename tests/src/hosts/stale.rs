//! Clears up after runs that were killed before they could: what carries the name `fs-<pid>-...` of a process that is no more.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Once;
use std::time::Duration;

use super::tree::CACHE;

/// Clears up, once in a run.
pub(super) fn sweep() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let namespaces = stale("/run/netns");
        for namespace in &namespaces {
            // Programs in a namespace of ours were started by us: hosts and hubs.
            let list = Command::new("ip").args(["netns", "pids", namespace]).output().map(|output| output.stdout).unwrap_or_default();
            for process in String::from_utf8_lossy(&list).split_whitespace() {
                let _ = Command::new("kill").args(["-KILL", process]).status();
            }
            let _ = Command::new("ip").args(["netns", "del", namespace]).status();
        }
        let hosts = Path::new(CACHE).join("hosts");
        for host in stale(hosts.to_str().unwrap_or_default()) {
            let root = hosts.join(&host).join("root");
            // What was killed a moment ago may still hold it.
            for _ in 0..50 {
                let done = Command::new("umount").arg(&root).output().is_ok_and(|output| output.status.success());
                if done || !mounted(&root) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            // Not what a mount that could not be undone still shows.
            let _ = Command::new("rm").args(["-rf", "--one-file-system"]).arg(hosts.join(&host)).status();
        }
        for hierarchy in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"] {
            for group in stale(hierarchy) {
                let group = format!("{hierarchy}/{group}");
                for _ in 0..20 {
                    let _ = Command::new("find").args([&group, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]).output();
                    if !Path::new(&group).exists() {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
    });
}

/// Names in a folder that belong to runs that are over.
fn stale(folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| owner(name).is_some_and(|process| !runs(process))).collect()
}

/// Whether a process runs; one that has ended and was not waited for does not.
fn runs(process: u32) -> bool {
    fs::read_to_string(format!("/proc/{process}/status")).is_ok_and(|status| !status.contains("\nState:\tZ"))
}

fn mounted(path: &Path) -> bool {
    let path = path.display().to_string();
    fs::read_to_string("/proc/self/mounts").is_ok_and(|mounts| mounts.lines().any(|mount| mount.split(' ').nth(1) == Some(path.as_str())))
}

/// The process that a name says it belongs to.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix("fs-")?.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_harness_are_taken_for_its_own() {
        assert_eq!(owner("fs-123-0-vm-1"), Some(123));
        for other in ["fs-", "fs-x-1", "cni-123", "ufs-123-0"] {
            assert_eq!(owner(other), None, "{other}");
        }
        assert!(runs(std::process::id()) && !runs(u32::MAX));
    }
}
