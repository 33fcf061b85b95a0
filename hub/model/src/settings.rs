//! Settings as typed, read from TOML (`/etc/figspan-hub/hub.toml`).
//!
//! [`load`] reads a file, [`parse`] a text. Both find every mistake at once, each with file, line, column, what, why and
//! mend. What comes out has been checked as far as a text can be: names are unique, references lead somewhere, regular
//! expressions compile, files can be read. Which keys exist, and their defaults, is written down in [`TABLES`]. No tasks.

mod hub;
mod jwt;
mod keys;
mod listeners;
mod matches;
mod policy;
mod routes;
mod services;
mod statuses;
mod values;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use figspan_proto::name::{ReplicaId, TrustDomain, Zone};
pub use figspan_settings::Finding;
use figspan_settings::Source;

use crate::routing::draft::RoutingDraft;

pub use keys::TABLES;
pub use values::{Reading, Want};

/// Most shards of a hub.
pub const MAX_SHARDS: usize = figspan_tunnel::hub::MAX_SHARDS;

/// The environment variable that names the hub's zone where its file does not: of replicas that share a file, each has its own.
pub const ZONE_VARIABLE: &str = "FIGSPAN_ZONE";

/// Where the hub looks for its settings.
pub const DEFAULT_FILE: &str = "/etc/figspan-hub/hub.toml";

/// A configuration that has nothing wrong with it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What the process needs.
    pub settings: HubSettings,
    /// What it does with traffic.
    pub routing: RoutingDraft,
    /// What works, but hardly as meant.
    pub warnings: Vec<Finding>,
}

/// All sections but those about traffic. Changes to them need a restart, except `log`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HubSettings {
    /// `[hub]`
    pub hub: Hub,
    /// `[ca]`; without it the hub makes a CA and keeps it in its state directory.
    pub ca: Option<Ca>,
    /// `[tunnel]`
    pub tunnel: Tunnel,
    /// `[admin]`
    pub admin: Admin,
    /// `[metrics]`
    pub metrics: Metrics,
    /// `[log]`
    pub log: Log,
}

/// `[hub]`: the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hub {
    /// The replica's id, by default the host's name.
    pub replica: ReplicaId,
    /// The domain of all identities, `figspan.local` by default.
    pub trust_domain: TrustDomain,
    /// Where this replica is: what the file says, else [`ZONE_VARIABLE`].
    pub zone: Option<Zone>,
    /// CA, grants, overrides and events; `/var/lib/figspan-hub` by default.
    pub state_dir: PathBuf,
    /// The key of session cookies; `None`: `session.key` in the state directory.
    pub session_key_file: Option<PathBuf>,
    /// Shards, 1 to [`MAX_SHARDS`]; by default the cores that the process may use.
    pub shards: usize,
    /// How long a leaving hub goes on serving, so that clients and load balancers can hear of it; 5 s by default, 0 is off.
    pub lame_duck: Duration,
    /// How long a leaving hub lets old work finish after that, 30 s by default.
    pub drain_timeout: Duration,
    /// How long certificates of the hub and of agents live, a day by default.
    pub certificate_lifetime: Duration,
}

/// `[ca]`: a CA that somebody else looks after. The pair has been read and fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ca {
    /// PEM, one certificate.
    pub certificate: PathBuf,
    /// PEM.
    pub key: PathBuf,
}

/// `[tunnel]`: where agents dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// The UDP address that all shards share, `0.0.0.0:7443` by default.
    pub address: SocketAddr,
    /// `host:port`s that grants tell agents. By default the address, with the host's name in place of "all addresses".
    pub advertise: Vec<String>,
    /// Whether the same port is served over TCP, for agents whose network lets no UDP pass. True by default.
    pub tcp: bool,
}

/// `[admin]`: where operators ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// The Unix socket, `/run/figspan-hub/admin.sock` by default.
    pub socket: PathBuf,
    /// The same over TCP; off by default.
    pub tcp: Option<AdminTcp>,
}

/// The admin API over TCP: with client certificates, a token, or both; never with neither.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminTcp {
    /// Its address.
    pub address: SocketAddr,
    /// A file with the bearer token.
    pub token_file: Option<PathBuf>,
    /// TLS.
    pub tls: Option<AdminTls>,
}

/// TLS of the admin API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminTls {
    /// PEM, leaf first.
    pub certificate: PathBuf,
    /// PEM.
    pub key: PathBuf,
    /// PEM; where given, clients must show a certificate that it signed.
    pub client_ca: Option<PathBuf>,
}

/// `[metrics]`: where `/metrics`, `/livez` and `/readyz` are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// `127.0.0.1:9464` by default; `None`: off.
    pub address: Option<SocketAddr>,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// A level, or directives such as `info,figspan_data=debug`; `info` by default.
    pub level: String,
    /// Whether each request and connection is logged; on by default.
    pub access: bool,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// The journal where stderr leads there, else text.
    #[default]
    Auto,
    /// The journal's own protocol, with fields.
    Journald,
    /// For people.
    Text,
    /// One object per line.
    Json,
}

/// Reads and checks a file.
pub fn load(path: &Path) -> Result<Loaded, Vec<Finding>> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text, &name),
        Err(error) => {
            Err(vec![Finding::about_file(&name, "settings", format!("cannot be read: {error}"), "create the file, or name another one")])
        }
    }
}

/// Reads and checks a text. `source` is its name in findings; where that is a path, relative paths start in its folder.
pub fn parse(text: &str, source: &str) -> Result<Loaded, Vec<Finding>> {
    parse_with(text, source, &values::from_disk)
}

/// [`parse`], with files that somebody else reads.
pub fn parse_with(text: &str, source: &str, reading: Reading<'_>) -> Result<Loaded, Vec<Finding>> {
    let base = Path::new(source).parent().unwrap_or(Path::new("")).to_owned();
    let files = values::Files { base, reading };
    let source = Source::new(source, text);
    let read = source.parse().map(|document| {
        let top = document.section(&keys::TOP);
        let settings = hub::settings(&top, &files);
        let routing = routes::routing(&top, &files, &settings);
        (settings, routing)
    });
    match (read, source.is_good(), source.findings()) {
        (Some((settings, routing)), true, (_, warnings)) => Ok(Loaded { settings, routing, warnings }),
        (_, _, (errors, _)) => Err(errors),
    }
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            replica: values::host_name().parse().unwrap_or_else(|_| "hub-0".parse().expect("a name")),
            trust_domain: "figspan.local".parse().expect("a name"),
            zone: None,
            state_dir: "/var/lib/figspan-hub".into(),
            session_key_file: None,
            shards: std::thread::available_parallelism().map_or(1, usize::from).min(MAX_SHARDS),
            lame_duck: hub::LAME_DUCK,
            drain_timeout: Duration::from_secs(30),
            certificate_lifetime: figspan_tunnel::ca::LEAF_LIFETIME,
        }
    }
}

impl Default for Tunnel {
    fn default() -> Self {
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 7443));
        Self { address, advertise: vec![hub::advertised(address)], tcp: true }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self { socket: "/run/figspan-hub/admin.sock".into(), tcp: None }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self { address: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9464))) }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Auto, level: "info".into(), access: true }
    }
}

#[cfg(test)]
mod tests;
