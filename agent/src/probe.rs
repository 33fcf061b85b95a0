//! Hop workload -> **probe** -> advertise: asks each workload how it is, and notes the answer.
//!
//! One task per uplink: a check at once, then one per interval, give or take a tenth, so that many agents do not knock in
//! step. When a verdict changes, one log line says what to do about it. A probe never decides about traffic: the hub does.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use figspan_probe::{CheckError, Judge, jittered};
use figspan_proto::control::{Health, plain};
use figspan_tunnel::resolve::Resolver;
use tokio_util::sync::CancellationToken;

use crate::connect::{self, ConnectError};
use crate::settings::{Check, Uplink};
use crate::uplinks::Uplinks;

/// Who asks, for the workload's log.
const AGENT: &str = concat!("figspan-agent/", env!("CARGO_PKG_VERSION"));

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The workload's answer, or none, on a connection.
    #[error(transparent)]
    Check(#[from] CheckError),
}

impl ProbeError {
    /// What to do about it, for the end of a log line.
    pub fn mend(&self, uplink: &Uplink) -> &'static str {
        match (self, &uplink.health.check) {
            (Self::Connect(_), _) => "start it, or correct uplink.address",
            (Self::Timeout(_), _) => "see why it is slow, or raise uplink.health.timeout",
            (Self::Check(CheckError::Status(_)), _) => "see its own log, or correct uplink.health.path and uplink.health.status",
            (Self::Check(CheckError::Http(_)), _) => "see whether it speaks HTTP/1.1 there, or set uplink.health.type to tcp",
            (Self::Check(CheckError::Grpc(_)), _) => "see whether it serves grpc.health.v1, or set uplink.health.type to tcp",
            (Self::Check(CheckError::NotServing(_)), _) => "see its own log, or correct uplink.health.service",
        }
    }
}

/// Checks once.
pub async fn check(uplink: &Uplink, resolver: &Resolver) -> Result<(), ProbeError> {
    let timeout = uplink.health.timeout;
    let ask = async {
        if uplink.health.check == Check::None {
            return Ok(());
        }
        let tcp = connect::connect(&uplink.address, timeout, resolver).await?;
        match &uplink.health.check {
            Check::None | Check::Tcp => Ok(()),
            Check::Http { path, host, status } => {
                let host = host.clone().unwrap_or_else(|| uplink.address.to_string());
                Ok(figspan_probe::http(tcp, path, &host, status, AGENT).await?)
            }
            Check::Grpc { service } => Ok(figspan_probe::grpc(tcp, &uplink.address.to_string(), service, AGENT).await?),
        }
    };
    // Boxed: the exchange is large and rare, the task that waits for the next one is small and always there.
    tokio::time::timeout(timeout, Box::pin(ask)).await.unwrap_or(Err(ProbeError::Timeout(timeout)))
}

/// Checks one uplink until `stop`; `file` is where its settings are mended.
pub async fn watch(uplink: Uplink, file: PathBuf, uplinks: Arc<Uplinks>, resolver: Resolver, stop: CancellationToken) {
    let name = &uplink.name;
    if uplink.health.check == Check::None {
        uplinks.set_health(name, Health::Ready, "");
        return;
    }
    let before = uplinks.advertised().entries.get(name).map_or(Health::Unknown, |entry| entry.health);
    let mut judge = Judge::new(before, uplink.health.rise, uplink.health.fall);
    loop {
        let result = tokio::select! {
            result = check(&uplink, &resolver) => result,
            () = stop.cancelled() => return,
        };
        let verdict = judge.record(result.is_ok());
        let reason = match (&result, judge.health()) {
            (Err(error), Health::Down) => plain(&error.to_string()),
            _ => String::new(),
        };
        // A down workload may find new reasons with every check; only a change of the verdict is worth a message.
        if let Some(health) = verdict {
            uplinks.set_health(name, health, &reason);
            told(&uplink, &file, health, &result);
        }
        tokio::select! {
            () = tokio::time::sleep(jittered(uplink.health.interval, rand::random())) => {}
            () = stop.cancelled() => return,
        }
    }
}

fn told(uplink: &Uplink, file: &Path, health: Health, result: &Result<(), ProbeError>) {
    let (name, address, file) = (&uplink.name, &uplink.address, file.display());
    match (health, result) {
        (Health::Down, Err(error @ ProbeError::Connect(why))) => {
            let mend = error.mend(uplink);
            tracing::warn!(uplink = %name, %address, "cannot reach workload {name} at {address}: {why}; {mend} in {file}");
        }
        (Health::Down, Err(error)) => {
            let mend = error.mend(uplink);
            tracing::warn!(uplink = %name, %address, "workload {name} at {address} is down: {error}; {mend} in {file}");
        }
        (Health::Ready, _) => tracing::info!(uplink = %name, %address, "workload {name} at {address} is ready"),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
