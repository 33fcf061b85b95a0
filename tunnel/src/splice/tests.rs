use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::*;
use crate::stream::StreamProbe;
use crate::testing::pair;
use crate::tunnel::Tunnel;

const SOON: Duration = Duration::from_secs(5);
const HTTP: SpliceSettings = SpliceSettings { idle: None, kind: Kind::Http };
const TCP: SpliceSettings = SpliceSettings { idle: None, kind: Kind::Tcp };

/// Two ends of a TCP connection: (the one that dialled, the one that accepted).
async fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (dialled, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let (dialled, accepted) = (dialled.unwrap(), accepted.unwrap().0);
    dialled.set_nodelay(true).unwrap();
    accepted.set_nodelay(true).unwrap();
    (dialled, accepted)
}

/// A tunnel, the hub's end of a stream on it, the agent's end, and a workload's connection: (agent's end of it, workload's end).
struct Bed {
    _tunnels: (Tunnel, Tunnel),
    hub: Stream,
    agent: Stream,
    dialled: TcpStream,
    workload: TcpStream,
}

async fn bed() -> Bed {
    let (hub_tunnel, agent_tunnel) = pair("vm-1").await;
    let mut hub = hub_tunnel.open().await.unwrap();
    // The preamble's place.
    hub.write_chunk(Bytes::from_static(b"!")).await.unwrap();
    let mut agent = agent_tunnel.accept().await.unwrap();
    agent.read_exact(&mut [0]).await.unwrap();
    let (dialled, workload) = tcp().await;
    Bed { _tunnels: (hub_tunnel, agent_tunnel), hub, agent, dialled, workload }
}

fn rst(tcp: TcpStream) {
    arm(&tcp);
    drop(tcp);
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, work).await.expect("in time")
}

/// Reads to the end of the stream, and then what the peer said about it.
async fn rest(hub: &mut Stream, probe: &StreamProbe) -> (Vec<u8>, Result<(), StreamError>, Option<Reset>) {
    let mut all = Vec::new();
    loop {
        match hub.read_chunk(usize::MAX).await {
            Ok(Some(chunk)) => all.extend_from_slice(&chunk),
            Ok(None) => return (all, Ok(()), probe.fate_within(SOON).await),
            Err(error) => return (all, Err(error), probe.fate_within(SOON).await),
        }
    }
}

#[tokio::test]
async fn a_workload_that_closed_before_it_read_anything_saw_nothing() {
    let Bed { _tunnels, mut hub, agent, dialled, workload } = bed().await;
    let probe = hub.probe();
    drop(workload);
    // The close has arrived, but nobody has looked: the race of a kept-alive connection.
    tokio::time::sleep(Duration::from_millis(30)).await;
    hub.write_chunk(Bytes::from_static(b"POST / HTTP/1.1\r\n\r\n")).await.unwrap();
    let (spliced, (bytes, end, fate)) =
        within(async { tokio::join!(splice_workload(dialled, agent, &HTTP), rest(&mut hub, &probe)) }).await;
    assert_eq!((bytes.len(), end), (0, Ok(())));
    let fate = fate.unwrap();
    assert_eq!((fate.reason, fate.delivered), (Reason::WorkloadClosed, 0));
    assert!(!fate.may_have_seen(0));
    assert_eq!(spliced.from_tcp, 0);
}

#[tokio::test]
async fn a_close_between_two_requests_counts_exactly_the_first() {
    let Bed { _tunnels, mut hub, agent, dialled, mut workload } = bed().await;
    let probe = hub.probe();
    let first = b"GET /one HTTP/1.1\r\n\r\n";
    let workload = async move {
        let mut request = [0; 21];
        workload.read_exact(&mut request).await.unwrap();
        workload.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        drop(workload);
    };
    let hub = async {
        hub.write_chunk(Bytes::from_static(first)).await.unwrap();
        let answer = hub.read_chunk(usize::MAX).await.unwrap().unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200"));
        // The second request meets the closed connection, or is stopped on its way.
        let start = probe.written() - 1;
        let _ = hub.write_chunk(Bytes::from_static(b"POST /two HTTP/1.1\r\n\r\n")).await;
        let (_, end, fate) = rest(&mut hub, &probe).await;
        assert_eq!(end, Ok(()));
        (start, fate.unwrap())
    };
    let (_, (), (start, fate)) = within(async { tokio::join!(splice_workload(dialled, agent, &HTTP), workload, hub) }).await;
    assert_eq!(start, first.len() as u64);
    assert_eq!((fate.reason, fate.delivered), (Reason::WorkloadClosed, start));
    assert!(!fate.may_have_seen(start), "the second request may go elsewhere");
    assert!(fate.may_have_seen(0), "the first may not");
}

