//! The command line: what `figspan-agent` understands, and what each command does and prints.
//!
//! The only file of the agent that writes to standard output. Exit codes: 0, 1 failure, 2 usage, 3 warnings (doctor), 77 not
//! joined or refused, 78 mistakes in the settings.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use figspan_settings::Finding;

use crate::advertise::unix_ms;
use crate::bundle;
use crate::doctor;
use crate::enrol;
use crate::identity::files::Declared;
use crate::manual;
use crate::run;
use crate::settings::DEFAULT_FILE;
use crate::settings::load::{Loaded, load, status_socket};
use crate::status::level::Ask;
use crate::status::{ask, show};

/// Mistakes in the settings (EX_CONFIG of sysexits).
const SETTINGS: u8 = 78;
/// `doctor` found nothing worse than what is worth a word.
const WARNED: u8 = 3;
/// Not joined, or not allowed to (EX_NOPERM).
const NOT_JOINED: u8 = 77;

/// Offers this machine's workloads to figspan hubs
///
/// The agent dials out to the hub over mutually authenticated QUIC, says which workloads this machine offers (uplinks),
/// checks them, and carries bytes to them. It listens on no port, and it connects only to addresses in its own file.
#[derive(Debug, Parser)]
#[command(name = "figspan-agent", version, after_help = EXAMPLES)]
pub struct Cli {
    /// The settings file; drop-ins beside it (FILE.d/*.toml) are read too
    #[arg(long, short, global = true, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  figspan-agent join --token-file -     redeem the line that `figspanctl grant create` printed (on standard input)
  figspan-agent check                   read the settings and tell every mistake
  figspan-agent status                  how the running agent is
  figspan-agent doctor                  find out what is wrong, and how to mend it

Exit codes: 0 good, 1 failure, 2 usage, 3 warnings (doctor), 77 not joined or refused, 78 mistakes in the settings";

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the agent, as the service does
    ///
    /// SIGTERM: hubs are told, what runs finishes, and it ends; a second one ends it at once. SIGHUP: reads the settings again. SIGUSR2: starts
    /// the program anew as it is on the disk now, and hands over to it when its tunnels are up; no request is lost. An upgrade of the package
    /// and needrestart do that by /usr/lib/figspan-agent/hand-over.
    Run {
        /// Redeem this grant first if the agent has not joined: a file, or `-` for standard input
        ///
        /// Without it the systemd credential `figspan.token` is used, if there is one.
        #[arg(long, value_name = "PATH|-")]
        token_file: Option<PathBuf>,
    },
    /// Redeems a grant: makes a key on this machine and gets a certificate for it
    Join {
        /// Where the token is: a file, or `-` for standard input; asked for on a terminal if absent
        ///
        /// A token is never an argument, because every user of the machine can read arguments.
        #[arg(long, value_name = "PATH|-")]
        token_file: Option<PathBuf>,
        /// Name to ask for, where the grant leaves it open
        #[arg(long)]
        name: Option<figspan_proto::name::AgentName>,
        /// A workload to offer; may be repeated. For more than a name and an address, write agent.toml instead
        #[arg(long = "uplink", value_name = "NAME=HOST:PORT", value_parser = enrol::uplink)]
        uplinks: Vec<(figspan_proto::name::UplinkName, crate::settings::Address)>,
        /// Where this machine is, as Kubernetes has it in topology.kubernetes.io/zone
        #[arg(long)]
        zone: Option<figspan_proto::name::Zone>,
        /// Join although this machine has a valid certificate, which is replaced
        #[arg(long)]
        again: bool,
    },
    /// Reads the settings and tells every mistake with its line; exit code 78 if there is one
    Check,
    /// Shows how the running agent is
    Status {
        /// The agent's socket; that of the settings if absent
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
        /// How to print
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
    },
    /// Checks the way to the hubs, the certificate and the workloads, and says how to mend what is wrong
    ///
    /// Exit codes: 0 nothing is wrong, 3 the worst is a warning, 1 something failed, 78 mistakes in the settings.
    Doctor {
        /// Look at the hubs and the CA of this token instead of those of an earlier join: a file, or `-` for standard input
        ///
        /// The token is not redeemed.
        #[arg(long, value_name = "PATH|-")]
        token_file: Option<PathBuf>,
        /// How to print
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
    },
    /// Packs what somebody needs who looks for a fault from elsewhere into one file, without secrets
    SupportBundle {
        /// The file to make; one that is there is left alone
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// How far back the journal goes
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
        since: std::time::Duration,
        /// Record the packets of a tunnel of its own for so long, at most 2 min
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        qlog: Option<std::time::Duration>,
    },
    /// Shows or raises the running agent's log level; it returns by itself to what agent.toml says
    LogLevel {
        /// error, warn, info, debug or trace, or directives such as `info,figspan_tunnel=debug`; shown if absent
        level: Option<String>,
        /// For how long, at most 24 h
        #[arg(long = "for", value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration)]
        time: std::time::Duration,
        /// Of this module alone, as in figspan_tunnel; the rest stays as configured
        #[arg(long, value_name = "MODULE", requires = "level")]
        target: Option<String>,
        /// Back to what agent.toml says, now
        #[arg(long, conflicts_with = "level")]
        back: bool,
        /// The agent's socket; that of the settings if absent
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
    },
    /// Prints the version
    Version,
    /// Prints completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Prints the man page, or writes all of them
    Man {
        /// Where to write the pages of the program, of its commands and of agent.toml
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// How to print.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

/// Runs the program; `main` only exits with what it returns.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &format!("cannot start: {error}")),
    };
    runtime.block_on(Box::pin(cli.command.perform(&cli.config)))
}

