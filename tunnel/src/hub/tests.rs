use std::collections::HashSet;
use std::time::Duration;

use super::*;
use crate::testing::{Authority, accept, join_up};
use crate::{Tunnel, agent};

const SHARDS: usize = 4;

async fn echo(tunnel: Tunnel) {
    while let Ok(mut stream) = tunnel.accept().await {
        while let Ok(Some(chunk)) = stream.read_chunk(usize::MAX).await {
            if stream.write_chunk(chunk).await.is_err() {
                break;
            }
        }
        stream.finish();
        stream.acknowledged(Duration::from_secs(1)).await;
    }
}

async fn ask(tunnel: &Tunnel, text: &'static [u8]) -> Vec<u8> {
    let mut stream = tunnel.open().await.unwrap();
    stream.write_chunk(text.into()).await.unwrap();
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).await.unwrap();
    stream.finish();
    answer
}

#[tokio::test]
async fn every_dial_reaches_the_shard_that_its_first_byte_names() {
    let authority = Authority::new();
    let endpoints = authority.endpoints(SHARDS);
    let address = endpoints[0].local_address().unwrap();
    let credentials = authority.agent("vm-1");
    let mut tunnels = Vec::new();
    for round in 0..64 / SHARDS {
        for (shard, endpoint) in endpoints.iter().enumerate() {
            let byte = (shard + SHARDS * (round % 60)) as u8;
            let (hub, agent) = tokio::join!(accept(endpoint), agent::dial(address, byte, &credentials));
            assert_eq!(hub.peer().agent().unwrap().as_str(), "vm-1");
            tunnels.push((hub, agent.unwrap()));
        }
    }
    assert!(endpoints.iter().all(|endpoint| endpoint.open_connections() == 64 / SHARDS));
}

#[tokio::test]
async fn a_tunnel_reaches_its_shard_and_lives_after_its_address_has_changed() {
    let authority = Authority::new();
    let endpoints = authority.endpoints(SHARDS);
    let address = endpoints[3].local_address().unwrap();
    let credentials = authority.agent("vm-1");
    let (hub, agent) = tokio::join!(accept(&endpoints[3]), agent::dial(address, 3, &credentials));
    let agent = agent.unwrap();
    let mut addresses = HashSet::new();
    let served = hub.clone();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(echo(served));
    for _ in 0..5 {
        assert_eq!(ask(&agent, b"still here?").await, b"still here?");
        addresses.insert(hub.remote_address());
        agent.rebind().unwrap();
        assert_eq!(ask(&agent, b"and now?").await, b"and now?");
    }
    addresses.insert(hub.remote_address());
    assert!(addresses.len() >= 5, "the hub saw {addresses:?}");
    assert!(!agent.is_closed() && !hub.is_closed());
}

