//! A whole hub in this process: starts its threads, tells its addresses, drains it, notices when a part of it dies.
//!
//! No process-wide state: several hubs can live in one process, which is how tests and `figspan-try` use it.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use figspan_control::{CaFiles, Clock, Control, ControlConfig};
use figspan_data::metrics::Metrics;
use figspan_model::settings::HubSettings;
use figspan_model::snapshot;
use figspan_model::state::{Board, Book};
use figspan_proto::admin::{ConfigStatus, ListenerStatus, Problem};
use figspan_telemetry::LogHandle;
use figspan_tunnel::drain::Drain;
use figspan_tunnel::hub::{HubConfig, bind_shards};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::admin::Admin;
use crate::admin::listen::{Ears, bind};
use crate::check;
use crate::control_thread::{self, ControlStart, ServeStart};
use crate::face::Face;
use crate::listeners::{Listeners, Shards};
use crate::metrics::{self, Seen};
use crate::reload::{self, Config, ReloadTask, Reloader};
use crate::shard::{self, ShardStart};

/// Time for the admin API and metrics to finish their answers.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Time for control to close all tunnels, and for the threads to end afterwards.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// What a hub is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its configuration.
    pub config: Config,
    /// A CA that somebody else looks after; else one in the state directory.
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

/// A part of the hub that should have lived.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{part} has died; the hub cannot go on without it; restart it, and report the panic in its log")]
pub struct PartDied {
    /// The thread.
    pub part: String,
}

/// The hub.
#[derive(Debug)]
pub struct Hub;

/// A hub that runs. Dropped, it ends at once; see [`Running::drain`].
#[derive(Debug)]
pub struct Running {
    settings: HubSettings,
    control: Control,
    face: Arc<Face>,
    reloader: Reloader,
    /// One per shard, and one for the admin API and metrics.
    shard_drains: Vec<Drain>,
    serve_drain: Drain,
    end: CancellationToken,
    threads: watch::Receiver<Threads>,
    socket: PathBuf,
    admin_tcp: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
}

/// How the hub's threads are.
#[derive(Debug, Clone, Default)]
struct Threads {
    alive: usize,
    died: Option<String>,
}

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
        let (publisher, reader) = snapshot::publication();

        // What can fail for reasons outside the process comes first, while there is nothing to undo.
        let listeners = Listeners::new();
        let plan = listeners.plan(&routing.listeners, shards).map_err(|errors| failed(errors.join("\n")))?;
        let udp = bind_shards(settings.tunnel.address, shards).map_err(|error| {
            failed(format!("tunnel.address {}: {error}; free the port, or use another address", settings.tunnel.address))
        })?;
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
            ca,
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
        threads.spawn("control", move || control_thread::run(start))?;
        let control = wait_for("control", control).map_err(failed)?;

        let mut to_shards: Shards = Vec::new();
        let mut shard_drains = Vec::new();
        let mut shard_metrics = Vec::new();
        let mut starting = Vec::new();
        for (index, udp) in udp.into_iter().enumerate() {
            let (sockets, socket_queue) = mpsc::channel(shard::SOCKETS);
            let (started, serving) = sync_channel(1);
            let (drain, counted) = (Drain::new(), Metrics::new());
            let endpoint = HubConfig { shard: index, shards, credentials: control.credentials(), reset_key: control.reset_key() };
            let start = ShardStart {
                shard: index,
                udp,
                endpoint,
                control: control.clone(),
                reader: reader.clone(),
                board: Arc::clone(&board),
                book: Arc::clone(&book),
                metrics: Arc::clone(&counted),
                face: Arc::clone(&face),
                drain: drain.clone(),
                sockets: socket_queue,
                end: threads.end.clone(),
                started,
            };
            threads.spawn(&format!("shard-{index}"), move || shard::run(start))?;
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
        };
        let reload = ReloadTask::new(reload, listeners, asks);
        let serve_drain = Drain::new();
        let seen = Seen { control: control.clone(), face: Arc::clone(&face), shards: shard_metrics, log };
        let admin = Admin { control: control.clone(), reader, book, face: Arc::clone(&face), reloader: reloader.clone() };
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
        let start = ServeStart { admin, ears, metrics, metrics_app, reload, plan, listening, drain: serve_drain };
        serve.send(start).map_err(|_| failed("control has ended during the start; see its log".to_owned()))?;
        wait_for("control", open).map_err(failed)?;
        threads.keep();
        Ok(running)
    }
}

impl Running {
    /// The settings that the hub was started with.
    pub fn settings(&self) -> &HubSettings {
        &self.settings
    }

    /// Listeners and the addresses they are bound to.
    pub fn listeners(&self) -> Vec<ListenerStatus> {
        self.face.listeners().to_vec()
    }

    /// The address of a listener.
    pub fn listener(&self, name: &str) -> Option<SocketAddr> {
        let listeners = self.face.listeners();
        listeners.iter().find(|listener| listener.name == name).and_then(|listener| listener.address.parse().ok())
    }

    /// Where agents dial.
    pub fn tunnel_address(&self) -> SocketAddr {
        self.face.tunnel_address
    }

    /// The admin API's socket.
    pub fn admin_socket(&self) -> &Path {
        &self.socket
    }

