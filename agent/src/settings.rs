//! What an agent is told to do: its hubs, its limits, and the workloads that it offers as uplinks.
//!
//! Types here are settings *as meant*: checked, with defaults filled in. [`read`] turns a text into them and collects all
//! mistakes at once; [`load`] finds the files. Nothing here opens a socket, and no program writes the operator's file.

pub mod keys;
pub mod load;
pub mod read;
pub mod service;

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use figspan_proto::control::Protocol;
use figspan_proto::name::{AgentName, TrustDomain, UplinkName, Zone};
use figspan_proto::weight::Weight;
use figspan_telemetry::Format;
use figspan_tunnel::Preference;

pub use service::{Listen, Service};

/// Where the operator's file is unless an argument says otherwise.
pub const DEFAULT_FILE: &str = "/etc/figspan-agent/agent.toml";
/// Where the agent keeps what it makes itself: its key, its certificate, and what `join` learned.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/figspan-agent";
/// Where `figspan-agent status` asks.
pub const DEFAULT_STATUS_SOCKET: &str = "/run/figspan-agent/status.sock";
/// The hub's UDP port where a hub is named without one.
pub const DEFAULT_HUB_PORT: u16 = 7443;

/// All of an agent's settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The operator's file, for messages that say where to mend something.
    pub file: PathBuf,
    /// The name that `join` asks for where the grant leaves it open; the host's name if absent.
    pub name: Option<AgentName>,
    /// Hubs to dial: `host:port`, or `host` for SRV records. May be empty before the agent has joined.
    pub hubs: Vec<String>,
    /// Where this machine is, for hubs that prefer endpoints of their own zone.
    pub zone: Option<Zone>,
    /// The trust domain to insist on, where given; the identity must be of it.
    pub trust_domain: Option<TrustDomain>,
    /// Where key, certificate and `join`'s drop-in are kept.
    pub state_dir: PathBuf,
    /// Threads that carry tunnels: 1 to 64.
    pub workers: usize,
    /// How long streams may go on after the agent was asked to stop.
    pub drain_timeout: Duration,
    /// Most tunnels to one replica: 1 to 128. A replica has one shard per core, and each shard likes a tunnel of its own.
    pub tunnels_per_hub: usize,
    /// What may carry tunnels: UDP, TCP, or UDP and TCP where UDP does not pass.
    pub transport: Preference,
    /// Most streams open at once, over all uplinks.
    pub max_streams: u64,
    /// The Unix socket of `figspan-agent status`; `None`: no socket.
    pub status_socket: Option<PathBuf>,
    /// Where `/metrics` is served; `None`: nowhere but on the status socket.
    pub metrics: Option<SocketAddr>,
    /// How to log.
    pub log: Log,
    /// The workloads to offer.
    pub uplinks: Vec<Uplink>,
    /// The services that processes on this VM call.
    pub services: Vec<Service>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            file: DEFAULT_FILE.into(),
            name: None,
            hubs: Vec::new(),
            zone: None,
            trust_domain: None,
            state_dir: DEFAULT_STATE_DIR.into(),
            workers: 1,
            drain_timeout: Duration::from_secs(30),
            tunnels_per_hub: 8,
            transport: Preference::Auto,
            max_streams: 10_000,
            status_socket: Some(DEFAULT_STATUS_SOCKET.into()),
            metrics: None,
            log: Log::default(),
            uplinks: Vec::new(),
            services: Vec::new(),
        }
    }
}

/// How to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Where to, and in which form.
    pub format: Format,
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter as tracing-subscriber's `EnvFilter` reads it.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: Format::Auto, level: "info".to_owned() }
    }
}

/// A workload, and how it is offered.
#[derive(Debug, Clone, PartialEq)]
pub struct Uplink {
    /// The name that routes ask for.
    pub name: UplinkName,
    /// Where the workload listens.
    pub address: Address,
    /// Its share among agents that offer the same name.
    pub weight: Weight,
    /// What it speaks.
    pub protocol: Protocol,
    /// How it is checked.
    pub health: Health,
    /// Whether each connection to it begins with a PROXY protocol v2 header.
    pub proxy_protocol: bool,
    /// Most connections open to it at once.
    pub max_connections: u64,
    /// How long a connection attempt may take.
    pub connect_timeout: Duration,
    /// Longest time without a byte in either direction; `None`: no limit.
    pub idle_timeout: Option<Duration>,
}

impl Uplink {
    /// An uplink with every default.
    pub fn new(name: UplinkName, address: Address, protocol: Protocol) -> Self {
        Self {
            name,
            address,
            weight: Weight::DEFAULT,
            protocol,
            health: Health::default(),
            proxy_protocol: false,
            max_connections: 1000,
            connect_timeout: Duration::from_secs(5),
            idle_timeout: None,
        }
    }
}

/// Where a workload listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Written as numbers.
    Ip(SocketAddr),
    /// `host:port`, resolved at each connection; the port is repeated for the resolver.
    Name(String, u16),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Name(name, _) => f.write_str(name),
        }
    }
}

impl FromStr for Address {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return if address.port() == 0 { Err("port 0 is no port") } else { Ok(Self::Ip(address)) };
        }
        let (host, port) = text.rsplit_once(':').ok_or("it has no port")?;
        let port: u16 = port.parse().ok().filter(|port| *port != 0).ok_or("its port is not a number from 1 to 65535")?;
        if !is_host(host) {
            return Err("its host is neither an address nor a DNS name");
        }
        Ok(Self::Name(text.to_owned(), port))
    }
}

/// Whether a text can be a DNS name (RFC 1123, section 2.1, and underscores as many have them).
pub(crate) fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let bare = host.strip_suffix('.').unwrap_or(host);
    host.len() <= 253 && bare.split('.').all(label) && !bare.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()))
}

/// How a workload is checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// What a check does.
    pub check: Check,
    /// From the end of one check to the next, give or take a tenth.
    pub interval: Duration,
    /// How long a check may take.
    pub timeout: Duration,
    /// Checks that must pass in a row until a workload that was down is ready.
    pub rise: u32,
    /// Checks that must fail in a row until a workload that was ready is down.
    pub fall: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self { check: Check::Tcp, interval: Duration::from_secs(5), timeout: Duration::from_secs(2), rise: 2, fall: 3 }
    }
}

/// What a check does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// Nothing: the workload counts as ready.
    None,
    /// Connects.
    Tcp,
    /// Asks `GET path` by HTTP/1.1.
    Http {
        /// The path, query included.
        path: String,
        /// The `Host` to send; the address if absent.
        host: Option<String>,
        /// The statuses that pass.
        status: Vec<RangeInclusive<u16>>,
    },
    /// Asks `grpc.health.v1.Health/Check` by HTTP/2 without TLS.
    Grpc {
        /// The service to ask about; empty for the server as a whole.
        service: String,
    },
}
