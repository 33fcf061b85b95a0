//! The command line of `figspan-hub`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use figspan_model::settings::DEFAULT_FILE;

const AFTER: &str = "\
Signals:
  SIGHUP            read the configuration again; with errors the last good one stays in force
  SIGTERM, SIGINT   leave: not ready, serve on for hub.lame_duck, finish what is under way (hub.drain_timeout), end; a
                    second one ends at once

Exit codes:
  0   ended as asked        2    wrong arguments
  1   failed                78   the configuration has errors

Files:
  /etc/figspan-hub/hub.toml        configuration
  /var/lib/figspan-hub             CA, grants, weight overrides, events
  /run/figspan-hub/admin.sock      admin API, for figspanctl";

/// The figspan hub: splits traffic by weight between workloads on VMs and services in the cluster.
#[derive(Debug, Parser)]
#[command(name = "figspan-hub", version, after_long_help = AFTER, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do; `run` unless told.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigFile,
}

/// Where the configuration is.
#[derive(Debug, Clone, Args)]
pub struct ConfigFile {
    /// Configuration file
    #[arg(long, short, value_name = "FILE", default_value = DEFAULT_FILE, global = true)]
    pub config: PathBuf,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the hub in the foreground (the default)
    Run,
    /// Say everything that is wrong with the configuration, and exit with 78 if anything is
    Check,
    /// Print the version
    Version,
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    Man,
}
