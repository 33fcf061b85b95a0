//! The command `run`: a hub under a service manager, from its configuration to its exit code.

use std::path::Path;
use std::time::Duration;

use figspan_footprint::Heap;
use figspan_model::settings::{self, LogFormat};
use figspan_telemetry::{Format, LogHandle, LogSettings};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;

use crate::check;
use crate::hub::{Hub, Options, StartError};
use crate::reload::Config;
use crate::running::Running;

/// How often the status line is renewed and the watchdog is told, unless the manager wants to hear more often.
const EVERY: Duration = Duration::from_secs(5);

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration.
    #[error("the configuration has errors")]
    Config(Vec<String>),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// Runs a hub until it is told to end. Sets up the process's log and signals: call it once, from `main`.
pub fn run(config: &Path) -> Result<(), RunError> {
    let loaded = settings::load(config).map_err(|errors| RunError::Config(check::texts(&errors)))?;
    let log = figspan_telemetry::init(&log_settings(&loaded.settings.log)).map_err(|error| RunError::Failed(error.to_string()))?;
    log_panics();
    for warning in check::texts(&loaded.warnings) {
        tracing::warn!(warning, "configuration");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| RunError::Failed(format!("no runtime: {error}")))?;
    let result = runtime.block_on(live(config, &log));
    match &result {
        Ok(()) => tracing::info!("ended"),
        Err(error) => tracing::error!(%error, "ended"),
    }
    log.flush();
    result
}

async fn live(config: &Path, log: &LogHandle) -> Result<(), RunError> {
    // Signals first: one that arrives during the start must not kill a half-started hub without a word.
    let mut signals = Signals::new().map_err(|error| RunError::Failed(format!("no signals: {error}")))?;
    let mut options = Options::new(Config::File(config.to_owned()));
    options.log = Some(log.clone());
    let hub = Hub::start(options).map_err(|error| match error {
        StartError::Config(errors) => RunError::Config(errors),
        error @ StartError::Failed(_) => RunError::Failed(error.to_string()),
    })?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        replica = %hub.settings().hub.replica,
        shards = hub.settings().hub.shards,
        tunnel = %hub.tunnel_address(),
        admin = %hub.admin_socket().display(),
        metrics = hub.metrics_address().map(|address| address.to_string()),
        "running"
    );
    notify(&[NotifyState::Ready, NotifyState::Status(&status(&hub))]);
    let mut tick = tokio::time::interval(sd_notify::watchdog_enabled().map_or(EVERY, |most| EVERY.min(most / 2)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heap = Heap::new();
    loop {
        tokio::select! {
            died = hub.wait() => return died.map_err(|died| RunError::Failed(died.to_string())),
            signal = signals.next() => match signal {
                Asked::Reload => reload(&hub).await,
                Asked::End => break,
            },
            _ = tick.tick() => {
                heap.look();
                look_after(&hub);
            }
        }
    }
    leave(&hub, &mut signals, log).await;
    Ok(())
}

/// Leaves in order; a second signal ends the process at once.
async fn leave(hub: &Running, signals: &mut Signals, log: &LogHandle) {
    let (lame_duck, deadline) = (hub.settings().hub.lame_duck, hub.settings().hub.drain_timeout);
    tracing::info!(
        lame_duck_seconds = lame_duck.as_secs_f64(),
        deadline_seconds = deadline.as_secs_f64(),
        "leaving: not ready, serving for {lame_duck:?} more, then finishing what runs within {deadline:?}; a second signal ends at once"
    );
    notify(&[NotifyState::Stopping, NotifyState::Status("leaving")]);
    let finished = tokio::select! {
        finished = hub.leave(lame_duck, deadline) => finished,
        () = signals.second() => {
            tracing::warn!("second signal: ending at once");
            // The socket's file would be taken for a hub that hangs.
            let _ = std::fs::remove_file(hub.admin_socket());
            log.flush();
            std::process::exit(1)
        }
    };
    if !finished {
        tracing::warn!("the deadline has passed: what was still under way was cut");
    }
}

async fn reload(hub: &Running) {
    let now = NotifyState::monotonic_usec_now();
    match &now {
        Ok(now) => notify(&[NotifyState::Reloading, now.clone()]),
        Err(error) => tracing::debug!(%error, "no monotonic clock"),
    }
    if let Err(problem) = hub.reload("signal").await {
        tracing::error!(%problem, "not reloaded");
    }
    notify(&[NotifyState::Ready, NotifyState::Status(&status(hub))]);
}

/// Tells the service manager that the hub lives, if it does.
fn look_after(hub: &Running) {
    let stuck = hub.stuck();
    if stuck.is_empty() {
        notify(&[NotifyState::Watchdog, NotifyState::Status(&status(hub))]);
    } else {
        tracing::error!(?stuck, "shards hang");
        notify(&[NotifyState::Status("shards hang")]);
    }
}

/// One line for `systemctl status`.
fn status(hub: &Running) -> String {
    let waiting = hub.waiting_for();
    let errors = hub.config().errors.len();
    match (waiting.first(), errors) {
        (None, 0) => "ready".to_owned(),
        (None, errors) => format!("ready, on the last good configuration: the newest one has {errors} errors"),
        (Some(what), _) => format!("waiting for {what}"),
    }
}

/// Without a service manager nobody is told.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager was not told");
    }
}

fn log_settings(log: &settings::Log) -> LogSettings {
    let format = match log.format {
        LogFormat::Auto => Format::Auto,
        LogFormat::Journald => Format::Journald,
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    // A reload may switch the access log on.
    LogSettings { format, level: log.level.clone(), access: log.access, short: false }
}

/// A panic ends one connection, or the hub; in both cases the log must have it.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let what = panic.payload_as_str().unwrap_or("no message");
        let thread = std::thread::current();
        tracing::error!(thread = thread.name(), place, what, "panic: this is a bug in figspan; please report it");
    }));
}

enum Asked {
    Reload,
    End,
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.hangup.recv() => Asked::Reload,
            _ = self.terminate.recv() => Asked::End,
            _ = self.interrupt.recv() => Asked::End,
        }
    }

    /// Another signal to end; reloads no longer count.
    async fn second(&mut self) {
        while let Asked::Reload = self.next().await {}
    }
}
