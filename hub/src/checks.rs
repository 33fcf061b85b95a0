//! Checks the addresses of services, for those whose policy asks for it: what agents' probes are for workloads on VMs.
//!
//! One checker per hub, on the control thread. It follows the snapshot; each service is checked by a loop of its own: a check
//! of every address at once, then one per interval. Verdicts go into the endpoints' long-lived state, where every shard sees
//! them with its next choice. Names are looked up before each round, from the resolver's cache; a failed look-up keeps the last
//! addresses. Never decides about traffic.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use figspan_model::health::Checked;
use figspan_model::moment::Moment;
use figspan_model::routing::policy::{HealthCheck, Probe};
use figspan_model::routing::{BackendTls, BackendTlsRoots, Service, ServiceAddress, ServiceName};
use figspan_model::snapshot::Reader;
use figspan_model::state::{Book, EndpointState};
use figspan_probe::{CheckError, Connection, Judge, jittered};
use figspan_proto::control::Health;
use figspan_tunnel::backend_tls::BackendTlsClient;
use figspan_tunnel::resolve::Resolver;
use futures_util::stream::{self, StreamExt};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

/// Checks of one service at once; more addresses wait their turn.
const AT_ONCE: usize = 32;

/// Who asks, for the workload's log.
const AGENT: &str = concat!("figspan-hub/", env!("CARGO_PKG_VERSION"));

/// The checker.
pub(crate) struct Checks {
    reader: Reader,
    book: Arc<Book>,
    resolver: Option<Resolver>,
}

struct Running {
    service: Arc<Service>,
    check: HealthCheck,
    task: AbortHandle,
}

/// What one loop checks.
struct Target {
    service: Arc<Service>,
    check: HealthCheck,
    book: Arc<Book>,
    resolver: Option<Resolver>,
}

/// One address, with what its checks said so far.
struct Member {
    address: SocketAddr,
    state: Arc<EndpointState>,
    judge: Judge,
}

impl Checks {
    pub(crate) fn new(reader: Reader, book: Arc<Book>) -> Self {
        // Without DNS, fixed addresses are still checked; the shards have said why.
        Self { reader, book, resolver: Resolver::system().ok() }
    }

    /// Follows the snapshot until control ends. Dropped, all checks end.
    pub(crate) async fn run(mut self) {
        let (mut tasks, mut running) = (JoinSet::new(), HashMap::<ServiceName, Running>::new());
        loop {
            self.catch_up(&mut tasks, &mut running);
            while tasks.try_join_next().is_some() {}
            if !self.reader.changed().await {
                return;
            }
        }
    }

    fn catch_up(&self, tasks: &mut JoinSet<()>, running: &mut HashMap<ServiceName, Running>) {
        let snapshot = self.reader.load();
        let routing = &snapshot.routing;
        running.retain(|name, one| {
            let same = routing.services.get(name) == Some(&one.service) && routing.health_checks.get(name) == Some(&one.check);
            if !same {
                one.task.abort();
            }
            same
        });
        for (name, check) in &routing.health_checks {
            if let (Some(service), false) = (routing.services.get(name), running.contains_key(name)) {
                let (service, check) = (Arc::clone(service), check.clone());
                let (book, resolver) = (Arc::clone(&self.book), self.resolver.clone());
                let target = Target { service: Arc::clone(&service), check: check.clone(), book, resolver };
                let task = tasks.spawn(target.watch());
                running.insert(Arc::clone(name), Running { service, check, task });
            }
        }
    }
}

impl Target {
    async fn watch(self) {
        let mut members: Vec<Member> = Vec::new();
        loop {
            let addresses = self.addresses(&members).await;
            members.retain(|member| addresses.contains(&member.address));
            for address in addresses {
                if !members.iter().any(|member| member.address == address) {
                    members.push(self.member(address));
                }
            }
            stream::iter(&mut members).for_each_concurrent(AT_ONCE, |member| self.round(member)).await;
            tokio::time::sleep(jittered(self.check.interval, rand::random())).await;
        }
    }

    fn member(&self, address: SocketAddr) -> Member {
        let state = self.book.endpoint(&format!("service/{}/{address}", self.service.name));
        let before = match state.health.check.verdict() {
            Checked::Unknown => Health::Unknown,
            Checked::Ready => Health::Ready,
            Checked::Down => Health::Down,
        };
        Member { address, judge: Judge::new(before, self.check.rise, self.check.fall), state }
    }

    /// All addresses now; of a name that cannot be looked up, those of the last round.
    async fn addresses(&self, members: &[Member]) -> Vec<SocketAddr> {
        let mut all = Vec::new();
        for address in &self.service.addresses {
            match (address, &self.resolver) {
                (ServiceAddress::Socket(address), _) => all.push(*address),
                (ServiceAddress::Name { host, port }, Some(resolver)) => match resolver.lookup(&format!("{host}:{port}"), *port).await {
                    Ok(answer) => all.extend(answer.addresses),
                    Err(_) => all.extend(members.iter().map(|member| member.address)),
                },
                (ServiceAddress::Name { .. }, None) => {}
            }
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    async fn round(&self, member: &mut Member) {
        let result = tokio::time::timeout(self.check.timeout, Box::pin(self.ask(member.address)))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {:?}", self.check.timeout)));
        let Some(health) = member.judge.record(result.is_ok()) else { return };
        let (service, address, now) = (&self.service.name, member.address, Moment::of(Instant::now().into_std()));
        match (health, result) {
            (Health::Down, Err(why)) => {
                tracing::warn!(%service, %address, why, "address of a service is down; start it, or correct health_check of its backend_policy");
                member.state.health.check.set(Checked::Down, why, now);
            }
            _ => {
                tracing::info!(%service, %address, "address of a service is ready");
                member.state.warmth.begin(now);
                member.state.health.check.set(Checked::Ready, String::new(), now);
            }
        }
    }

    async fn ask(&self, address: SocketAddr) -> Result<(), String> {
        let tcp = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        let tls = match (&self.check.probe, &self.service.tls) {
            (Probe::Tcp, _) => return Ok(()),
            (_, None) => return self.exchange(tcp, address).await,
            (Probe::Grpc { .. }, Some(tls)) => client(tls, true).await?,
            (Probe::Http { .. }, Some(tls)) => client(tls, false).await?,
        };
        let io = tls.connect(tcp).await.map_err(|error| format!("TLS failed: {error}"))?;
        self.exchange(io, address).await
    }

    async fn exchange(&self, io: impl Connection, address: SocketAddr) -> Result<(), String> {
        let name = self.service.tls.as_ref().map_or_else(|| address.to_string(), |tls| tls.hostname.clone());
        let done: Result<(), CheckError> = match &self.check.probe {
            Probe::Tcp => Ok(()),
            Probe::Http { path, host, status } => figspan_probe::http(io, path, host.as_ref().unwrap_or(&name), status, AGENT).await,
            Probe::Grpc { service } => figspan_probe::grpc(io, &name, service, AGENT).await,
        };
        done.map_err(|error| error.to_string())
    }
}

async fn client(tls: &BackendTls, h2: bool) -> Result<BackendTlsClient, String> {
    let roots = match &tls.roots {
        BackendTlsRoots::System => None,
        BackendTlsRoots::File(path) => Some(tokio::fs::read_to_string(path).await.map_err(|error| format!("{}: {error}", path.display()))?),
    };
    BackendTlsClient::new(&tls.hostname, roots.as_deref(), Some(h2)).map_err(|error| error.to_string())
}
