//! Tunnels where UDP does not pass: over TCP from the start or from the middle, and back; a relay on loopback is the firewall.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail it by panicking")]
#![allow(clippy::disallowed_methods, reason = "tasks of a test end with its runtime")]

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use figspan_proto::reset::{Reason, Reset};
use figspan_tunnel::agent::{DialOptions, dial_join, dial_with};
use figspan_tunnel::hub::{Established, HubEndpoint};
use figspan_tunnel::testing::{Authority, accept};
use figspan_tunnel::{Preference, Stream, StreamError, Transport, Tunnel, Why};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

/// How long a tunnel may need to be on TCP.
const FALLEN_BACK: Duration = Duration::from_secs(5);

/// What passes.
#[derive(Debug)]
struct Firewall {
    udp: AtomicBool,
    tcp: AtomicBool,
}

/// Passes datagrams and TCP connections on between agents and a hub.
struct Relay {
    address: SocketAddr,
    firewall: Arc<Firewall>,
    cut: tokio::sync::broadcast::Sender<()>,
    _tasks: JoinSet<()>,
}

impl Relay {
    async fn towards(hub: SocketAddr) -> Self {
        let firewall = Arc::new(Firewall { udp: AtomicBool::new(true), tcp: AtomicBool::new(true) });
        let (listener, udp) = loop {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            if let Ok(udp) = UdpSocket::bind(listener.local_addr().unwrap()).await {
                break (listener, Arc::new(udp));
            }
        };
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(datagrams(udp, hub, Arc::clone(&firewall)));
        let wall = Arc::clone(&firewall);
        let cut = tokio::sync::broadcast::Sender::new(1);
        let cutter = cut.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                if wall.tcp.load(Ordering::SeqCst) {
                    let mut cut = cutter.subscribe();
                    connections.spawn(async move {
                        let mut far = TcpStream::connect(hub).await.unwrap();
                        tokio::select! {
                            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                            _ = cut.recv() => {}
                        }
                    });
                }
            }
        });
        Self { address, firewall, cut, _tasks: tasks }
    }

    /// Closes the TCP connections of now.
    fn cut(&self) {
        self.cut.send(()).unwrap();
    }

    fn udp(&self, passes: bool) {
        self.firewall.udp.store(passes, Ordering::SeqCst);
    }
}

async fn datagrams(front: Arc<UdpSocket>, hub: SocketAddr, wall: Arc<Firewall>) {
    let mut mappings: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let (mut tasks, mut buffer) = (JoinSet::new(), vec![0; 65536]);
    loop {
        let (length, agent) = front.recv_from(&mut buffer).await.unwrap();
        if let Entry::Vacant(unknown) = mappings.entry(agent) {
            let back = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
            let (front, outside, wall) = (Arc::clone(&front), Arc::clone(&back), Arc::clone(&wall));
            tasks.spawn(async move {
                let mut buffer = vec![0; 65536];
                while let Ok((length, _)) = outside.recv_from(&mut buffer).await {
                    if wall.udp.load(Ordering::SeqCst) {
                        let _ = front.send_to(&buffer[..length], agent).await;
                    }
                }
            });
            unknown.insert(back);
        }
        if wall.udp.load(Ordering::SeqCst) {
            let _ = mappings[&agent].send_to(&buffer[..length], hub).await;
        }
    }
}

/// A hub behind a relay, and an agent that echoes.
struct Bed {
    authority: Authority,
    endpoints: Vec<HubEndpoint>,
    relay: Relay,
}

impl Bed {
    async fn start(shards: usize) -> Self {
        let authority = Authority::new();
        let endpoints = authority.endpoints_over_both(shards);
        let relay = Relay::towards(endpoints[0].local_address().unwrap()).await;
        Self { authority, endpoints, relay }
    }

    fn options(preference: Preference) -> DialOptions {
        DialOptions { preference, look_back: Duration::from_millis(600), ..DialOptions::default() }
    }

    /// The hub's end and the agent's.
    async fn dial(&self, shard: u8, options: &DialOptions) -> (Tunnel, Tunnel) {
        let credentials = self.authority.agent("vm-1");
        let agent = dial_with(self.relay.address, shard, &credentials, options);
        let (hub, agent) = tokio::join!(accept(&self.endpoints[usize::from(shard)]), agent);
        (hub, agent.unwrap())
    }
}

/// Waits until a tunnel's end sees itself on a transport.
async fn on(tunnel: &Tunnel, transport: Transport, within: Duration) {
    let mut carriage = tunnel.carriage();
    let there = carriage.wait_for(|carried| carried.transport == transport);
    tokio::time::timeout(within, there).await.unwrap_or_else(|_| panic!("not on {transport} within {within:?}")).unwrap();
}

fn echo(agent: &Tunnel) -> JoinSet<()> {
    let (mut echo, served) = (JoinSet::new(), agent.clone());
    echo.spawn(async move {
        let mut streams = JoinSet::new();
        while let Ok(mut stream) = served.accept().await {
            streams.spawn(async move {
                while let Ok(Some(chunk)) = stream.read_chunk(usize::MAX).await {
                    if stream.write_chunk(chunk).await.is_err() {
                        return;
                    }
                }
                stream.finish();
            });
        }
    });
    echo
}

