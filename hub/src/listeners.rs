//! The hub's listening sockets: bound here, one per shard for each listener, served by the shards.
//!
//! A change is planned first, which binds what is new and reads certificates, and changes nothing that runs; then it is
//! carried out, which cannot fail. Listeners that stay keep their sockets and connections.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use figspan_model::routing::{Certificate, Listener, ListenerProtocol};
use figspan_proto::admin::ListenerStatus;
use figspan_tunnel::drain::Drain;
use figspan_tunnel::front_tls::{FrontTls, PemPair};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{mpsc, oneshot};

use crate::certificates;

/// Connections that may wait in the kernel for a shard; the kernel caps it at `net.core.somaxconn` (4096 by default).
const BACKLOG: i32 = 4096;

/// A socket for a shard to serve.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) listener: Arc<Listener>,
    pub(crate) socket: TcpListener,
    pub(crate) tls: Option<Arc<FrontTls>>,
    /// Stopped when the listener goes or the hub ends; owns the listener's connections on this shard.
    pub(crate) drain: Drain,
    /// Dropped when the shard serves the socket.
    pub(crate) taken: oneshot::Sender<()>,
}

/// The near ends to the shards, by which they are given sockets.
pub(crate) type Shards = Vec<mpsc::Sender<Opened>>;

/// What is open.
#[derive(Debug)]
pub(crate) struct Listeners {
    open: Vec<Open>,
}

#[derive(Debug)]
struct Open {
    listener: Arc<Listener>,
    address: SocketAddr,
    tls: Option<Tls>,
    /// One per shard.
    drains: Vec<Drain>,
}

#[derive(Debug, Clone)]
struct Tls {
    server: Arc<FrontTls>,
    pairs: Vec<PemPair>,
}

/// A change that was checked and can be carried out.
#[derive(Debug)]
pub(crate) struct Plan {
    next: Vec<Planned>,
}

#[derive(Debug)]
struct Planned {
    listener: Arc<Listener>,
    address: SocketAddr,
    tls: Option<(Vec<PemPair>, Arc<FrontTls>)>,
    /// Index of the open listener that goes on.
    kept: Option<usize>,
    /// One per shard, where the listener is new.
    sockets: Vec<TcpListener>,
}

impl Listeners {
    pub(crate) fn new() -> Self {
        Self { open: Vec::new() }
    }

    /// Binds what is new and reads certificates; all errors at once. Nothing that runs is touched.
    pub(crate) fn plan(&self, wanted: &[Arc<Listener>], shards: usize) -> Result<Plan, Vec<String>> {
        let mut errors = Vec::new();
        let mut next = Vec::new();
        for listener in wanted {
            let tls = match tls(&listener.protocol) {
                Ok(tls) => tls,
                Err(why) => {
                    errors.extend(why.into_iter().map(|why| format!("listener {}: {why}", listener.name)));
                    continue;
                }
            };
            let kept = self.open.iter().position(|open| goes_on(&open.listener, listener));
            let bound = match kept {
                Some(index) => Ok((self.open[index].address, Vec::new())),
                None => bind(listener.address, shards, self.open.iter().any(|open| open.address == listener.address)),
            };
            match bound {
                Ok((address, sockets)) => next.push(Planned { listener: Arc::clone(listener), address, tls, kept, sockets }),
                Err(error) => errors.push(format!(
                    "listener {}: cannot listen on {}: {error}; free the port, or change its address",
                    listener.name, listener.address
                )),
            }
        }
        if errors.is_empty() { Ok(Plan { next }) } else { Err(errors) }
    }

    /// Opens, keeps and closes as planned.
    pub(crate) async fn carry_out(&mut self, plan: Plan, shards: &Shards) {
        let mut old: Vec<Option<Open>> = self.open.drain(..).map(Some).collect();
        let mut open = Vec::new();
        for planned in plan.next {
            let kept = planned.kept.and_then(|index| old.get_mut(index)?.take());
            open.push(match kept {
                Some(mut kept) => {
                    kept.listener = planned.listener;
                    if let (Some(tls), Some((pairs, _))) = (&mut kept.tls, planned.tls) {
                        replace(tls, pairs, &kept.listener.name);
                    }
                    kept
                }
                None => start(planned, shards).await,
            });
        }
        for gone in old.into_iter().flatten() {
            tracing::info!(listener = %gone.listener.name, address = %gone.address, "listener closed");
            gone.drains.iter().for_each(Drain::stop);
        }
        self.open = open;
    }

    /// Reads the certificates again; new ones count for new handshakes. Returns what is wrong; what was stays then.
    pub(crate) fn renew_certificates(&mut self) -> Vec<String> {
        let mut errors = Vec::new();
        for open in &mut self.open {
            let (Some(tls_now), ListenerProtocol::Https { certificates }) = (&mut open.tls, &open.listener.protocol) else { continue };
            match load(certificates) {
                Ok((pairs, _)) => replace(tls_now, pairs, &open.listener.name),
                Err(why) => errors.extend(why.into_iter().map(|why| format!("listener {}: {why}", open.listener.name))),
            }
        }
        errors
    }

