//! Hop `call` -> tcp: a call whose bytes are not looked into. The service is connected to first and the call taken then, so that
//! an endpoint that does not answer is passed over, and a process sees a connection only where there is one.

use figspan_model::routing::StreamRoute;
use figspan_proto::preamble::Kind;
use figspan_proto::reset::{Reason, Reset};
use figspan_tunnel::Stream;
use figspan_tunnel::call::take;
use figspan_tunnel::drain::Drain;
use figspan_tunnel::splice::{SpliceSettings, splice_workload};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::client::Client;
use crate::dial::inflight::InFlight;
use crate::dial::io::Io;
use crate::forward::Connected;
use crate::forward::splice::splice;
use crate::forward::stream::Connecting;
use crate::metrics::CallEvent;
use crate::reply::Failure;
use crate::shard::ShardRef;
use crate::tcp::{Ended, record};

/// A way to the service that is open.
enum Way {
    Tcp(TcpStream, InFlight),
    Tls(Io, InFlight),
}

/// Serves a call to its end. An error says why it was not taken; nothing of it reached a service then.
pub(super) async fn serve(
    shard: &ShardRef,
    drain: &Drain,
    stream: Stream,
    route: &StreamRoute,
    client: &Client,
) -> Result<(), (Stream, Reason)> {
    shard.metrics.streams.add(1);
    shard.metrics.in_flight.add(1);
    let started = Instant::now();
    let mut search = Connecting::new(shard, route, client);
    let opened = tokio::select! {
        opened = open(&mut search) => opened,
        () = drain.forced() => Err(Failure::HubDeadline),
    };
    let (ended, refused) = match opened {
        Ok(way) => {
            shard.metrics.call(CallEvent::Taken);
            let probe = stream.probe();
            // Dropped in the middle, a splice resets both of its sides; how much it had moved is then not known.
            let ended = tokio::select! {
                ended = carry(stream, way, route) => ended,
                () = drain.forced() => {
                    probe.reset(Reset { reason: Reason::HubDraining, delivered: Reset::MAX_DELIVERED });
                    Ended::failed(Failure::HubDeadline)
                }
            };
            (ended, Ok(()))
        }
        Err(failure) => (Ended::failed(failure), Err((stream, reason(failure)))),
    };
    record(shard, client, &route.name, &search, started, &ended);
    refused
}

async fn open(search: &mut Connecting<'_>) -> Result<Way, Failure> {
    match search.next().await? {
        Connected::Tcp(service, in_flight) => Ok(Way::Tcp(service, in_flight)),
        Connected::Tls(io, in_flight) => Ok(Way::Tls(io, in_flight)),
        // The one backend of such a route is a service.
        Connected::Tunnel(..) => Err(Failure::NobodyReady),
    }
}

async fn carry(mut stream: Stream, way: Way, route: &StreamRoute) -> Ended {
    if take(&mut stream).await.is_err() {
        return Ended::failed(Failure::ClientGone);
    }
    let idle = route.timeouts.idle;
    match way {
        // The count of work under way is held until the splice has ended.
        Way::Tcp(service, _in_flight) => {
            let spliced = splice_workload(service, stream, &SpliceSettings { idle, kind: Kind::Tcp }).await;
            let failure = spliced.end.err().map(|reset| Failure::of_reset(reset.reason));
            Ended { received: spliced.to_tcp, sent: spliced.from_tcp, failure }
        }
        Way::Tls(mut service, _in_flight) => {
            let (end, received, sent) = splice(&mut stream, &mut service, idle).await;
            if let Err(failure) = end {
                stream.reset(Reset { reason: reason(failure), delivered: Reset::MAX_DELIVERED });
            }
            Ended { received, sent, failure: end.err() }
        }
    }
}

/// What an agent hears of a failure on the way to the service.
const fn reason(failure: Failure) -> Reason {
    match failure {
        Failure::ConnectRefused => Reason::ConnectRefused,
        Failure::ConnectTimeout => Reason::ConnectTimeout,
        Failure::ConnectFailed | Failure::TlsFailed => Reason::ConnectFailed,
        Failure::WorkloadIdle => Reason::Idle,
        Failure::HubDeadline => Reason::HubDraining,
        Failure::WorkloadReset | Failure::WorkloadClosed => Reason::WorkloadReset,
        _ => Reason::ServiceUnavailable,
    }
}