/// Sends pieces with pauses and reads back exactly what was sent.
async fn converse(mut stream: Stream, pieces: usize, pause: Duration) {
    for piece in 0..pieces {
        let data = Bytes::from(vec![piece as u8; 5000]);
        stream.write_chunk(data.clone()).await.unwrap();
        let mut back = vec![0; data.len()];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(back, data);
        tokio::time::sleep(pause).await;
    }
    stream.finish();
    assert_eq!(stream.read_chunk(usize::MAX).await.unwrap(), None);
}

#[tokio::test]
async fn where_udp_is_blocked_a_tunnel_starts_over_tcp_within_five_seconds() {
    let bed = Bed::start(3).await;
    bed.relay.udp(false);
    let (began, options) = (Instant::now(), Bed::options(Preference::Auto));
    let (hub, agent) = bed.dial(2, &options).await;
    let took = began.elapsed();
    assert!(took < FALLEN_BACK, "{took:?}");
    println!("started over TCP after {took:?}");
    assert_eq!((agent.carried().transport, agent.carried().why), (Transport::Tcp, Why::Blocked));
    assert_eq!(hub.carried().transport, Transport::Tcp);
    assert_eq!(options.moves.of(Why::Blocked), 1);
    assert_eq!(
        (hub.peer().to_string(), agent.peer().to_string()),
        ("spiffe://figspan.local/agent/vm-1".to_owned(), "spiffe://figspan.local/hub/hub-0".to_owned())
    );
    assert!(hub.remote_address().is_ipv4() && hub.remote_address().ip().is_loopback(), "{}", hub.remote_address());
    let _echo = echo(&agent);
    converse(hub.open().await.unwrap(), 3, Duration::ZERO).await;
}

