//! The root trees that hosts are booted from: Debian 12 with what a package of ours may depend on, and more where a test needs it.
//! Each is made once and kept under `/var/cache/figspan`, keyed by the list of its packages. Hosts never write to it: each has an
//! overlay of its own.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use super::run;

/// Where trees and the files of hosts are kept.
pub(super) const CACHE: &str = "/var/cache/figspan";

/// The release of Debian.
const SUITE: &str = "bookworm";

/// What is in each. Hosts have no route to the world, so every dependency of our packages must be here. libfaketime does nothing
/// until a unit loads it.
const PACKAGES: &[&str] = &[
    "systemd",
    "systemd-sysv",
    "dbus",
    "libnss-systemd",
    "iproute2",
    "ca-certificates",
    "adduser",
    "procps",
    "iputils-ping",
    "netcat-openbsd",
    "gpgv",
    "libfaketime",
];

/// A root tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tree {
    /// A bare host.
    Bare,
    /// One with Debian's Tomcat and its examples.
    Tomcat,
    /// One as a cloud makes it: cloud-init and sshd, and what Ansible asks for.
    Cloud,
    /// One that upgrades itself, and restarts what uses old libraries.
    Unattended,
}

impl Tree {
    fn packages(self) -> Vec<&'static str> {
        let more: &[&str] = match self {
            Self::Bare => &[],
            Self::Tomcat => &["tomcat10", "tomcat10-examples", "openjdk-17-jre-headless"],
            Self::Cloud => &["cloud-init", "openssh-server", "python3", "python3-apt", "sudo"],
            Self::Unattended => &["unattended-upgrades", "needrestart"],
        };
        [PACKAGES, more].concat()
    }
}

/// A tree's folder; made if it is not there yet.
pub(super) fn made(tree: Tree) -> PathBuf {
    let packages = tree.packages();
    let mut hasher = DefaultHasher::new();
    (SUITE, &packages).hash(&mut hasher);
    let tree = Path::new(CACHE).join(format!("{SUITE}-{:016x}", hasher.finish()));
    fs::create_dir_all(CACHE).unwrap_or_else(|error| panic!("{CACHE}: {error}"));
    // Tests run side by side, and so may runs.
    let lock = File::create(tree.with_extension("lock")).unwrap_or_else(|error| panic!("{CACHE}: {error}"));
    lock.lock().unwrap_or_else(|error| panic!("{CACHE}: {error}"));
    if !tree.exists() {
        let new = tree.with_extension("new");
        let _ = fs::remove_dir_all(&new);
        let new = new.display().to_string();
        run(
            "mmdebstrap",
            &[
                "--quiet",
                "--variant=minbase",
                &format!("--include={}", packages.join(",")),
                "--dpkgopt=path-exclude=/usr/share/locale/*",
                SUITE,
                &new,
            ],
        );
        fs::rename(&new, &tree).unwrap_or_else(|error| panic!("{}: {error}", tree.display()));
    }
    tree
}
