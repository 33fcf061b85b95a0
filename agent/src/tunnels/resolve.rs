//! Keeps one hub name's addresses up to date: asks again when they expire, and after failures to reach them.

use std::sync::Arc;
use std::time::Duration;

use figspan_tunnel::backoff::Backoff;
use figspan_tunnel::resolve::Resolver;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::Event;
use crate::settings::DEFAULT_HUB_PORT;

/// However often dials fail, names are not asked for more often than this.
const LEAST: Duration = Duration::from_secs(1);
/// Waits after a failed look-up.
const FLOOR: Duration = Duration::from_millis(500);
const CEILING: Duration = Duration::from_secs(30);

pub(super) async fn watch(hub: String, resolver: Resolver, again: Arc<Notify>, stop: CancellationToken, events: mpsc::Sender<Event>) {
    let mut backoff = Backoff::new(FLOOR, CEILING);
    let follow = async {
        loop {
            let (result, wait) = match resolver.lookup(&hub, DEFAULT_HUB_PORT).await {
                Ok(answer) if answer.addresses.is_empty() => (Err("it has no address".to_owned()), backoff.next(rand::random())),
                Ok(answer) => {
                    backoff.reset();
                    (Ok(answer.addresses), answer.valid_for)
                }
                Err(error) => (Err(error.to_string()), backoff.next(rand::random())),
            };
            let failed = result.is_err();
            if events.send(Event::Resolved(hub.clone(), result)).await.is_err() {
                return;
            }
            tokio::time::sleep(LEAST.min(wait)).await;
            tokio::select! {
                () = tokio::time::sleep(wait.saturating_sub(LEAST)) => {}
                () = again.notified(), if !failed => {}
            }
        }
    };
    tokio::select! {
        () = follow => {}
        () = stop.cancelled() => {}
    }
}
