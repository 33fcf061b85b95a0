use super::*;
use crate::scripted::{SOON, echo, nobody, open, uplink};
use crate::settings;
use figspan_proto::preamble::Kind;
use figspan_tunnel::Tunnel;
use figspan_tunnel::testing::{Authority, join_up};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// The hub's end of a tunnel whose agent receives for these uplinks.
struct Bench {
    hub: Tunnel,
    receiver: Arc<Receiver>,
    work: Drain,
    _tasks: JoinSet<()>,
    _endpoint: figspan_tunnel::hub::HubEndpoint,
}

async fn bench(uplinks: Vec<settings::Uplink>, max_streams: u64) -> Bench {
    let authority = Authority::new();
    let endpoint = authority.endpoints(1).remove(0);
    let (hub, agent) = join_up(&endpoint, &authority.agent("vm-1")).await;
    let table = Arc::new(Uplinks::default());
    table.apply(&uplinks);
    let work = Drain::new();
    let receiver = Arc::new(Receiver::new(table, Resolver::system().unwrap(), work.clone(), max_streams));
    let mut tasks = JoinSet::new();
    let taking = Arc::clone(&receiver);
    tasks.spawn(async move {
        while let Ok(stream) = agent.accept().await {
            taking.take(stream);
        }
    });
    Bench { hub, receiver, work, _tasks: tasks, _endpoint: endpoint }
}

async fn fate(stream: &Stream) -> Reset {
    stream.probe().fate_within(SOON).await.expect("the agent says why")
}

#[tokio::test]
async fn what_cannot_be_delivered_is_refused_with_the_reason_and_nothing_seen() {
    let mut tasks = JoinSet::new();
    let mut full = uplink("full", echo(&mut tasks).await);
    full.max_connections = 1;
    let bench = bench(vec![uplink("nobody", nobody().await), full], 100).await;
    for (name, reason) in [("nobody", Reason::ConnectRefused), ("unheard-of", Reason::UnknownUplink)] {
        let stream = open(&bench.hub, name, Kind::Http, b"GET / HTTP/1.1\r\n\r\n").await;
        let fate = fate(&stream).await;
        assert_eq!((fate.reason, fate.may_have_seen(0)), (reason, false), "{name}");
    }
    let mut first = open(&bench.hub, "full", Kind::Tcp, b"x").await;
    first.read_exact(&mut [0]).await.unwrap();
    let second = open(&bench.hub, "full", Kind::Tcp, b"x").await;
    assert_eq!(fate(&second).await, Reset::not_delivered(Reason::Limit));
    bench.work.stop();
    let late = open(&bench.hub, "full", Kind::Tcp, b"x").await;
    assert_eq!(fate(&late).await, Reset::not_delivered(Reason::Draining));
}

#[tokio::test]
async fn a_stream_that_comes_after_the_drain_is_told_that_nobody_saw_it() {
    let mut tasks = JoinSet::new();
    let bench = bench(vec![uplink("echo", echo(&mut tasks).await)], 100).await;
    // Nothing runs, so the drain ends at once; hubs have not all heard of it yet.
    assert!(bench.work.run(SOON).await);
    for _ in 0..50 {
        let late = open(&bench.hub, "echo", Kind::Http, b"POST / HTTP/1.1\r\n\r\n").await;
        assert_eq!(fate(&late).await, Reset::not_delivered(Reason::Draining));
    }
}

#[tokio::test]
async fn streams_above_the_limit_are_refused_until_one_ends() {
    let mut tasks = JoinSet::new();
    let bench = bench(vec![uplink("echo", echo(&mut tasks).await)], 1).await;
    let mut first = open(&bench.hub, "echo", Kind::Tcp, b"x").await;
    first.read_exact(&mut [0]).await.unwrap();
    let second = open(&bench.hub, "echo", Kind::Tcp, b"x").await;
    assert_eq!(fate(&second).await, Reset::not_delivered(Reason::Limit));
    first.finish();
    assert_eq!(first.read_chunk(1).await.unwrap(), None);
    crate::scripted::eventually("a free place", || (bench.receiver.open() == 0).then_some(())).await;
    let mut third = open(&bench.hub, "echo", Kind::Tcp, b"x").await;
    third.read_exact(&mut [0]).await.unwrap();
    assert_eq!(bench.receiver.refused(), 1);
}

