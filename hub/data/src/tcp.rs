//! Hop `tcp`: connections whose bytes are not looked into: plain TCP, and TLS that ends at the workload.
//!
//! A connection is tried elsewhere as long as nothing of it can have reached a workload: an agent says only after the client's
//! first bytes whether its workload took the connection, so those bytes are kept until the workload has answered or they
//! are too many. A connection that fails is reset, never closed as if it had ended well.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use figspan_model::routing::StreamRoute;
use figspan_proto::preamble::Kind;
use figspan_tunnel::drain::Drain;
use figspan_tunnel::splice::{SpliceSettings, Spliced, splice_client, splice_tcp};
use figspan_tunnel::{Stream, StreamError, front_tls};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::client::Client;
use crate::forward::Connected;
use crate::forward::stream::Connecting;
use crate::inbound::socket::reset_on_close;
use crate::reply::Failure;
use crate::route;
use crate::shard::ShardRef;

/// Bytes of a client that are kept for another try. A ClientHello, a login, a first query; more counts as under way.
const KEPT: usize = 16 * 1024;

/// TLS alert: fatal, unrecognized_name (RFC 6066, section 3).
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Serves a connection of a TCP listener.
pub async fn plain(shard: &ShardRef, drain: &Drain, tcp: TcpStream, client: Client) {
    let snapshot = shard.snapshot();
    match route::tcp(&snapshot, &client.listener).cloned() {
        Some(route) => serve(shard, drain, tcp, Bytes::new(), &route, &client).await,
        None => refuse(shard, &tcp, &client, Failure::NoRoute),
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
            return reset_on_close(&tcp);
        }
        Err(_) => return reset_on_close(&tcp),
    };
    match route::tls(&snapshot, &client.listener, server_name.as_deref()).cloned() {
        Some(route) => {
            let client = Client { server_name: server_name.map(Arc::from), ..client };
            serve(shard, drain, tcp, first, &route, &client).await;
        }
        None => {
            shard.metrics.failure(Failure::NoRoute);
            // The client may be gone; then nobody misses the alert.
            let _ = tcp.write_all(&UNRECOGNIZED_NAME).await;
            let _ = tcp.shutdown().await;
        }
    }
}

async fn serve(shard: &ShardRef, drain: &Drain, tcp: TcpStream, first: Bytes, route: &StreamRoute, client: &Client) {
    shard.metrics.streams.add(1);
    shard.metrics.in_flight.add(1);
    // Dropped in the middle, a splice resets both of its sides.
    tokio::select! {
        () = carry(shard, tcp, first, route, client) => {}
        () = drain.forced() => {}
    }
    shard.metrics.in_flight.sub(1);
}

async fn carry(shard: &ShardRef, mut tcp: TcpStream, first: Bytes, route: &StreamRoute, client: &Client) {
    let settings = SpliceSettings { idle: route.timeouts.idle, kind: Kind::Tcp };
    let mut search = Connecting::new(shard, route, client);
    let mut kept = BytesMut::from(&first[..]);
    let (spliced, _in_flight) = loop {
        match search.next().await {
            Err(failure) => return refuse(shard, &tcp, client, failure),
            Ok(Connected::Tcp(service, in_flight)) => break (splice_tcp(tcp, service, kept.freeze(), &settings).await, in_flight),
            Ok(Connected::Tunnel(mut stream, in_flight)) => match begin_in_time(&mut tcp, &mut stream, &mut kept, settings.idle).await {
                Begun::Settled => break (splice_client(tcp, stream, Bytes::new(), &settings).await, in_flight),
                Begun::Elsewhere(failure) => {
                    in_flight.failed();
                    shard.metrics.failure(failure);
                }
                Begun::Broken(failure) => {
                    in_flight.failed();
                    return refuse(shard, &tcp, client, failure);
                }
                Begun::ClientGone => return reset_on_close(&tcp),
            },
        }
    };
    finished(shard, route, client, &spliced);
}

fn finished(shard: &ShardRef, route: &StreamRoute, client: &Client, spliced: &Spliced) {
    shard.metrics.bytes_in.add(spliced.from_tcp);
    shard.metrics.bytes_out.add(spliced.to_tcp);
    match &spliced.end {
        Ok(()) => {
            tracing::debug!(route = %route.name, peer = %client.peer, sent = spliced.to_tcp, received = spliced.from_tcp, "connection ended")
        }
        Err(reset) => {
            shard.metrics.failure(Failure::of_reset(reset.reason));
            tracing::debug!(route = %route.name, peer = %client.peer, reason = ?reset.reason, sent = spliced.to_tcp, received = spliced.from_tcp, "connection broke");
        }
    }
}

fn refuse(shard: &ShardRef, tcp: &TcpStream, client: &Client, failure: Failure) {
    shard.metrics.failure(failure);
    tracing::debug!(listener = %client.listener, peer = %client.peer, reason = failure.as_str(), "connection reset");
    reset_on_close(tcp);
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

async fn begin_in_time(tcp: &mut TcpStream, stream: &mut Stream, kept: &mut BytesMut, idle: Option<Duration>) -> Begun {
    let begun = begin(tcp, stream, kept);
    match idle {
        None => begun.await,
        Some(idle) => tokio::time::timeout(idle, begun).await.unwrap_or(Begun::Broken(Failure::ClientIdle)),
    }
}

/// Sends what the client says first and keeps it, until the workload's first byte or end settles that the connection is made.
async fn begin(tcp: &mut TcpStream, stream: &mut Stream, kept: &mut BytesMut) -> Begun {
    // A stream that another agent refused may have taken these bytes; they are sent anew.
    if !kept.is_empty()
        && let Err(error) = stream.write_chunk(kept.clone().freeze()).await
    {
        return failed(&error);
    }
    loop {
        if kept.len() >= KEPT {
            return Begun::Settled;
        }
        tokio::select! {
            biased;
            chunk = stream.read_chunk(KEPT) => return match chunk {
                Err(error) => failed(&error),
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
                            return failed(&error);
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return Begun::ClientGone,
                }
            }
        }
    }
}

fn failed(error: &StreamError) -> Begun {
    match error {
        StreamError::Reset(reset) if !reset.may_have_seen(0) => Begun::Elsewhere(Failure::of_reset(reset.reason)),
        StreamError::Reset(reset) => Begun::Broken(Failure::of_reset(reset.reason)),
        _ => Begun::Broken(Failure::TunnelLost),
    }
}