impl Command {
    async fn perform(self, config: &Path) -> ExitCode {
        match self {
            Self::Run { token_file } => ended(run::run(config, token_file.as_deref()).await),
            Self::Join { token_file, name, uplinks, zone, again } => match settings(config) {
                Err(code) => code,
                Ok(loaded) => match enrol::join(
                    &loaded.settings,
                    token_file.as_deref(),
                    enrol::Wanted { name, declared: Declared { uplinks, zone }, again },
                )
                .await
                {
                    Err(error) => fail(if error.is_refusal() { NOT_JOINED } else { 1 }, &error.to_string()),
                    Ok(joined) => {
                        let names: Vec<String> = joined.uplinks.iter().map(ToString::to_string).collect();
                        say(&format!(
                            "joined {} as {}; it may offer: {}\nnext: figspan-agent status (the service starts by itself; without the package: systemctl enable --now figspan-agent)",
                            joined.trust_domain,
                            joined.name,
                            names.join(", ")
                        ))
                    }
                },
            },
            Self::Check => match settings(config) {
                Err(code) => code,
                Ok(loaded) => say(&checked(&loaded)),
            },
            Self::Status { socket, output } => status(config, socket, output).await,
            Self::Doctor { token_file, output } => Box::pin(examine(config, token_file.as_deref(), output)).await,
            Self::SupportBundle { output, since, qlog } => {
                match Box::pin(bundle::make(config, bundle::Wanted { output, since, qlog })).await {
                    Ok(made) => say(&made.told()),
                    Err(error) => fail(1, &error.to_string()),
                }
            }
            Self::LogLevel { level, time, target, back, socket } => {
                let ask = (level.is_some() || back).then_some(Ask { level, target, seconds: time.as_secs() });
                log_level(config, socket, ask).await
            }
            Self::Version => say(&format!("figspan-agent {}", env!("CARGO_PKG_VERSION"))),
            Self::Completions { shell } => {
                let mut text = Vec::new();
                clap_complete::generate(shell, &mut Cli::command(), "figspan-agent", &mut text);
                say(String::from_utf8_lossy(&text).trim_end())
            }
            Self::Man { dir: Some(dir) } => match manual::write(Cli::command(), &dir) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    fail(1, &format!("cannot write man pages to {}: {error}; give a directory that can be written", dir.display()))
                }
            },
            Self::Man { dir: None } => match manual::program(Cli::command()) {
                Ok(page) => say(String::from_utf8_lossy(&page).trim_end()),
                Err(error) => fail(1, &error.to_string()),
            },
        }
    }
}

fn ended(end: run::End) -> ExitCode {
    match end {
        run::End::Done => ExitCode::SUCCESS,
        run::End::Settings(findings) => mistakes(&findings),
        run::End::NotJoined(why) => fail(NOT_JOINED, &why),
        run::End::Failed(why) => fail(1, &why),
    }
}

