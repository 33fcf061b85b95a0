//! Brings another configuration into force while the hub runs, or leaves the last good one in force and says why.
//!
//! One task on the control thread does it, one change at a time, for everybody who asks: a signal, a changed file, an
//! operator. First everything that can fail (reading, checking, binding, certificates), then everything that cannot.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use figspan_control::Control;
use figspan_model::routing::Routing;
use figspan_model::settings::{self, Hub, HubSettings, Loaded};
use figspan_model::state::Book;
use figspan_proto::admin::{ConfigStatus, Event, Problem};
use figspan_telemetry::LogHandle;
use figspan_tunnel::drain::Drain;
use http::StatusCode;
use tokio::sync::{mpsc, oneshot};

use crate::check;
use crate::face::Face;
use crate::jwks::{Jwks, Renewed};
use crate::listeners::{Listeners, Plan, Shards};
use crate::watch::FileWatch;

/// Reloads that may wait; more are refused.
const QUEUE: usize = 16;

/// How long the shards may take to work with a new routing before its listeners open all the same.
const SPREAD: Duration = Duration::from_secs(2);

/// Where a configuration comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Config {
    /// A file, watched.
    File(PathBuf),
    /// A text, for hubs inside another program; `name` is what findings call it.
    Text {
        /// Its name in findings.
        name: String,
        /// TOML.
        text: String,
    },
}

impl Config {
    /// What findings and status call it.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Text { name, .. } => name.clone(),
        }
    }

    /// The text as it is now, where it can be read.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Self::File(path) => std::fs::read_to_string(path).ok(),
            Self::Text { text, .. } => Some(text.clone()),
        }
    }

    /// What a text of this source means.
    pub(crate) fn read(&self, text: Option<&str>) -> Result<Loaded, Vec<settings::Finding>> {
        match (self, text) {
            (Self::File(path), None) => settings::load(path),
            (config, text) => settings::parse(text.unwrap_or_default(), &config.name()),
        }
    }
}

enum Ask {
    /// Read the source again, or another text in its place.
    Load { text: Option<String>, who: String, reply: oneshot::Sender<Arc<ConfigStatus>> },
    /// No more changes; here are the drains of what listens.
    Leave { reply: oneshot::Sender<Vec<Drain>> },
}

/// Asks for reloads; clones ask the same task.
#[derive(Debug, Clone)]
pub(crate) struct Reloader {
    asks: mpsc::Sender<Ask>,
}

impl Reloader {
    pub(crate) async fn reload_file(&self, who: &str) -> Result<ConfigStatus, Problem> {
        self.load(None, who).await
    }

    pub(crate) async fn reload_text(&self, text: String, who: &str) -> Result<ConfigStatus, Problem> {
        self.load(Some(text), who).await
    }

    async fn load(&self, text: Option<String>, who: &str) -> Result<ConfigStatus, Problem> {
        let (reply, answer) = oneshot::channel();
        let busy = || refused(StatusCode::SERVICE_UNAVAILABLE, "too many reloads wait", "wait for one to end, then try again");
        self.asks.try_send(Ask::Load { text, who: who.to_owned(), reply }).map_err(|_| busy())?;
        let leaving = |_| refused(StatusCode::SERVICE_UNAVAILABLE, "the hub is leaving", "its configuration no longer changes");
        answer.await.map(|status| ConfigStatus::clone(&status)).map_err(leaving)
    }

    /// Ends all changes; the drains of what listens. Empty when the task has ended.
    pub(crate) async fn leave(&self) -> Vec<Drain> {
        let (reply, answer) = oneshot::channel();
        if self.asks.send(Ask::Leave { reply }).await.is_err() {
            return Vec::new();
        }
        answer.await.unwrap_or_default()
    }
}

fn refused(status: StatusCode, title: &str, detail: &str) -> Problem {
    Problem { status: status.as_u16(), title: title.into(), detail: detail.into() }
}

