//! Copies bytes both ways between a TCP connection and a stream, half-close kept, in constant memory.
//!
//! Hop on the path: agent forward (workload side) and hub tcp (client side); and the other way round for calls of services. Promises that an abort on one side is an abort on
//! the other, never a clean end: streams are reset with a reason, TCP connections with RST. The workload's side counts what the
//! workload can have seen, exactly where TCP allows it and too high otherwise, never too low. Callers set TCP_NODELAY.

mod copy;
mod local;
mod tcp_info;

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use figspan_proto::preamble::Kind;
use figspan_proto::reset::{Reason, Reset};
use tokio::net::TcpStream;

use crate::stream::{Stream, StreamError};
use copy::{Flow, Progress};
pub use local::{Local, splice_local};
pub use tcp_info::bytes_acked;

/// How.
#[derive(Debug, Clone)]
pub struct SpliceSettings {
    /// Longest time without a byte in either direction; `None`: no limit.
    pub idle: Option<Duration>,
    /// What the workload's end of file means. `Http`: the workload reads no more, so the stream's other direction is stopped
    /// with `WorkloadClosed` and the number of delivered bytes.
    pub kind: Kind,
}

/// What was moved, and how it ended.
#[derive(Debug, Clone)]
pub struct Spliced {
    /// TCP to stream.
    pub from_tcp: u64,
    /// Stream to TCP.
    pub to_tcp: u64,
    /// `Ok` when both directions ended in good order.
    pub end: Result<(), Reset>,
}

/// How long a reset waits behind bytes that the workload sent just before it broke. A reset discards what is not yet sent or
/// read, and an early answer followed by a close with unread input (RST) is still an answer.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// Agent side: workload connection <-> stream. Resets the stream with the exact count delivered when the workload fails.
/// Before the first byte of a request is written, the workload's end of file is looked for, unless it is a GET or HEAD.
///
/// Bytes of the preamble must have been read from the stream before: counts begin here. Dropped, it resets both sides.
pub async fn splice_workload(mut tcp: TcpStream, stream: Stream, settings: &SpliceSettings) -> Spliced {
    arm(&tcp);
    let probe = stream.probe();
    let (mut recv, mut send) = stream.split();
    let progress = Progress::new();
    let http = settings.kind == Kind::Http;
    let end = {
        let (read, write) = tcp.split();
        let mut inbound = pin!(copy::tcp_to_stream(read, &mut send, !http, Bytes::new(), &progress));
        let mut outbound = pin!(copy::stream_to_tcp(&mut recv, write, http, &progress));
        let (mut in_done, mut out_done, mut out_failed) = (false, false, false);
        loop {
            if in_done && out_done {
                break if out_failed { WorkloadEnd::Broke } else { WorkloadEnd::Both };
            }
            tokio::select! {
                // The workload's side first: whether it has closed decides what is written to it.
                biased;
                flow = &mut inbound, if !in_done => match flow {
                    Flow::Ended if http => break WorkloadEnd::Closed,
                    Flow::Ended => in_done = true,
                    Flow::Tcp(_) => break WorkloadEnd::Broke,
                    Flow::Stream(error) => break WorkloadEnd::Peer(error),
                },
                flow = &mut outbound, if !out_done => match flow {
                    Flow::Ended => out_done = true,
                    // Its last words and its end are still to be read; they say what became of what was written.
                    Flow::Tcp(_) if !in_done => (out_done, out_failed) = (true, true),
                    Flow::Tcp(_) => break WorkloadEnd::Broke,
                    Flow::Stream(error) => break WorkloadEnd::Peer(error),
                },
                () = progress.idle(settings.idle) => break WorkloadEnd::Idle,
            }
        }
    };
    let written = progress.out_count();
    let end = match end {
        WorkloadEnd::Both => {
            disarm(&tcp);
            Ok(())
        }
        WorkloadEnd::Closed => {
            disarm(&tcp);
            // What was acknowledged before its FIN is what it can have read; a close with unread bytes gives RST instead.
            let delivered = bytes_acked(&tcp).map_or(written, |acked| written.min(acked));
            let reset = Reset { reason: Reason::WorkloadClosed, delivered };
            let unread = progress.taken() > delivered;
            // Stop goes out before, or in the same packet as, the end: who reads the end knows the count.
            recv.stop(reset);
            send.finish();
            if unread { Err(reset) } else { Ok(()) }
        }
        WorkloadEnd::Broke => {
            let reset = Reset { reason: Reason::WorkloadReset, delivered: written };
            recv.stop(reset);
            if progress.since_from_tcp() < LAST_WORDS {
                tokio::time::sleep(LAST_WORDS).await;
            }
            probe.reset(reset);
            Err(reset)
        }
        WorkloadEnd::Peer(error) => {
            let ours = Reset { reason: Reason::Cancelled, delivered: written };
            probe.reset(ours);
            Err(said(&error).unwrap_or(ours))
        }
        WorkloadEnd::Idle => {
            let reset = Reset { reason: Reason::Idle, delivered: written };
            probe.reset(reset);
            Err(reset)
        }
    };
    Spliced { from_tcp: progress.in_count(), to_tcp: written, end }
}