fn settings(config: &Path) -> Result<Loaded, ExitCode> {
    load(config).map_err(|findings| mistakes(&findings))
}

fn checked(loaded: &Loaded) -> String {
    let mut text: String = loaded.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
    let files: Vec<String> = loaded.files.iter().map(|file| file.display().to_string()).collect();
    let settings = &loaded.settings;
    text.push_str(&format!(
        "good: {}, {}, from {}",
        show::counted(settings.uplinks.len(), "uplink"),
        show::counted(settings.hubs.len(), "hub"),
        files.join(", ")
    ));
    if settings.hubs.is_empty() {
        text.push_str("\nno hubs yet: `figspan-agent join` learns them, or write hubs = [\"host:port\"]");
    }
    text
}

/// The agent's socket. A broken file must not keep an operator from asking the agent that still runs with the old one.
fn socket_of(config: &Path, socket: Option<PathBuf>) -> Result<PathBuf, ExitCode> {
    let none = || fail(1, "the agent has no status socket; set status.socket in agent.toml and restart it");
    socket.or_else(|| status_socket(config)).ok_or_else(none)
}

async fn log_level(config: &Path, socket: Option<PathBuf>, change: Option<Ask>) -> ExitCode {
    let socket = match socket_of(config, socket) {
        Ok(socket) => socket,
        Err(code) => return code,
    };
    match ask::log_level(&socket, change.as_ref()).await {
        Err(error) => fail(1, &error.to_string()),
        Ok(level) => say(&level.told(SystemTime::now())),
    }
}

async fn status(config: &Path, socket: Option<PathBuf>, output: Output) -> ExitCode {
    let socket = match socket_of(config, socket) {
        Ok(socket) => socket,
        Err(code) => return code,
    };
    match ask::ask(&socket).await {
        Err(error) => fail(1, &error.to_string()),
        Ok(status) if output == Output::Text => say(show::page(&status, unix_ms(SystemTime::now())).trim_end()),
        Ok(status) => json(&status),
    }
}

async fn examine(config: &Path, token_file: Option<&Path>, output: Output) -> ExitCode {
    let loaded = match load(config) {
        Ok(loaded) => loaded,
        Err(findings) if output == Output::Text => return mistakes(&findings),
        Err(findings) => {
            json(&doctor::unreadable(&findings));
            return ExitCode::from(SETTINGS);
        }
    };
    let token = match token_file.map(enrol::token).transpose() {
        Ok(token) => token,
        Err(error) => return fail(1, &error.to_string()),
    };
    let report = doctor::examine(&loaded, token.as_ref()).await;
    match output {
        Output::Text => say(report.to_string().trim_end()),
        Output::Json => json(&report),
    };
    match report.worst {
        doctor::Mark::Fail => ExitCode::FAILURE,
        doctor::Mark::Warn => ExitCode::from(WARNED),
        doctor::Mark::Pass | doctor::Mark::Skip => ExitCode::SUCCESS,
    }
}

fn json(value: &impl serde::Serialize) -> ExitCode {
    match serde_json::to_string_pretty(value) {
        Ok(text) => say(&text),
        Err(error) => fail(1, &error.to_string()),
    }
}

#[allow(clippy::print_stdout, reason = "the one place where the program answers")]
fn say(text: &str) -> ExitCode {
    use std::io::Write;
    // Whoever reads may have gone (`| head`); that is no failure of ours.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
    ExitCode::SUCCESS
}

#[allow(clippy::print_stderr, reason = "the one place where the program complains")]
fn fail(code: u8, text: &str) -> ExitCode {
    eprintln!("figspan-agent: {text}");
    ExitCode::from(code)
}

#[allow(clippy::print_stderr, reason = "mistakes are told one per line, as compilers do")]
fn mistakes(findings: &[Finding]) -> ExitCode {
    findings.iter().for_each(|finding| eprintln!("{finding}"));
    ExitCode::from(SETTINGS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_token_is_never_an_argument_value() {
        for line in [&["figspan-agent", "join", "figspan1.secret"][..], &["figspan-agent", "join", "--token", "figspan1.secret"]] {
            assert!(Cli::try_parse_from(line).is_err());
        }
    }
}
