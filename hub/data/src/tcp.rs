//! Hop `tcp`: connections whose bytes are not looked into: plain TCP, and TLS that ends at the workload.
//!
//! A connection is tried elsewhere as long as nothing of it can have reached a workload: an agent says only after the client's
//! first bytes whether its workload took the connection, so those bytes are kept until the workload has answered or they
//! are too many. As long as nothing of the client was sent, a tunnel that is lost or silent is left for another. A connection that
//! fails is reset, never closed as if it had ended well.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use figspan_model::routing::StreamRoute;
use figspan_proto::preamble::Kind;
use figspan_tunnel::drain::Drain;
use figspan_tunnel::splice::{SpliceSettings, Spliced, splice_client, splice_tcp};
use figspan_tunnel::{Stream, StreamError, Tunnel, front_tls};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::client::Client;
use crate::dial::SILENCE_CHECK;
use crate::dial::io::Io;
use crate::forward::splice::splice;
use crate::forward::stream::Connecting;
use crate::forward::{Connected, websocket};
use crate::inbound::socket::{close_in_order, reset_on_close};
use crate::metrics::access::{self, Outcome};
use crate::reply::Failure;
use crate::route;
use crate::shard::ShardRef;

/// Bytes of a client that are kept for another try. A ClientHello, a login, a first query; more counts as under way.
pub const KEPT: usize = 16 * 1024;

/// TLS alert: fatal, unrecognized_name (RFC 6066, section 3).
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Why a connection of a TLS listener is refused that does not begin as TLS does, or not in time.
const NO_CLIENT_HELLO: &str = "no-client-hello";

/// Serves a connection of a TCP listener.
pub async fn plain(shard: &ShardRef, drain: &Drain, tcp: TcpStream, client: Client) {
    let snapshot = shard.snapshot();
    match route::tcp(&snapshot, &client.listener).cloned() {
        Some(route) => serve(shard, drain, tcp, Bytes::new(), &route, &client).await,
        None => {
            shard.metrics.failure(Failure::NoRoute);
            refuse(shard, &client, Failure::NoRoute.as_str());
            reset_on_close(&tcp);
        }
    }
}

/// Serves a connection of a TLS-passthrough listener, by the server name of its ClientHello.
pub async fn passthrough(shard: &ShardRef, drain: &Drain, mut tcp: TcpStream, client: Client) {
    let snapshot = shard.snapshot();
    let hello = tokio::time::timeout(snapshot.routing.limits.header_time, front_tls::client_hello(&mut tcp)).await;
    let (server_name, first) = match hello {
        Ok(Ok(hello)) => hello,
        Ok(Err(error)) => {
            tracing::debug!(peer = %client.peer, listener = %client.listener, %error, "no ClientHello; connection reset");
            refuse(shard, &client, NO_CLIENT_HELLO);
            return reset_on_close(&tcp);
        }
        Err(_) => {
            refuse(shard, &client, NO_CLIENT_HELLO);
            return reset_on_close(&tcp);
        }
    };
    match route::tls(&snapshot, &client.listener, server_name.as_deref()).cloned() {
        Some(route) => {
            let client = Client { server_name: server_name.map(Arc::from), ..client };
            serve(shard, drain, tcp, first, &route, &client).await;
        }
        None => {
            shard.metrics.failure(Failure::NoRoute);
            let client = Client { server_name: server_name.map(Arc::from), ..client };
            refuse(shard, &client, Failure::NoRoute.as_str());
            // The client may be gone; then nobody misses the alert.
            let _ = tcp.write_all(&UNRECOGNIZED_NAME).await;
            let _ = tcp.shutdown().await;
        }
    }
}