/// What ended the splice on the workload's side.
enum WorkloadEnd {
    /// Both directions, each in good order.
    Both,
    /// The workload, in good order, and it reads no more.
    Closed,
    /// The workload's connection, by an error.
    Broke,
    /// The hub, or the tunnel.
    Peer(StreamError),
    /// Nobody had anything to say.
    Idle,
}

/// Hub side: client connection <-> stream; `first` goes to the stream before anything read from the client (a ClientHello).
/// When the peer resets, the client's connection is reset too (SO_LINGER 0), never ended cleanly.
pub async fn splice_client(mut tcp: TcpStream, stream: Stream, first: Bytes, settings: &SpliceSettings) -> Spliced {
    arm(&tcp);
    let probe = stream.probe();
    let (mut recv, mut send) = stream.split();
    let progress = Progress::new();
    let end = {
        let (read, write) = tcp.split();
        let inbound = pin!(copy::tcp_to_stream(read, &mut send, true, first, &progress));
        let outbound = pin!(copy::stream_to_tcp(&mut recv, write, false, &progress));
        both(inbound, outbound, &progress, settings.idle).await
    };
    let end = match end {
        Ok(()) => {
            disarm(&tcp);
            Ok(())
        }
        Err(end) => {
            let reset = match &end {
                End::Idle => Reset::not_delivered(Reason::Idle),
                End::Flow(Flow::Stream(error)) => {
                    said(error).unwrap_or(Reset { reason: Reason::Cancelled, delivered: progress.in_count() })
                }
                End::Flow(_) => Reset::not_delivered(Reason::ClientGone),
            };
            probe.reset(reset);
            Err(reset)
        }
    };
    Spliced { from_tcp: progress.in_count(), to_tcp: progress.out_count(), end }
}

/// Hub side: client connection <-> TCP connection to a service. A failure of one resets the other. `from_tcp` counts what came
/// from the client, `to_tcp` what went to it.
pub async fn splice_tcp(mut client: TcpStream, mut service: TcpStream, first: Bytes, settings: &SpliceSettings) -> Spliced {
    arm(&client);
    arm(&service);
    let progress = Progress::new();
    let end = {
        let (client_read, client_write) = client.split();
        let (service_read, service_write) = service.split();
        let inbound = pin!(copy::tcp_to_tcp(client_read, service_write, first, &progress, true));
        let outbound = pin!(copy::tcp_to_tcp(service_read, client_write, Bytes::new(), &progress, false));
        both(inbound, outbound, &progress, settings.idle).await
    };
    if end.is_ok() {
        disarm(&client);
        disarm(&service);
    }
    let end = end.map_err(|end| match end {
        End::Idle => Reset::not_delivered(Reason::Idle),
        End::Flow(_) => Reset { reason: Reason::Cancelled, delivered: progress.in_count() },
    });
    Spliced { from_tcp: progress.in_count(), to_tcp: progress.out_count(), end }
}

/// What cut a splice short.
enum End {
    Idle,
    Flow(Flow),
}

/// Waits for both directions to end in good order, or for the first thing that cuts them short.
async fn both<A, B>(
    mut inbound: std::pin::Pin<&mut A>,
    mut outbound: std::pin::Pin<&mut B>,
    progress: &Progress,
    idle: Option<Duration>,
) -> Result<(), End>
where
    A: Future<Output = Flow>,
    B: Future<Output = Flow>,
{
    let (mut in_done, mut out_done) = (false, false);
    while !(in_done && out_done) {
        let flow = tokio::select! {
            flow = &mut inbound, if !in_done => { in_done = true; flow }
            flow = &mut outbound, if !out_done => { out_done = true; flow }
            () = progress.idle(idle) => return Err(End::Idle),
        };
        if !matches!(flow, Flow::Ended) {
            return Err(End::Flow(flow));
        }
    }
    Ok(())
}

/// What the peer said, if it did.
fn said(error: &StreamError) -> Option<Reset> {
    match error {
        StreamError::Reset(reset) => Some(*reset),
        _ => None,
    }
}

/// Makes a close an RST (SO_LINGER 0) from here on, so that whatever cuts the splice short, its owner's end included, looks
/// like an abort to the other side and not like an end.
fn arm(tcp: &TcpStream) {
    // Fails only for a socket that is gone already.
    let _ = socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO));
}

/// Makes a close an ordinary one again: all is well, and what is still in the send buffer must go out.
fn disarm(tcp: &TcpStream) {
    let _ = socket2::SockRef::from(tcp).set_linger(None);
}

#[cfg(test)]
mod tests;
