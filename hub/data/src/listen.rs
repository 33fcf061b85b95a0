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

use figspan_model::routing::{Listener, ListenerProtocol};
use figspan_tunnel::drain::Drain;
use figspan_tunnel::front_tls::FrontTls;
use tokio::net::{TcpListener, TcpStream};

use crate::admission::forwarded;
use crate::client::Client;
use crate::client::proxy::{self, ProxyHeader};
use crate::door::{Counted, Door};
use crate::inbound::socket::{Socket, reset_on_close};
use crate::inbound::{self, Serve, Spoken};
use crate::metrics::Limit;
use crate::shard::ShardRef;
use crate::tcp;

/// Pause after an error that accepting again would only repeat (no descriptors, no memory).
const PAUSE: Duration = Duration::from_millis(50);

/// How often a full shard looks whether a connection has ended.
const FULL: Duration = Duration::from_millis(10);

/// Serves a listening socket on this thread until `drain`, which owns its connections, stops. With `tls` the listener's
/// connections are HTTPS. They take the socket's options, of which `TCP_NODELAY` should be one.
pub fn serve(shard: ShardRef, listener: Arc<Listener>, socket: std::net::TcpListener, tls: Option<Arc<FrontTls>>, drain: Drain) {
    let open = Rc::new(Open { door: Door::new(&shard, &drain), listener, tls });
    drain.spawn_local(async move {
        let name = Arc::clone(&open.listener.name);
        if let Err(error) = accept(open, socket).await {
            tracing::error!(listener = %name, %error, "listener cannot accept connections; close and open it again, or restart the hub");
        }
    });
}

/// A listener on one shard.
struct Open {
    door: Rc<Door>,
    listener: Arc<Listener>,
    tls: Option<Arc<FrontTls>>,
}

async fn accept(open: Rc<Open>, socket: std::net::TcpListener) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let listener = TcpListener::from_std(socket)?;
    loop {
        tokio::select! {
            biased;
            () = open.door.drain.stopping() => break,
            () = room(&open.door) => {}
        }
        tokio::select! {
            biased;
            () = open.door.drain.stopping() => break,
            accepted = listener.accept() => match accepted {
                Ok((tcp, peer)) => admit(&open, tcp, peer),
                Err(error) => pause(&open, &error).await,
            }
        }
    }
    // Connections that the kernel has taken for us would be reset with the socket.
    let listener = listener.into_std()?;
    while let Ok((tcp, peer)) = listener.accept() {
        tcp.set_nonblocking(true)?;
        admit(&open, TcpStream::from_std(tcp)?, peer);
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

async fn pause(open: &Open, error: &io::Error) {
    // The client gave up in the backlog: nothing to wait for.
    if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted) {
        return;
    }
    tracing::warn!(listener = %open.listener.name, %error, "cannot accept a connection; raise LimitNOFILE= if descriptors are short");
    tokio::time::sleep(PAUSE).await;
}

fn admit(open: &Rc<Open>, tcp: TcpStream, peer: SocketAddr) {
    let counted = Counted::new(&open.door.shard);
    let drain = &open.door.drain;
    let open = Rc::clone(open);
    drain.spawn_local(async move {
        let _counted = counted;
        if let Err(error) = connection(open, tcp, peer).await {
            tracing::debug!(%peer, %error, "connection refused");
        }
    });
}

/// What not every connection goes through is boxed, so that none has to make room for it as long as it lives.
async fn connection(open: Rc<Open>, mut tcp: TcpStream, peer: SocketAddr) -> io::Result<()> {
    let local = tcp.local_addr()?;
    let door = &open.door;
    let proxied = match open.listener.accept_proxy_protocol {
        true => Some(Box::pin(proxied(door, &mut tcp, peer)).await.inspect_err(|_| reset_on_close(&tcp))?),
        false => None,
    };
    let client = Client::connected(Arc::clone(&open.listener.name), peer, local, proxied);
    match (&open.listener.protocol, &open.tls) {
        (ListenerProtocol::Tcp, _) => Box::pin(tcp::plain(&door.shard, &door.drain, tcp, client)).await,
        (ListenerProtocol::TlsPassthrough, _) => Box::pin(tcp::passthrough(&door.shard, &door.drain, tcp, client)).await,
        (ListenerProtocol::Http, None) => inbound::run(Socket::tcp(tcp), client, Spoken::Unknown, Rc::clone(door)).await,
        (_, Some(tls)) => Box::pin(secure(door, tls, tcp, client)).await?,
        (ListenerProtocol::Https { .. }, None) => return Err(io::Error::other("an HTTPS listener was opened without certificates")),
    }
    Ok(())
}

async fn proxied(door: &Door, tcp: &mut TcpStream, peer: SocketAddr) -> io::Result<ProxyHeader> {
    let (time, trusted) = {
        let routing = door.routing();
        (routing.limits.header_time, forwarded::is_trusted(peer.ip(), &routing.proxies))
    };
    if !trusted {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "this listener serves trusted proxies only; add the peer to proxies.trusted",
        ));
    }
    in_time(door, time, proxy::read(tcp)).await
}

async fn secure(door: &Rc<Door>, tls: &FrontTls, tcp: TcpStream, client: Client) -> io::Result<()> {
    let time = door.routing().limits.header_time;
    let tls = in_time(door, time, tls.accept(tcp)).await?;
    let spoken = if tls.h2 { Spoken::Http2 } else { Spoken::Http1 };
    let client = client.over_tls(tls.server_name);
    inbound::run(Socket::new(tls.io, |io| reset_on_close(io.get_ref().0)), client, spoken, Rc::clone(door)).await;
    Ok(())
}

/// What comes before a request has as much time as a head has.
async fn in_time<O>(door: &Door, time: Duration, work: impl Future<Output = io::Result<O>>) -> io::Result<O> {
    tokio::time::timeout(time, work).await.map_err(|_| {
        door.limited(Limit::HeaderTime);
        io::ErrorKind::TimedOut
    })?
}
