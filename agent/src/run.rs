//! The daemon: an agent with signals, reloads and systemd around it.
//!
//! READY is said after the start, not after the first tunnel: a VM must boot although its hub is away. SIGTERM drains, a
//! second signal ends at once. SIGUSR2 starts the program anew and hands over to it (see `handover`). SIGHUP and a change of the files reload: everything is validated first, and a mistake leaves
//! the old settings running and says so.

mod handover;
mod systemd;
mod watch;

use std::path::{Path, PathBuf};
use std::time::Duration;

use figspan_footprint::Heap;
use figspan_settings::Finding;
use figspan_telemetry::{LogHandle, LogSettings};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::agent::{Agent, Running};
use crate::enrol;
use crate::identity::Holder;
use crate::identity::files::Files;
use crate::settings::load::{Loaded, load};
use crate::status::show;
use figspan_tunnel::resolve::Resolver;
use handover::{Predecessor, Program, Successor};
use systemd::Systemd;

/// How often systemd is told how the agent is, when that has changed.
const STATUS_EVERY: Duration = Duration::from_secs(2);

/// After this long an agent has its tunnels and has advertised, or waits for its hub: much of its program was for that alone.
const START: Duration = Duration::from_secs(3);

/// How a run ended.
#[derive(Debug)]
pub enum End {
    /// Asked to.
    Done,
    /// Mistakes in the settings.
    Settings(Vec<Finding>),
    /// No identity; says how to get one.
    NotJoined(String),
    /// Anything else.
    Failed(String),
}

/// Runs the agent until a signal ends it.
pub async fn run(config: &Path, token_file: Option<&Path>) -> End {
    match handover::stands_between() {
        Ok(false) => {}
        Ok(true) => return End::Done,
        Err(error) => return End::Failed(format!("the program cannot be started anew: {error}")),
    }
    let loaded = match load(config) {
        Ok(loaded) => loaded,
        Err(findings) => return End::Settings(findings),
    };
    let log = &loaded.settings.log;
    let log = LogSettings { format: log.format, level: log.level.clone(), access: false, short: true };
    let log = match figspan_telemetry::init(&log) {
        Ok(log) => log,
        Err(error) => return End::Failed(error.to_string()),
    };
    let end = joined(config, token_file, loaded, log.clone()).await;
    log.flush();
    end.map_or_else(|end| end, |()| End::Done)
}

async fn joined(config: &Path, token_file: Option<&Path>, loaded: Loaded, log: LogHandle) -> Result<(), End> {
    // Each attempt to reach a hub has a receive buffer, of which a few pages are used.
    figspan_footprint::keep_large_apart();
    let failed = |error: &dyn std::fmt::Display| End::Failed(error.to_string());
    let files = Files::new(&loaded.settings.state_dir);
    let mut loaded = loaded;
    let mut kept = files.read().map_err(|error| failed(&error))?;
    if kept.is_none() {
        match enrol::join_at_start(&loaded.settings, token_file).await {
            Ok(Some(joined)) => {
                tracing::info!(agent = %joined.name, "joined {} as {}", joined.trust_domain, joined.name);
                // The hubs to dial are known only now.
                loaded = load(config).map_err(End::Settings)?;
                kept = Some(joined.kept);
            }
            Ok(None) => return Err(End::NotJoined(NOT_JOINED.to_owned())),
            Err(error) if error.is_refusal() => return Err(End::NotJoined(error.to_string())),
            Err(error) => return Err(failed(&error)),
        }
    }
    let Some(kept) = kept else { return Err(End::NotJoined(NOT_JOINED.to_owned())) };
    let settings = loaded.settings.clone();
    let file = config.display().to_string();
    if settings.hubs.is_empty() {
        let mend = "write hubs = [\"host:port\"], or run `figspan-agent join --again`";
        return Err(End::Settings(vec![Finding::about_file(&file, "hubs", "no hub is named", mend)]));
    }
    let own = &kept.identity.id().trust_domain;
    if let Some(wanted) = settings.trust_domain.as_ref().filter(|wanted| *wanted != own) {
        let why = format!("is {wanted}, but the certificate is of {own}");
        let mend = "correct it, or join a hub of that domain with `figspan-agent join --again`";
        return Err(End::Settings(vec![Finding::about_file(&file, "trust_domain", why, mend)]));
    }
    let holder = Holder::new(kept, Some(files)).map_err(|error| failed(&error))?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    // Before there is a tunnel: a signal that comes early must not cut what runs through it.
    let signals = Signals::new().map_err(|error| failed(&error))?;
    tracing::info!(agent = %holder.name(), uplinks = settings.uplinks.len(), "starting as {} with {}", holder.name(), show::counted(settings.uplinks.len(), "uplink"));
    let program = Program::find().map_err(|error| failed(&error))?;
    let predecessor = Predecessor::find().map_err(|error| failed(&error))?;
    let running = match predecessor {
        None => Box::pin(Agent::start(settings, holder)).await.map_err(|error| failed(&error))?,
        Some(_) => {
            let resolver = Resolver::system().map_err(|error| failed(&error))?;
            Agent::start_beside(settings, holder, resolver).map_err(|error| failed(&error))?
        }
    };
    running.offer_log(log.clone());
    Box::pin(Daemon { config: config.to_owned(), loaded, running, log, program }.serve(predecessor, signals))
        .await
        .map_err(|error| failed(&error))
}

