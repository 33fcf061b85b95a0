//! A running agent: puts the parts together, and takes them apart in order.
//!
//! Usable in process, several at once: nothing here is global. Drain has three phases: hubs are told and nothing new is
//! taken; streams finish to a deadline; what is left is cut. Tunnels close last, so that no answer is lost with them.

mod reload;

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use figspan_proto::control::Health;
use figspan_proto::name::{UplinkName, Zone};
use figspan_telemetry::LogHandle;
use figspan_tunnel::drain::Drain;
use figspan_tunnel::resolve::{ResolveError, Resolver};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::identity::{Holder, renew};
use crate::receive::Receiver;
use crate::service::Services;
use crate::settings::{Settings, Uplink};
use crate::status::serve::Bind;
use crate::status::{self, Status};
use crate::tunnels::{self, Keeper, Tunnels, Wanted};
use crate::uplinks::Uplinks;
use crate::workers::Workers;

/// After the last stream, hubs get this long to hear of the drain before their tunnels close: what they send in ignorance is
/// answered with "not delivered" instead of being lost.
const QUIET: Duration = Duration::from_millis(250);
/// However busy the hubs are, tunnels close after this long.
const QUIET_AT_MOST: Duration = Duration::from_secs(3);
/// How often a new process looks whether hubs know it.
const LOOK: Duration = Duration::from_millis(20);
/// From a verdict on to when a hub has surely heard how the workloads are and told its shards: both were said before, and travel in
/// a round trip. Far above one; what it costs is that an upgrade takes as much longer.
const HEARD: Duration = Duration::from_secs(1);
/// How long the tasks that are left may take to end.
const END: Duration = Duration::from_secs(2);

/// Why an agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No threads.
    #[error("cannot start {0} workers: {1}; lower workers in agent.toml, or raise TasksMax in the unit")]
    Workers(usize, io::Error),
    /// No resolver.
    #[error("cannot set up name resolution: {0}; see /etc/resolv.conf")]
    Resolver(#[from] ResolveError),
    /// No status socket.
    #[error("cannot listen on status socket {path}: {1}; see status.socket in agent.toml, and whether another agent runs", path = .0.display())]
    StatusSocket(PathBuf, io::Error),
    /// No metrics.
    #[error("cannot serve metrics on {0}: {1}; correct metrics.address in agent.toml")]
    Metrics(std::net::SocketAddr, io::Error),
}

/// A running agent. Clones share it; dropped without [`Running::drain`], its tasks go on until their runtime ends.
#[derive(Debug, Clone)]
pub struct Running(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    started: SystemTime,
    instance: Arc<str>,
    identity: Arc<Holder>,
    uplinks: Arc<Uplinks>,
    tunnels: Arc<Tunnels>,
    receiver: Arc<Receiver>,
    services: Arc<Services>,
    resolver: Resolver,
    workers: Arc<Workers>,
    work: Drain,
    life: Drain,
    wanted: watch::Sender<Wanted>,
    settings: Mutex<Settings>,
    reload: Mutex<status::Reload>,
    probes: Mutex<HashMap<UplinkName, (Uplink, CancellationToken)>>,
    drained: AtomicBool,
    log: OnceLock<LogHandle>,
}

/// Starts agents.
#[derive(Debug)]
pub struct Agent;

impl Agent {
    /// Starts an agent on the current runtime and as many more threads as `settings.workers` asks for. It returns at once:
    /// tunnels come up as hubs answer.
    pub async fn start(settings: Settings, identity: Holder) -> Result<Running, StartError> {
        Self::start_with(settings, identity, Resolver::system()?).await
    }

    /// The same with a resolver of the caller's, made for the current runtime.
    pub async fn start_with(settings: Settings, identity: Holder, resolver: Resolver) -> Result<Running, StartError> {
        let running = Self::start_beside(settings, identity, resolver)?;
        running.listen(Bind::Alone).await?;
        Ok(running)
    }

