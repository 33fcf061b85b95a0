//! Tier 2: real systemd hosts. Debian root trees booted by systemd-nspawn, each with an address of its own on a bridge; the hub in a
//! network namespace of its own; faults by nftables, links and signals.
//!
//! Owns everything that it makes: every name begins with `fs-<pid>-`, and cleaning up goes by those names and by the ids of processes
//! that it started. No network outside namespaces that it made is touched. Needs root; what is missing is a panic, never a skip.

mod archive;
pub mod bed;
mod bridge;
mod delay;
mod fault;
mod host;
mod load;
mod names;
mod namespace;
mod stale;
mod table;
pub mod tomcat;
mod tree;
mod workload;

pub use archive::Archive;
pub use bed::Bed;
pub use bridge::Bridge;
pub use delay::{Delay, Late};
pub use fault::Fault;
pub use host::Host;
pub use load::{Load, Report};
pub use names::Names;
pub use namespace::Namespace;
pub use table::{Counts, measured, row};
pub use tree::Tree;
pub use workload::Shop;

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Runs a program of this machine; what it printed. Panics with what it said when it fails.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output =
        Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}; see tests/hosts/install"));
    let text = crate::process::text(&output);
    assert!(output.status.success(), "{program} {arguments:?}: {}: {text}", output.status);
    text
}

/// A name that nothing else on this machine has: `fs-<pid>-<number>`.
fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("fs-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst))
}
