//! Names to addresses, by hickory-resolver: A, AAAA and SRV.
//!
//! Owns the system's resolver configuration, read when it is first needed and again after a failure, so that a machine whose
//! network comes up late, or changes, needs no restart. Literal addresses and `localhost` never ask anybody. All answers are
//! candidates, bounded in number, in the order in which to try them.

mod order;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};

use order::{Target, interleave, order};

/// What SRV records of a hub are called.
const SERVICE: &str = "_figspan._udp";
/// Most addresses in an answer.
pub const MAX_ADDRESSES: usize = 64;
/// Most SRV targets that are looked up.
const MAX_TARGETS: usize = 16;
/// How long a look-up may take, all questions together.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// Bounds of [`Answer::valid_for`]: not so short that a TTL of 0 becomes a busy loop, not so long that a move goes unnoticed.
const VALID: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(300);

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The text is not a target.
    #[error("`{0}` is not host:port, host or an address; write for example hub.example:7443 or [2001:db8::1]:7443")]
    Target(String),
    /// The system does not say whom to ask.
    #[error("cannot read the system's DNS configuration: {0}; mend /etc/resolv.conf, or use an IP address")]
    System(String),
    /// The name does not exist, or has no address.
    #[error("`{0}` has no address in DNS; check the name")]
    NoAddress(String),
    /// Nobody answered, or not properly.
    #[error("cannot look up `{name}`: {why}; check the name servers in /etc/resolv.conf")]
    Failed {
        /// The name.
        name: String,
        /// What happened.
        why: String,
    },
}

/// Looks names up. Clones share its cache. Its background tasks run on the runtime of the first look-up, so that each runtime
/// should have a resolver of its own.
#[derive(Clone)]
pub struct Resolver(Arc<Inner>);

struct Inner {
    /// Name servers to use instead of the system's.
    servers: Option<Vec<SocketAddr>>,
    resolver: ArcSwapOption<TokioResolver>,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("servers", &self.0.servers).finish_non_exhaustive()
    }
}

/// All addresses and how long they hold.
#[derive(Debug, Clone)]
pub struct Answer {
    /// In the order to try: SRV priority and weight respected, families interleaved. Never empty.
    pub addresses: Vec<SocketAddr>,
    /// TTL, at least 1 s, at most 5 min.
    pub valid_for: Duration,
}

impl Resolver {
    /// Uses the system's configuration (/etc/resolv.conf, /etc/hosts). It is read when a name is first looked up; that it cannot
    /// be read is an error then, and not for literal addresses.
    pub fn system() -> Result<Self, ResolveError> {
        Ok(Self(Arc::new(Inner { servers: None, resolver: ArcSwapOption::empty() })))
    }

    /// Asks these name servers instead of the system's. /etc/hosts still comes first.
    pub fn with_name_servers(servers: Vec<SocketAddr>) -> Self {
        Self(Arc::new(Inner { servers: Some(servers), resolver: ArcSwapOption::empty() }))
    }

    /// Looks a target up, in at most [`LOOKUP_TIMEOUT`]: `ip:port`, `[v6]:port` and `localhost:port` at once; `host:port` by
    /// A/AAAA; `host` without a port by SRV `_figspan._udp.host`, else A/AAAA with `default_port`. Cancel-safe.
    pub async fn lookup(&self, target: &str, default_port: u16) -> Result<Answer, ResolveError> {
        let (host, port) = match parse(target, default_port)? {
            Parsed::Addresses(addresses) => return Ok(Answer { addresses, valid_for: *VALID.end() }),
            Parsed::Host(host, port) => (host, port),
        };
        let lookup = async {
            let resolver = self.resolver()?;
            if port.is_none() {
                // Without records, or from a name server that cannot do SRV, addresses are still worth the question.
                if let Ok(answer) = services(&resolver, host).await {
                    return Ok(answer);
                }
            }
            addresses(&resolver, host, port.unwrap_or(default_port)).await
        };
        let slow = || Err(ResolveError::Failed { name: host.to_owned(), why: format!("no answer in {} s", LOOKUP_TIMEOUT.as_secs()) });
        let result = tokio::time::timeout(LOOKUP_TIMEOUT, lookup).await.unwrap_or_else(|_| slow());
        if matches!(result, Err(ResolveError::Failed { .. })) {
            // Perhaps the network has changed, and with it whom to ask.
            self.0.resolver.store(None);
        }
        result
    }