/// The task's belongings.
pub(crate) struct ReloadTask {
    pub(crate) config: Config,
    /// Settings that the process was started with.
    pub(crate) started_with: HubSettings,
    pub(crate) control: Control,
    pub(crate) face: Arc<Face>,
    pub(crate) book: Arc<Book>,
    pub(crate) listeners: Listeners,
    pub(crate) shards: Shards,
    pub(crate) log: Option<LogHandle>,
    jwks: Jwks,
    /// The file's text when it was last read, so that a touched file changes nothing.
    pub(crate) seen: Option<String>,
    watch: Option<FileWatch>,
    asks: mpsc::Receiver<Ask>,
}

/// What the task starts with.
pub(crate) struct Start {
    pub(crate) config: Config,
    /// Its text as it was read.
    pub(crate) seen: Option<String>,
    pub(crate) settings: HubSettings,
    pub(crate) control: Control,
    pub(crate) face: Arc<Face>,
    pub(crate) book: Arc<Book>,
    pub(crate) shards: Shards,
    pub(crate) log: Option<LogHandle>,
    pub(crate) jwks: Jwks,
}

pub(crate) fn queue() -> (Reloader, Asks) {
    let (sender, asks) = mpsc::channel(QUEUE);
    (Reloader { asks: sender }, Asks(asks))
}

/// The far end of [`Reloader`].
pub(crate) struct Asks(mpsc::Receiver<Ask>);

impl ReloadTask {
    pub(crate) fn new(start: Start, listeners: Listeners, asks: Asks) -> Self {
        let Start { config, seen, settings, control, face, book, shards, log, jwks } = start;
        Self { config, started_with: settings, control, face, book, listeners, shards, log, jwks, seen, watch: None, asks: asks.0 }
    }

    /// Opens the first listeners, and begins to watch the files.
    pub(crate) async fn open(&mut self, plan: Plan) {
        self.listeners.carry_out(plan, &self.shards).await;
        self.face.set_listeners(self.listeners.status());
        if let Config::File(_) = self.config {
            self.watch = FileWatch::new()
                .inspect_err(|error| {
                    tracing::warn!(%error, "changes of the configuration file are not noticed; reload by SIGHUP or `figspanctl reload`");
                })
                .ok();
        }
        self.watch_files();
    }

    /// Serves until the hub leaves.
    pub(crate) async fn run(mut self) {
        loop {
            let ask = tokio::select! {
                ask = self.asks.recv() => ask,
                () = changed(&mut self.watch) => {
                    self.look().await;
                    continue;
                }
            };
            match ask {
                Some(Ask::Load { text, who, reply }) => {
                    self.load(text, &who).await;
                    // Whoever asked may have gone.
                    let _ = reply.send(self.face.config());
                }
                Some(Ask::Leave { reply }) => {
                    let _ = reply.send(self.listeners.drains());
                    return;
                }
                None => return,
            }
        }
    }

    fn watch_files(&mut self) {
        if let (Some(watch), Config::File(path)) = (&mut self.watch, &self.config) {
            let certificates = self.listeners.certificate_files();
            let pairs = certificates.iter().flat_map(|pair| [pair.certificate.as_path(), pair.key.as_path()]);
            watch.set_files(pairs.chain(self.jwks.files()).chain([path.as_path()]));
        }
    }

    /// Something beside the files has changed: looks whether it was the files.
    async fn look(&mut self) {
        if self.config.text() != self.seen {
            // A configuration that is refused keeps nothing else from being renewed.
            self.load(None, "file").await;
        }
        let errors = self.listeners.renew_certificates();
        for error in &errors {
            tracing::error!(%error, "certificates not replaced; those in use stay");
        }
        if !errors.is_empty() {
            self.record("certificates", "file", format!("certificates not replaced: {}", errors.join("; ")));
        }
        for Renewed { provider, wrong } in self.jwks.renew() {
            match wrong {
                None => {
                    tracing::info!(provider, "keys of tokens replaced");
                    self.record(&format!("jwt_provider {provider}"), "file", "keys replaced".to_owned());
                }
                Some(why) => {
                    tracing::error!(provider, %why, "keys of tokens not replaced; those in use stay");
                    self.record(&format!("jwt_provider {provider}"), "file", format!("keys not replaced: {why}"));
                }
            }
        }
        self.watch_files();
    }