#[tokio::test]
async fn streams_live_on_when_udp_is_blocked_in_the_middle_and_when_it_passes_again() {
    let bed = Bed::start(1).await;
    let options = Bed::options(Preference::Auto);
    let (hub, agent) = bed.dial(0, &options).await;
    assert_eq!((agent.carried().transport, agent.carried().why), (Transport::Quic, Why::Answered));
    let _echo = echo(&agent);
    let mut streams = JoinSet::new();
    for _ in 0..100 {
        // Long enough to see both moves.
        streams.spawn(converse(hub.open().await.unwrap(), 40, Duration::from_millis(200)));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    bed.relay.udp(false);
    let blocked = Instant::now();
    on(&agent, Transport::Tcp, FALLEN_BACK).await;
    on(&hub, Transport::Tcp, Duration::from_secs(1)).await;
    println!("moved to TCP {:?} after the block", blocked.elapsed());
    assert_eq!(agent.carried().why, Why::Silent);
    converse(hub.open().await.unwrap(), 1, Duration::ZERO).await;
    bed.relay.udp(true);
    let passes = Instant::now();
    on(&agent, Transport::Quic, Duration::from_secs(10)).await;
    on(&hub, Transport::Quic, Duration::from_secs(1)).await;
    println!("back on UDP {:?} after it passed, with 0.6 s between looks", passes.elapsed());
    assert_eq!(agent.carried().why, Why::Again);
    while let Some(ended) = streams.join_next().await {
        ended.unwrap();
    }
    assert!(!hub.is_closed() && !agent.is_closed());
    assert_eq!((options.moves.of(Why::Silent), options.moves.of(Why::Again), options.moves.of(Why::Relapse)), (1, 1, 0));
}

#[tokio::test]
async fn an_agent_that_is_told_to_use_tcp_stays_there() {
    let bed = Bed::start(1).await;
    let (hub, agent) = bed.dial(0, &Bed::options(Preference::Tcp)).await;
    let _echo = echo(&agent);
    assert_eq!((agent.carried().transport, agent.carried().why), (Transport::Tcp, Why::Settings));
    // Several looks at UDP, which passes, would fit into this.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(agent.carried().transport, Transport::Tcp);
    converse(hub.open().await.unwrap(), 1, Duration::ZERO).await;
}

#[tokio::test]
async fn a_short_silence_or_a_dead_hub_moves_no_tunnel() {
    let bed = Bed::start(1).await;
    let options = Bed::options(Preference::Auto);
    let (hub, agent) = bed.dial(0, &options).await;
    let _echo = echo(&agent);
    bed.relay.udp(false);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    bed.relay.udp(true);
    converse(hub.open().await.unwrap(), 1, Duration::ZERO).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(agent.carried().transport, Transport::Quic);
    // A hub that is gone answers by no way.
    bed.relay.firewall.tcp.store(false, Ordering::SeqCst);
    bed.relay.udp(false);
    let closed = tokio::time::timeout(Duration::from_secs(9), agent.closed()).await.unwrap();
    assert!(closed.close.is_none() && !closed.by_peer, "{closed:?}");
    assert_eq!(agent.carried().transport, Transport::Quic);
}

#[tokio::test]
async fn a_tunnel_whose_tcp_connection_is_cut_gets_another() {
    let bed = Bed::start(1).await;
    bed.relay.udp(false);
    let options = Bed::options(Preference::Auto);
    let (hub, agent) = bed.dial(0, &options).await;
    let _echo = echo(&agent);
    let stream = hub.open().await.unwrap();
    let talk = tokio::spawn(converse(stream, 20, Duration::from_millis(100)));
    tokio::time::sleep(Duration::from_millis(200)).await;
    // The relay forgets its connections.
    let cut = Instant::now();
    bed.relay.cut();
    talk.await.unwrap();
    println!("went on {:?} after the cut", cut.elapsed());
    assert_eq!((agent.carried().transport, agent.carried().why), (Transport::Tcp, Why::Relinked));
    assert_eq!(options.moves.of(Why::Relinked), 1);
}

#[tokio::test]
async fn resets_and_stops_carry_their_codes_and_counts_over_tcp() {
    let bed = Bed::start(1).await;
    let (hub, agent) = bed.dial(0, &Bed::options(Preference::Tcp)).await;
    // More than 32 bits of it all: a reason and a large count.
    let fate = Reset { reason: Reason::WorkloadClosed, delivered: 77_000_000_000 };
    let mut ours = hub.open().await.unwrap();
    ours.write_chunk(Bytes::from_static(b"!")).await.unwrap();
    let mut theirs = agent.accept().await.unwrap();
    theirs.read_exact(&mut [0]).await.unwrap();
    let probe = ours.probe();
    theirs.reset(fate);
    assert_eq!(ours.read_chunk(1).await.unwrap_err(), StreamError::Reset(fate));
    assert_eq!(probe.fate(), Some(fate));
    let mut ours = hub.open().await.unwrap();
    ours.write_chunk(Bytes::from_static(b"!")).await.unwrap();
    let mut theirs = agent.accept().await.unwrap();
    theirs.stop(fate);
    let ended = loop {
        if let Err(error) = ours.write_chunk(Bytes::from_static(b"more")).await {
            break error;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(matches!(&ended, StreamError::Reset(stopped) if *stopped == fate), "{ended:?}");
}

#[tokio::test]
async fn a_reader_that_stops_reading_holds_up_no_other_stream_over_tcp() {
    let bed = Bed::start(1).await;
    let (hub, agent) = bed.dial(0, &Bed::options(Preference::Tcp)).await;
    // Nobody reads this one, at either end: its window fills up.
    let (_unread, mut full) = hub.open().await.unwrap().split();
    let filling = tokio::spawn(async move { full.write_chunk(Bytes::from(vec![1; 16 << 20])).await });
    let _kept = agent.accept().await.unwrap();
    let _echo = echo(&agent);
    let began = Instant::now();
    let mut streams = JoinSet::new();
    for _ in 0..20 {
        streams.spawn(converse(hub.open().await.unwrap(), 10, Duration::ZERO));
    }
    while let Some(ended) = streams.join_next().await {
        ended.unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(!filling.is_finished());
    filling.abort();
}

#[tokio::test]
async fn a_vm_joins_over_tcp_where_udp_is_blocked() {
    let bed = Bed::start(1).await;
    bed.relay.udp(false);
    let hub = async {
        let Established::Joining(mut joining) = bed.endpoints[0].accept().await.unwrap().establish().await.unwrap() else {
            panic!("a join")
        };
        assert!(joining.remote_address().is_ipv4());
        let mut stream = joining.accept().await.unwrap();
        stream.read_exact(&mut [0; 5]).await.unwrap();
        stream.write_chunk("answer".into()).await.unwrap();
        stream.finish();
        joining.finish().await;
    };
    let vm = async {
        let mut join = dial_join(bed.relay.address, bed.authority.ca.pin()).await.unwrap();
        assert_eq!((join.transport, &join.roots), (Transport::Tcp, &bed.authority.ca.roots()));
        join.stream.write_chunk("hello".into()).await.unwrap();
        let mut answer = [0; 6];
        join.stream.read_exact(&mut answer).await.unwrap();
        answer
    };
    assert_eq!(&tokio::join!(hub, vm).1, b"answer");
}

#[tokio::test]
async fn a_large_body_goes_over_tcp_whole() {
    let bed = Bed::start(1).await;
    let (hub, agent) = bed.dial(0, &Bed::options(Preference::Tcp)).await;
    let _echo = echo(&agent);
    let (mut recv, mut send) = hub.open().await.unwrap().split();
    let began = Instant::now();
    let write = async {
        for piece in 0..64u8 {
            send.write_chunk(Bytes::from(vec![piece; 1 << 18])).await.unwrap();
        }
        send.finish();
    };
    let read = async {
        let mut seen = 0usize;
        while let Some(chunk) = recv.read_chunk(usize::MAX).await.unwrap() {
            for byte in &chunk {
                assert_eq!(usize::from(*byte), seen >> 18);
                seen += 1;
            }
        }
        seen
    };
    assert_eq!(tokio::join!(write, read).1, 64 << 18);
    println!("16 MiB there and back over TCP in {:?}", began.elapsed());
}
