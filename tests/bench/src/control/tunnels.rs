//! Many agents at once: how fast they join, what their idle tunnels cost a hub, and how fast they come back when it was killed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use figspan_tests::process::{HubProcess, eventually};
use figspan_tests::simulated::{Simulated, join_many};
use figspan_tunnel::Credentials;
use futures_util::StreamExt;
use rustix::process::{Resource, Rlimit};

use super::Beside;
use crate::bed::Bed;

/// Tunnels of one simulated agent: below the hub's limit.
const EACH: usize = 50;

/// Agents that join, at least: fewer would measure the start of the programs.
const JOINS: usize = 200;

/// Joins and handshakes at a time, as a fleet that starts spread over some seconds would bring.
const AT_ONCE: usize = 32;

/// All three with that many tunnels.
pub(super) fn measure(bed: &Bed, tunnels: usize, say: &mut dyn FnMut(&str, String)) -> anyhow::Result<()> {
    // Each simulated tunnel has a socket of its own.
    let open = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: open.maximum, ..open })?;
    let mut beside = Beside::start(bed, "tunnels")?;
    let before = beside.hub.process.rss();
    let address: SocketAddr = beside.hub.json(&["status"])["tunnel_address"].as_str().unwrap_or_default().parse()?;
    // As an agent does.
    figspan_footprint::keep_large_apart();
    // The simulated agents share one thread: what they cost is not the hub's.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let agents = tunnels.div_ceil(EACH).max(JOINS);
        let start = Instant::now();
        let credentials = join_many(&beside.hub, "flip", agents, AT_ONCE).await;
        say(
            "agents that join in a second",
            format!("{:.0} ({agents} of one grant, {AT_ONCE} at a time)", agents as f64 / start.elapsed().as_secs_f64()),
        );

        let start = Instant::now();
        let open = dial(address, &credentials, tunnels).await;
        say(
            &format!("{tunnels} tunnels up after"),
            format!("{:.1} s ({AT_ONCE} at a time, both ends on this machine)", start.elapsed().as_secs_f64()),
        );
        tokio::time::sleep(Duration::from_secs(3)).await;
        counted(&beside.hub, tunnels);
        let cpu = beside.hub.process.cpu();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let idle = (beside.hub.process.cpu() - cpu) / 5.0;
        let rss = beside.hub.process.rss();
        say(
            &format!("hub with {tunnels} idle tunnels, resident"),
            format!("{rss:.0} MiB ({:.0} KiB each)", (rss - before) * 1024.0 / tunnels as f64),
        );
        say(&format!("hub with {tunnels} idle tunnels, CPU"), format!("{:.1} % of a core", idle * 100.0));

        beside.hub.process.signal("KILL");
        beside.hub.process.ended(Duration::from_secs(10));
        drop(open);
        beside.hub.start_again();
        let (start, cpu) = (Instant::now(), beside.hub.process.cpu());
        let open = dial(address, &credentials, tunnels).await;
        counted(&beside.hub, tunnels);
        // The agents' half of the cryptography is not the hub's: on cores of its own it needs its own time only.
        let cpu = beside.hub.process.cpu() - cpu;
        say(
            &format!("{tunnels} tunnels back after kill -9 of the hub and its start"),
            format!("{:.1} s, of which the hub needed {cpu:.1} s of a core", start.elapsed().as_secs_f64()),
        );
        drop(open);
        anyhow::Ok(())
    })
}

/// Every agent's tunnels, spread over two shards.
async fn dial(address: SocketAddr, credentials: &[Arc<Credentials>], tunnels: usize) -> Vec<Simulated> {
    let dials = (0..tunnels).map(|number| async move { Simulated::dial(address, &credentials[number / EACH], (number % 2) as u8).await });
    futures_util::stream::iter(dials).buffer_unordered(AT_ONCE).collect().await
}

fn counted(hub: &HubProcess, tunnels: usize) {
    eventually("the hub counts the tunnels", Duration::from_secs(60), || {
        hub.json(&["status"])["tunnels"].as_u64().is_some_and(|count| count as usize >= tunnels)
    });
}
