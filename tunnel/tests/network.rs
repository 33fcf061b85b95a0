//! Tunnels over networks that lose, delay and swallow: a relay on loopback stands in for them.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail it by panicking")]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use figspan_tunnel::hub::HubEndpoint;
use figspan_tunnel::testing::{Authority, accept};
use figspan_tunnel::{Tunnel, agent};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// What the network does. Changed while it runs.
#[derive(Debug)]
struct Weather {
    /// Lost, in percent, each way.
    loss: AtomicU32,
    /// Milliseconds that a datagram takes, each way.
    way: AtomicU32,
    /// Datagrams above this size disappear without a word.
    largest: AtomicUsize,
}

/// Passes datagrams between one agent and the hub.
struct Relay {
    address: SocketAddr,
    weather: Arc<Weather>,
    _task: JoinSet<()>,
}

impl Relay {
    async fn towards(hub: SocketAddr) -> Self {
        let weather = Arc::new(Weather { loss: AtomicU32::new(0), way: AtomicU32::new(0), largest: AtomicUsize::new(1452) });
        let front = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let back = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = front.local_addr().unwrap();
        let mut task = JoinSet::new();
        let sky = Arc::clone(&weather);
        task.spawn(async move {
            let (mut near, mut far) = (vec![0; 65536], vec![0; 65536]);
            let mut agent = None;
            let mut under_way: VecDeque<(Instant, bool, Vec<u8>)> = VecDeque::new();
            // A generator of our own, so that a run can be repeated.
            let mut state = 0x2545_f491_4f6c_dd1du64;
            loop {
                let due = under_way.front().map(|(due, ..)| tokio::time::Instant::from_std(*due));
                let (length, outwards) = tokio::select! {
                    () = tokio::time::sleep_until(due.unwrap_or_else(tokio::time::Instant::now)), if due.is_some() => {
                        while under_way.front().is_some_and(|(due, ..)| *due <= Instant::now()) {
                            let Some((_, outwards, datagram)) = under_way.pop_front() else { break };
                            // A full buffer is one more loss.
                            let _ = match (outwards, agent) {
                                (true, _) => back.send_to(&datagram, hub).await,
                                (false, Some(agent)) => front.send_to(&datagram, agent).await,
                                (false, None) => Ok(0),
                            };
                        }
                        continue;
                    }
                    read = front.recv_from(&mut near) => {
                        let (length, from) = read.unwrap();
                        agent = Some(from);
                        (length, true)
                    }
                    read = back.recv_from(&mut far) => (read.unwrap().0, false),
                };
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let lost = state % 100 < u64::from(sky.loss.load(Ordering::Relaxed));
                if lost || length > sky.largest.load(Ordering::Relaxed) {
                    continue;
                }
                let datagram = if outwards { &near[..length] } else { &far[..length] };
                let way = Duration::from_millis(sky.way.load(Ordering::Relaxed).into());
                under_way.push_back((Instant::now() + way, outwards, datagram.to_vec()));
            }
        });
        Self { address, weather, _task: task }
    }

    fn lose(&self, percent: u32) {
        self.weather.loss.store(percent, Ordering::Relaxed);
    }
}

/// An agent that echoes, behind a relay.
struct Bed {
    _endpoint: HubEndpoint,
    relay: Relay,
    hub: Tunnel,
    agent: Tunnel,
    _echo: JoinSet<()>,
}

async fn bed(loss_at_start: u32) -> Bed {
    bed_at(loss_at_start, 0).await
}

async fn bed_at(loss_at_start: u32, way: u32) -> Bed {
    let authority = Authority::new();
    let endpoint = authority.endpoints(1).remove(0);
    let relay = Relay::towards(endpoint.local_address().unwrap()).await;
    relay.lose(loss_at_start);
    relay.weather.way.store(way, Ordering::Relaxed);
    let credentials = authority.agent("vm-1");
    let (hub, agent) = tokio::join!(accept(&endpoint), agent::dial(relay.address, 0, &credentials));
    let agent = agent.unwrap();
    let mut echo = JoinSet::new();
    let served = agent.clone();
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
    Bed { _endpoint: endpoint, relay, hub, agent, _echo: echo }
}

