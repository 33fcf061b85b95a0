//! What an agent's process does: what `figspan-agent run` does, by the same library, and it ends with its parent.
//!
//! When standard input ends, the parent has closed it or is no more: the process then sends itself the SIGTERM that systemd
//! would send, and drains.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use figspan_agent::run::{End, run};
use rustix::process::{Signal, getpid, kill_process};

use crate::tell;

/// What the parent says.
#[derive(Debug, Parser)]
#[command(name = "figspan-try agent")]
struct Args {
    /// agent.toml
    #[arg(long)]
    config: PathBuf,
    /// File with the token to join with
    #[arg(long)]
    token_file: Option<PathBuf>,
}

/// Runs an agent until it is told to end. `args`: without program and subcommand.
pub(crate) fn live(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = Args::parse_from(std::iter::once(OsString::from("figspan-try agent")).chain(args));
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tell::advice(&format!("cannot start a runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    std::thread::spawn(end_with_parent);
    match runtime.block_on(Box::pin(run(&args.config, args.token_file.as_deref()))) {
        End::Done => return ExitCode::SUCCESS,
        End::Settings(findings) => findings.iter().for_each(|finding| tell::advice(&finding.to_string())),
        End::NotJoined(why) | End::Failed(why) => tell::advice(&why),
    }
    ExitCode::FAILURE
}

fn end_with_parent() {
    let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
    let _ = kill_process(getpid(), Signal::TERM);
}
