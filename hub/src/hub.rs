//! Starts a whole hub in this process: binds its sockets, starts its threads, opens its listeners.
//!
//! No process-wide state: several hubs can live in one process, which is how tests and `figspan-try` use it.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use figspan_control::{CaFiles, Clock, ControlConfig};
use figspan_data::metrics::Metrics;
use figspan_model::settings::HubSettings;
use figspan_model::snapshot;
use figspan_model::state::{Board, Book};
use figspan_telemetry::LogHandle;
use figspan_tunnel::drain::Drain;
use figspan_tunnel::hub::tcp::TcpShare;
use figspan_tunnel::hub::{HubConfig, bind_both, bind_shards};
use tokio::sync::{mpsc, oneshot};

use crate::admin::Admin;
use crate::admin::listen::{Ears, bind};
use crate::check;
use crate::checks::Checks;
use crate::control_thread::{self, ControlStart, ServeStart};
use crate::face::Face;
use crate::jwks::Jwks;
use crate::listeners::{Listeners, Shards};
use crate::metrics::{self, Seen};
use crate::reload::{self, Config, ReloadTask};
use crate::running::Running;
use crate::session_key::{self, SessionKeys};
use crate::shard::{self, ShardStart};
use crate::threads::Spawner;

/// What a hub is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its configuration.
    pub config: Config,
    /// A CA that somebody else looks after; else the one of the configuration, else one in the state directory.
    pub ca: Option<CaFiles>,
    /// The process's log, whose level a reload may change.
    pub log: Option<LogHandle>,
    /// The wall clock.
    pub clock: Clock,
}

impl Options {
    /// With a CA of its own and the system's clock.
    pub fn new(config: Config) -> Self {
        Self { config, ca: None, log: None, clock: Clock::system() }
    }
}

/// Why a hub could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration, finding by finding.
    #[error("the configuration has {} errors; the first: {}", .0.len(), .0.first().map(String::as_str).unwrap_or_default())]
    Config(Vec<String>),
    /// A socket, a directory, a key.
    #[error("{0}")]
    Failed(String),
}

/// The hub.
#[derive(Debug)]
pub struct Hub;

