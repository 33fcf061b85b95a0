//! figspan alone, measured: how fast a change takes effect, what idle connections and tunnels cost, how fast many agents join and
//! come back, how large the programs are. Stands beside no peer, so there is no ratio.

mod changes;
mod connections;
mod sizes;
mod tunnels;

use std::time::Duration;

use figspan_tests::process::{HubProcess, Process};

use crate::bed::{Bed, port};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// Changes of which the times are taken.
    pub changes: usize,
    /// Idle tunnels.
    pub tunnels: usize,
}

/// A hub, and one agent before a workload that is never asked.
struct Beside {
    hub: HubProcess,
    agent: Process,
}

impl Beside {
    /// Fixed addresses, so that the hub can be killed and started again.
    fn start(bed: &Bed, name: &str) -> anyhow::Result<Self> {
        let folder = bed.path().join(name);
        std::fs::create_dir(&folder)?;
        let config = format!(
            "[tunnel]\naddress = \"{}\"\n\n[log]\naccess = false\n\n[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\nprotocol = \"HTTP\"\n\n\
             [[http_route]]\nname = \"all\"\n\n[[http_route.rules]]\nbackend_refs = [{{ uplink = \"w\" }}]\n\n\
             [[http_route.rules]]\nmatches = [{{ path = {{ type = \"Exact\", value = \"/flip\" }} }}]\nbackend_refs = [{{ uplink = \"flip\" }}]\n",
            port()
        );
        let hub = HubProcess::start(&folder, &config);
        let agent = hub.agent("vm-1", "w", "[[uplink]]\nname = \"w\"\naddress = \"127.0.0.1:1\"\nhealth = { type = \"none\" }\n");
        hub.accepts("w", 1);
        Ok(Self { hub, agent })
    }
}

/// Measures all; `say` hears of each figure.
pub fn measure(bed: &Bed, extent: Extent, say: &mut dyn FnMut(&str, String)) -> anyhow::Result<()> {
    let beside = Beside::start(bed, "changes")?;
    // An agent gives back what only its start needed, three seconds after it.
    std::thread::sleep(Duration::from_secs(5));
    say("idle agent, resident", format!("{:.1} MiB", beside.agent.rss()));
    say("idle agent, of its own", format!("{:.1} MiB", beside.agent.own_memory() as f64 / 1024.0));
    say("idle hub, resident", format!("{:.1} MiB", beside.hub.process.rss()));
    changes::measure(&beside.hub, extent.changes, say);
    drop(beside);
    connections::measure(bed, say)?;
    tunnels::measure(bed, extent.tunnels, say)?;
    sizes::measure(say);
    Ok(())
}

/// The median of some figures.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// The value below which 99 of 100 lie.
fn p99(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[(figures.len() * 99).div_ceil(100).saturating_sub(1)]
}