async fn serve(shard: &ShardRef, drain: &Drain, tcp: TcpStream, first: Bytes, route: &StreamRoute, client: &Client) {
    shard.metrics.streams.add(1);
    shard.metrics.in_flight.add(1);
    let started = Instant::now();
    let mut search = Connecting::new(shard, route, client);
    // Dropped in the middle, a splice resets both of its sides; how much it had moved is then not known.
    let ended = tokio::select! {
        ended = carry(&mut search, tcp, first, route.timeouts.idle) => ended,
        () = drain.forced() => Ended::failed(Failure::HubDeadline),
    };
    record(shard, client, &route.name, &search, started, &ended);
}

/// Counts a connection that has ended, and writes it down.
pub(crate) fn record(shard: &ShardRef, client: &Client, route: &str, search: &Connecting<'_>, started: Instant, ended: &Ended) {
    shard.metrics.in_flight.sub(1);
    shard.metrics.bytes_in.add(ended.received);
    shard.metrics.bytes_out.add(ended.sent);
    if let Some(failure) = ended.failure {
        shard.metrics.failure(failure);
    }
    if access::enabled() {
        let (backend, endpoint) = search.place().map_or(("", "".into()), |place| (place.backend(), place.label()));
        let outcome = Outcome {
            status: 0,
            route,
            backend,
            endpoint: &endpoint,
            attempts: search.attempts(),
            duration: started.elapsed(),
            received: ended.received,
            sent: ended.sent,
            failure: ended.failure,
        };
        access::connection(client, &outcome);
    }
}

/// What came of a connection.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// Bytes from the client.
    pub(crate) received: u64,
    /// Bytes to the client.
    pub(crate) sent: u64,
    /// Why it did not end well.
    pub(crate) failure: Option<Failure>,
}

impl Ended {
    /// Failed, with nothing that is known of its bytes.
    pub(crate) fn failed(failure: Failure) -> Self {
        Self { failure: Some(failure), ..Self::default() }
    }

    /// Refused before a byte was moved; the client sees a reset.
    fn refused(tcp: &TcpStream, failure: Failure) -> Self {
        reset_on_close(tcp);
        Self::failed(failure)
    }
}

impl From<Spliced> for Ended {
    fn from(spliced: Spliced) -> Self {
        let failure = spliced.end.err().map(|reset| Failure::of_reset(reset.reason));
        Self { received: spliced.from_tcp, sent: spliced.to_tcp, failure }
    }
}

async fn carry(search: &mut Connecting<'_>, mut tcp: TcpStream, first: Bytes, idle: Option<Duration>) -> Ended {
    let settings = SpliceSettings { idle, kind: Kind::Tcp };
    let mut kept = BytesMut::from(&first[..]);
    loop {
        match search.next().await {
            Err(failure) => return Ended::refused(&tcp, failure),
            // The count of work under way is held until the splice has ended.
            Ok(Connected::Tcp(service, _in_flight)) => return splice_tcp(tcp, service, kept.freeze(), &settings).await.into(),
            Ok(Connected::Tls(mut io, _in_flight)) => return over_tls(tcp, kept.freeze(), &mut io, idle).await,
            Ok(Connected::Tunnel(mut stream, tunnel, in_flight)) => {
                let begun = {
                    let left = pin!(left_by(&tunnel, |since| search.may_leave(since)));
                    begin_in_time(&mut tcp, &mut stream, &mut kept, left, settings.idle).await
                };
                match begun {
                    Begun::Settled => {
                        search.settled();
                        return splice_client(tcp, stream, Bytes::new(), &settings).await.into();
                    }
                    Begun::Elsewhere(failure) => search.failed(&in_flight, failure),
                    Begun::Broken(failure) => {
                        search.broke(&in_flight, failure);
                        return Ended::refused(&tcp, failure);
                    }
                    Begun::ClientGone => return Ended::refused(&tcp, Failure::ClientGone),
                }
            }
        }
    }
}

/// Copies between a client in the clear and a backend inside TLS.
async fn over_tls(tcp: TcpStream, first: Bytes, backend: &mut Io, idle: Option<Duration>) -> Ended {
    reset_on_close(&tcp);
    let mut client = websocket::Begun::new(first, tcp);
    let (end, received, sent) = splice(&mut client, backend, idle).await;
    if end.is_ok() {
        // Both have ended in good order; what is still in the send buffer must go out.
        close_in_order(client.io());
    }
    Ended { received, sent, failure: end.err() }
}