#[tokio::test]
async fn many_attempts_at_once_must_prove_their_addresses_and_all_get_through() {
    let authority = Authority::new();
    let endpoint = authority.endpoints(1).remove(0);
    let address = endpoint.local_address().unwrap();
    let credentials = authority.agent("vm-1");
    // Attempts that are never decided bring the count up to the threshold.
    let mut waiting = Vec::new();
    let mut dials = tokio::task::JoinSet::new();
    for _ in 0..RETRY_ABOVE {
        let credentials = Arc::clone(&credentials);
        dials.spawn(async move { agent::dial(address, 0, &credentials).await });
        waiting.push(endpoint.accept().await.unwrap());
    }
    assert!(waiting.iter().all(|incoming| !incoming.validated()));
    dials.spawn({
        let credentials = Arc::clone(&credentials);
        async move { agent::dial(address, 0, &credentials).await }
    });
    let proven = endpoint.accept().await.unwrap();
    assert!(proven.validated());
    assert!(matches!(proven.establish().await, Ok(Established::Tunnel(_))));
    drop(waiting);
    assert_eq!(endpoint.opening.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn closing_the_endpoint_tells_agents_why() {
    let authority = Authority::new();
    let endpoint = authority.endpoints(1).remove(0);
    let (_hub, agent) = join_up(&endpoint, &authority.agent("vm-1")).await;
    endpoint.close(Close::Leaving);
    endpoint.wait_idle().await;
    let closed = agent.closed().await;
    assert!(closed.by_peer && closed.close == Some(Close::Leaving), "{closed:?}");
    assert!(endpoint.accept().await.is_none());
}

#[tokio::test]
async fn a_restarted_hub_is_noticed_at_once() {
    let authority = Authority::new();
    let credentials = authority.hub("hub-0");
    let start = |socket| {
        let config = HubConfig { shard: 0, shards: 1, credentials: Arc::clone(&credentials), reset_key: [9; 64] };
        HubEndpoint::new(socket, config).unwrap()
    };
    let socket = bind_shards(([127, 0, 0, 1], 0).into(), 1).unwrap().remove(0);
    let address = socket.local_addr().unwrap();
    // The first hub lives on a runtime of its own. With that gone first, nothing can say goodbye: a kill.
    let agent_credentials = authority.agent("vm-1");
    let (said, heard) = tokio::sync::oneshot::channel();
    let (kill, killed) = std::sync::mpsc::channel::<()>();
    let first_credentials = Arc::clone(&credentials);
    let first = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let alive = runtime.block_on(async {
            let config = HubConfig { shard: 0, shards: 1, credentials: first_credentials, reset_key: [9; 64] };
            let endpoint = HubEndpoint::new(socket, config).unwrap();
            let tunnel = accept(&endpoint).await;
            // Long enough for the handshake to be confirmed.
            let _ = tunnel.accept().await;
            said.send(()).unwrap();
            (tunnel, endpoint)
        });
        killed.recv().unwrap();
        drop(runtime);
        drop(alive);
    });
    let agent = agent::dial(address, 0, &agent_credentials).await.unwrap();
    agent.open().await.unwrap().write_chunk(bytes::Bytes::from_static(b"hello")).await.unwrap();
    heard.await.unwrap();
    kill.send(()).unwrap();
    first.join().unwrap();
    let _second = start(bind_shards(address, 1).unwrap().remove(0));
    let began = std::time::Instant::now();
    // The agent's next packet, at the latest its keep-alive, meets a hub that knows only the reset key.
    let mut stream = agent.open().await.unwrap();
    let _ = stream.write_chunk(bytes::Bytes::from_static(b"hello?")).await;
    let closed = agent.closed().await;
    assert!(closed.detail.contains("restarted"), "{closed:?}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_silent_agent_is_suspect_within_a_second_and_cleared_when_it_speaks_again() {
    let authority = Authority::new();
    let endpoint = authority.endpoints(1).remove(0);
    let address = endpoint.local_address().unwrap();
    let credentials = authority.agent("vm-1");
    // An agent on a runtime of its own goes silent when that runtime stops being driven.
    let (pause, paused) = std::sync::mpsc::channel::<Duration>();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let agent = runtime.block_on(agent::dial(address, 0, &credentials)).unwrap();
        loop {
            match paused.try_recv() {
                Ok(pause) => std::thread::sleep(pause),
                Err(std::sync::mpsc::TryRecvError::Empty) => {
                    runtime.block_on(async { tokio::time::sleep(Duration::from_millis(20)).await })
                }
                Err(std::sync::mpsc::TryRecvError::Disconnected) => break,
            }
        }
        drop(agent);
    });
    let hub = accept(&endpoint).await;
    // A live but idle peer is not suspect.
    tokio::time::sleep(Duration::from_millis(1300)).await;
    assert!(!hub.suspect(), "silent for {:?}", hub.silent_for());
    assert!(hub.silent_for() < Duration::from_millis(800));

    pause.send(Duration::from_millis(2500)).unwrap();
    let began = std::time::Instant::now();
    assert!(hub.changed_suspicion().await);
    let noticed = began.elapsed();
    assert!(hub.suspect() && noticed < Duration::from_millis(1500), "noticed after {noticed:?}");
    assert!(!hub.changed_suspicion().await, "it speaks again");
    assert!(!hub.suspect() && !hub.is_closed());
    drop(pause);
    thread.join().unwrap();
}

#[tokio::test]
async fn jumbo_frames_are_found_where_the_link_carries_them() {
    let authority = Authority::new();
    let credentials = authority.agent("vm-1");
    // IPv6 as well, and IPv4 in its clothes.
    for (listen, dial) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "[::1]"), ("[::]:0", "127.0.0.1")] {
        let socket = bind_shards(listen.parse().unwrap(), 1).unwrap().remove(0);
        let address = format!("{dial}:{}", socket.local_addr().unwrap().port()).parse().unwrap();
        let config = HubConfig { shard: 0, shards: 1, credentials: authority.hub("hub-0"), reset_key: [1; 64] };
        let endpoint = HubEndpoint::new(socket, config).unwrap();
        let (hub, agent) = tokio::join!(accept(&endpoint), agent::dial(address, 0, &credentials));
        let (agent, wanted) = (agent.unwrap(), 8900..=transport::MTU_CAP);
        let found = async {
            while !(wanted.contains(&hub.mtu()) && wanted.contains(&agent.mtu())) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), found).await.unwrap();
    }
}

#[test]
fn socket_buffers_are_read_back() {
    let sockets = bind_shards(([127, 0, 0, 1], 0).into(), 2).unwrap();
    assert_eq!(sockets[0].local_addr().unwrap(), sockets[1].local_addr().unwrap());
    let (receive, send) = transport::buffers(&sockets[0]).unwrap();
    assert!(receive >= 64 * 1024 && send >= 64 * 1024, "{receive} {send}");
}

#[test]
fn an_address_is_never_shared_with_another_hub() {
    let held: Vec<_> = (0..200).map(|_| bind_shards(([127, 0, 0, 1], 0).into(), 2).unwrap()).collect();
    let ports: HashSet<u16> = held.iter().map(|sockets| sockets[0].local_addr().unwrap().port()).collect();
    assert_eq!(ports.len(), held.len(), "port 0 gives a port of one's own");
    let taken = held[0][0].local_addr().unwrap();
    assert_eq!(bind_shards(taken, 2).unwrap_err().kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn impossible_numbers_of_shards_are_refused() {
    assert!(bind_shards(([127, 0, 0, 1], 0).into(), 0).is_err());
    assert!(bind_shards(([127, 0, 0, 1], 0).into(), MAX_SHARDS + 1).is_err());
}