    /// The same beside another process of the agent that serves: see [`Running::stands`] and [`Running::take_over`].
    pub fn start_beside(settings: Settings, identity: Holder, resolver: Resolver) -> Result<Running, StartError> {
        let workers = Workers::start(settings.workers).map_err(|error| StartError::Workers(settings.workers, error))?;
        let (work, life) = (Drain::new(), Drain::new());
        let uplinks = Arc::new(Uplinks::default());
        let receiver = Receiver::new(Arc::clone(&uplinks), resolver.clone(), work.clone(), settings.max_streams);
        let tunnels = Arc::<Tunnels>::default();
        let services = Services::new(Arc::clone(&tunnels), work.clone(), life.clone());
        let running = Running(Arc::new(Inner {
            started: SystemTime::now(),
            instance: format!("{:016x}", rand::random::<u64>()).into(),
            identity: Arc::new(identity),
            uplinks,
            tunnels,
            receiver: Arc::new(receiver),
            services: Arc::new(services),
            resolver,
            workers: Arc::new(workers),
            work,
            life,
            wanted: watch::Sender::new(wanted(&settings)),
            settings: Mutex::new(settings.clone()),
            reload: Mutex::default(),
            probes: Mutex::default(),
            drained: AtomicBool::new(false),
            log: OnceLock::new(),
        }));
        running.apply(&settings);
        running.keep_tunnels(settings.drain_timeout, settings.zone);
        Ok(running)
    }
}

impl Running {
    /// How the agent is.
    pub fn status(&self) -> Status {
        let inner = &*self.0;
        let settings = inner.settings.lock().unwrap_or_else(PoisonError::into_inner);
        let hubs = settings.hubs.clone();
        drop(settings);
        let reload = inner.reload.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let seen = status::Seen {
            started: inner.started,
            instance: &inner.instance,
            identity: &inner.identity,
            uplinks: &inner.uplinks,
            tunnels: &inner.tunnels,
            receiver: &inner.receiver,
            services: &inner.services,
            draining: inner.work.is_leaving(),
            hubs,
            reload,
        };
        seen.status(SystemTime::now())
    }

    /// Lets the level of the process's log be changed over the status socket.
    pub fn offer_log(&self, log: LogHandle) {
        // Whoever offered one first is asked.
        let _ = self.0.log.set(log);
    }

    /// The agent's identity.
    pub fn identity(&self) -> &Arc<Holder> {
        &self.0.identity
    }

    /// The number of tunnels that are up, and word of each change.
    pub fn tunnels(&self) -> watch::Receiver<usize> {
        self.0.tunnels.count()
    }

    /// Whether every thread of the agent answers within `time`.
    pub async fn alive(&self, time: Duration) -> bool {
        self.0.workers.alive(time).await
    }

