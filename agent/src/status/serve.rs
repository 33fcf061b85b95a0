//! Serves the status as JSON and the metrics as text: HTTP/1.1 on a Unix socket, metrics also on a TCP address. On the socket alone, whose
//! file mode says who may, the log level can be asked for and changed.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use figspan_telemetry::LogHandle;
use figspan_tunnel::drain::Drain;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::either::Either;

use super::level::{self, LogLevel};
use super::{Status, metrics};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 128;
/// Connections at once; more wait.
const CONNECTIONS: usize = 16;
/// Longest question.
const MAX_BODY: usize = 4096;
/// How long one may last.
const CONNECTION_TIME: Duration = Duration::from_secs(30);

/// Where the status comes from; `None` once the agent is gone.
#[derive(Clone)]
pub struct Source {
    status: Arc<dyn Fn() -> Option<Status> + Send + Sync>,
    log: Arc<dyn Fn() -> Option<LogHandle> + Send + Sync>,
}

impl Source {
    /// A source that calls `status` for each request, and `log` for each that is about the log's level.
    pub fn new(
        status: impl Fn() -> Option<Status> + Send + Sync + 'static,
        log: impl Fn() -> Option<LogHandle> + Send + Sync + 'static,
    ) -> Self {
        Self { status: Arc::new(status), log: Arc::new(log) }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}

/// What to make of another process that answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bind {
    /// It is in the way.
    Alone,
    /// It makes way.
    Instead,
}

/// A Unix socket and the file that leads to it.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

/// Binds the socket, for its owner and group. A socket that nobody answers on is a left-over and is replaced.
pub fn bind(path: &Path, how: Bind) -> io::Result<Socket> {
    if how == Bind::Alone
        && let Ok(meta) = std::fs::symlink_metadata(path)
        && meta.file_type().is_socket()
    {
        match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process answers there")),
            Err(_) => std::fs::remove_file(path)?,
        }
    }
    // Renamed into its place, so that whoever asks finds one process or the other.
    let mut beside = path.as_os_str().to_owned();
    if how == Bind::Instead {
        beside.push(".new");
    }
    let beside = PathBuf::from(beside);
    if how == Bind::Instead {
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let listener = UnixListener::bind(&beside)?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o660))?;
    let inode = std::fs::symlink_metadata(&beside)?.ino();
    if how == Bind::Instead {
        std::fs::rename(&beside, path)?;
    }
    Ok(Socket { listener, path: path.to_owned(), inode })
}

/// Binds the address of the metrics. A process that makes way shares it for as long as it ends.
pub fn bind_tcp(address: SocketAddr, how: Bind) -> io::Result<TcpListener> {
    let socket = |shared: bool| {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(shared)?;
        socket.bind(address)?;
        io::Result::Ok(socket)
    };
    // Without sharing first: otherwise two agents by accident would answer in turns.
    if how == Bind::Alone && address.port() != 0 {
        drop(socket(false)?);
    }
    socket(true)?.listen(BACKLOG)
}

/// Serves on the Unix socket until the agent's life stops; then removes its file, unless another process's is there by now.
pub async fn on_socket(socket: Socket, source: Source, life: Drain) {
    let Socket { listener, path, inode } = socket;
    serve(Door::Unix(listener), source, life).await;
    if std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.ino() == inode) {
        let _ = std::fs::remove_file(path);
    }
}

/// Serves metrics on a TCP address until the agent's life stops.
pub async fn on_tcp(listener: TcpListener, source: Source, life: Drain) {
    serve(Door::Tcp(listener), source, life).await;
}

/// Where connections come in.
enum Door {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Door {
    async fn accept(&self) -> io::Result<Either<UnixStream, TcpStream>> {
        match self {
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Either::Left(stream)),
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Either::Right(stream)),
        }
    }
}

async fn serve(door: Door, source: Source, life: Drain) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let all = matches!(door, Door::Unix(_));
    loop {
        let connection = tokio::select! {
            connection = door.accept() => connection,
            () = life.stopping() => return,
        };
        let Ok(connection) = connection else {
            // Out of descriptors, most likely; trying again at once would only burn the processor.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (source, stop) = (source.clone(), life.clone());
        life.spawn(async move {
            let _place = place;
            let service = service_fn(move |request| {
                let source = source.clone();
                async move { Ok::<_, Infallible>(answer(request, &source, all).await) }
            });
            let serving = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(connection), service);
            tokio::select! {
                _ = tokio::time::timeout(CONNECTION_TIME, serving) => {}
                () = stop.stopping() => {}
            }
        });
    }
}

async fn answer(request: Request<Incoming>, source: &Source, all: bool) -> Response<Full<Bytes>> {
    if all && request.uri().path() == "/v1/log-level" {
        return log_level(request, source).await;
    }
    if request.method() != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "use GET\n".to_owned());
    }
    let known = matches!(request.uri().path(), "/metrics") || (all && request.uri().path() == "/v1/status");
    if !known {
        return text(
            StatusCode::NOT_FOUND,
            "text/plain",
            "there are /v1/status and /v1/log-level (on the Unix socket) and /metrics\n".to_owned(),
        );
    }
    let Some(status) = (source.status)() else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "the agent is ending\n".to_owned());
    };
    if request.uri().path() == "/metrics" {
        return text(StatusCode::OK, metrics::CONTENT_TYPE, metrics::render(&status));
    }
    json(&status)
}

/// Tells the level, or changes it.
async fn log_level(request: Request<Incoming>, source: &Source) -> Response<Full<Bytes>> {
    let Some(log) = (source.log)() else {
        return text(StatusCode::CONFLICT, "text/plain", "this agent's log belongs to the program that it is a part of\n".to_owned());
    };
    match *request.method() {
        Method::GET => json(&LogLevel::from(log.levels())),
        Method::POST => {
            let wrong = |why: String| text(StatusCode::BAD_REQUEST, "text/plain", why + "\n");
            let Ok(body) = Limited::new(request.into_body(), MAX_BODY).collect().await else {
                return wrong("the question cannot be read".to_owned());
            };
            match serde_json::from_slice(&body.to_bytes()) {
                Err(error) => wrong(error.to_string()),
                Ok(ask) => level::change(&log, &ask).map_or_else(|error| wrong(error.to_string()), |level| json(&level)),
            }
        }
        _ => text(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "use GET or POST\n".to_owned()),
    }
}

fn json(value: &impl serde::Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_string(value) {
        Ok(json) => text(StatusCode::OK, "application/json", json),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", format!("{error}\n")),
    }
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}
