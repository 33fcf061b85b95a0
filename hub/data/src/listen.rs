//! Hop `listen`: a shard's listening sockets, and what a connection goes through before its first request: limits, PROXY
//! protocol, TLS.
//!
//! Accepting pauses while the shard has as many connections as it may; clients then wait in the kernel's backlog, and other
//! shards are not concerned. A socket that is closed is emptied first: whoever was in its backlog is served, and asked to leave.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use figspan_model::routing::{Limits, Listener, ListenerProtocol, Proxies, Routing};
use figspan_tunnel::drain::Drain;
use figspan_tunnel::front_tls::FrontTls;
use tokio::net::{TcpListener, TcpStream};

use crate::admission::{Reject, forwarded};
use crate::client::{Client, proxy};
use crate::exchange::{Inbound, Outbound};
use crate::inbound::socket::{Socket, reset_on_close};
use crate::inbound::{self, Serve, Spoken};
use crate::metrics::{Limit, access};
use crate::shard::ShardRef;
use crate::{forward, tcp};

/// Pause after an error that accepting again would only repeat (no descriptors, no memory).
const PAUSE: Duration = Duration::from_millis(50);

/// How often a full shard looks whether a connection has ended.
const FULL: Duration = Duration::from_millis(10);

/// Serves a listening socket on this thread until `drain`, which owns its connections, stops. With `tls` the listener's
/// connections are HTTPS.
pub fn serve(shard: ShardRef, listener: Arc<Listener>, socket: std::net::TcpListener, tls: Option<Arc<FrontTls>>, drain: Drain) {
    let door = Rc::new(Door { shard, listener, tls, drain: drain.clone() });
    drain.spawn_local(async move {
        let name = Arc::clone(&door.listener.name);
        if let Err(error) = accept(door, socket).await {
            tracing::error!(listener = %name, %error, "listener cannot accept connections; close and open it again, or restart the hub");
        }
    });
}

/// A listener on one shard.
struct Door {
    shard: ShardRef,
    listener: Arc<Listener>,
    tls: Option<Arc<FrontTls>>,
    drain: Drain,
}

impl Serve for Door {
    fn routing(&self) -> Arc<Routing> {
        Arc::clone(&self.shard.snapshot().routing)
    }

    fn drain(&self) -> &Drain {
        &self.drain
    }

    fn refused(&self, client: &Client, reject: Reject) {
        refused(&self.shard, client, reject);
    }

    fn limited(&self, limit: Limit) {
        self.shard.metrics.limit_hit(limit);
    }

    async fn serve(&self, inbound: Inbound) -> Outbound {
        forward::serve(&self.shard, inbound).await
    }
}

/// Counts a request that was refused before it was one, and writes it down.
pub(crate) fn refused(shard: &ShardRef, client: &Client, reject: Reject) {
    access::refused(client, reject);
    shard.metrics.refusal(reject);
    let limit = match reject {
        Reject::HeadTooLarge | Reject::TargetTooLong => Limit::HeaderBytes,
        Reject::TooManyFields => Limit::HeaderCount,
        Reject::HeadTimeout => Limit::HeaderTime,
        _ => return,
    };
    shard.metrics.limit_hit(limit);
}

async fn accept(door: Rc<Door>, socket: std::net::TcpListener) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let listener = TcpListener::from_std(socket)?;
    loop {
        tokio::select! {
            biased;
            () = door.drain.stopping() => break,
            () = room(&door) => {}
        }
        tokio::select! {
            biased;
            () = door.drain.stopping() => break,
            accepted = listener.accept() => match accepted {
                Ok((tcp, peer)) => admit(&door, tcp, peer),
                Err(error) => pause(&door, &error).await,
            }
        }
    }
    // Connections that the kernel has taken for us would be reset with the socket.
    let listener = listener.into_std()?;
    while let Ok((tcp, peer)) = listener.accept() {
        tcp.set_nonblocking(true)?;
        admit(&door, TcpStream::from_std(tcp)?, peer);
    }
    Ok(())
}

/// Waits until the shard may have another connection.
async fn room(door: &Door) {
    let full = || door.shard.metrics.connections.value() >= door.shard.snapshot().routing.limits.connections as u64;
    if full() {
        door.shard.metrics.limit_hit(Limit::Connections);
        while full() {
            tokio::time::sleep(FULL).await;
        }
    }
}

async fn pause(door: &Door, error: &io::Error) {
    // The client gave up in the backlog: nothing to wait for.
    if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted) {
        return;
    }
    tracing::warn!(listener = %door.listener.name, %error, "cannot accept a connection; raise LimitNOFILE= if descriptors are short");
    tokio::time::sleep(PAUSE).await;
}

fn admit(door: &Rc<Door>, tcp: TcpStream, peer: SocketAddr) {
    let open = Counted::new(&door.shard);
    let door = Rc::clone(door);
    door.drain.clone().spawn_local(async move {
        let _open = open;
        if let Err(error) = connection(door, tcp, peer).await {
            tracing::debug!(%peer, %error, "connection refused");
        }
    });
}

/// A connection, as long as it counts.
pub(crate) struct Counted(ShardRef);

impl Counted {
    pub(crate) fn new(shard: &ShardRef) -> Self {
        shard.metrics.connections.add(1);
        shard.metrics.connections_total.add(1);
        Self(Rc::clone(shard))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.metrics.connections.sub(1);
    }
}

async fn connection(door: Rc<Door>, mut tcp: TcpStream, peer: SocketAddr) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let local = tcp.local_addr()?;
    let routing = door.routing();
    let (limits, proxies): (&Limits, &Proxies) = (&routing.limits, &routing.proxies);
    let mut proxied = None;
    if door.listener.accept_proxy_protocol {
        if !forwarded::is_trusted(peer.ip(), proxies) {
            reset_on_close(&tcp);
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "this listener serves trusted proxies only; add the peer to proxies.trusted",
            ));
        }
        match in_time(&door, limits, proxy::read(&mut tcp)).await {
            Ok(header) => proxied = Some(header),
            Err(error) => {
                reset_on_close(&tcp);
                return Err(error);
            }
        }
    }
    let client = Client::connected(Arc::clone(&door.listener.name), peer, local, proxied);
    match (&door.listener.protocol, &door.tls) {
        (ListenerProtocol::Tcp, _) => tcp::plain(&door.shard, &door.drain, tcp, client).await,
        (ListenerProtocol::TlsPassthrough, _) => tcp::passthrough(&door.shard, &door.drain, tcp, client).await,
        (ListenerProtocol::Http, None) => inbound::run(Socket::tcp(tcp), client, Spoken::Unknown, door).await,
        (_, Some(tls)) => {
            let tls = in_time(&door, limits, tls.accept(tcp)).await?;
            let spoken = if tls.h2 { Spoken::Http2 } else { Spoken::Http1 };
            let client = client.over_tls(tls.server_name);
            inbound::run(Socket::new(tls.io, |io| reset_on_close(io.get_ref().0)), client, spoken, door).await;
        }
        (ListenerProtocol::Https { .. }, None) => return Err(io::Error::other("an HTTPS listener was opened without certificates")),
    }
    Ok(())
}

/// What comes before a request has as much time as a head has.
async fn in_time<O>(door: &Door, limits: &Limits, work: impl Future<Output = io::Result<O>>) -> io::Result<O> {
    tokio::time::timeout(limits.header_time, work).await.map_err(|_| {
        door.limited(Limit::HeaderTime);
        io::ErrorKind::TimedOut
    })?
}