    /// Waits until hubs know this process as they know another one with that many tunnels: they have taken a word on every uplink
    /// from it, and time enough to hear how the workloads are. Cancel-safe.
    pub async fn stands(&self, tunnels: usize) {
        let mut count = self.tunnels();
        while !self.is_known(tunnels) {
            tokio::select! {
                _ = count.changed() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        tokio::time::sleep(HEARD).await;
    }

    fn is_known(&self, tunnels: usize) -> bool {
        let inner = &*self.0;
        let live = inner.tunnels.live();
        let told = |uplink: &Uplink| {
            let verdicts = inner.uplinks.verdicts(&uplink.name);
            live.iter().all(|live| verdicts.iter().any(|(replica, _)| *replica == live.replica))
        };
        let status = self.status();
        let settings = inner.settings.lock().unwrap_or_else(PoisonError::into_inner);
        live.iter().filter(|live| !live.leaving.load(Ordering::Acquire)).count() >= tunnels
            && status.uplinks.iter().all(|uplink| uplink.health != Health::Unknown)
            && settings.uplinks.iter().all(told)
    }

    /// Takes the places where the agent is asked how it is from another process that still answers there, and the listeners of
    /// services that it handed over.
    pub async fn take_over(&self, services: Vec<(String, OwnedFd)>) -> Result<(), StartError> {
        self.0.services.take_over(services);
        self.listen(Bind::Instead).await
    }

    /// The listeners of services, for another process.
    pub fn listeners(&self) -> Vec<(String, OwnedFd)> {
        self.0.services.listeners()
    }

    /// Another process has these listeners now.
    pub fn handed_over(&self) {
        self.0.services.hand_over();
    }

    /// Ends the agent: hubs are told and turn away, and what they send before they have heard is served all the same; then new
    /// streams are refused, old ones finish until `deadline`, and the rest is cut. True when nothing had to be cut.
    pub async fn drain(&self, deadline: Duration) -> bool {
        let inner = &*self.0;
        if inner.drained.swap(true, Ordering::AcqRel) {
            return true;
        }
        tracing::info!(
            streams = inner.receiver.open(),
            "draining: {} may go on for {deadline:?}",
            status::show::counted(inner.receiver.open() as usize, "stream")
        );
        // A request whose body is longer than the hub keeps could go nowhere else if it were refused now.
        inner.work.leave();
        tokio::join!(self.quiet(), inner.services.leave());
        let clean = inner.work.run(deadline).await;
        if !clean {
            tracing::warn!(streams = inner.receiver.open(), "the drain deadline has passed; what still ran was cut");
        }
        self.quiet().await;
        inner.life.stop();
        inner.life.run(END).await;
        clean
    }

    /// Ends the agent without waiting for streams.
    pub async fn abort(&self) {
        self.0.work.force();
        self.0.drained.store(true, Ordering::Release);
        self.0.life.run(END).await;
    }

    /// Waits until no hub has opened a stream for a while.
    async fn quiet(&self) {
        if self.0.tunnels.live().is_empty() {
            return;
        }
        let taken = || self.0.receiver.taken();
        let wait = async {
            loop {
                let before = taken();
                tokio::time::sleep(QUIET).await;
                if taken() == before {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(QUIET_AT_MOST, wait).await;
    }

    fn keep_tunnels(&self, drain_time: Duration, zone: Option<Zone>) {
        let inner = &*self.0;
        let keeper = Keeper {
            tunnels: Arc::clone(&inner.tunnels),
            identity: Arc::clone(&inner.identity),
            uplinks: Arc::clone(&inner.uplinks),
            receiver: Arc::clone(&inner.receiver),
            work: inner.work.clone(),
            life: inner.life.clone(),
            workers: Arc::clone(&inner.workers),
            resolver: inner.resolver.clone(),
            instance: Arc::clone(&inner.instance),
            zone,
            drain_time,
        };
        inner.life.spawn(tunnels::keep(keeper, inner.wanted.subscribe()));
        let (life, tunnels, holder) = (inner.life.clone(), Arc::clone(&inner.tunnels), Arc::clone(&inner.identity));
        inner.life.spawn(async move {
            // Any replica may sign; one that stays is the better choice.
            let tunnel = || {
                let live = tunnels.live();
                let best = live.iter().min_by_key(|live| (live.leaving.load(Ordering::Acquire), live.tunnel.rtt()));
                best.map(|live| live.tunnel.clone())
            };
            tokio::select! {
                () = renew::keep(holder, tunnel) => {}
                () = life.stopping() => {}
            }
        });
    }

    async fn listen(&self, how: Bind) -> Result<(), StartError> {
        let settings = self.0.settings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.0.services.apply(&settings.services);
        let (running, logging) = (Arc::downgrade(&self.0), Arc::downgrade(&self.0));
        let status = move || running.upgrade().map(|inner| Self(inner).status());
        let source = status::serve::Source::new(status, move || logging.upgrade()?.log.get().cloned());
        if let Some(path) = &settings.status_socket {
            let listener = status::serve::bind(path, how).map_err(|error| StartError::StatusSocket(path.clone(), error))?;
            self.0.life.spawn(status::serve::on_socket(listener, source.clone(), self.0.life.clone()));
        }
        if let Some(address) = settings.metrics {
            let listener = status::serve::bind_tcp(address, how).map_err(|error| StartError::Metrics(address, error))?;
            self.0.life.spawn(status::serve::on_tcp(listener, source, self.0.life.clone()));
        }
        Ok(())
    }
}

fn wanted(settings: &Settings) -> Wanted {
    Wanted { hubs: settings.hubs.clone(), tunnels_per_hub: settings.tunnels_per_hub, transport: settings.transport }
}

#[cfg(test)]
mod tests;