    /// Loads the source, or a text in its place, which then is the source of hubs without a file.
    async fn load(&mut self, replacement: Option<String>, who: &str) {
        let replaced = replacement.is_some();
        let text = replacement.or_else(|| self.config.text());
        if !replaced {
            self.seen.clone_from(&text);
        }
        match self.try_load(text.as_deref()).await {
            Ok((warnings, generation)) => {
                for warning in &warnings {
                    tracing::warn!(warning, "configuration");
                }
                tracing::info!(file = self.config.name(), generation, who, "configuration loaded");
                self.record("configuration", who, format!("loaded; in force from generation {generation}"));
                self.face.config_loaded(self.config.name(), warnings);
                if let (Config::Text { text: own, .. }, Some(text)) = (&mut self.config, text) {
                    *own = text;
                }
            }
            Err(errors) => {
                for error in &errors {
                    tracing::error!(error, who, "configuration refused; the one before stays in force");
                }
                let first = errors.first().cloned().unwrap_or_default();
                self.record("configuration", who, format!("refused ({} errors), the one before stays in force: {first}", errors.len()));
                self.face.config_refused(errors);
            }
        }
        self.watch_files();
    }

    async fn try_load(&mut self, text: Option<&str>) -> Result<(Vec<String>, u64), Vec<String>> {
        // Nothing at all is a good configuration, for a hub without listeners; but what is seen here is a file in the making.
        if text.is_some_and(|text| text.trim().is_empty()) {
            return Err(vec![format!("{}: is empty, which would close every listener; write it whole", self.config.name())]);
        }
        let loaded = self.config.read(text).map_err(|errors| check::texts(&errors))?;
        let mut warnings = check::texts(&loaded.warnings);
        warnings.extend(needs_restart(&self.started_with, &loaded.settings));
        let routing: Arc<Routing> = loaded.routing.build(&self.book);
        let plan = self.listeners.plan(&routing.listeners, self.shards.len())?;
        let jwks = Jwks::new(&routing.jwt_providers);
        let generation = self.control.set_routing(routing).await.map_err(|problem| vec![problem.to_string()])?;
        // A new listener serves what its configuration says from its first connection on.
        self.control.wait_effective(generation, SPREAD).await;
        self.jwks = jwks;
        self.listeners.carry_out(plan, &self.shards).await;
        self.face.set_listeners(self.listeners.status());
        if let Some(log) = &self.log
            && let Err(error) = log.set(&loaded.settings.log.level, loaded.settings.log.access)
        {
            warnings.push(error.to_string());
        }
        self.book.sweep();
        Ok((warnings, generation))
    }

    fn record(&self, subject: &str, who: &str, message: String) {
        self.control.record_event(Event {
            number: 0,
            at: String::new(),
            kind: "config".into(),
            subject: subject.into(),
            who: who.into(),
            old: None,
            new: None,
            message,
        });
    }
}

async fn changed(watch: &mut Option<FileWatch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

/// A warning for each section that counts from the next start only.
fn needs_restart(now: &HubSettings, new: &HubSettings) -> Vec<String> {
    let sections = [
        ("hub", now.hub != Hub { zone: now.hub.zone.clone(), ..new.hub.clone() }),
        ("ca", now.ca != new.ca),
        ("tunnel", now.tunnel != new.tunnel),
        ("admin", now.admin != new.admin),
        ("metrics", now.metrics != new.metrics),
        ("log.format", now.log.format != new.log.format),
    ];
    let changed = sections.into_iter().filter(|(_, changed)| *changed);
    changed
        .map(|(section, _)| {
            format!("[{section}] has changed; that counts from the next start of the hub on: systemctl restart figspan-hub")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_need_a_restart_are_named() {
        let old = HubSettings::default();
        let mut new = old.clone();
        assert!(needs_restart(&old, &new).is_empty());
        new.log.level = "debug".into();
        assert!(needs_restart(&old, &new).is_empty(), "levels change at run time");
        new.hub.zone = Some("eu-1a".parse().unwrap());
        assert!(needs_restart(&old, &new).is_empty(), "so does the zone");
        new.hub.shards += 1;
        let warnings = needs_restart(&old, &new);
        assert!(warnings.len() == 1 && warnings[0].contains("[hub]") && warnings[0].contains("restart"), "{warnings:?}");
    }
}
