//! Agent side, the other direction: a process on the VM that called a service <-> the stream that the hub has taken.
//!
//! An abort of the stream is an abort of the process's connection where that can be shown: TCP gets RST. A Unix socket knows no
//! such thing, so there the end is what the process sees, and only the length of what it reads tells a cut answer.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use figspan_proto::preamble::Kind;
use figspan_proto::reset::{Reason, Reset};
use tokio::io::AsyncRead;
use tokio::net::{TcpStream, UnixStream};

use super::copy::{self, Flow, Progress, WriteSide};
use super::{SpliceSettings, Spliced, arm, disarm, said};
use crate::stream::Stream;

/// How long a process may keep its side open once an HTTP connection was ended by the hub, which reads no further request.
const FAREWELL: Duration = Duration::from_secs(2);

/// A connection that a process on the VM made.
#[derive(Debug)]
pub enum Local {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

/// A process's connection <-> a stream, until both sides have ended. `from_tcp` counts what came from the process, `to_tcp` what
/// went to it.
pub async fn splice_local(local: Local, stream: Stream, settings: &SpliceSettings) -> Spliced {
    match local {
        Local::Tcp(mut tcp) => {
            arm(&tcp);
            let spliced = {
                let (read, write) = tcp.split();
                splice(read, write, stream, settings).await
            };
            if spliced.end.is_ok() {
                disarm(&tcp);
            }
            spliced
        }
        Local::Unix(mut unix) => {
            let (read, write) = unix.split();
            splice(read, write, stream, settings).await
        }
    }
}

async fn splice(read: impl AsyncRead + Unpin, write: impl WriteSide, stream: Stream, settings: &SpliceSettings) -> Spliced {
    let probe = stream.probe();
    let (mut recv, mut send) = stream.split();
    let progress = Progress::new();
    let end = {
        let mut inbound = pin!(copy::tcp_to_stream(read, &mut send, true, Bytes::new(), &progress));
        let mut outbound = pin!(copy::stream_to_tcp(&mut recv, write, false, &progress));
        let (mut in_done, mut out_done) = (false, false);
        loop {
            let farewell = async {
                match out_done && settings.kind == Kind::Http {
                    true => tokio::time::sleep(FAREWELL).await,
                    false => std::future::pending().await,
                }
            };
            let flow = tokio::select! {
                flow = &mut inbound, if !in_done => { in_done = true; flow }
                flow = &mut outbound, if !out_done => { out_done = true; flow }
                () = farewell => break Ok(()),
                () = progress.idle(settings.idle) => break Err(Reset::not_delivered(Reason::Idle)),
            };
            match flow {
                Flow::Ended if in_done && out_done => break Ok(()),
                Flow::Ended => {}
                Flow::Stream(error) => {
                    break Err(said(&error).unwrap_or(Reset { reason: Reason::Cancelled, delivered: progress.in_count() }));
                }
                Flow::Tcp(_) => break Err(Reset::not_delivered(Reason::ClientGone)),
            }
        }
    };
    if let Err(reset) = end {
        probe.reset(reset);
    }
    Spliced { from_tcp: progress.in_count(), to_tcp: progress.out_count(), end }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pair;
    use crate::tunnel::Tunnel;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn streams() -> ((Tunnel, Tunnel), Stream, Stream) {
        let (hub, agent) = pair("vm-1").await;
        let mut ours = agent.open().await.unwrap();
        ours.write_chunk(Bytes::from_static(b"!")).await.unwrap();
        let mut theirs = hub.accept().await.unwrap();
        theirs.read_exact(&mut [0]).await.unwrap();
        ((hub, agent), theirs, ours)
    }

    const TCP: SpliceSettings = SpliceSettings { idle: None, kind: Kind::Tcp };

    #[tokio::test]
    async fn a_unix_socket_is_copied_both_ways_and_half_closes_are_kept() {
        let (_tunnels, mut hub, agent) = streams().await;
        let (mut process, local) = UnixStream::pair().unwrap();
        let splicing = splice_local(Local::Unix(local), agent, &TCP);
        let talking = async {
            process.write_all(b"ping").await.unwrap();
            process.shutdown().await.unwrap();
            let mut got = [0; 4];
            hub.read_exact(&mut got).await.unwrap();
            assert_eq!((&got, hub.read_chunk(1).await.unwrap()), (b"ping", None));
            hub.write_chunk(Bytes::from_static(b"pong!")).await.unwrap();
            hub.finish();
            let mut answer = Vec::new();
            process.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, b"pong!");
        };
        let (spliced, ()) = tokio::join!(splicing, talking);
        assert_eq!((spliced.from_tcp, spliced.to_tcp, spliced.end), (4, 5, Ok(())));
    }

    #[tokio::test]
    async fn a_stream_that_the_hub_resets_resets_the_process() {
        let (_tunnels, mut hub, agent) = streams().await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (process, local) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (mut process, local) = (process.unwrap(), local.unwrap().0);
        hub.reset(Reset::not_delivered(Reason::ServiceUnavailable));
        let spliced = splice_local(Local::Tcp(local), agent, &TCP).await;
        assert_eq!(spliced.end.unwrap_err().reason, Reason::ServiceUnavailable);
        assert_eq!(process.read(&mut [0]).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    }

    #[tokio::test(start_paused = true)]
    async fn an_http_connection_that_the_hub_has_ended_does_not_wait_for_the_process_for_ever() {
        let (_tunnels, mut hub, agent) = streams().await;
        let (_process, local) = UnixStream::pair().unwrap();
        hub.finish();
        let http = SpliceSettings { idle: None, kind: Kind::Http };
        assert_eq!(splice_local(Local::Unix(local), agent, &http).await.end, Ok(()));
    }
}