const NOT_JOINED: &str = "this VM has not joined a hub; run `figspanctl grant create NAME --uplinks NAMES` where the hub is operated, \
                          and paste the line that it prints here";

struct Daemon {
    config: PathBuf,
    loaded: Loaded,
    running: Running,
    log: LogHandle,
    program: Program,
}

/// How the time of serving ended.
enum Ending {
    /// The service ends.
    Stop,
    /// Another process serves.
    HandedOver,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    succeed: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            succeed: signal(SignalKind::user_defined2())?,
        })
    }

    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

impl Daemon {
    async fn serve(mut self, predecessor: Option<Predecessor>, mut signals: Signals) -> std::io::Result<()> {
        let mut systemd = Systemd::new();
        if let Some(predecessor) = predecessor
            && !self.take_over(&predecessor, &mut signals).await
        {
            return Ok(());
        }
        let mut changed = watch::Watch::new(self.paths());
        let mut tunnels = self.running.tunnels();
        let mut tick = tokio::time::interval(STATUS_EVERY);
        let mut watchdog = tokio::time::interval(systemd.watchdog_every());
        let (mut successor, mut dismissed) = (None, Vec::new());
        let mut started = Box::pin(tokio::time::sleep(START));
        let mut light = false;
        let mut heap = Heap::new();
        systemd.ready();
        let ending = loop {
            tokio::select! {
                _ = signals.terminate.recv() => break Ending::Stop,
                _ = signals.interrupt.recv() => break Ending::Stop,
                _ = signals.succeed.recv(), if successor.is_none() => successor = self.succeed(),
                ready = ready(&mut successor) => match successor.take() {
                    Some(new) if ready.is_ok() => {
                        tracing::info!(process = new.id(), "process {} has its tunnels and takes over", new.id());
                        // The manager hears of its new main process before that one says anything.
                        systemd.hand_over(new.id());
                        if new.hand_over(&self.running.listeners()) {
                            self.running.handed_over();
                            break Ending::HandedOver;
                        }
                        systemd.hand_over(std::process::id());
                        dismissed.push(new.dismiss());
                    }
                    Some(new) => {
                        let why = ready.err().unwrap_or_default();
                        tracing::error!(why, "not handed over to the new process: {why}; this one goes on");
                        dismissed.push(new.dismiss());
                    }
                    None => {}
                },
                _ = signals.hang_up.recv() => { systemd.reloading(); self.reload(); systemd.ready() }
                () = changed.changed() => self.reload_if_changed(),
                () = &mut started, if !light => {
                    light = true;
                    figspan_footprint::give_back();
                }
                _ = tunnels.changed() => systemd.status(&show::line(&self.running.status())),
                _ = tick.tick() => {
                    heap.look();
                    dismissed.retain_mut(|child: &mut std::process::Child| matches!(child.try_wait(), Ok(None)));
                    systemd.status(&show::line(&self.running.status()));
                }
                _ = watchdog.tick(), if systemd.has_watchdog() => {
                    if self.running.alive(systemd.watchdog_every()).await { systemd.alive() }
                }
            }
        };
        drop(successor.map(Successor::dismiss));
        let deadline = self.loaded.settings.drain_timeout;
        let end = async {
            match ending {
                Ending::Stop => {
                    systemd.stopping();
                    self.running.drain(deadline).await
                }
                // The manager would take a word of stopping for the service's.
                Ending::HandedOver => {
                    tracing::info!("handed over to the new process");
                    self.running.drain(deadline).await
                }
            }
        };
        tokio::select! {
            _ = end => {}
            () = signals.end() => {
                tracing::warn!("a second signal: ending at once");
                self.running.abort().await;
            }
        }
        tracing::info!("ended");
        Ok(())
    }

