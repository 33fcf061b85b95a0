//! What idle tunnels cost a hub.

use std::time::Duration;

use super::Chain;
use crate::process::eventually;
use crate::simulated::{Simulated, join};

/// Tunnels of one simulated agent: below the hub's limit.
const EACH: usize = 50;

/// Memory of the hub with that many idle tunnels.
pub fn measure(tunnels: usize, say: &mut impl FnMut(&str, String)) {
    let chain = Chain::start();
    let before = chain.hub.process.rss();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut agents = Vec::new();
        for number in 0..tunnels / EACH {
            let credentials = join(&chain.hub, &format!("sim-{number}"), "flip").await;
            for _ in 0..EACH {
                agents.push(Simulated::connect(&chain.hub, &credentials, (agents.len() % 2) as u8).await);
            }
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        eventually("the hub counts the tunnels", Duration::from_secs(10), || {
            chain.hub.json(&["status"])["tunnels"].as_u64().is_some_and(|count| count as usize >= tunnels)
        });
        let cpu = chain.hub.process.cpu();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let idle = (chain.hub.process.cpu() - cpu) / 5.0;
        let rss = chain.hub.process.rss();
        say(
            &format!("hub with {tunnels} idle tunnels, resident"),
            format!("{rss:.0} MiB ({:.0} KiB each)", (rss - before) * 1024.0 / tunnels as f64),
        );
        say(&format!("hub with {tunnels} idle tunnels, CPU"), format!("{:.1} % of a core", idle * 100.0));
    });
}
