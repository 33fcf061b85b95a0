//! What can be typed. Texts here are what `--help`, the man pages and the completions say.

mod grant;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use figspan_proto::name::{AgentName, UplinkName};
use figspan_proto::weight::Weight;

use crate::target::Target;
use crate::terminal::Format;

pub(crate) use grant::{CreateGrant, Grant, GrantName};

/// Operates a figspan hub: who may join, what takes which share of the traffic, and when a workload is provably idle.
#[derive(Debug, Parser)]
#[command(
    version,
    propagate_version = true,
    after_help = "Exit codes: 0 done (with --wait: proven), 1 refused or failed, 2 wrong usage, 3 --wait ran out of time, \
                  78 the configuration has errors.\nEnvironment: FIGSPAN_HUB, like --hub."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The hub's admin API: unix:/path, https://host:port, or http://127.0.0.1:port [default: $FIGSPAN_HUB, else
    /// unix:/run/figspan-hub/admin.sock]
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub(crate) hub: Option<Target>,
    /// File with the bearer token for an admin API on TCP
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// PEM file with the roots that an https hub's certificate must chain to [default: the system's]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// PEM file with a certificate to show to an https hub that asks for one
    #[arg(long, global = true, value_name = "FILE", requires = "key")]
    pub(crate) certificate: Option<PathBuf>,
    /// PEM file with the certificate's key
    #[arg(long, global = true, value_name = "FILE", requires = "certificate")]
    pub(crate) key: Option<PathBuf>,
    /// How the answer looks
    #[arg(short, long, global = true, value_enum, default_value_t)]
    pub(crate) output: Format,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Permissions to join: create, list, revoke
    #[command(subcommand)]
    Grant(Grant),
    /// Lists agents, uplinks, routes or backends, or shows one
    Get(Get),
    /// Shows everything about one agent, uplink, route or backend
    Describe(Describe),
    /// Changes an agent: revoke
    #[command(subcommand)]
    Agent(Agent),
    /// Changes an uplink: weight
    #[command(subcommand)]
    Uplink(Uplink),
    /// Gives no new work, and proves when the old work is done
    #[command(subcommand)]
    Drain(Drain),
    /// Takes an operator's weight back: agents' own weights hold again
    #[command(subcommand)]
    Undrain(Undrain),
    /// The CA of hub and agents: show, and change it in two steps
    #[command(subcommand)]
    Ca(Ca),
    /// Says which rule and which backend a request would get, and why, without sending it
    Explain(Explain),
    /// The same for a connection to a TCP or TLS-passthrough listener, without opening one
    ExplainConnection(ExplainConnection),
    /// Prints a header with which a client reaches one backend of rules that hold the same key; asks no hub
    Pin(Pin),
    /// What happened, newest last; holds the audit of every change
    Events(Events),
    /// Says what is wrong with a configuration file, without loading it
    Check(Check),
    /// Loads the hub's configuration file anew; a bad one changes nothing
    Reload(Reload),
    /// Shows or raises the hub's log level; it returns by itself to what hub.toml says
    LogLevel(LogLevel),
    /// The hub at a glance
    Status,
    /// Prints the completions of a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Prints the man page, or writes one for each command into a directory
    Man {
        /// Directory, made where missing
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Prints the version, and the hub's where it answers
    Version,
}

