//! A shard: one thread with its own sockets, its own QUIC endpoint and its own pools. Shares nothing on the request path.
//!
//! Owns the thread and what runs directly on it: accepting tunnels, serving the listeners it is given, following the snapshot.
//! A panic in any of these ends the thread, and with it the process: a hub is whole or gone. Connections are tasks, and a
//! panic in one of those ends that connection alone.

use std::net::UdpSocket;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use figspan_control::Control;
use figspan_data::metrics::Metrics;
use figspan_data::seal::Sealer;
use figspan_data::shard::{ShardContext, ShardRef};
use figspan_model::snapshot::Reader;
use figspan_model::state::{Board, Book};
use figspan_proto::reset::Close;
use figspan_tunnel::drain::Drain;
use figspan_tunnel::hub::tcp::TcpShare;
use figspan_tunnel::hub::{Established, HubConfig, HubEndpoint, Incoming};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;

use crate::agent_streams;
use crate::face::Face;
use crate::listeners::Opened;

/// Handshakes at once. Ten thousand agents that come back together are served in the order in which they knock; QUIC holds
/// and, under load, turns away those who wait.
const HANDSHAKES: usize = 256;

/// Time for closed tunnels to say so to their peers.
const FAREWELL: Duration = Duration::from_secs(1);

/// How often a shard shows that it lives.
const BEAT: Duration = Duration::from_secs(1);

/// Sockets that may wait to be served.
pub(crate) const SOCKETS: usize = 64;

/// What a shard is started with.
pub(crate) struct ShardStart {
    pub(crate) shard: usize,
    pub(crate) udp: UdpSocket,
    /// Its share of the TCP port, if that is served.
    pub(crate) tcp: Option<TcpShare>,
    pub(crate) endpoint: HubConfig,
    pub(crate) control: Control,
    pub(crate) reader: Reader,
    pub(crate) board: Arc<Board>,
    pub(crate) book: Arc<Book>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) face: Arc<Face>,
    /// For session cookies.
    pub(crate) sessions: Arc<Sealer>,
    /// Owns the shard's connections and requests.
    pub(crate) drain: Drain,
    /// Sockets to serve.
    pub(crate) sockets: mpsc::Receiver<Opened>,
    /// Ends the thread, after drain.
    pub(crate) end: CancellationToken,
    /// Told once, when the shard serves or cannot.
    pub(crate) started: SyncSender<Result<(), String>>,
}

/// The thread's whole life.
pub(crate) fn run(start: ShardStart) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = start.started.send(Err(format!("shard {}: no runtime: {error}", start.shard)));
            return;
        }
    };
    // A task like all others: the set's own future would be looked at again whenever any of them is woken.
    let tasks = LocalSet::new();
    let life = tasks.spawn_local(serve(start));
    if let Err(error) = tasks.block_on(&runtime, life)
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
    // Tasks that did not end in time are cut here and not waited for.
    runtime.shutdown_background();
}

async fn serve(start: ShardStart) {
    let ShardStart { shard, udp, tcp, endpoint, control, reader, board, book, metrics, face, sessions, drain, sockets, end, started } =
        start;
    let endpoint = HubEndpoint::local(udp, endpoint).and_then(|endpoint| match tcp {
        Some(share) => endpoint.listen_tcp(share).map(|()| endpoint),
        None => Ok(endpoint),
    });
    let endpoint = match endpoint {
        Ok(endpoint) => endpoint,
        Err(error) => {
            let _ = started.send(Err(format!("shard {shard}: no endpoint for tunnels: {error}")));
            return end.cancelled().await;
        }
    };
    // Ends with the thread: tunnels end when their agents go, or when the endpoint closes.
    let streams = Drain::new();
    let context: ShardRef = Rc::new(ShardContext::new(shard, reader, board, book, metrics, drain).with_sessions(sessions));
    face.shard_is_up(endpoint.moved());
    let _ = started.send(Ok(()));
    tokio::select! {
        () = end.cancelled() => {}
        () = accept(&endpoint, &context, &control, &streams) => {}
        () = listen(&context, sockets) => {}
        () = context.follow() => {}
        () = beat(&face, shard) => {}
    }
    endpoint.close(Close::Leaving);
    let _ = tokio::time::timeout(FAREWELL, endpoint.wait_idle()).await;
}

/// Accepts tunnels and joining VMs, and hands them to control. Never ends by itself.
async fn accept(endpoint: &HubEndpoint, context: &ShardRef, control: &Control, streams: &Drain) {
    let mut handshakes = FuturesUnordered::new();
    loop {
        tokio::select! {
            incoming = endpoint.accept(), if handshakes.len() < HANDSHAKES => match incoming {
                Some(incoming) => handshakes.push(establish(incoming, context, control, streams)),
                None => return std::future::pending().await,
            },
            Some(()) = handshakes.next() => {}
        }
    }
}

async fn establish(incoming: Incoming, context: &ShardRef, control: &Control, streams: &Drain) {
    let (remote, shard) = (incoming.remote_address(), context.shard);
    match incoming.establish().await {
        Ok(established) => {
            if let Established::Tunnel(tunnel) = &established {
                streams.spawn_local(agent_streams::serve(Rc::clone(context), control.clone(), tunnel.clone(), streams.clone()));
            }
            control.adopt(shard, established).await;
        }
        Err(error) => tracing::warn!(%remote, shard, %error, "handshake failed"),
    }
}

/// Serves the sockets that control opens.
async fn listen(context: &ShardRef, mut sockets: mpsc::Receiver<Opened>) {
    while let Some(opened) = sockets.recv().await {
        let Opened { listener, socket, tls, drain, taken } = opened;
        figspan_data::listen::serve(Rc::clone(context), listener, socket, tls, drain);
        drop(taken);
    }
    // Control has ended: what is open stays open until the shard is told to end.
    std::future::pending().await
}

/// Shows that the thread still turns.
async fn beat(face: &Face, shard: usize) {
    let mut every = tokio::time::interval(BEAT);
    loop {
        every.tick().await;
        face.beat(shard);
    }
}
