//! The figures that a release states, measured. Owns the order of measurements and the table; each kind has a file of its own.
#![allow(clippy::print_stdout, reason = "printing is what this is for")]

pub mod bulk;
pub mod control;
pub mod requests;
pub mod sizes;
pub mod tunnels;
pub mod workload;

use std::path::PathBuf;

use crate::process::HubProcess;

/// A hub with one agent before the workload, and the workload.
pub struct Chain {
    /// The hub.
    pub hub: HubProcess,
    /// The agent.
    pub agent: crate::process::Process,
    /// The workload.
    pub workload: workload::Workload,
    _folder: tempfile::TempDir,
}

impl Chain {
    /// Starts all three.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder for this run");
        let workload = workload::Workload::start();
        let config = "[log]\naccess = false\n\n[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\nprotocol = \"HTTP\"\n\n\
                      [[http_route]]\nname = \"all\"\nlisteners = [\"web\"]\n\n[[http_route.rules]]\nbackend_refs = [{ uplink = \"w\" }]\n\n\
                      [[http_route.rules]]\nmatches = [{ path = { type = \"Exact\", value = \"/flip\" } }]\nbackend_refs = [{ uplink = \"flip\" }]\n";
        let hub = HubProcess::start(folder.path(), config);
        let agent = hub.agent("vm-1", "w", &format!("[[uplink]]\nname = \"w\"\naddress = \"{}\"\n", workload.address));
        hub.accepts("w", 1);
        Self { hub, agent, workload, _folder: folder }
    }

    /// CPU seconds of hub and agent so far.
    pub fn cpu(&self) -> f64 {
        self.hub.process.cpu() + self.agent.cpu()
    }
}

/// The median of some figures.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// The value below which 99 of 100 lie.
pub fn p99(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[(figures.len() * 99).div_ceil(100).saturating_sub(1)]
}

/// Measures everything and prints it as one table.
pub fn run(rounds: usize, changes: usize) {
    let chain = Chain::start();
    let (mut rows, web) = (Vec::new(), chain.hub.listener(0));
    let mut say = |what: &str, figure: String| {
        println!("{what}: {figure}");
        rows.push((what.to_owned(), figure));
    };
    say("idle agent, resident", format!("{:.1} MiB", chain.agent.rss()));
    say("idle hub, resident", format!("{:.1} MiB", chain.hub.process.rss()));
    requests::measure(&chain, web, rounds, &mut say);
    bulk::measure(&chain, web, rounds, &mut say);
    control::measure(&chain, web, changes, &mut say);
    tunnels::measure(1_000, &mut say);
    sizes::measure(&mut say);
    println!("\n| figure | value |\n|---|---|");
    for (what, figure) in rows {
        println!("| {what} | {figure} |");
    }
}

/// Where a program's file is.
pub fn program(name: &str) -> PathBuf {
    crate::process::binary(name)
}