/// Sends and reads back; returns the longest time without a byte.
async fn echo(tunnel: &Tunnel, data: Bytes) -> Duration {
    let (mut recv, mut send) = tunnel.open().await.unwrap().split();
    let wanted = data.len();
    let write = async {
        send.write_chunk(data).await.unwrap();
        send.finish();
    };
    let read = async {
        let (mut seen, mut longest, mut last) = (0, Duration::ZERO, Instant::now());
        while let Some(chunk) = recv.read_chunk(usize::MAX).await.unwrap() {
            seen += chunk.len();
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        assert_eq!(seen, wanted);
        longest
    };
    tokio::join!(write, read).1
}

#[tokio::test]
async fn thirty_percent_loss_both_ways_loses_no_small_request_and_no_tunnel() {
    let bed = bed(30).await;
    let began = Instant::now();
    let mut requests = JoinSet::new();
    for _ in 0..100 {
        let tunnel = bed.hub.clone();
        requests.spawn(async move { echo(&tunnel, Bytes::from_static(&[7; 200])).await });
    }
    assert_eq!(requests.join_all().await.len(), 100);
    assert!(!bed.hub.is_closed() && !bed.agent.is_closed());
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_burst_of_two_seconds_suspends_a_tunnel_and_does_not_end_it() {
    let bed = bed(0).await;
    echo(&bed.hub, Bytes::from_static(b"before")).await;
    let mut suspicion = bed.hub.suspicion();
    bed.relay.lose(100);
    let burst = Instant::now();
    suspicion.changed().await.unwrap();
    assert!(*suspicion.borrow_and_update() && burst.elapsed() < Duration::from_millis(1500), "{:?}", burst.elapsed());
    tokio::time::sleep(Duration::from_secs(2).saturating_sub(burst.elapsed())).await;
    bed.relay.lose(0);
    suspicion.changed().await.unwrap();
    assert!(!*suspicion.borrow_and_update() && burst.elapsed() < Duration::from_secs(4), "{:?}", burst.elapsed());
    echo(&bed.hub, Bytes::from_static(b"after")).await;
    assert!(!bed.hub.is_closed() && !bed.agent.is_closed());
}

#[tokio::test]
async fn a_path_that_swallows_large_datagrams_stalls_a_megabyte_for_three_seconds_at_most() {
    let bed = bed(0).await;
    // Discovery finds the large size first, then the path shrinks below it.
    while bed.hub.mtu() < 1400 || bed.agent.mtu() < 1400 {
        echo(&bed.hub, Bytes::from_static(&[7; 1000])).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bed.relay.weather.largest.store(1300, Ordering::Relaxed);
    let stall = tokio::time::timeout(Duration::from_secs(15), echo(&bed.hub, vec![7; 1 << 20].into())).await.unwrap();
    assert!(stall < Duration::from_secs(3), "{stall:?}");
    assert!(bed.hub.mtu() <= 1300);
}

#[tokio::test]
async fn one_packet_lost_in_a_hundred_on_a_long_way_leaves_most_of_the_speed() {
    let bed = bed_at(0, 25).await;
    echo(&bed.hub, vec![7; 1 << 20].into()).await;
    let mut took = Duration::ZERO;
    for loss in [0, 1] {
        bed.relay.lose(loss);
        let began = Instant::now();
        tokio::time::timeout(Duration::from_secs(60), echo(&bed.hub, vec![7; 8 << 20].into())).await.unwrap();
        println!("8 MiB and back at {loss} % of loss: {:?}", began.elapsed());
        if loss == 0 {
            took = began.elapsed();
        } else {
            assert!(began.elapsed() < 4 * took + Duration::from_secs(1), "{:?} and {took:?} without loss", began.elapsed());
        }
    }
}

#[tokio::test]
async fn a_path_that_dies_ends_the_tunnel_on_both_sides_after_the_idle_timeout() {
    let bed = bed(0).await;
    bed.relay.lose(100);
    let began = Instant::now();
    let (hub, agent) = tokio::join!(bed.hub.closed(), bed.agent.closed());
    assert!(!hub.by_peer && hub.close.is_none() && hub.detail.contains("too long"), "{hub:?}");
    assert!(!agent.by_peer && agent.close.is_none(), "{agent:?}");
    assert!((4..8).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}
