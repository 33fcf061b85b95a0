//! The root tree that every host is booted from: Debian 12 with what a package of ours may depend on, made once and kept under
//! `/var/cache/figspan`, keyed by the list of its packages. Hosts never write to it: each has an overlay of its own.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use super::run;

/// Where trees and the files of hosts are kept.
pub(super) const CACHE: &str = "/var/cache/figspan";

/// The release of Debian.
const SUITE: &str = "bookworm";

/// What is in it. Hosts have no route to the world, so every dependency of our packages must be here.
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
];

/// The tree's folder; made if it is not there yet.
pub(super) fn base() -> PathBuf {
    let mut hasher = DefaultHasher::new();
    (SUITE, PACKAGES).hash(&mut hasher);
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
                &format!("--include={}", PACKAGES.join(",")),
                "--dpkgopt=path-exclude=/usr/share/locale/*",
                SUITE,
                &new,
            ],
        );
        fs::rename(&new, &tree).unwrap_or_else(|error| panic!("{}: {error}", tree.display()));
    }
    tree
}
