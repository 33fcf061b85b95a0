//! The control thread: control itself, the admin API, metrics, and reloads, on one runtime away from the shards.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use axum::Router;
use figspan_control::{Control, ControlConfig};
use figspan_tunnel::drain::Drain;
use figspan_tunnel::front_tls::FrontTls;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::admin::listen::Ears;
use crate::admin::{self, Admin};
use crate::checks::Checks;
use crate::listeners::Plan;
use crate::reload::ReloadTask;
use crate::serve;

/// What the thread needs before anything else.
pub(crate) struct ControlStart {
    pub(crate) config: ControlConfig,
    /// Told once: control runs, or why not.
    pub(crate) started: SyncSender<Result<Control, String>>,
    /// What to serve, once the shards run too. Dropped: the start has failed.
    pub(crate) serve: oneshot::Receiver<ServeStart>,
    /// Ends the thread, after drain.
    pub(crate) end: CancellationToken,
}

/// What the thread serves.
pub(crate) struct ServeStart {
    pub(crate) admin: Admin,
    pub(crate) ears: Ears,
    pub(crate) metrics: Option<TcpListener>,
    pub(crate) metrics_app: Router,
    pub(crate) reload: ReloadTask,
    /// Checks of services.
    pub(crate) checks: Checks,
    /// The listeners to open first.
    pub(crate) plan: Plan,
    /// Told once, when they are open.
    pub(crate) listening: SyncSender<Result<(), String>>,
    /// Owns the connections of admin and metrics.
    pub(crate) drain: Drain,
}

/// The thread's whole life.
pub(crate) fn run(start: ControlStart) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = start.started.send(Err(format!("control: no runtime: {error}")));
            return;
        }
    };
    runtime.block_on(live(start));
    runtime.shutdown_background();
}

async fn live(start: ControlStart) {
    let ControlStart { config, started, serve, end } = start;
    match Control::start(config) {
        Ok(control) => {
            let _ = started.send(Ok(control));
        }
        Err(error) => {
            let _ = started.send(Err(error.to_string()));
            return end.cancelled().await;
        }
    }
    let Ok(ServeStart { admin, ears, metrics, metrics_app, mut reload, checks, plan, listening, drain }) = serve.await else {
        return end.cancelled().await;
    };
    reload.open(plan).await;
    let _ = listening.send(Ok(()));
    let Ears { socket, file: _file, tcp } = ears;
    let app = admin::router(admin);
    tokio::select! {
        () = end.cancelled() => {}
        // These end when drain stops; the thread stays for control's own tasks.
        () = forever(serve_unix(socket, app.clone(), drain.clone())) => {}
        () = forever(serve_admin_tcp(tcp, app, drain.clone())) => {}
        () = forever(serve_tcp(metrics, None, metrics_app, drain.clone())) => {}
        () = forever(reload.run()) => {}
        () = forever(checks.run()) => {}
    }
}

async fn forever(part: impl Future<Output = ()>) {
    part.await;
    std::future::pending().await
}

async fn serve_unix(socket: std::os::unix::net::UnixListener, app: Router, drain: Drain) {
    match tokio::net::UnixListener::from_std(socket) {
        Ok(listener) => serve::unix(listener, app, drain).await,
        Err(error) => tracing::error!(%error, "the admin socket cannot be served"),
    }
}

async fn serve_admin_tcp(tcp: Option<admin::listen::Tcp>, app: Router, drain: Drain) {
    if let Some(tcp) = tcp {
        let app = admin::listen::guarded(app, tcp.token);
        serve_tcp(Some(tcp.listener), tcp.tls, app, drain).await;
    }
}

async fn serve_tcp(listener: Option<TcpListener>, tls: Option<Arc<FrontTls>>, app: Router, drain: Drain) {
    let Some(listener) = listener else { return };
    match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => serve::tcp(listener, tls, app, drain).await,
        Err(error) => tracing::error!(%error, "a socket cannot be served"),
    }
}