    fn resolver(&self) -> Result<Arc<TokioResolver>, ResolveError> {
        if let Some(resolver) = self.0.resolver.load_full() {
            return Ok(resolver);
        }
        let system = |error: NetError| ResolveError::System(error.to_string());
        let mut builder = match &self.0.servers {
            Some(servers) => {
                let servers = servers.iter().map(|server| name_server(*server)).collect();
                TokioResolver::builder_with_config(ResolverConfig::from_name_servers(servers), TokioRuntimeProvider::default())
            }
            None => TokioResolver::builder_tokio().map_err(system)?,
        };
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        // Two tries of 2 s fit the bound of a look-up, with time for search domains.
        options.timeout = Duration::from_secs(2);
        options.attempts = 1;
        let resolver = Arc::new(builder.build().map_err(system)?);
        self.0.resolver.store(Some(Arc::clone(&resolver)));
        Ok(resolver)
    }
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    let at = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    server.connections = vec![at(ConnectionConfig::udp()), at(ConnectionConfig::tcp())];
    server
}

/// What a target is.
#[derive(Debug, PartialEq, Eq)]
enum Parsed<'a> {
    /// Nothing to look up.
    Addresses(Vec<SocketAddr>),
    /// A name, and a port if it has one.
    Host(&'a str, Option<u16>),
}

fn parse(target: &str, default_port: u16) -> Result<Parsed<'_>, ResolveError> {
    let bad = || ResolveError::Target(target.chars().filter(|c| !c.is_control()).take(100).collect());
    if let Ok(address) = target.parse::<SocketAddr>() {
        return Ok(Parsed::Addresses(vec![address]));
    }
    let bare = target.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(target);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(Parsed::Addresses(vec![(ip, default_port).into()]));
    }
    let (host, port) = match target.split_once(':') {
        Some((host, port)) => (host, Some(port.parse::<u16>().map_err(|_| bad())?)),
        None => (target, None),
    };
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if host.is_empty() || host.len() > 253 || !host.bytes().all(legal) || host.starts_with('.') || host.contains("..") {
        return Err(bad());
    }
    if host.eq_ignore_ascii_case("localhost") {
        let port = port.unwrap_or(default_port);
        return Ok(Parsed::Addresses(vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]));
    }
    Ok(Parsed::Host(host, port))
}

fn failed(name: &str, error: &NetError) -> ResolveError {
    if error.is_no_records_found() || error.is_nx_domain() {
        ResolveError::NoAddress(name.to_owned())
    } else {
        ResolveError::Failed { name: name.to_owned(), why: error.to_string() }
    }
}

fn answer(addresses: Vec<SocketAddr>, until: Instant, name: &str) -> Result<Answer, ResolveError> {
    let mut unique = Vec::new();
    for address in addresses {
        if unique.len() < MAX_ADDRESSES && !unique.contains(&address) {
            unique.push(address);
        }
    }
    if unique.is_empty() {
        return Err(ResolveError::NoAddress(name.to_owned()));
    }
    let valid_for = until.saturating_duration_since(Instant::now()).clamp(*VALID.start(), *VALID.end());
    Ok(Answer { addresses: unique, valid_for })
}

async fn addresses(resolver: &TokioResolver, host: &str, port: u16) -> Result<Answer, ResolveError> {
    let found = resolver.lookup_ip(host).await.map_err(|error| failed(host, &error))?;
    let all = found.iter().take(MAX_ADDRESSES).map(|ip| SocketAddr::new(ip, port)).collect();
    answer(interleave(all), found.valid_until(), host)
}

async fn services(resolver: &TokioResolver, host: &str) -> Result<Answer, ResolveError> {
    let name = format!("{SERVICE}.{host}");
    let found = resolver.lookup(name.as_str(), RecordType::SRV).await.map_err(|error| failed(&name, &error))?;
    let mut until = found.valid_until();
    // By target and port, so that a target listed twice is asked for once.
    let mut wanted = BTreeMap::new();
    for record in found.answers() {
        if let RData::SRV(srv) = &record.data
            && !srv.target.is_root()
            && wanted.len() < MAX_TARGETS
        {
            wanted.entry((srv.target.to_string(), srv.port)).or_insert((srv.priority, srv.weight));
        }
    }
    let mut targets = Vec::new();
    let mut failure = None;
    let asked = wanted.into_iter().map(|((target, port), (priority, weight))| async move {
        let found = resolver.lookup_ip(target.as_str()).await.map_err(|error| failed(&target, &error));
        (found, port, priority, weight)
    });
    for (found, port, priority, weight) in futures_util::future::join_all(asked).await {
        match found {
            Ok(found) => {
                until = until.min(found.valid_until());
                let addresses = found.iter().take(MAX_ADDRESSES).map(|ip| SocketAddr::new(ip, port)).collect();
                targets.push(Target { priority, weight, addresses: interleave(addresses) });
            }
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(error) if targets.is_empty() => Err(error),
        _ => answer(order(targets, rand::random::<f64>), until, &name),
    }
}

#[cfg(test)]
mod tests;
