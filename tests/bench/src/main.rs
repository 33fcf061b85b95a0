//! figspan beside its peers on the same work, and what its parts cost. `just bench`.
//!
//! Everything stays on loopback and is bounded in count and time. Absolute figures depend on the machine; ratios of one run, CPU per
//! request and instruction counts are what to compare.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what this program is for")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use figspan_bench::{bed, chain, chains, control, instructions, load, origin, peers, report, table};
use figspan_tests::architecture;
use figspan_tests::hosts::Late;

/// Measures figspan beside its peers.
#[derive(Debug, Parser)]
#[command(name = "figspan-bench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The data path beside every peer that is installed.
    Peers(PeersArguments),
    /// figspan's own control plane: times, memory per tunnel, sizes.
    Control {
        /// Changes of which the times are taken.
        #[arg(long, default_value_t = 200)]
        changes: usize,
        /// Idle tunnels.
        #[arg(long, default_value_t = 1_000)]
        tunnels: usize,
    },
    /// Instructions of one request and of 1 MiB, against the recorded baseline.
    Instructions {
        /// Write what was counted as the new baseline.
        #[arg(long)]
        record: bool,
    },
    /// Does every kind of work on figspan's chain and ends its programs in good order: for programs that record what they do.
    Train {
        /// Seconds of each kind.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
        seconds: u64,
    },
    /// Keeps chains up until the standard input ends, for a profiler or a load of your own.
    Hold {
        /// Only chains whose name contains one of these.
        #[arg(long, value_delimiter = ',', default_value = "figspan")]
        only: Vec<String>,
    },
    /// The echoing half of the workload; started by the others.
    #[command(hide = true)]
    Echo {
        /// WebSocket.
        websocket: SocketAddr,
        /// gRPC.
        grpc: SocketAddr,
        /// TCP.
        tcp: SocketAddr,
    },
}

#[derive(Debug, clap::Args)]
struct PeersArguments {
    /// Times that every chain does all the work.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each closed loop.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Requests a second of the open loop.
    #[arg(long, default_value_t = 1000)]
    rate: u32,
    /// Only chains whose name contains one of these (direct always).
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Write the result into docs/performance.md, with pictures.
    #[arg(long)]
    write: bool,
    /// Only work whose name contains one of these.
    #[arg(long, value_delimiter = ',', conflicts_with = "write")]
    work: Vec<String>,
    /// The work for where a network lies between the two ends of the chains; in words, which (see tests/bench/network).
    #[arg(long, value_name = "NETWORK", conflicts_with = "write")]
    far: Option<String>,
    /// Milliseconds for which packets are held that queue 1 of the network namespace is given (see tests/bench/network).
    #[arg(long, default_value_t = 0, requires = "far")]
    delay: u64,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("figspan-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Peers(arguments) => peers(&arguments),
        Command::Control { changes, tunnels } => control(control::Extent { changes: changes.max(1), tunnels: tunnels.max(1) }),
        Command::Instructions { record } => instructions(record),
        Command::Train { seconds } => train(Duration::from_secs(seconds)),
        Command::Hold { only } => hold(&only),
        Command::Echo { websocket, grpc, tcp } => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(origin::echo(websocket, grpc, tcp))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn peers(arguments: &PeersArguments) -> anyhow::Result<ExitCode> {
    let delay = Duration::from_millis(arguments.delay.min(1000));
    let _late = if delay.is_zero() { None } else { Some(Late::start(delay, Duration::ZERO)?) };
    let bed = bed::Bed::new()?;
    let origin = origin::Origin::start(&bed)?;
    let (mut chains, mut absent) = (Vec::new(), Vec::new());
    for started in chains::start(&bed, origin.at, &arguments.only) {
        match started {
            chains::Started::Running(chain) => chains.push(chain),
            chains::Started::Absent(name, why) => absent.push((name, why)),
        }
    }
    let work = peers::Work {
        rounds: arguments.rounds.max(1),
        time: Duration::from_secs(arguments.seconds.clamp(1, 60)),
        rate: arguments.rate.clamp(1, 100_000),
        tls: load::Client::new(bed.path())?,
        far: arguments.far.is_some(),
        only: arguments.work.clone(),
    };
    let (results, failed) = peers::measure(&chains, &work, &mut |what| eprintln!("{what}"));
    if let Some(network) = &arguments.far {
        println!("## {network}\n");
    }
    let measured = report::data(&chains, &absent, &results, &failed, &work);
    println!("{measured}");
    if arguments.write {
        report::write(&architecture::root().join("docs/performance.md"), &measured, &chains, &results)?;
    }
    // Peers may be missing; our own chain may not fail.
    let ours = chains.iter().any(|chain| chain.name == table::OURS) && !failed.iter().any(|(name, ..)| *name == table::OURS);
    Ok(if ours { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn train(time: Duration) -> anyhow::Result<ExitCode> {
    let bed = bed::Bed::new()?;
    let origin = origin::Origin::start(&bed)?;
    // A profile takes what was never reached for rare, and most hubs write the log.
    let chain = chains::figspan::start_as(&bed, origin.at, true)?;
    let work = peers::Work { rounds: 1, time, rate: 1000, tls: load::Client::new(bed.path())?, far: false, only: Vec::new() };
    let chains = [chain];
    let (_, failed) = peers::measure(&chains, &work, &mut |what| eprintln!("{what}"));
    for (_, what, why) in &failed {
        eprintln!("{what}: {why}");
    }
    let ended = chains.into_iter().all(chain::Chain::end);
    anyhow::ensure!(ended, "a program of the chain did not end well");
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn hold(only: &[String]) -> anyhow::Result<ExitCode> {
    let bed = bed::Bed::new()?;
    let origin = origin::Origin::start(&bed)?;
    let mut chains = Vec::new();
    for started in chains::start(&bed, origin.at, only) {
        match started {
            chains::Started::Running(chain) => {
                println!("{}: HTTP at {}, processes {:?}", chain.name, chain.fronts.http, chain.ids());
                chains.push(chain);
            }
            chains::Started::Absent(name, why) => eprintln!("{name}: {why}"),
        }
    }
    println!("paths: /small, /files/medium, /files/part, /files/large; ends with the standard input");
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(ExitCode::SUCCESS)
}

fn control(extent: control::Extent) -> anyhow::Result<ExitCode> {
    let bed = bed::Bed::new()?;
    let mut rows = Vec::new();
    control::measure(&bed, extent, &mut |what, value| {
        eprintln!("{what}: {value}");
        rows.push(format!("| {what} | {value} |"));
    })?;
    println!("| figure | value |\n|---|---|\n{}", rows.join("\n"));
    Ok(ExitCode::SUCCESS)
}

fn instructions(record: bool) -> anyhow::Result<ExitCode> {
    let file: PathBuf = architecture::root().join("tests/bench/baseline.toml");
    let baseline = if record { None } else { Some(instructions::Counts::read(&file)?) };
    let bed = bed::Bed::new()?;
    let origin = origin::Origin::start(&bed)?;
    let counts = instructions::count(&bed, origin.at, &mut |what| eprintln!("{what}"))?;
    for (what, count) in counts.rows() {
        println!("{what}: {count} instructions");
    }
    let Some(baseline) = baseline else {
        counts.record(&file)?;
        return Ok(ExitCode::SUCCESS);
    };
    let worse = counts.worse_than(&baseline);
    worse.iter().for_each(|line| eprintln!("{line}"));
    Ok(if worse.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