    /// Starts the program anew, to hand over to it.
    fn succeed(&self) -> Option<Successor> {
        let live = self.running.tunnels();
        let tunnels = *live.borrow();
        match self.program.succeed(tunnels) {
            Ok(successor) => {
                tracing::info!(tunnels, "started the program anew, to hand over to it once it has its tunnels");
                Some(successor)
            }
            Err(error) => {
                tracing::error!(%error, "the program cannot be started anew: {error}; this process goes on");
                None
            }
        }
    }

    /// Takes over from the process that started this one; false when it shall not.
    async fn take_over(&self, predecessor: &Predecessor, signals: &mut Signals) -> bool {
        let taken = tokio::select! {
            () = self.running.stands(predecessor.tunnels) => predecessor.take_over().await,
            gone = predecessor.gone() => gone.then(Vec::new),
            () = signals.end() => None,
        };
        let Some(services) = taken else {
            tracing::info!("not wanted any more; ending");
            self.running.drain(self.loaded.settings.drain_timeout).await;
            return false;
        };
        if let Err(error) = self.running.take_over(services).await {
            tracing::error!(%error, "{error}; this process serves, but nobody can ask how it is");
        }
        tracing::info!("took over from the process that served before");
        true
    }

    fn reload(&mut self) {
        match self.running.identity().reread() {
            Ok(true) => tracing::info!("the certificate of another join is in use from now on"),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "the new certificate cannot be used: {error}; keeping the old"),
        }
        match load(&self.config) {
            Ok(loaded) => self.take(loaded),
            Err(findings) => self.refuse(&findings),
        }
    }

    /// Editors and `join` touch files several times; what reads the same is no change.
    fn reload_if_changed(&mut self) {
        match load(&self.config) {
            Ok(loaded) if loaded == self.loaded && self.running.status().reload.error.is_none() => {
                if let Ok(true) = self.running.identity().reread() {
                    tracing::info!("the certificate of another join is in use from now on");
                }
            }
            _ => self.reload(),
        }
    }

    fn take(&mut self, loaded: Loaded) {
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        if let Err(error) = self.log.set_level(&loaded.settings.log.level) {
            tracing::warn!(%error, "the log level stays: {error}");
        }
        let changes = self.running.reload(loaded.settings.clone());
        self.loaded = loaded;
        let list = |names: &[figspan_proto::name::UplinkName]| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        tracing::info!(
            added = list(&changes.added),
            changed = list(&changes.changed),
            removed = list(&changes.removed),
            "settings reloaded: {} uplinks added, {} changed, {} removed",
            changes.added.len(),
            changes.changed.len(),
            changes.removed.len()
        );
    }

    fn refuse(&self, findings: &[Finding]) {
        let told: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
        if self.running.status().reload.error.as_ref() == Some(&told) {
            return;
        }
        for finding in findings {
            tracing::error!("{finding}");
        }
        tracing::error!("the changed settings have {} mistakes; the old ones hold until they are mended", findings.len());
        self.running.note_reload(Some(told));
    }

    fn paths(&self) -> watch::Paths {
        watch::Paths::of(&self.config, &self.loaded.settings.state_dir)
    }
}

/// Waits for the successor, if there is one.
async fn ready(successor: &mut Option<Successor>) -> Result<(), String> {
    match successor {
        Some(successor) => successor.ready().await,
        None => std::future::pending().await,
    }
}
