//! figspan-try: a hub, agents and workloads on one machine, in one command.
//!
//! The hub runs in this process, the agents in processes of their own; they join by grants and carry everything over real
//! QUIC with mutual TLS, on loopback. Nothing here is a shortcut around figspan: it writes the files that an operator would
//! write, and uses the admin API that an operator uses.

mod agent_process;
mod agents;
mod args;
mod bridge;
mod config;
mod hub;
mod journey;
mod live;
mod observe;
mod report;
mod tell;
mod view;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use args::{Args, Once, Plan};
use bridge::Bridge;
use config::Written;

/// Runs the command line whose first item is the program's own name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let rest = args.iter().skip(2).cloned();
    match args.get(1).and_then(|first| first.to_str()) {
        Some("ctl") => return figspan_ctl::run_as("figspan-try ctl", rest),
        Some(agents::SUBCOMMAND) => return agent_process::live(rest),
        _ => {}
    }
    let plan = match Args::parse_from(args).plan() {
        Ok(plan) => plan,
        Err(why) => {
            tell::advice(&format!("figspan-try: {why}"));
            return ExitCode::from(2);
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tell::advice(&format!("figspan-try: cannot start a runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(go(plan)) {
        Ok(exit) => exit,
        Err(error) => {
            tell::advice(&format!("figspan-try: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn go(plan: Plan) -> anyhow::Result<ExitCode> {
    let (mut interrupt, mut terminate, mut hangup) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    let ended = async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    };
    let once = plan.once.clone();
    let written = if once.is_some() { journey::BEGIN } else { Written::default() };
    let mut ended = std::pin::pin!(ended);
    let mut bridge = tokio::select! {
        bridge = Bridge::start(plan, written) => bridge?,
        () = &mut ended => return Ok(ExitCode::FAILURE),
    };
    let hub = bridge.hub.clone();
    let exit = match &once {
        Some(once) => tokio::select! {
            exit = unattended(&mut bridge, once) => exit,
            () = &mut ended => Err(anyhow::anyhow!("interrupted; nothing is proven")),
            died = hub.died() => Err(died),
        },
        None => tokio::select! {
            ended = live::run(&bridge, ended.as_mut()) => ended.map(|()| ExitCode::SUCCESS),
            died = hub.died() => Err(died),
        },
    };
    let faults = bridge.stop().await;
    for fault in &faults {
        tell::advice(&format!("figspan-try: {fault}"));
    }
    let exit = exit?;
    Ok(if faults.is_empty() { exit } else { ExitCode::FAILURE })
}

async fn unattended(bridge: &mut Bridge, once: &Once) -> anyhow::Result<ExitCode> {
    bridge.forget_overrides().await?;
    bridge.until_ready().await?;
    let report = journey::run(bridge, once.time, tell::answer).await?;
    tell::answer("");
    tell::answer(report.text().trim_end());
    if let Some(file) = &once.report {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(file, text + "\n").map_err(|error| anyhow::anyhow!("cannot write {}: {error}", file.display()))?;
    }
    Ok(if report.faults().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
