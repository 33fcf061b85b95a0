//! Hop process -> **listener** -> call: one place where processes of this VM call a service.
//!
//! Opens it, or says why not and tries again; accepts, bounded by the service's limit. A new process of the agent gets the open
//! listener itself, so that a connection that the kernel has taken is lost by neither.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use figspan_proto::preamble::Kind;
use figspan_proto::preamble::call::Call;
use figspan_tunnel::backoff::Backoff;
use figspan_tunnel::drain::Drain;
use figspan_tunnel::splice::{Local, SpliceSettings, splice_local};
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::call::{self, Refusal};
use super::counts::Open;
use super::{Door, refuse};
use crate::settings::Listen;
use crate::tunnels::Tunnels;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 256;
/// First and longest wait before a listener that could not be opened is tried again.
const AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// Pause after an accept that failed for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// Processes beyond the limit that are answered at once; more are closed without a word.
const ANSWERED: usize = 64;

/// What a listener works with.
pub(super) struct Parts {
    pub(super) door: Arc<Door>,
    pub(super) tunnels: Arc<Tunnels>,
    pub(super) work: Drain,
    pub(super) life: Drain,
    pub(super) handed_over: CancellationToken,
}

/// An open listener.
#[derive(Debug)]
pub enum Listener {
    /// On an address.
    Tcp(TcpListener),
    /// On a Unix socket.
    Unix {
        /// The socket.
        listener: UnixListener,
        /// The file that leads to it.
        path: PathBuf,
        /// Which file that is.
        inode: u64,
    },
}

impl Listener {
    /// Opens one. A socket file on which nobody answers is a left-over and is replaced.
    pub fn open(listen: &Listen, mode: u32) -> io::Result<Self> {
        match listen {
            Listen::Tcp(address) => {
                let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
                socket.set_reuseaddr(true)?;
                socket.bind(*address)?;
                Ok(Self::Tcp(socket.listen(BACKLOG)?))
            }
            Listen::Unix(path) => unix(path, mode),
        }
    }

    /// Goes on with one that another process opened.
    pub fn adopt(listen: &Listen, own: OwnedFd) -> io::Result<Self> {
        match listen {
            Listen::Tcp(_) => {
                let listener = std::net::TcpListener::from(own);
                listener.set_nonblocking(true)?;
                Ok(Self::Tcp(TcpListener::from_std(listener)?))
            }
            Listen::Unix(path) => {
                let listener = std::os::unix::net::UnixListener::from(own);
                listener.set_nonblocking(true)?;
                let inode = std::fs::symlink_metadata(path)?.ino();
                Ok(Self::Unix { listener: UnixListener::from_std(listener)?, path: path.clone(), inode })
            }
        }
    }

    /// The same listener for another process.
    pub fn copy(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp(listener) => listener.as_fd().try_clone_to_owned(),
            Self::Unix { listener, .. } => listener.as_fd().try_clone_to_owned(),
        }
    }

    /// Its address, if it has one.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix { .. } => None,
        }
    }

    async fn accept(&self) -> io::Result<(Local, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (tcp, peer) = listener.accept().await?;
                // Nagle would hold small requests back; it is a matter of speed alone.
                let _ = tcp.set_nodelay(true);
                Ok((Local::Tcp(tcp), Some(peer)))
            }
            Self::Unix { listener, .. } => listener.accept().await.map(|(unix, _)| (Local::Unix(unix), None)),
        }
    }

    /// Removes the file that leads here, unless it leads elsewhere by now.
    fn remove(&self) {
        if let Self::Unix { path, inode, .. } = self
            && std::fs::symlink_metadata(path).is_ok_and(|meta| meta.ino() == *inode)
        {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn unix(path: &Path, mode: u32) -> io::Result<Listener> {
    if let Ok(meta) = std::fs::symlink_metadata(path) {
        if !meta.file_type().is_socket() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket is there"));
        }
        match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process answers there")),
            Err(_) => std::fs::remove_file(path)?,
        }
    }
    // Renamed into its place once it has its mode, so that nobody finds it with another.
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&beside)?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(mode))?;
    let inode = std::fs::symlink_metadata(&beside)?.ino();
    std::fs::rename(&beside, path)?;
    Ok(Listener::Unix { listener, path: path.to_owned(), inode })
}

/// Keeps a door open until it is closed, the agent ends, or another process has it.
pub(super) async fn run(parts: Parts, own: Option<OwnedFd>) {
    let ended = async {
        tokio::select! {
            () = parts.door.stop.cancelled() => End::Closed,
            () = parts.handed_over.cancelled() => End::HandedOver,
            // A lame duck serves on: it is told to close its doors by a stop.
            () = parts.work.stopping() => End::Closed,
            () = parts.life.stopping() => End::Closed,
        }
    };
    tokio::pin!(ended);
    let listener = tokio::select! {
        listener = opened(&parts.door, own) => listener,
        _ = &mut ended => return,
    };
    let places = Arc::new(Semaphore::new(ANSWERED));
    let end = tokio::select! {
        never = accept(&parts, &listener, &places) => match never {},
        end = &mut ended => end,
    };
    parts.door.state().listener = None;
    if end == End::Closed {
        listener.remove();
        // What the kernel has taken for us would be reset with the listener.
        while let Some(Ok((local, peer))) = futures_util::FutureExt::now_or_never(listener.accept()) {
            serve(&parts, local, peer, &places);
        }
    }
}

