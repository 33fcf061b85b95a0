//! Agents that come over TCP because UDP does not pass: accepted on any shard, named to be another's, and given to that one.
//!
//! Owns the listening sockets beside the UDP ones. The name in the ClientHello says which shard is meant; the handshake itself is
//! done there. Promises bounds on connections that have not proven anything, in number, per address and in time, and that a
//! connection without a certificate carries nothing for longer than a join takes.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use figspan_proto::ALPN_TCP;
use rustls::ServerConfig;
use rustls::server::{Accepted, Acceptor};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};

use super::MAX_SHARDS;
use crate::carrier::address::over_tcp;
use crate::carrier::link::{Link, TLS_BUFFER, carry, prepare};
use crate::carrier::socket::Links;
use crate::identity::Leaf;
use crate::tasks::{Starter, Tasks};
use crate::tls;
use crate::transport::HANDSHAKE_TIMEOUT;

/// Connections of a shard that have not finished their handshake. More are closed at once; agents come back with back-off.
pub const OPENING: usize = 256;

/// Of these, from one address. Many agents may share one behind a NAT.
pub const OPENING_OF_ADDRESS: usize = 64;

/// Connections of a shard that carry datagrams; each holds up to about 250 KiB.
pub const LINKS: usize = 4096;

/// Of these, of one agent: one per tunnel, and one that is being replaced.
pub const LINKS_OF_AGENT: usize = 8;

/// Of these, without a certificate.
pub const STRANGERS: usize = 64;

/// How long a connection without a certificate may last: a join is two handshakes and one question.
pub const STRANGER_LIFE: Duration = Duration::from_secs(20);

/// Connections that wait for their shard; more are closed.
const HANDED: usize = 64;

/// Connections that may wait in the kernel.
const BACKLOG: i32 = 1024;

/// Pause after a failed `accept` (no descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A shard's share of the TCP address: its listening socket, and the ways from and to the other shards.
#[derive(Debug)]
pub struct TcpShare {
    listener: TcpListener,
    shard: usize,
    given: mpsc::Receiver<Handed>,
    shards: Vec<mpsc::Sender<Handed>>,
}

/// A connection whose ClientHello has been read.
struct Handed {
    io: std::net::TcpStream,
    accepted: Accepted,
    remote: SocketAddr,
    until: Instant,
    counted: Counted,
}

/// Binds one TCP socket per shard to the same address, which is that of [`super::bind_shards`]. An address that another process
/// holds is an error, not a share.
pub fn bind_tcp(address: SocketAddr, shards: usize) -> io::Result<Vec<TcpShare>> {
    if shards == 0 || shards > MAX_SHARDS {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{shards} shards; between 1 and {MAX_SHARDS} are possible")));
    }
    // Without SO_REUSEPORT first: another process of the same user that listens with it would share our agents.
    if address.port() != 0 {
        bind_one(address, false)?;
    }
    let first = bind_one(address, true)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..shards {
        listeners.push(bind_one(address, true)?);
    }
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..shards).map(|_| mpsc::channel(HANDED)).unzip();
    let share = |(shard, (listener, given))| TcpShare { listener, shard, given, shards: senders.clone() };
    Ok(listeners.into_iter().zip(receivers).enumerate().map(share).collect())
}

fn bind_one(address: SocketAddr, listen: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // As for UDP: where the system insists on IPv6 only, IPv4 has a socket of its own.
        let _ = socket.set_only_v6(false);
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(listen)?;
    socket.bind(&address.into())?;
    if listen {
        socket.listen(BACKLOG)?;
    }
    Ok(socket.into())
}

/// Accepts connections for all shards and carries those for this one, on the current runtime, until the tasks end.
pub(super) fn serve(share: TcpShare, tls: Arc<ServerConfig>, links: Arc<Links>, tasks: &Tasks) -> io::Result<()> {
    let TcpShare { listener, shard, mut given, shards } = share;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let starter = tasks.starter();
    tasks.spawn(accept(listener, shards, starter.clone()));
    tasks.spawn(async move {
        while let Some(handed) = given.recv().await {
            let (tls, links) = (Arc::clone(&tls), Arc::clone(&links));
            starter.spawn(async move {
                let remote = handed.remote;
                if let Err(why) = take(handed, tls, links).await {
                    tracing::debug!(%remote, shard, %why, "a connection over TCP was refused");
                }
            });
        }
    });
    Ok(())
}

