//! Arguments about grants.

use std::time::Duration;

use clap::{Args, Subcommand};
use figspan_proto::name::{AgentName, NameError, NamePattern};
use figspan_proto::template::{NameTemplate, TemplateError};

use super::Change;

#[derive(Debug, Subcommand)]
pub(crate) enum Grant {
    /// Makes a grant and prints the one line to paste on the VM
    #[command(after_help = "The line holds a secret, shown only this once. It reaches the agent on standard input, so that no process \
                      list shows it; its leading space keeps it out of the shell's history (HISTCONTROL=ignorespace).\n\
                      Without a clipboard: figspanctl grant create vm-1 --uplinks monolith --token-only | \
                      ssh vm-1 sudo figspan-agent join --token-file -")]
    Create(CreateGrant),
    /// Lists grants; secrets are never shown again
    List,
    /// Takes a grant back; agents that redeemed it stay (see `agent revoke`)
    Revoke {
        /// The grant's id
        id: String,
        #[command(flatten)]
        change: Change,
    },
}

/// A name, or what names are made of.
#[derive(Debug, Clone)]
pub(crate) enum GrantName {
    Agent(AgentName),
    Template(NameTemplate),
}

impl std::str::FromStr for GrantName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('{') {
            return text.parse().map(Self::Template).map_err(|error: TemplateError| error.to_string());
        }
        text.parse().map(Self::Agent).map_err(|error: NameError| error.to_string())
    }
}

#[derive(Debug, Args)]
pub(crate) struct CreateGrant {
    /// The name that the agent gets; for several, a template: 'vm-{n}' numbers them, 'web-{hostname}' takes their host names
    #[arg(required_unless_present = "any_name", conflicts_with = "any_name")]
    pub(crate) name: Option<GrantName>,
    /// Takes the name that the VM asks for
    #[arg(long)]
    pub(crate) any_name: bool,
    /// Uplinks that the agent may advertise: names, or beginnings with a star
    #[arg(long, required = true, value_delimiter = ',', value_name = "a,b-*")]
    pub(crate) uplinks: Vec<NamePattern>,
    /// Services that processes on the VM may call through the agent: names, or beginnings with a star [default: none]
    #[arg(long, value_delimiter = ',', value_name = "c,d-*")]
    pub(crate) services: Vec<NamePattern>,
    /// How long the grant can be redeemed
    #[arg(long, default_value = "15m", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub(crate) ttl: Duration,
    /// How often it can be redeemed; more than once only with a template or --any-name
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) uses: u32,
    /// Where the agent shall dial, host:port; repeatable [default: what the hub advertises]
    #[arg(long = "dial", value_name = "HOST:PORT")]
    pub(crate) hubs: Vec<String>,
    /// Prints the token alone, to be piped into `figspan-agent join --token-file -`
    #[arg(long)]
    pub(crate) token_only: bool,
    /// Says what would happen, changes nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}