/// Why a door is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Closed,
    HandedOver,
}

/// Opens the door, however often that fails.
async fn opened(door: &Door, own: Option<OwnedFd>) -> Arc<Listener> {
    let service = door.settings.load_full();
    let mut own = own;
    let mut backoff = Backoff::new(AGAIN.0, AGAIN.1);
    loop {
        let opening = match own.take() {
            Some(own) => Listener::adopt(&service.listen, own),
            None => Listener::open(&service.listen, service.mode),
        };
        match opening {
            Ok(listener) => {
                let listener = Arc::new(listener);
                let mut state = door.state();
                (state.listener, state.error) = (Some(Arc::clone(&listener)), None);
                drop(state);
                let at = door.address();
                tracing::info!(service = %service.name, %at, "processes of this VM call service {} at {at}", service.name);
                if let Some(reason) = &service.allow_remote {
                    tracing::warn!(service = %service.name, %at, reason, "whoever reaches {at} calls service {} as this VM: {reason}", service.name);
                }
                return listener;
            }
            Err(error) => {
                let told = format!("cannot listen on {}: {error}; {}", service.listen, mend(&service.listen, &error));
                let new = door.state().error.as_ref() != Some(&told);
                if new {
                    tracing::error!(service = %service.name, "service {}: {told}", service.name);
                    door.state().error = Some(told);
                }
                tokio::time::sleep(backoff.next(rand::random())).await;
            }
        }
    }
}

fn mend(listen: &Listen, error: &io::Error) -> &'static str {
    match (error.kind(), listen) {
        (io::ErrorKind::AddrInUse, _) => "end the process that has it, or correct service.listen in agent.toml",
        (io::ErrorKind::PermissionDenied, Listen::Tcp(_)) => "ports below 1024 are not the agent's; choose another in agent.toml",
        (io::ErrorKind::AddrNotAvailable, _) => "this VM has no such address; correct service.listen in agent.toml",
        (_, Listen::Unix(_)) => "use a path below /run/figspan-agent, the only place where the unit may write sockets",
        _ => "correct service.listen in agent.toml",
    }
}

async fn accept(parts: &Parts, listener: &Listener, places: &Arc<Semaphore>) -> std::convert::Infallible {
    loop {
        match listener.accept().await {
            Ok((local, peer)) => serve(parts, local, peer, places),
            // The process gave up in the queue: nothing to wait for.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Serves one connection as a task of the agent's work.
fn serve(parts: &Parts, local: Local, client: Option<SocketAddr>, places: &Arc<Semaphore>) {
    let (door, tunnels, work) = (Arc::clone(&parts.door), Arc::clone(&parts.tunnels), parts.work.clone());
    let service = door.settings.load_full();
    let Some(open) = Open::enter(&door, service.max_connections) else {
        door.refuse(&Refusal::Limit);
        return match Arc::clone(places).try_acquire_owned() {
            Ok(place) => parts.work.spawn(async move {
                let _place = place;
                refuse::answer(local, service.protocol, &Refusal::Limit).await;
            }),
            Err(_) => {
                if let Local::Tcp(tcp) = &local {
                    refuse::reset(tcp);
                }
            }
        };
    };
    parts.work.spawn(async move {
        let _open = open;
        let carried = async {
            let wanted = Call { kind: service.protocol, service: service.name.clone(), client };
            match call::open(&tunnels, wanted, service.connect_timeout).await {
                Ok(stream) => {
                    door.taken();
                    carry(&door, local, stream, service.protocol, service.idle_timeout).await;
                }
                Err(refusal) => {
                    door.refuse(&refusal);
                    refuse::answer(local, service.protocol, &refusal).await;
                }
            }
        };
        tokio::select! {
            () = carried => {}
            // Dropped in the middle, a splice resets both of its sides.
            () = work.forced() => {}
        }
    });
}

async fn carry(door: &Door, local: Local, stream: figspan_tunnel::Stream, kind: Kind, idle: Option<Duration>) {
    use std::sync::atomic::Ordering::Relaxed;
    door.counts.taken.fetch_add(1, Relaxed);
    let spliced = splice_local(local, stream, &SpliceSettings { idle, kind }).await;
    door.counts.to_service.fetch_add(spliced.from_tcp, Relaxed);
    door.counts.from_service.fetch_add(spliced.to_tcp, Relaxed);
    if let Err(reset) = spliced.end {
        door.counts.fail(reset.reason.as_str());
        tracing::debug!(service = %door.settings.load().name, reason = reset.reason.as_str(), "connection ended early");
    }
}