impl Hub {
    /// Starts a hub: everything is bound, and its shards serve, when this returns. Blocks for as long as that takes (about a
    /// tenth of a second; the first start makes a CA).
    pub fn start(options: Options) -> Result<Running, StartError> {
        let Options { config, ca, log, clock } = options;
        let seen = config.text();
        let loaded = config.read(seen.as_deref()).map_err(|errors| StartError::Config(check::texts(&errors)))?;
        let wrong_files = check::files(&loaded);
        if !wrong_files.is_empty() {
            return Err(StartError::Config(wrong_files));
        }
        let settings = loaded.settings;
        let shards = settings.hub.shards;
        let book = Book::new(shards);
        let board = Board::new(shards);
        let routing = loaded.routing.build(&book);
        let jwks = Jwks::new(&routing.jwt_providers);
        let (publisher, reader) = snapshot::publication();

        // What can fail for reasons outside the process comes first, while there is nothing to undo.
        let listeners = Listeners::new();
        let plan = listeners.plan(&routing.listeners, shards).map_err(|errors| failed(errors.join("\n")))?;
        let (udp, tcp) = tunnel_sockets(&settings, shards)?;
        let tunnel_address = udp.first().map_or(Ok(settings.tunnel.address), |socket| socket.local_addr());
        let tunnel_address = tunnel_address.map_err(|error| failed(format!("tunnel.address: {error}")))?;
        let ears = Ears::open(&settings.admin).map_err(failed)?;
        let metrics = settings.metrics.address.map(metrics_socket).transpose()?;

        let face = Arc::new(Face::new(
            settings.hub.replica.to_string(),
            env!("CARGO_PKG_VERSION").to_owned(),
            settings.hub.trust_domain.to_string(),
            shards,
            tunnel_address,
            metrics.as_ref().and_then(|socket| socket.local_addr().ok()),
        ));
        let mut threads = Spawner::new();
        let (serve, serve_start) = oneshot::channel();
        let (started, control) = sync_channel(1);
        let control_config = ControlConfig {
            trust_domain: settings.hub.trust_domain.clone(),
            replica: settings.hub.replica.clone(),
            state_dir: settings.hub.state_dir.clone(),
            ca: ca.or_else(|| given_ca(&settings)),
            certificate_lifetime: settings.hub.certificate_lifetime,
            advertise: advertise(&settings, tunnel_address),
            direct: Vec::new(),
            software: format!("figspan-hub {}", env!("CARGO_PKG_VERSION")),
            routing,
            book: Arc::clone(&book),
            publisher,
            board: Arc::clone(&board),
            clock,
        };
        let start = ControlStart { config: control_config, started, serve: serve_start, end: threads.end.clone() };
        threads.spawn("control", move || control_thread::run(start)).map_err(failed)?;
        let control = wait_for("control", control).map_err(failed)?;

        // After control, which makes the state directory and holds it.
        let key_file = settings.hub.session_key_file.clone().unwrap_or_else(|| settings.hub.state_dir.join(session_key::FILE));
        let SessionKeys { sealer, since } = session_key::open(&key_file).map_err(StartError::Failed)?;
        book.know_sessions_since(since);
        let sessions = Arc::new(sealer);

        let mut to_shards: Shards = Vec::new();
        let mut shard_drains = Vec::new();
        let mut shard_metrics = Vec::new();
        let mut starting = Vec::new();
        let tcp = tcp.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
        for (index, (udp, tcp)) in udp.into_iter().zip(tcp).enumerate() {
            let (sockets, socket_queue) = mpsc::channel(shard::SOCKETS);
            let (started, serving) = sync_channel(1);
            let (drain, counted) = (Drain::new(), Metrics::new());
            let endpoint = HubConfig { shard: index, shards, credentials: control.credentials(), reset_key: control.reset_key() };
            let start = ShardStart {
                shard: index,
                udp,
                tcp,
                endpoint,
                control: control.clone(),
                reader: reader.clone(),
                board: Arc::clone(&board),
                book: Arc::clone(&book),
                metrics: Arc::clone(&counted),
                face: Arc::clone(&face),
                sessions: Arc::clone(&sessions),
                drain: drain.clone(),
                sockets: socket_queue,
                end: threads.end.clone(),
                started,
            };
            threads.spawn(&format!("shard-{index}"), move || shard::run(start)).map_err(failed)?;
            to_shards.push(sockets);
            shard_drains.push(drain);
            shard_metrics.push(counted);
            starting.push(serving);
        }
        for (index, serving) in starting.into_iter().enumerate() {
            wait_for(&format!("shard {index}"), serving).map_err(failed)?;
        }

        let (reloader, asks) = reload::queue();
        face.config_loaded(config.name(), check::texts(&loaded.warnings));
        let reload = reload::Start {
            config,
            seen,
            settings: settings.clone(),
            control: control.clone(),
            face: Arc::clone(&face),
            book: Arc::clone(&book),
            shards: to_shards,
            log: log.clone(),
            jwks,
        };
        let reload = ReloadTask::new(reload, listeners, asks);
        let serve_drain = Drain::new();
        let seen = Seen {
            control: control.clone(),
            face: Arc::clone(&face),
            shards: shard_metrics,
            log: log.clone(),
            reader: reader.clone(),
            book: Arc::clone(&book),
        };
        let checks = Checks::new(reader.clone(), Arc::clone(&book));
        let admin = Admin { control: control.clone(), reader, book, sessions, face: Arc::clone(&face), reloader: reloader.clone(), log };
        let running = Running {
            settings,
            control,
            face: Arc::clone(&face),
            reloader,
            shard_drains,
            serve_drain: serve_drain.clone(),
            socket: ears.socket_path().to_owned(),
            admin_tcp: ears.tcp_address(),
            metrics: metrics.as_ref().and_then(|socket| socket.local_addr().ok()),
            end: threads.end.clone(),
            threads: threads.state.subscribe(),
        };
        let (listening, open) = sync_channel(1);
        let metrics_app = metrics::router(seen);
        let start = ServeStart { admin, ears, metrics, metrics_app, reload, checks, plan, listening, drain: serve_drain };
        serve.send(start).map_err(|_| failed("control has ended during the start; see its log".to_owned()))?;
        wait_for("control", open).map_err(failed)?;
        threads.keep();
        Ok(running)
    }
}

fn failed(why: String) -> StartError {
    StartError::Failed(why)
}

/// Waits for a thread's first word.
fn wait_for<T>(part: &str, word: Receiver<Result<T, String>>) -> Result<T, String> {
    word.recv().unwrap_or_else(|_| Err(format!("{part} has ended during the start; see its log")))
}

/// One UDP socket per shard, and one share of the TCP port unless it is turned off.
fn tunnel_sockets(settings: &HubSettings, shards: usize) -> Result<(Vec<UdpSocket>, Vec<TcpShare>), StartError> {
    let address = settings.tunnel.address;
    let bound = match settings.tunnel.tcp {
        true => bind_both(address, shards),
        false => bind_shards(address, shards).map(|udp| (udp, Vec::new())),
    };
    bound.map_err(|error| failed(format!("tunnel.address {address}: {error}; free the port, use another address, or see tunnel.tcp")))
}

fn metrics_socket(address: SocketAddr) -> Result<TcpListener, StartError> {
    bind(address).map_err(|error| {
        failed(format!("metrics.address {address}: cannot listen: {error}; free the port, use another address, or \"off\""))
    })
}

fn given_ca(settings: &HubSettings) -> Option<CaFiles> {
    let ca = settings.ca.as_ref()?;
    Some(CaFiles { certificate: ca.certificate.clone(), key: ca.key.clone() })
}

/// What grants tell agents: a port that the kernel chose takes the place of port 0.
fn advertise(settings: &HubSettings, bound: SocketAddr) -> Vec<String> {
    let real = |hub: &String| match hub.strip_suffix(":0") {
        Some(host) => format!("{host}:{}", bound.port()),
        None => hub.clone(),
    };
    settings.tunnel.advertise.iter().map(real).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_name_the_port_that_the_kernel_chose() {
        let mut settings = HubSettings::default();
        settings.tunnel.advertise = vec!["hub.example:0".into(), "other.example:7443".into()];
        assert_eq!(advertise(&settings, ([127, 0, 0, 1], 4321).into()), ["hub.example:4321", "other.example:7443"]);
    }
}
