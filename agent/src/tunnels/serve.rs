//! One tunnel's whole life: dial, control stream, data streams, end.

use std::sync::Arc;
use std::time::Duration;

use figspan_proto::name::Role;
use figspan_proto::reset::Close;
use figspan_tunnel::agent::DialOptions;
use figspan_tunnel::{Closed, Tunnel, agent};
use tokio::sync::{mpsc, oneshot};

use super::plan::Dial;
use super::{Event, Keeper};
use crate::advertise::{Conversation, ConverseError, Heard, answer};

/// How long the hub may take to open the control stream.
const CONTROL_TIME: Duration = Duration::from_secs(10);
/// How long the last word may take to get out.
const GOODBYE: Duration = Duration::from_secs(1);

pub(super) async fn run(
    keeper: Arc<Keeper>,
    dial: Dial,
    options: DialOptions,
    events: mpsc::Sender<Event>,
    heard: mpsc::Sender<(u64, Heard)>,
) {
    let dialled = tokio::select! {
        dialled = agent::dial_with(dial.address, dial.shard, &keeper.identity.credentials, &options) => dialled,
        () = keeper.life.stopping() => return,
    };
    let tunnel = match dialled {
        Ok(tunnel) => tunnel,
        Err(error) => {
            let _ = events.send(Event::Failed { dial, answered: None, error: Some(error.to_string()) }).await;
            return;
        }
    };
    let (go_on, may_go_on) = oneshot::channel();
    if events.send(Event::Connected { dial, tunnel: tunnel.clone(), go_on }).await.is_err() || !may_go_on.await.unwrap_or(false) {
        tunnel.close(Close::Done);
        return;
    }
    let closed = serve(&keeper, &tunnel, heard).await;
    // The socket goes with this task, and the hub shall hear of the end rather than wait for silence.
    let _ = tokio::time::timeout(GOODBYE, tunnel.wait_idle()).await;
    let _ = events.send(Event::Closed { tunnel: tunnel.id(), closed }).await;
}

async fn serve(keeper: &Keeper, tunnel: &Tunnel, heard: mpsc::Sender<(u64, Heard)>) -> Closed {
    let control = async {
        match tokio::time::timeout(CONTROL_TIME, tunnel.accept()).await {
            Ok(Ok(stream)) => stream,
            // The tunnel is gone already; `closed` below says why.
            Ok(Err(_)) => std::future::pending().await,
            Err(_) => {
                tunnel.close(Close::Protocol);
                std::future::pending().await
            }
        }
    };
    let control = tokio::select! {
        stream = control => stream,
        closed = tunnel.closed() => return closed,
    };
    let Role::Hub(replica) = tunnel.peer().role.clone() else {
        tunnel.close(Close::Identity);
        return tunnel.closed().await;
    };
    let conversation = Conversation {
        tunnel: tunnel.id(),
        replica,
        instance: Arc::clone(&keeper.instance),
        zone: keeper.zone.clone(),
        uplinks: Arc::clone(&keeper.uplinks),
        work: keeper.work.clone(),
        drain_ms: u64::try_from(keeper.drain_time.as_millis()).unwrap_or(u64::MAX),
        heard,
    };
    let streams = async {
        while let Ok(stream) = tunnel.accept().await {
            keeper.receiver.take(stream);
        }
    };
    let ended = tokio::select! {
        Err(error) = answer(control, conversation) => Some(error),
        () = streams => None,
        _ = tunnel.closed() => None,
    };
    let Some(error) = ended else { return tunnel.closed().await };
    // A stream that ended because the tunnel did is no reason of ours.
    if tunnel.is_closed() {
        return tunnel.closed().await;
    }
    tunnel.close(close_for(&error));
    Closed { by_peer: false, close: None, detail: error.to_string() }
}

fn close_for(error: &ConverseError) -> Close {
    match error {
        ConverseError::Version { .. } => Close::Version,
        ConverseError::Redundant => Close::Done,
        ConverseError::Impostor { .. } => Close::Identity,
        ConverseError::Protocol(_) => Close::Protocol,
        ConverseError::Ended(_) => Close::Done,
    }
}