#[tokio::test]
async fn a_preamble_that_cannot_be_read_is_refused() {
    let bench = bench(vec![], 10).await;
    for bytes in [&[0, 0][..], &[255, 255], &[0, 3, 9, 9, 9], &[0, 4, 1, 0, 0, 200]] {
        let mut stream = bench.hub.open().await.unwrap();
        stream.write_chunk(bytes.to_vec().into()).await.unwrap();
        assert_eq!(fate(&stream).await, Reset::not_delivered(Reason::BadPreamble), "{bytes:?}");
    }
}

/// The keep-alive race: the workload answers one request and closes; the next one is on its way already.
#[tokio::test]
async fn a_workload_that_closes_after_an_answer_is_told_with_exactly_what_it_was_given() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bench = bench(vec![uplink("once", listener.local_addr().unwrap())], 10).await;
    let request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut stream = open(&bench.hub, "once", Kind::Http, request).await;
    let (mut tcp, _) = listener.accept().await.unwrap();
    let mut seen = vec![0; request.len()];
    tcp.read_exact(&mut seen).await.unwrap();
    assert_eq!(seen, request);
    tcp.write_all(b"answer").await.unwrap();
    let mut answer = [0; 6];
    stream.read_exact(&mut answer).await.unwrap();
    drop(tcp);
    let fate = fate(&stream).await;
    assert_eq!(fate.reason, Reason::WorkloadClosed);
    assert_eq!(fate.delivered, request.len() as u64);
    assert!(!fate.may_have_seen(request.len() as u64), "a second request was not seen");
}

#[tokio::test]
async fn a_workload_that_asked_for_it_gets_the_clients_address_by_proxy_protocol() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut mail = uplink("mail", listener.local_addr().unwrap());
    mail.proxy_protocol = true;
    let bench = bench(vec![mail], 10).await;
    let _stream = open(&bench.hub, "mail", Kind::Tcp, b"EHLO").await;
    let (mut tcp, _) = listener.accept().await.unwrap();
    let mut seen = [0; 28 + 4];
    tcp.read_exact(&mut seen).await.unwrap();
    let (header, rest) = seen.split_at(28);
    assert_eq!(&header[..12], b"\r\n\r\n\0\r\nQUIT\n");
    assert_eq!(header[12..], [0x21, 0x11, 0, 12, 192, 0, 2, 7, 198, 51, 100, 1, 0x0f, 0xa0, 0, 80]);
    assert_eq!(rest, b"EHLO");
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bench = bench(vec![uplink("smtp", listener.local_addr().unwrap())], 10).await;
    let mut stream = open(&bench.hub, "smtp", Kind::Tcp, b"").await;
    let (mut tcp, _) = listener.accept().await.unwrap();
    tcp.write_all(b"220 ready").await.unwrap();
    let mut greeting = [0; 9];
    stream.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"220 ready");
}

#[tokio::test]
async fn a_connection_on_which_nothing_moves_ends_after_its_idle_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut slow = uplink("slow", listener.local_addr().unwrap());
    slow.idle_timeout = Some(Duration::from_millis(100));
    let bench = bench(vec![slow], 10).await;
    let stream = open(&bench.hub, "slow", Kind::Tcp, b"x").await;
    let (_tcp, _) = listener.accept().await.unwrap();
    let fate = fate(&stream).await;
    assert_eq!((fate.reason, fate.may_have_seen(0)), (Reason::Idle, true));
}
