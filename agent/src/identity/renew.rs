//! Renews the certificate over a live tunnel, and stops serving when it could not be. One that cannot be written is used all the
//! same, and written as soon as it can be.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use figspan_proto::join::IdentityRequest;
use figspan_tunnel::backoff::Backoff;
use figspan_tunnel::identity::IdentityError;
use figspan_tunnel::{Tunnel, exchange};

use super::schedule::Schedule;
use super::{Holder, HolderError};
use crate::advertise::unix_ms;

/// Longest sleep without a look at the clock, which people and NTP may move.
const LOOK: Duration = Duration::from_secs(30);
/// How long a hub may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// How often a certificate near its end is told of.
const WARN_EVERY: Duration = Duration::from_secs(600);

#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error("no tunnel is up")]
    NoTunnel,
    #[error("{0}")]
    Asking(String),
    #[error("the hub refused: {0}")]
    Refused(String),
    #[error("the hub did not answer within {ANSWER:?}")]
    Timeout,
    #[error(transparent)]
    Key(#[from] IdentityError),
    #[error(transparent)]
    Holder(#[from] HolderError),
}

/// Keeps the certificate fresh for ever; `tunnel` picks one that is up.
pub async fn keep(holder: Arc<Holder>, tunnel: impl Fn() -> Option<Tunnel>) {
    let mut warned: Option<SystemTime> = None;
    loop {
        let identity = holder.credentials.identity();
        let chain = identity.chain_pem();
        let schedule = Schedule::of(identity.not_before(), identity.not_after(), rand::random());
        let mut backoff = Backoff::new(schedule.backoff.0, schedule.backoff.1);
        holder.note(|renewal| renewal.due = Some(schedule.renew));
        let mut next = schedule.renew;
        keep_on_disk(&holder, true);
        // Until the certificate is another, by renewal or by another join.
        while holder.credentials.identity().chain_pem() == chain {
            keep_on_disk(&holder, false);
            let now = SystemTime::now();
            if now >= schedule.stop && holder.serving.send_if_modified(|serving| std::mem::replace(serving, false)) {
                tracing::error!(
                    "the certificate has expired and nothing is served any more; look at the clock, or ask for a new grant and run `figspan-agent join`"
                );
            }
            // A clock that was wrong and is right again brings the certificate back to life.
            if now < schedule.stop && holder.serving.send_if_modified(|serving| !std::mem::replace(serving, true)) {
                tracing::info!("the certificate is valid again");
            }
            if now >= next {
                match renew(&holder, &tunnel).await {
                    Ok(()) => {
                        holder.note(|renewal| {
                            renewal.done += 1;
                            renewal.error = None;
                        });
                        tracing::info!(until = %until(&holder), "certificate renewed, good until {}", until(&holder));
                        warned = None;
                        break;
                    }
                    Err(error) => {
                        let wait = backoff.next(rand::random());
                        next = now + wait;
                        holder.note(|renewal| {
                            renewal.due = Some(next);
                            renewal.error = Some(error.to_string());
                        });
                        tracing::debug!(%error, "certificate not renewed");
                        if now >= schedule.warn && warned.is_none_or(|at| now >= at + WARN_EVERY) {
                            warned = Some(now);
                            tracing::warn!(
                                %error,
                                "the certificate ends at {} and cannot be renewed: {error}; see `figspan-agent doctor`",
                                until(&holder)
                            );
                        }
                    }
                }
            }
            let wake = next.min(if now < schedule.stop { schedule.stop } else { now + LOOK });
            tokio::time::sleep(wake.duration_since(now).unwrap_or_default().clamp(Duration::from_millis(10), LOOK)).await;
        }
    }
}

async fn renew(holder: &Holder, tunnel: &impl Fn() -> Option<Tunnel>) -> Result<(), RenewError> {
    let tunnel = tunnel().ok_or(RenewError::NoTunnel)?;
    let csr = holder.key().csr()?;
    let ask = async {
        let stream = tunnel.open().await.map_err(|error| RenewError::Asking(error.to_string()))?;
        let question = IdentityRequest::Renew { csr, time_ms: unix_ms(SystemTime::now()) };
        let answer = exchange::ask(stream, question).await.map_err(|error| RenewError::Asking(error.to_string()))?;
        answer.map_err(|refused| RenewError::Refused(refused.message))
    };
    let issued = tokio::time::timeout(ANSWER, ask).await.unwrap_or(Err(RenewError::Timeout))?;
    Ok(holder.renewed(issued)?)
}

/// Writes the certificate in use where that is still to be done. `news`: tells it, if it cannot be.
fn keep_on_disk(holder: &Holder, news: bool) {
    match holder.save() {
        Ok(false) => {}
        Ok(true) if news => {}
        Ok(true) => {
            holder.note(|renewal| renewal.error = None);
            tracing::info!("the renewed certificate is kept on disk now");
        }
        Err(error) => {
            if news {
                tracing::error!(%error, "the renewed certificate is used, but cannot be kept: {error}; a restart would need the old one");
            }
            holder.note(|renewal| renewal.error = Some(format!("renewed, but not kept: {error}")));
        }
    }
}

fn until(holder: &Holder) -> String {
    humantime::format_rfc3339_seconds(holder.credentials.identity().not_after()).to_string()
}