/// A connection that came to no route.
fn refuse(shard: &ShardRef, client: &Client, reason: &'static str) {
    tracing::debug!(listener = %client.listener, peer = %client.peer, reason, "connection refused");
    shard.metrics.streams.add(1);
    access::refused_connection(client, reason);
}

/// How a connection's first exchange over a stream went.
enum Begun {
    /// The workload has answered, or enough was sent: no way back.
    Settled,
    /// Nothing reached the workload.
    Elsewhere(Failure),
    /// It broke, and something may have been seen.
    Broken(Failure),
    ClientGone,
}

/// Waits until the tunnel has been silent for long and somebody could take over.
async fn left_by(tunnel: &Tunnel, may_leave: impl Fn(std::time::Instant) -> bool) {
    let mut suspicion = tunnel.suspicion();
    // It ends with the tunnel, of which the stream tells.
    while suspicion.wait_for(|suspect| *suspect).await.is_ok() {
        if tunnel.suspect_since().is_some_and(&may_leave) {
            return;
        }
        tokio::time::sleep(SILENCE_CHECK).await;
    }
    std::future::pending().await
}

async fn begin_in_time(
    tcp: &mut TcpStream,
    stream: &mut Stream,
    kept: &mut BytesMut,
    left: impl Future<Output = ()> + Unpin,
    idle: Option<Duration>,
) -> Begun {
    let begun = begin(tcp, stream, kept, left);
    match idle {
        None => begun.await,
        Some(idle) => tokio::time::timeout(idle, begun).await.unwrap_or(Begun::Broken(Failure::ClientIdle)),
    }
}

/// Sends what the client says first and keeps it, until the workload's first byte or end settles that the connection is made.
/// `left` ends when the tunnel had better be left, which is possible as long as the client has said nothing.
async fn begin(tcp: &mut TcpStream, stream: &mut Stream, kept: &mut BytesMut, mut left: impl Future<Output = ()> + Unpin) -> Begun {
    // A stream that another agent refused may have taken these bytes; they are sent anew.
    if !kept.is_empty()
        && let Err(error) = stream.write_chunk(kept.clone().freeze()).await
    {
        return failed(&error, true);
    }
    loop {
        if kept.len() >= KEPT {
            return Begun::Settled;
        }
        tokio::select! {
            biased;
            chunk = stream.read_chunk(KEPT) => return match chunk {
                Err(error) => failed(&error, !kept.is_empty()),
                Ok(None) => Begun::Settled,
                Ok(Some(chunk)) => match tcp.write_all(&chunk).await {
                    Ok(()) => Begun::Settled,
                    Err(_) => Begun::ClientGone,
                },
            },
            ready = tcp.readable() => {
                let before = kept.len();
                match ready.and_then(|()| tcp.try_read_buf(kept)) {
                    // Half-closed: the splice will see it again and hand it on.
                    Ok(0) => return Begun::Settled,
                    Ok(_) => {
                        let new = Bytes::copy_from_slice(&kept[before..]);
                        if let Err(error) = stream.write_chunk(new).await {
                            return failed(&error, true);
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return Begun::ClientGone,
                }
            }
            () = &mut left, if kept.is_empty() => return Begun::Elsewhere(Failure::TunnelSilent),
        }
    }
}

/// `given`: bytes of the client were on their way.
fn failed(error: &StreamError, given: bool) -> Begun {
    match error {
        StreamError::Reset(reset) if !reset.may_have_seen(0) => Begun::Elsewhere(Failure::of_reset(reset.reason)),
        StreamError::Reset(reset) => Begun::Broken(Failure::of_reset(reset.reason)),
        StreamError::Lost(_) if !given => Begun::Elsewhere(Failure::TunnelLost),
        _ => Begun::Broken(Failure::TunnelLost),
    }
}
