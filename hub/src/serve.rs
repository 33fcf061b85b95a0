//! Serves a small HTTP/1.1 application of our own: the admin API, and metrics. Not on either path.
//!
//! Bounded in connections, head time, body time and answer time. Every connection is a task of the part's [`Drain`]; when
//! that stops, answers under way are finished and nothing new is read.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use figspan_proto::admin::Problem;
use figspan_tunnel::drain::Drain;
use figspan_tunnel::front_tls::FrontTls;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tower::ServiceExt;

use crate::problem::Refusal;

/// Connections at once. Operators and scrapers are few; more wait in the kernel's backlog.
const CONNECTIONS: usize = 128;

/// Time for a head, and for a kept-alive connection to idle.
const HEAD_TIME: Duration = Duration::from_secs(15);

/// Time for a request's body and our answer. The slowest answer is a drain verdict, about a second.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// Time for a TLS handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// Pause after a failed `accept` (no descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who is at the other end of a connection; every request carries it as an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A process on this machine, by the kernel's word.
    Local {
        /// Its user.
        uid: u32,
    },
    /// Somebody on the network.
    Remote(SocketAddr),
}

/// Serves on a Unix socket until drain stops. Cancel-safe.
pub(crate) async fn unix(listener: UnixListener, app: Router, drain: Drain) {
    let limit = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&limit).acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = drain.stopping() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((io, _)) => {
                let Ok(credentials) = io.peer_cred() else { continue };
                let peer = Peer::Local { uid: credentials.uid() };
                let (app, task) = (app.clone(), drain.clone());
                drain.spawn(async move {
                    connection(io, app, peer, task).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept an admin connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves on TCP, inside TLS where given, until drain stops. Cancel-safe.
pub(crate) async fn tcp(listener: TcpListener, tls: Option<Arc<FrontTls>>, app: Router, drain: Drain) {
    let limit = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&limit).acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = drain.stopping() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((io, address)) => {
                let (app, task, tls) = (app.clone(), drain.clone(), tls.clone());
                drain.spawn(async move {
                    let peer = Peer::Remote(address);
                    match tls {
                        None => connection(io, app, peer, task).await,
                        Some(tls) => match tokio::time::timeout(HANDSHAKE_TIME, tls.accept(io)).await {
                            Ok(Ok(stream)) => connection(stream.io, app, peer, task).await,
                            Ok(Err(error)) => tracing::debug!(%address, %error, "TLS handshake failed"),
                            Err(_) => tracing::debug!(%address, "TLS handshake took too long"),
                        },
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection<I>(io: I, app: Router, peer: Peer, drain: Drain)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| answer(app.clone(), peer, request));
    let connection =
        http1::Builder::new().timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).serve_connection(TokioIo::new(io), service);
    let mut connection = std::pin::pin!(connection);
    let mut stopping = false;
    loop {
        tokio::select! {
            // A broken connection of an operator is the operator's to notice.
            _ = connection.as_mut() => return,
            () = drain.forced() => return,
            () = drain.stopping(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn answer(app: Router, peer: Peer, request: Request<Incoming>) -> Result<Response, Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(peer);
    match tokio::time::timeout(ANSWER_TIME, app.oneshot(request)).await {
        Ok(response) => response,
        Err(_) => Ok(Refusal(Problem {
            status: 504,
            title: "no answer in time".into(),
            detail: format!("the hub did not finish within {} s; look at its log, then try again", ANSWER_TIME.as_secs()),
        })
        .into_response()),
    }
}
