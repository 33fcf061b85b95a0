//! Copies bytes both ways between a TCP connection and a stream, half-close kept, in constant memory.
use crate::stream::Stream;
use bytes::Bytes;
use figspan_proto::preamble::Kind;
use figspan_proto::reset::Reset;
use std::time::Duration;
use tokio::net::TcpStream;
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
/// Agent side: workload connection <-> stream. Resets the stream with the exact count delivered when the workload fails.
/// Before the first byte after an idle period is written, the workload's end of file is looked for.
pub async fn splice_workload(tcp: TcpStream, stream: Stream, settings: &SpliceSettings) -> Spliced {
    todo!()
}
/// Hub side: client connection <-> stream; `first` goes to the stream before anything read from the client (a ClientHello).
/// When the peer resets, the client's connection is reset too (SO_LINGER 0), never ended cleanly.
pub async fn splice_client(tcp: TcpStream, stream: Stream, first: Bytes, settings: &SpliceSettings) -> Spliced {
    todo!()
}
/// Hub side: client connection <-> TCP connection to a service.
pub async fn splice_tcp(client: TcpStream, service: TcpStream, first: Bytes, settings: &SpliceSettings) -> Spliced {
    todo!()
}