/// What every change that ends something takes.
#[derive(Debug, Args)]
pub(crate) struct Change {
    /// Why; kept in the audit
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Says what would happen, changes nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Listed {
    /// Agents: who is connected
    #[value(aliases = ["agent"])]
    Agents,
    /// Uplinks: what they advertise
    #[value(aliases = ["uplink"])]
    Uplinks,
    /// Routes: what goes where
    #[value(aliases = ["route"])]
    Routes,
    /// Mirrors of rules: copies, drops, and how their answers compare
    #[value(aliases = ["mirror"])]
    Mirrors,
    /// Services that agents may call: where they lead, who may call them, and what is open
    #[value(aliases = ["service"])]
    Services,
    /// Backends of rules: breakers, ejections, bounds, sessions left
    #[value(aliases = ["backend"])]
    Backends,
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// What to list
    pub(crate) what: Listed,
    /// One of them
    pub(crate) name: Option<String>,
    /// Goes on, and prints again on each change
    #[arg(short, long)]
    pub(crate) watch: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Described {
    /// An agent
    #[value(aliases = ["agents"])]
    Agent,
    /// An uplink
    #[value(aliases = ["uplinks"])]
    Uplink,
    /// A route
    #[value(aliases = ["routes"])]
    Route,
    /// A backend
    #[value(aliases = ["backends"])]
    Backend,
}

#[derive(Debug, Args)]
pub(crate) struct Describe {
    /// What to describe
    pub(crate) what: Described,
    /// Its name
    pub(crate) name: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
    /// Revokes an agent's identity and cuts its tunnels at once
    Revoke {
        /// The agent
        name: AgentName,
        #[command(flatten)]
        change: Change,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Uplink {
    /// Sets a weight that beats the agents' own; 0 drains
    Weight(SetWeight),
}

#[derive(Debug, Args)]
pub(crate) struct SetWeight {
    /// The uplink
    pub(crate) name: UplinkName,
    /// The weight, 0 to 1000000; 0 drains
    pub(crate) weight: Weight,
    /// One agent's share of the uplink instead of the uplink as a whole
    #[arg(long)]
    pub(crate) agent: Option<AgentName>,
    #[command(flatten)]
    pub(crate) change: Change,
    /// Waits until every shard works with the weight; at weight 0 until drained
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) wait: bool,
    /// How long --wait waits
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Drain {
    /// Drains an uplink, on all its agents or on one
    Uplink(DrainUplink),
}

#[derive(Debug, Args)]
pub(crate) struct DrainUplink {
    /// The uplink
    pub(crate) name: UplinkName,
    /// On this agent alone
    #[arg(long)]
    pub(crate) agent: Option<AgentName>,
    /// Ends sessions that are bound there after this time (0s: now); without it they end by themselves
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    pub(crate) sessions_until: Option<Duration>,
    #[command(flatten)]
    pub(crate) change: Change,
    /// Waits until it is proven that nothing is under way any more
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) wait: bool,
    /// How long --wait waits
    #[arg(long, default_value = "10m", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Undrain {
    /// Takes the operator's weight of an uplink back
    Uplink(UndrainUplink),
}

#[derive(Debug, Args)]
pub(crate) struct UndrainUplink {
    /// The uplink
    pub(crate) name: UplinkName,
    /// On this agent alone
    #[arg(long)]
    pub(crate) agent: Option<AgentName>,
    #[command(flatten)]
    pub(crate) change: Change,
    /// Waits until every shard works with the weight
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) wait: bool,
    /// How long --wait waits
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Ca {
    /// Shows the roots, which of them issues, and how a change stands
    Show,
    /// Begins a change: makes a second root and tells it to all agents; the first still issues
    Begin {
        #[command(flatten)]
        change: Change,
    },
    /// Finishes a change: the second root issues from now on, the first is trusted until its last certificates have ended
    Finish {
        /// Finishes although agents may not know the new root; those have to join again
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        change: Change,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Pin {
    /// The file that the rule names as key_file
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: PathBuf,
    /// The backend, if it is an uplink
    #[arg(long, value_name = "NAME", required_unless_present = "service", conflicts_with = "service")]
    pub(crate) uplink: Option<UplinkName>,
    /// The backend, if it is a service
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<UplinkName>,
    /// How long it holds, at most 30d
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    pub(crate) ttl: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The method, such as GET
    pub(crate) method: String,
    /// The URL as a client would ask for it
    pub(crate) url: String,
    /// A header, `name: value`; repeatable
    #[arg(short = 'H', long = "header", value_parser = header, value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<(String, String)>,
    /// The listener [default: the first that fits the URL's scheme]
    #[arg(long)]
    pub(crate) listener: Option<String>,
    /// The client's address [default: one on the hub's machine]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) client: Option<std::net::IpAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainConnection {
    /// The listener
    pub(crate) listener: String,
    /// The server name of a TLS client [default: it sends none]
    #[arg(long, value_name = "NAME")]
    pub(crate) server_name: Option<String>,
    /// The address it comes from [default: one that the listener takes]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) client: Option<std::net::IpAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Only events behind this number
    #[arg(long, value_name = "NUMBER")]
    pub(crate) since: Option<u64>,
    /// Goes on as they happen
    #[arg(short, long)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The file; `-` is standard input
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct LogLevel {
    /// error, warn, info, debug or trace, or directives such as `info,figspan_tunnel=debug`; shown if absent
    pub(crate) level: Option<String>,
    /// For how long, at most 24 h
    #[arg(long = "for", default_value = "10m", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub(crate) time: Duration,
    /// Of this module alone, as in figspan_tunnel; the rest stays as configured
    #[arg(long, value_name = "MODULE", requires = "level")]
    pub(crate) target: Option<String>,
    /// Back to what hub.toml says, now
    #[arg(long, conflicts_with = "level")]
    pub(crate) back: bool,
    /// Why; kept in the audit
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct Reload {
    /// Checks the hub's file (which must be readable from here) and loads nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or_else(|| format!("`{text}` has no colon; use 'name: value'"))?;
    let name = http::HeaderName::try_from(name.trim()).map_err(|error| format!("`{name}`: {error}"))?;
    Ok((name.to_string(), value.trim().to_owned()))
}
