//! figspanctl: the operator's command line for a figspan hub.
//!
//! Talks to the hub's admin API and to nothing else. Changes are confirmed by what the hub answers, never assumed; a `--wait`
//! ends only with the hub's own verdict, a refusal, or its time limit. What goes to standard output is the answer, alone;
//! progress and advice go to standard error.

mod args;
mod client;
mod commands;
mod error;
mod show;
mod table;
mod target;
mod terminal;
#[cfg(test)]
mod tests;
mod wait;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

pub use client::{Client, Proof};
pub use error::{CtlError, Exit};
pub use target::Target;
pub use terminal::{Format, Terminal};

/// What the process's surroundings say, where no argument does.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// `FIGSPAN_HUB`.
    pub hub: Option<String>,
    /// Who asks, for the hub's audit: `user@host`.
    pub operator: String,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Self {
        let named = |name: &&str| std::env::var(name).ok().filter(|user| !user.is_empty());
        let user = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(named).or_else(own_user);
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let operator = format!("{}@{}", user.as_deref().unwrap_or("unknown"), host.trim());
        Self { hub: std::env::var("FIGSPAN_HUB").ok().filter(|hub| !hub.is_empty()), operator }
    }
}

/// The name of the process's own user, where the environment says none (a job, a container).
fn own_user() -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let uid = std::fs::metadata("/proc/self").ok()?.uid().to_string();
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    })
}

/// Runs the command line whose first item is the program's own name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter();
    let program = args.next().unwrap_or_default();
    run_as(name_of(Path::new(&program)), args)
}

/// Runs a command line without the program's name, under a name of its own in help texts (`figspan-try ctl`).
pub fn run_as(name: &'static str, args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let exit = execute(name, args, &Surroundings::of_process(), &mut Terminal::standard());
    ExitCode::from(exit.code())
}

/// Runs a command line against a given terminal; never ends the process.
pub fn execute(name: &'static str, args: impl IntoIterator<Item = OsString>, around: &Surroundings, terminal: &mut Terminal) -> Exit {
    let matches = command_as(name).try_get_matches_from(std::iter::once(OsString::from(name)).chain(args));
    let parsed = matches.and_then(|matches| args::Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            terminal.say(error.to_string().trim_end());
            return Exit::Usage;
        }
        Err(help) => {
            let _ = terminal.raw(&help.to_string());
            return Exit::Done;
        }
    };
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CtlError::Output)
        .and_then(|runtime| runtime.block_on(commands::run(name, cli, around, terminal)));
    match outcome {
        Ok(exit) => exit,
        // Whoever read the output has seen enough (`| head`).
        Err(CtlError::Output(source)) if source.kind() == std::io::ErrorKind::BrokenPipe => Exit::Done,
        Err(error) => {
            terminal.say(&format!("{name}: {error}"));
            error.exit()
        }
    }
}

/// The command line's description, for completions, man pages and tests.
pub fn command() -> clap::Command {
    command_as("figspanctl")
}

fn command_as(name: &'static str) -> clap::Command {
    args::Cli::command().name(name).bin_name(name)
}

/// `kubectl-figspan` is how kubectl finds its plugins; help then says what people type.
fn name_of(program: &Path) -> &'static str {
    match program.file_name().and_then(|name| name.to_str()) {
        Some(name) if name.starts_with("kubectl-figspan") => "kubectl figspan",
        _ => "figspanctl",
    }
}
