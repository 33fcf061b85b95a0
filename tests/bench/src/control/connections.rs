//! What a client's connection holds of hub and agent while nobody speaks.

use std::time::Duration;

use anyhow::Context;
use figspan_tests::process::own_memory;

use crate::bed::Bed;
use crate::chains::figspan;
use crate::load::idle::{self, Idle};
use crate::origin::{Origin, SMALL};

/// Connections that are counted, and those before, which fill what is kept for all.
const COUNTED: usize = 300;
const BEFORE: usize = 50;

/// When both programs have given back what only the work needed.
const SETTLED: Duration = Duration::from_secs(8);

/// HTTP, WebSocket and TCP.
pub(super) fn measure(bed: &Bed, say: &mut dyn FnMut(&str, String)) -> anyhow::Result<()> {
    let origin = Origin::start(bed)?;
    let chain = figspan::start_as(bed, origin.at, false)?;
    let ids: [u32; 2] = chain.ids().try_into().ok().context("a hub and an agent")?;
    let fronts = chain.fronts;
    let (websocket, tcp) = (fronts.websocket.context("a front")?, fronts.tcp.context("a front")?);
    // All stay open: what one kind gave back would be there for the next.
    let (text, http) = each(ids, |count| idle::http(fronts.http, "/small", SMALL, count))?;
    say("idle HTTP connection: KiB of hub, agent", text);
    let (text, websockets) = each(ids, |count| idle::websockets(websocket, count))?;
    say("idle WebSocket: KiB of hub, agent", text);
    let (text, bytes) = each(ids, |count| idle::tcp(tcp, count))?;
    say("idle TCP connection: KiB of hub, agent", text);
    drop((http, websockets, bytes));
    anyhow::ensure!(chain.end(), "a program of the chain did not end well");
    Ok(())
}

fn each<C>(ids: [u32; 2], open: impl Fn(usize) -> anyhow::Result<Idle<C>>) -> anyhow::Result<(String, [Idle<C>; 2])> {
    let held = || {
        std::thread::sleep(SETTLED);
        ids.map(own_memory)
    };
    let first = open(BEFORE)?;
    let before = held();
    let counted = open(COUNTED)?;
    let after = held();
    let [hub, agent] = [0, 1].map(|at| (after[at] as f64 - before[at] as f64) / counted.count() as f64);
    Ok((format!("{hub:.1}, {agent:.1}"), [first, counted]))
}
