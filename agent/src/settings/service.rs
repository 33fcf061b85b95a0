//! `[[service]]`: what processes on this VM call in the cluster, and where they find it.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use figspan_proto::name::ServiceName;
use figspan_proto::preamble::Kind;
use figspan_settings::{Item, Section};

use super::keys;

/// Most listeners of an agent.
pub const MAX_SERVICES: usize = 64;
/// The longest path that a Unix socket can have (unix(7)), less the suffix of one that is about to take its place.
const MAX_PATH: usize = 103;

/// A service of the cluster, and one place on this VM where it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name on the hub.
    pub name: ServiceName,
    /// Where processes call it. No two services share one.
    pub listen: Listen,
    /// What they speak.
    pub protocol: Kind,
    /// Permission bits of a Unix socket.
    pub mode: u32,
    /// Why others than processes of this VM may call it; `None`: they may not.
    pub allow_remote: Option<String>,
    /// Most connections at once.
    pub max_connections: u64,
    /// How long it may take until a hub has taken a connection.
    pub connect_timeout: Duration,
    /// Longest time without a byte in either direction; `None`: no limit.
    pub idle_timeout: Option<Duration>,
}

impl Service {
    /// A service with every default.
    pub fn new(name: ServiceName, listen: Listen, protocol: Kind) -> Self {
        Self {
            name,
            listen,
            protocol,
            mode: 0o660,
            allow_remote: None,
            max_connections: 256,
            connect_timeout: Duration::from_secs(5),
            idle_timeout: None,
        }
    }
}

/// Where processes call a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Listen {
    /// A TCP address; port 0 lets the kernel choose, and the status says which it was.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Listen {
    /// Whether nobody but this machine's processes can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Listen {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(path) = text.strip_prefix("unix:") else {
            return text.parse().map(Self::Tcp).map_err(|_| "it is neither ip:port nor unix:/path");
        };
        match path {
            path if !path.starts_with('/') => Err("its path does not begin with /"),
            path if path.ends_with('/') || path.contains('\0') => Err("its path names no file"),
            path if path.len() > MAX_PATH => Err("its path has more than 103 bytes, which no socket can have"),
            path => Ok(Self::Unix(path.into())),
        }
    }
}

/// Reads one table; `None` where something is wrong with it.
pub(super) fn read(section: &Section<'_>) -> Option<Service> {
    let name = section.required("name").and_then(|item| item.parsed("write the service's name in the hub's settings"));
    let listen_item = section.required("listen");
    let mend = "write \"127.0.0.1:9001\", \"[::1]:9001\" or \"unix:/run/figspan-agent/orders.sock\"";
    let listen: Option<Listen> = listen_item.as_ref().and_then(|item| item.parsed(mend));
    let protocols = [("http", Kind::Http), ("tcp", Kind::Tcp)];
    let protocol = section.get("protocol").map_or(Some(Kind::Http), |item| item.choice(&protocols));
    let mode_item = section.get("mode");
    let mode = mode_item.as_ref().map(mode);
    let remote_item = section.get("allow_remote");
    let allow_remote = remote_item.as_ref().and_then(|item| item.text()).map(str::to_owned);
    let max_connections = section.get("max_connections").and_then(|item| item.number(1..=10_000));
    let connect_timeout = section.get("connect_timeout").and_then(|item| item.duration());
    let idle_timeout = section.get("idle_timeout").and_then(|item| item.duration_or_off());
    if let (Some(listen), Some(item)) = (&listen, &listen_item) {
        match (listen.is_local(), &remote_item) {
            (false, None) => item.wrong(
                "is no loopback address: whoever reaches this VM could call the service as this VM",
                "use 127.0.0.1, [::1] or a Unix socket; or say why others may: allow_remote = \"the reason\"",
            ),
            (true, Some(remote)) => remote.warn("has no effect: only processes of this VM reach that address", "remove it"),
            _ => {}
        }
        if let (Listen::Tcp(_), Some(mode)) = (listen, &mode_item) {
            mode.warn("has no effect: an address has no permissions", "remove it, or listen on a Unix socket");
        }
    }
    let (name, listen, protocol) = (name?, listen?, protocol?);
    let mut service = Service { allow_remote, ..Service::new(name, listen, protocol) };
    match mode {
        None => {}
        Some(mode) => service.mode = mode?,
    }
    if let Some(max_connections) = max_connections {
        service.max_connections = max_connections;
    }
    if let Some(connect_timeout) = connect_timeout {
        service.connect_timeout = connect_timeout;
    }
    if let Some(idle_timeout) = idle_timeout {
        service.idle_timeout = idle_timeout;
    }
    Some(service)
}

/// Reads all tables of a text into `services`; `places` says which file took which place.
pub(super) fn read_all(top: &Section<'_>, file: &str, services: &mut Vec<Service>, places: &mut Vec<(Listen, String)>) {
    for section in top.sections("service", &keys::SERVICE) {
        let Some(service) = read(&section) else { continue };
        let Some(item) = section.get("listen") else { continue };
        // The kernel finds another port each time.
        let chosen = matches!(&service.listen, Listen::Tcp(address) if address.port() == 0);
        if let Some((_, first)) = places.iter().find(|(taken, _)| *taken == service.listen && !chosen) {
            item.wrong(format!("{} is taken by another service in {first}", service.listen), "use another address or path");
        } else if services.len() == MAX_SERVICES {
            item.wrong(format!("this is service number {}", MAX_SERVICES + 1), format!("an agent has {MAX_SERVICES} at the most"));
        } else {
            places.push((service.listen.clone(), file.to_owned()));
            services.push(service);
        }
    }
}

fn mode(item: &Item<'_>) -> Option<u32> {
    let text = item.text()?;
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 && mode & 0o200 != 0 && (3..=4).contains(&text.len()) => Some(mode),
        _ => {
            item.wrong("is no mode of a socket", "write it in octal: \"0660\" for the agent's group, \"0666\" for every local user");
            None
        }
    }
}