    /// The admin API over TCP.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_tcp
    }

    /// Where `/metrics`, `/livez` and `/readyz` are.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// The control path.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// What readiness waits for; empty when ready.
    pub fn waiting_for(&self) -> Vec<String> {
        self.face.waiting_for(&self.control)
    }

    /// The state of the configuration.
    pub fn config(&self) -> Arc<ConfigStatus> {
        self.face.config()
    }

    /// Shards whose threads hang.
    pub fn stuck(&self) -> Vec<usize> {
        self.face.stuck()
    }

    /// Reads the configuration again. With errors in it (see the answer) the one before stays in force.
    pub async fn reload(&self, who: &str) -> Result<ConfigStatus, Problem> {
        self.reloader.reload_file(who).await
    }

    /// Brings another configuration into force, in place of the file's.
    pub async fn reload_text(&self, text: &str, who: &str) -> Result<ConfigStatus, Problem> {
        self.reloader.reload_text(text.to_owned(), who).await
    }

    /// Waits until the hub has ended, or says which part of it died. Cancel-safe.
    pub async fn wait(&self) -> Result<(), PartDied> {
        let mut threads = self.threads.clone();
        let ended = threads.wait_for(|threads| threads.died.is_some() || threads.alive == 0).await;
        match ended.ok().and_then(|threads| threads.died.clone()) {
            Some(part) => Err(PartDied { part }),
            None => Ok(()),
        }
    }

    /// Leaves: agents are told, nothing new is accepted, what is under way may finish within the deadline; then the rest is
    /// cut, tunnels are closed and the threads end. `true` when nothing had to be cut.
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.face.leave();
        let mut drains = self.reloader.leave().await;
        drains.extend(self.shard_drains.iter().cloned());
        let shards = async {
            let finished = futures_util::future::join_all(drains.iter().map(|drain| drain.run(deadline))).await;
            finished.into_iter().all(|in_time| in_time)
        };
        let (left, finished) = tokio::join!(self.control.leave(deadline), shards);
        self.serve_drain.run(LAST_ANSWERS).await;
        // What does not answer any more is ended with its thread.
        let _ = tokio::time::timeout(LAST_WORDS, self.control.stop()).await;
        self.end.cancel();
        let _ = tokio::time::timeout(LAST_WORDS, self.wait()).await;
        left && finished
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.serve_drain.force();
        self.shard_drains.iter().for_each(Drain::force);
        self.end.cancel();
    }
}

/// Starts the hub's threads and notices their ends. Dropped before [`Spawner::keep`], it ends them.
struct Spawner {
    end: CancellationToken,
    state: watch::Sender<Threads>,
    kept: bool,
}

impl Spawner {
    fn new() -> Self {
        Self { end: CancellationToken::new(), state: watch::Sender::default(), kept: false }
    }

    fn spawn(&mut self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), StartError> {
        self.state.send_modify(|threads| threads.alive += 1);
        let alive = Alive { name: name.to_owned(), state: self.state.clone(), end: self.end.clone() };
        let run = move || {
            let _alive = alive;
            body();
        };
        let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(run);
        spawned.map(drop).map_err(|error| failed(format!("no thread for {name}: {error}; raise the limit on tasks")))
    }

    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        if !self.kept {
            self.end.cancel();
        }
    }
}

/// Held by a thread for as long as it lives.
struct Alive {
    name: String,
    state: watch::Sender<Threads>,
    end: CancellationToken,
}

impl Drop for Alive {
    fn drop(&mut self) {
        // Ending before it was told to is dying, whether by a panic or not.
        let died = std::thread::panicking() || !self.end.is_cancelled();
        if died {
            tracing::error!(part = self.name, "a part of the hub has died; the hub cannot go on");
        }
        self.state.send_modify(|threads| {
            threads.alive -= 1;
            if died {
                threads.died.get_or_insert_with(|| self.name.clone());
            }
        });
    }
}

fn failed(why: String) -> StartError {
    StartError::Failed(why)
}

/// Waits for a thread's first word.
fn wait_for<T>(part: &str, word: Receiver<Result<T, String>>) -> Result<T, String> {
    word.recv().unwrap_or_else(|_| Err(format!("{part} has ended during the start; see its log")))
}

fn metrics_socket(address: SocketAddr) -> Result<TcpListener, StartError> {
    bind(address).map_err(|error| {
        failed(format!("metrics.address {address}: cannot listen: {error}; free the port, use another address, or \"off\""))
    })
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

    #[tokio::test]
    async fn a_thread_that_panics_is_named_to_whoever_waits() {
        let mut threads = Spawner::new();
        let mut state = threads.state.subscribe();
        let end = threads.end.clone();
        threads
            .spawn("control", move || {
                while !end.is_cancelled() {
                    std::thread::yield_now();
                }
            })
            .unwrap();
        threads.spawn("shard-1", || panic!("for the test")).unwrap();
        let died = tokio::time::timeout(LAST_WORDS, state.wait_for(|threads| threads.died.is_some())).await.unwrap().unwrap().died.clone();
        assert_eq!(died.as_deref(), Some("shard-1"));
        drop(threads);
        tokio::time::timeout(LAST_WORDS, state.wait_for(|threads| threads.alive == 0)).await.expect("the others are ended").unwrap();
    }

    #[test]
    fn grants_name_the_port_that_the_kernel_chose() {
        let mut settings = HubSettings::default();
        settings.tunnel.advertise = vec!["hub.example:0".into(), "other.example:7443".into()];
        assert_eq!(advertise(&settings, ([127, 0, 0, 1], 4321).into()), ["hub.example:4321", "other.example:7443"]);
    }
}
