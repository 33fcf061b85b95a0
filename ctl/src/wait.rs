//! Waiting for what the hub proves: a weight live on every shard, an uplink drained. Says what it waits for.
//!
//! A hub that does not answer for a moment (a restart) is waited for like everything else; a refusal ends the wait.

use std::time::{Duration, Instant};

use figspan_proto::admin::{DrainVerdict, Status};
use figspan_proto::name::{AgentName, UplinkName};
use indicatif::{ProgressBar, ProgressStyle};

use crate::client::{Client, segment};
use crate::error::CtlError;
use crate::terminal::Terminal;

/// Time between two questions: short beside a person's patience, long beside what an answer costs the hub.
const EVERY: Duration = Duration::from_millis(200);

/// Path of an uplink's drain verdict.
pub(crate) fn verdict_path(uplink: &UplinkName, agent: Option<&AgentName>) -> String {
    let agent = agent.map(|agent| format!("?agent={}", segment(agent.as_str()))).unwrap_or_default();
    format!("/v1/uplinks/{}/drain{agent}", segment(uplink.as_str()))
}

/// Waits until the verdict is `drained`.
pub(crate) async fn drained(
    client: &Client,
    terminal: &mut Terminal,
    uplink: &UplinkName,
    agent: Option<&AgentName>,
    timeout: Duration,
) -> Result<DrainVerdict, CtlError> {
    let path = verdict_path(uplink, agent);
    let on = agent.map(|agent| format!(" on {agent}")).unwrap_or_default();
    until(terminal, format!("{uplink}{on} is not drained"), timeout, async || {
        let verdict: DrainVerdict = client.get(&path).await?;
        Ok(if verdict.drained { Ok(verdict) } else { Err(waits_for(&verdict)) })
    })
    .await
}

/// Waits until every shard makes its choices with that generation or a later one; returns the replica that said so.
pub(crate) async fn live(client: &Client, terminal: &mut Terminal, generation: u64, timeout: Duration) -> Result<String, CtlError> {
    until(terminal, "the weight is not live on every shard".to_owned(), timeout, async || {
        let status: Status = client.get("/v1/status").await?;
        let behind = format!("shards of {} that still work with generation {}", status.replica, status.oldest_generation);
        Ok(if status.oldest_generation >= generation { Ok(status.replica) } else { Err(behind) })
    })
    .await
}

/// What keeps an uplink from being drained, in one line.
pub(crate) fn waits_for(verdict: &DrainVerdict) -> String {
    if verdict.waiting_for.is_empty() { "the hub's verdict".to_owned() } else { verdict.waiting_for.join(", ") }
}

/// Asks until there is an answer (`Ok`), showing what is waited for (`Err`) meanwhile.
async fn until<T>(
    terminal: &mut Terminal,
    unfinished: String,
    timeout: Duration,
    mut ask: impl AsyncFnMut() -> Result<Result<T, String>, CtlError>,
) -> Result<T, CtlError> {
    let began = Instant::now();
    let mut progress = Progress::new(terminal);
    loop {
        let waiting_for = match ask().await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(waiting_for)) => waiting_for,
            Err(error @ CtlError::Unreachable { .. }) => error.to_string(),
            Err(error) => return Err(error),
        };
        progress.show(&waiting_for);
        if began.elapsed() >= timeout {
            let after = humantime::format_duration(timeout).to_string();
            return Err(CtlError::TimedOut { after, what: unfinished, waiting_for });
        }
        tokio::time::sleep(EVERY.min(timeout.saturating_sub(began.elapsed()))).await;
    }
}

/// A spinner on a terminal, a line for each change elsewhere.
struct Progress<'a> {
    terminal: &'a mut Terminal,
    spinner: Option<ProgressBar>,
    last: String,
}

impl<'a> Progress<'a> {
    fn new(terminal: &'a mut Terminal) -> Self {
        let spinner = terminal.err_is_tty.then(|| {
            let style = ProgressStyle::with_template("{spinner} {elapsed:>4} waiting for {wide_msg}");
            let spinner = ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            spinner.enable_steady_tick(Duration::from_millis(100));
            spinner
        });
        Self { terminal, spinner, last: String::new() }
    }

    fn show(&mut self, waiting_for: &str) {
        let waiting_for = figspan_proto::control::plain(waiting_for);
        if waiting_for == self.last {
            return;
        }
        match &self.spinner {
            Some(spinner) => spinner.set_message(waiting_for.clone()),
            None => self.terminal.say(&format!("waiting for {waiting_for}")),
        }
        self.last = waiting_for;
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}
