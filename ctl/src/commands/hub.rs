//! The hub itself: status, configuration, events, version.

use std::path::{Path, PathBuf};
use std::time::Duration;

use figspan_proto::admin::{CheckResult, ConfigStatus, Event, LogLevel, SetLogLevel, Status};
use http::Method;
use serde::Serialize;

use super::read;
use crate::args;
use crate::client::Client;
use crate::error::{CtlError, Exit};
use crate::show::hub;
use crate::terminal::{Format, Terminal};

/// Time between two looks of `events --follow`.
const EVERY: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 500 });

/// Most events asked for at once; the hub gives no more.
const EVENTS: usize = 1000;

/// Longest wait for the hub's version: `version` also serves where there is no hub.
const VERSION_TIME: Duration = Duration::from_secs(2);

pub(super) async fn status(client: &Client, terminal: &mut Terminal) -> Result<Exit, CtlError> {
    let status: Status = client.get("/v1/status").await?;
    terminal.show(&status, hub::status)?;
    Ok(Exit::Done)
}

pub(super) async fn events(client: &Client, terminal: &mut Terminal, wanted: args::Events) -> Result<Exit, CtlError> {
    let mut since = wanted.since.unwrap_or(0);
    loop {
        let mut events: Vec<Event> = client.get(&format!("/v1/events?since={since}&limit={EVENTS}")).await?;
        events.retain(|event| event.number > since);
        let missed = events.first().map_or(0, |first| first.number - since - 1);
        if missed > 0 {
            terminal.say(&format!("{missed} older events are not shown; the hub's audit file and log have them"));
        }
        if !wanted.follow {
            terminal.show(&events, |events| hub::events(events))?;
            return Ok(Exit::Done);
        }
        for event in &events {
            terminal.show_next(event, hub::event)?;
            since = since.max(event.number);
        }
        tokio::time::sleep(EVERY).await;
    }
}

pub(super) async fn check(client: &Client, terminal: &mut Terminal, file: &Path) -> Result<Exit, CtlError> {
    let mut result: CheckResult = client.send_text("/v1/check", "application/toml", read(file)?).await?;
    // The hub sees a text without a name.
    for finding in result.errors.iter_mut().chain(&mut result.warnings) {
        if let Some(rest) = finding.strip_prefix("request:") {
            *finding = format!("{}:{rest}", file.display());
        }
    }
    terminal.show(&result, hub::check)?;
    Ok(if result.errors.is_empty() { Exit::Done } else { Exit::Config })
}

pub(super) async fn reload(client: &Client, terminal: &mut Terminal, dry_run: bool) -> Result<Exit, CtlError> {
    if dry_run {
        let status: Status = client.get("/v1/status").await?;
        terminal.say(&format!("dry run: checking {}, loading nothing", status.config.file));
        return check(client, terminal, &PathBuf::from(status.config.file)).await;
    }
    let config: ConfigStatus = client.send(Method::POST, "/v1/reload", &()).await?;
    terminal.show(&config, hub::config)?;
    Ok(if config.errors.is_empty() { Exit::Done } else { Exit::Config })
}

pub(super) async fn log_level(client: &Client, terminal: &mut Terminal, wanted: args::LogLevel) -> Result<Exit, CtlError> {
    let args::LogLevel { level, time, target, back, reason } = wanted;
    let now: LogLevel = if level.is_some() || back {
        let body = SetLogLevel { level, target, seconds: time.as_secs(), reason };
        client.send(Method::POST, "/v1/log-level", &body).await?
    } else {
        client.get("/v1/log-level").await?
    };
    terminal.show(&now, hub::log_level)?;
    Ok(Exit::Done)
}

pub(super) async fn version(name: &str, client: &Client, terminal: &mut Terminal) -> Result<Exit, CtlError> {
    #[derive(Serialize)]
    struct Versions {
        client: &'static str,
        hub: Option<String>,
    }
    let status = tokio::time::timeout(VERSION_TIME, client.get::<Status>("/v1/status")).await;
    let hub = status.ok().and_then(Result::ok).map(|status| status.version);
    let versions = Versions { client: env!("CARGO_PKG_VERSION"), hub };
    let table = |versions: &Versions| match &versions.hub {
        Some(hub) => format!("{name} {}\nhub {hub}", versions.client),
        None => format!("{name} {}", versions.client),
    };
    terminal.show(&versions, table)?;
    if versions.hub.is_none() && terminal.format == Format::Table {
        terminal.say(&format!("hub at {}: no answer", client.target));
    }
    Ok(Exit::Done)
}
