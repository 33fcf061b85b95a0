//! The hub, inside this process: the same library that the `figspan-hub` binary runs, with its log in a file.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use figspan_hub::{Config, Options, Running};

/// How long requests may go on when everything is taken down.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// A running hub; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Hub {
    running: Arc<Running>,
    metrics: SocketAddr,
}

impl Hub {
    /// Starts a hub from its file; its log goes beside the file.
    pub(crate) fn start(file: &Path) -> anyhow::Result<Self> {
        log_to(&file.with_file_name("hub.log"))?;
        let running = figspan_hub::Hub::start(Options::new(Config::File(file.to_owned())))?;
        let metrics = running.metrics_address().context("the hub serves no metrics, which the view needs")?;
        Ok(Self { running: Arc::new(running), metrics })
    }

    /// Where agents dial.
    pub(crate) fn tunnel(&self) -> SocketAddr {
        self.running.tunnel_address()
    }

    /// Where a listener is bound.
    pub(crate) fn listener(&self, name: &str) -> anyhow::Result<SocketAddr> {
        self.running.listener(name).with_context(|| format!("the hub has no listener {name}"))
    }

    /// Where its metrics are.
    pub(crate) const fn metrics(&self) -> SocketAddr {
        self.metrics
    }

    /// Ends when the hub cannot go on.
    pub(crate) async fn died(&self) -> anyhow::Error {
        match self.running.wait().await {
            Ok(()) => anyhow::anyhow!("the hub has ended"),
            Err(died) => died.into(),
        }
    }

    /// Drains and ends it.
    pub(crate) async fn stop(&self) {
        self.running.drain(DRAIN_TIME).await;
    }
}

/// The hub logs by `tracing`, as libraries do; standard error belongs to the view.
fn log_to(file: &Path) -> anyhow::Result<()> {
    let log = std::fs::File::options().create(true).append(true).open(file);
    let log = log.with_context(|| format!("cannot write {}", file.display()))?;
    // Without the access log: the load would fill the disk in the end.
    let filter = tracing_subscriber::EnvFilter::new("info,figspan::access=off");
    tracing_subscriber::fmt().with_writer(Mutex::new(log)).with_ansi(false).with_env_filter(filter).init();
    Ok(())
}