/// What reaches a workload that answered this moment and shut its side down, unread: taken from the hub and written.
async fn to_one_that_goes(request: &'static str) -> (u64, u64) {
    let Bed { _tunnels, mut hub, agent, mut dialled, mut workload } = bed().await;
    let progress = Progress::new();
    progress.moved(true, 200);
    workload.shutdown().await.unwrap();
    hub.write_chunk(Bytes::from_static(request.as_bytes())).await.unwrap();
    let (mut recv, _send) = agent.split();
    let (_read, write) = dialled.split();
    let mut writing = pin!(copy::stream_to_tcp(&mut recv, write, true, &progress));
    let taken = async {
        while progress.taken() == 0 {
            tokio::task::yield_now().await;
        }
    };
    within(async {
        tokio::select! {
            biased;
            flow = &mut writing => panic!("the other direction reports the end, and not this one: {flow:?}"),
            () = taken => {}
        }
    })
    .await;
    (progress.taken(), progress.out_count())
}

#[tokio::test]
async fn a_workload_that_shut_its_side_down_after_an_answer_gets_no_next_request() {
    // Its kernel would acknowledge it and nobody would read it.
    for request in ["POST /two HTTP/1.1\r\n\r\n", "GETAWAY /two HTTP/1.1\r\n\r\n", "DELETE /two HTTP/1.1\r\n\r\n"] {
        assert_eq!(to_one_that_goes(request).await, (request.len() as u64, 0), "{request}");
    }
}

#[tokio::test]
async fn a_request_that_the_hub_may_ask_again_goes_without_a_look() {
    for request in ["GET /two HTTP/1.1\r\n\r\n", "HEAD /two HTTP/1.1\r\n\r\n"] {
        assert_eq!(to_one_that_goes(request).await, (request.len() as u64, request.len() as u64), "{request}");
    }
}

#[tokio::test]
async fn a_workload_that_read_the_request_and_crashed_may_have_seen_it() {
    let Bed { _tunnels, mut hub, agent, dialled, mut workload } = bed().await;
    let probe = hub.probe();
    hub.write_chunk(Bytes::from_static(b"POST / HTTP/1.1\r\n\r\n")).await.unwrap();
    let workload = async move {
        workload.read_exact(&mut [0; 19]).await.unwrap();
        rst(workload);
    };
    let (spliced, (), (bytes, end, fate)) =
        within(async { tokio::join!(splice_workload(dialled, agent, &HTTP), workload, rest(&mut hub, &probe)) }).await;
    assert_eq!(bytes.len(), 0);
    assert!(end.is_err(), "an abort must not look like an end");
    let fate = fate.unwrap();
    assert_eq!((fate.reason, fate.delivered), (Reason::WorkloadReset, 19));
    assert!(fate.may_have_seen(0));
    assert_eq!(spliced.end, Err(fate));
}