async fn accept(listener: tokio::net::TcpListener, shards: Vec<mpsc::Sender<Handed>>, starter: Starter) {
    let opening = Opening::default();
    loop {
        match listener.accept().await {
            Ok((io, remote)) => {
                // Dropped, the connection is closed.
                let Some(counted) = opening.count(remote.ip()) else { continue };
                let shards = shards.clone();
                starter.spawn(async move {
                    if let Err(why) = greet(io, remote, counted, &shards).await {
                        tracing::debug!(%remote, %why, "a connection over TCP was refused");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a tunnel's TCP connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Reads the ClientHello and hands the connection to the shard that it names.
async fn greet(io: TcpStream, remote: SocketAddr, counted: Counted, shards: &[mpsc::Sender<Handed>]) -> Result<(), String> {
    let until = Instant::now() + HANDSHAKE_TIMEOUT;
    prepare(&io).map_err(|error| error.to_string())?;
    let start = tokio::time::timeout_at(until, LazyConfigAcceptor::new(Acceptor::default(), io)).await;
    let start = start.map_err(|_| "no ClientHello came in time")?.map_err(|error| error.to_string())?;
    let shard = start.client_hello().server_name().and_then(tls::named_shard).ok_or("its ClientHello names no shard")?;
    let StartHandshake { accepted, io, .. } = start;
    let io = io.into_std().map_err(|error| error.to_string())?;
    let handed = Handed { io, accepted, remote, until, counted };
    shards[usize::from(shard) % shards.len()].try_send(handed).map_err(|_| "its shard has enough to do".to_owned())
}

/// Finishes the handshake and carries datagrams until the end.
async fn take(handed: Handed, tls: Arc<ServerConfig>, links: Arc<Links>) -> Result<(), String> {
    let Handed { io, accepted, remote, until, counted } = handed;
    let io = TcpStream::from_std(io).map_err(|error| error.to_string())?;
    let local = io.local_addr().map_err(|error| error.to_string())?.ip();
    let handshake = StartHandshake::from_parts(accepted, io).into_stream_with(tls, |tls| tls.set_buffer_limit(Some(TLS_BUFFER)));
    let io = tokio::time::timeout_at(until, handshake).await.map_err(|_| "its handshake took too long")?;
    let io = io.map_err(|error| tls::plain(&error.to_string()))?;
    drop(counted);
    let (_, session) = io.get_ref();
    if session.alpn_protocol() != Some(ALPN_TCP) {
        return Err("it asked for no protocol of ours".to_owned());
    }
    let leaf = session.peer_certificates().and_then(|chain| chain.first()).map(|leaf| Leaf::read(leaf));
    let peer = leaf.transpose().map_err(|error| error.to_string())?.map(|leaf| leaf.id);
    let stranger = peer.is_none();
    let link = Link::new(over_tcp(remote), Some(local), peer);
    if !links.add(&link, LINKS, if stranger { STRANGERS } else { LINKS_OF_AGENT }) {
        return Err("there are enough of its kind".to_owned());
    }
    let _listed = Listed(Arc::clone(&links), Arc::clone(&link));
    let carried = carry(link, Arc::clone(&links.arrivals), io);
    let ended = match stranger {
        true => tokio::time::timeout(STRANGER_LIFE, carried).await.unwrap_or_else(|_| "a join takes no longer".to_owned()),
        false => carried.await,
    };
    tracing::debug!(%remote, %ended, "a connection over TCP has ended");
    Ok(())
}

/// Takes a link out of the list when dropped.
struct Listed(Arc<Links>, Arc<Link>);

impl Drop for Listed {
    fn drop(&mut self) {
        self.0.remove(&self.1);
    }
}

/// Connections before the end of their handshake, by address.
#[derive(Debug, Clone, Default)]
struct Opening(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One of them.
#[derive(Debug)]
struct Counted(Opening, IpAddr);

impl Opening {
    fn count(&self, ip: IpAddr) -> Option<Counted> {
        let mut opening = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if opening.values().sum::<usize>() >= OPENING {
            return None;
        }
        let of_address = opening.entry(ip).or_default();
        if *of_address >= OPENING_OF_ADDRESS {
            return None;
        }
        *of_address += 1;
        Some(Counted(self.clone(), ip))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut opening = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = opening.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                opening.remove(&self.1);
            }
        }
    }
}

#[cfg(test)]
mod tests;