    /// Certificate files in use.
    pub(crate) fn certificate_files(&self) -> Vec<Certificate> {
        let of = |open: &Open| match &open.listener.protocol {
            ListenerProtocol::Https { certificates } => certificates.clone(),
            _ => Vec::new(),
        };
        self.open.iter().flat_map(of).collect()
    }

    /// What is bound where.
    pub(crate) fn status(&self) -> Vec<ListenerStatus> {
        let one = |open: &Open| ListenerStatus {
            name: open.listener.name.to_string(),
            protocol: word(&open.listener.protocol).to_owned(),
            address: open.address.to_string(),
        };
        self.open.iter().map(one).collect()
    }

    /// Drains of all listeners on all shards.
    pub(crate) fn drains(&self) -> Vec<Drain> {
        self.open.iter().flat_map(|open| open.drains.iter().cloned()).collect()
    }
}

async fn start(planned: Planned, shards: &Shards) -> Open {
    let Planned { listener, address, tls, sockets, .. } = planned;
    tracing::info!(listener = %listener.name, %address, protocol = word(&listener.protocol), "listener opened");
    let tls = tls.map(|(pairs, server)| Tls { server, pairs });
    let mut drains = Vec::new();
    let mut serving = Vec::new();
    for (socket, shard) in sockets.into_iter().zip(shards) {
        let drain = Drain::new();
        drains.push(drain.clone());
        let (taken, served) = oneshot::channel();
        serving.push(served);
        let tls = tls.as_ref().map(|tls| Arc::clone(&tls.server));
        let opened = Opened { listener: Arc::clone(&listener), socket, tls, drain, taken };
        // A shard that is gone takes the process with it; there is nobody to tell.
        let _ = shard.send(opened).await;
    }
    // A drain that came between opening and serving would find nothing to wait for, and leave the socket's backlog behind.
    futures_util::future::join_all(serving).await;
    Open { listener, address, tls, drains }
}

fn replace(tls: &mut Tls, pairs: Vec<PemPair>, listener: &str) {
    if certificates::same(&tls.pairs, &pairs) {
        return;
    }
    match tls.server.replace(&pairs) {
        Ok(()) => {
            tls.pairs = pairs;
            tracing::info!(listener, "certificates replaced");
        }
        Err(errors) => {
            for error in errors {
                tracing::error!(listener, %error, "certificates not replaced");
            }
        }
    }
}

type LoadedTls = (Vec<PemPair>, Arc<FrontTls>);

fn tls(protocol: &ListenerProtocol) -> Result<Option<LoadedTls>, Vec<String>> {
    match protocol {
        ListenerProtocol::Https { certificates } => load(certificates).map(Some),
        _ => Ok(None),
    }
}

fn load(certificates: &[Certificate]) -> Result<LoadedTls, Vec<String>> {
    let pairs = certificates::read(certificates)?;
    let server = certificates::server(&pairs)?;
    Ok((pairs, server))
}

/// Whether the open listener can go on as the wanted one: all but the certificates is the same.
fn goes_on(open: &Listener, wanted: &Listener) -> bool {
    open.name == wanted.name
        && open.address == wanted.address
        && open.accept_proxy_protocol == wanted.accept_proxy_protocol
        && std::mem::discriminant(&open.protocol) == std::mem::discriminant(&wanted.protocol)
}

/// The word of the file for it.
fn word(protocol: &ListenerProtocol) -> &'static str {
    match protocol {
        ListenerProtocol::Http => "HTTP",
        ListenerProtocol::Https { .. } => "HTTPS",
        ListenerProtocol::Tcp => "TCP",
        ListenerProtocol::TlsPassthrough => "TLS",
    }
}

/// One socket per shard on the same address; with port 0 the first one's port is everybody's. `ours`: a listener of this hub
/// has the address already, and hands over.
fn bind(address: SocketAddr, shards: usize, ours: bool) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    // Without SO_REUSEPORT first: otherwise another process of the same user that listens with it would share our clients.
    if address.port() != 0 && !ours {
        bind_one(address, false).map(drop)?;
    }
    let first = bind_one(address, true)?;
    let bound = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..shards {
        sockets.push(bind_one(bound, true)?);
    }
    Ok((bound, sockets))
}

fn bind_one(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    // Connections take it over from here, which saves each a call.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    if shared {
        socket.listen(BACKLOG)?;
    }
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn what_is_written_to_a_client_leaves_at_once() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (address, sockets) = bind(address.parse().unwrap(), 2, false).unwrap();
            // The kernel gives each connection to the socket that it likes.
            let _clients: Vec<_> = (0..8).map(|_| TcpStream::connect(address).unwrap()).collect();
            let accepted: Vec<_> = sockets.iter().flat_map(|socket| std::iter::from_fn(|| socket.accept().ok())).collect();
            assert_eq!(accepted.len(), 8);
            assert!(accepted.iter().all(|(connection, _)| connection.nodelay().unwrap()), "{address}");
        }
    }
}