#[tokio::test]
async fn an_early_answer_survives_a_close_with_unread_input() {
    let Bed { _tunnels, mut hub, agent, dialled, mut workload } = bed().await;
    let probe = hub.probe();
    hub.write_chunk(Bytes::from(vec![b'x'; 100_000])).await.unwrap();
    let workload = async move {
        workload.read_exact(&mut [0; 10]).await.unwrap();
        workload.write_all(b"HTTP/1.1 413 Content Too Large\r\n\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        // Unread input makes this close an RST.
        drop(workload);
    };
    let (_, (), (bytes, _, fate)) =
        within(async { tokio::join!(splice_workload(dialled, agent, &HTTP), workload, rest(&mut hub, &probe)) }).await;
    assert!(bytes.starts_with(b"HTTP/1.1 413"));
    assert!(fate.unwrap().may_have_seen(0));
}

#[tokio::test]
async fn half_closes_pass_both_ways_for_tcp() {
    for hub_first in [true, false] {
        let Bed { _tunnels, mut hub, agent, dialled, mut workload } = bed().await;
        let hub = async {
            if hub_first {
                hub.write_chunk(Bytes::from_static(b"to workload")).await.unwrap();
                hub.finish();
            }
            let mut all = Vec::new();
            hub.read_to_end(&mut all).await.unwrap();
            if !hub_first {
                hub.write_chunk(Bytes::from_static(b"to workload")).await.unwrap();
                hub.finish();
            }
            all
        };
        let workload = async {
            let mut all = Vec::new();
            if hub_first {
                workload.read_to_end(&mut all).await.unwrap();
            }
            workload.write_all(b"to hub").await.unwrap();
            workload.shutdown().await.unwrap();
            if !hub_first {
                workload.read_to_end(&mut all).await.unwrap();
            }
            all
        };
        let (spliced, to_hub, to_workload) = within(async { tokio::join!(splice_workload(dialled, agent, &TCP), hub, workload) }).await;
        assert_eq!((&to_hub[..], &to_workload[..]), (&b"to hub"[..], &b"to workload"[..]));
        assert_eq!((spliced.from_tcp, spliced.to_tcp, spliced.end), (6, 11, Ok(())));
    }
}

#[tokio::test]
async fn sixty_four_mebibytes_pass_unaltered_at_the_pace_of_the_reader() {
    const TOTAL: usize = 64 * 1024 * 1024;
    let Bed { _tunnels, hub, agent, dialled, mut workload } = bed().await;
    let (mut client, dialled_client) = tcp().await;
    let probe = hub.probe();
    let pattern: Bytes = (0..=250u8).cycle().take(251 * 1024).collect::<Vec<_>>().into();
    let writer = async {
        let mut left = TOTAL;
        while left > 0 {
            let count = left.min(pattern.len());
            workload.write_all(&pattern[..count]).await.unwrap();
            left -= count;
        }
        workload.shutdown().await.unwrap();
    };
    let reader = async {
        let mut buffer = vec![0; 256 * 1024];
        // Nobody reads for a while: what piles up is bounded by windows and socket buffers.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut seen = 0usize;
        loop {
            let count = client.read(&mut buffer).await.unwrap();
            if count == 0 {
                client.shutdown().await.unwrap();
                return seen;
            }
            for (at, byte) in buffer[..count].iter().enumerate().step_by(97) {
                assert_eq!(usize::from(*byte), (seen + at) % (251 * 1024) % 251);
            }
            seen += count;
        }
    };
    let began = Instant::now();
    let (agent_side, hub_side, (), seen) = tokio::time::timeout(Duration::from_secs(25), async {
        tokio::join!(splice_workload(dialled, agent, &TCP), splice_client(dialled_client, hub, Bytes::new(), &TCP), writer, reader)
    })
    .await
    .unwrap();
    assert_eq!((seen, agent_side.from_tcp, hub_side.to_tcp), (TOTAL, TOTAL as u64, TOTAL as u64), "{:?}", began.elapsed());
    assert_eq!((agent_side.end, hub_side.end, probe.fate()), (Ok(()), Ok(()), None));
}

#[tokio::test]
async fn a_slow_reader_holds_the_writer_back() {
    let Bed { _tunnels, hub: _hub, agent, dialled, workload } = bed().await;
    let splice = splice_workload(dialled, agent, &TCP);
    let flood = async {
        let (_read, mut write) = workload.into_split();
        let mut written = 0;
        let chunk = vec![0; 64 * 1024];
        while let Ok(Ok(count)) = tokio::time::timeout(Duration::from_millis(500), write.write(&chunk)).await {
            written += count;
            assert!(written < 64 * 1024 * 1024, "nothing holds it back");
        }
        written
    };
    tokio::select! {
        spliced = splice => panic!("{spliced:?}"),
        written = flood => assert!(written < 32 * 1024 * 1024, "{written}"),
    }
}

#[tokio::test]
async fn silence_resets_both_sides_with_idle() {
    let Bed { _tunnels, mut hub, agent, dialled, mut workload } = bed().await;
    let probe = hub.probe();
    let settings = SpliceSettings { idle: Some(Duration::from_millis(150)), kind: Kind::Tcp };
    let began = Instant::now();
    let talk = async {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            workload.write_all(b"x").await.unwrap();
        }
        let error = workload.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    };
    let (spliced, (), (_, end, fate)) =
        within(async { tokio::join!(splice_workload(dialled, agent, &settings), talk, rest(&mut hub, &probe)) }).await;
    assert!(began.elapsed() >= Duration::from_millis(450));
    assert_eq!(spliced.end, Err(Reset { reason: Reason::Idle, delivered: 0 }));
    assert!(end.is_err());
    assert_eq!(fate.unwrap().reason, Reason::Idle);
}

#[tokio::test]
async fn a_hub_that_cancels_resets_the_workloads_connection() {
    let Bed { _tunnels, mut hub, agent, dialled, mut workload } = bed().await;
    let (sent, received) = oneshot::channel();
    let talk = async {
        workload.read_u8().await.unwrap();
        sent.send(()).unwrap();
        workload.read_u8().await.unwrap_err().kind()
    };
    let cancel = async {
        hub.write_chunk(Bytes::from_static(b"x")).await.unwrap();
        received.await.unwrap();
        hub.reset(Reset::not_delivered(Reason::ClientGone));
    };
    let (spliced, kind, ()) = within(async { tokio::join!(splice_workload(dialled, agent, &HTTP), talk, cancel) }).await;
    assert_eq!(kind, std::io::ErrorKind::ConnectionReset);
    assert_eq!(spliced.end, Err(Reset::not_delivered(Reason::ClientGone)));
}

#[tokio::test]
async fn a_splice_that_is_dropped_looks_like_an_abort_on_both_sides() {
    let Bed { _tunnels, mut hub, agent, dialled, mut workload } = bed().await;
    {
        let splice = splice_workload(dialled, agent, &TCP);
        let halfway = async {
            hub.write_chunk(Bytes::from_static(b"half a")).await.unwrap();
            workload.read_exact(&mut [0; 6]).await.unwrap();
        };
        tokio::select! {
            spliced = splice => panic!("{spliced:?}"),
            () = halfway => {}
        }
    }
    assert_eq!(within(workload.read_u8()).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    let error = within(hub.read_chunk(1)).await.unwrap_err();
    assert!(matches!(error, StreamError::Reset(reset) if reset.may_have_seen(u64::MAX - 1)), "{error:?}");
}

#[tokio::test]
async fn a_client_sees_a_reset_and_not_an_end_when_the_stream_is_reset() {
    let Bed { _tunnels, hub, mut agent, .. } = bed().await;
    let (mut client, accepted) = tcp().await;
    let reset = Reset { reason: Reason::WorkloadReset, delivered: 5 };
    let talk = async {
        let mut hello = [0; 5];
        agent.read_exact(&mut hello).await.unwrap();
        assert_eq!(&hello, b"first", "what was read before comes first");
        agent.reset(reset);
    };
    let client = async { client.read_u8().await.unwrap_err().kind() };
    let splice = splice_client(accepted, hub, Bytes::from_static(b"first"), &TCP);
    let (spliced, (), kind) = within(async { tokio::join!(splice, talk, client) }).await;
    assert_eq!(kind, std::io::ErrorKind::ConnectionReset);
    assert_eq!(spliced.end, Err(reset));
}

#[tokio::test]
async fn a_client_that_goes_away_resets_the_stream() {
    let Bed { _tunnels, hub, mut agent, .. } = bed().await;
    let (client, accepted) = tcp().await;
    rst(client);
    let (spliced, error) = within(async { tokio::join!(splice_client(accepted, hub, Bytes::new(), &TCP), agent.read_chunk(1)) }).await;
    assert_eq!(error, Err(StreamError::Reset(Reset::not_delivered(Reason::ClientGone))));
    assert_eq!(spliced.end, Err(Reset::not_delivered(Reason::ClientGone)));
}

#[tokio::test]
async fn two_tcp_connections_are_spliced_with_half_closes_and_aborts() {
    let (mut client, accepted) = tcp().await;
    let (dialled, mut service) = tcp().await;
    let talk = async {
        client.write_all(b"ping").await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let serve = async {
        let mut question = String::new();
        service.read_to_string(&mut question).await.unwrap();
        service.write_all(b"pong").await.unwrap();
        service.shutdown().await.unwrap();
        question
    };
    let splice = splice_tcp(accepted, dialled, Bytes::from_static(b"first "), &TCP);
    let (spliced, answer, question) = within(async { tokio::join!(splice, talk, serve) }).await;
    assert_eq!((&answer[..], &question[..]), ("pong", "first ping"));
    assert_eq!((spliced.from_tcp, spliced.to_tcp, spliced.end), (10, 4, Ok(())));

    let (mut client, accepted) = tcp().await;
    let (dialled, service) = tcp().await;
    rst(service);
    let client = async { client.read_u8().await.unwrap_err().kind() };
    let (spliced, kind) = within(async { tokio::join!(splice_tcp(accepted, dialled, Bytes::new(), &TCP), client) }).await;
    assert!(spliced.end.is_err());
    assert_eq!(kind, std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn acknowledged_bytes_are_counted_without_the_handshake() {
    let (mut dialled, mut accepted) = tcp().await;
    assert_eq!(bytes_acked(&dialled), Some(0));
    dialled.write_all(b"12345").await.unwrap();
    accepted.read_exact(&mut [0; 5]).await.unwrap();
    accepted.write_all(b"x").await.unwrap();
    dialled.read_u8().await.unwrap();
    assert_eq!(bytes_acked(&dialled), Some(5));
}
