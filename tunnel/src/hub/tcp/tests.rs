use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::agent::{DialOptions, dial_with};
use crate::carrier::{Preference, Transport};
use crate::hub::{HubEndpoint, bind_both};
use crate::testing::{Authority, accept};
use rustls::ClientConfig;

const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn tcp() -> DialOptions {
    DialOptions { preference: Preference::Tcp, ..DialOptions::default() }
}

async fn serves(endpoint: &HubEndpoint, authority: &Authority) {
    let (address, credentials, options) = (endpoint.local_address().unwrap(), authority.agent("vm-1"), tcp());
    let (hub, agent) = tokio::join!(accept(endpoint), dial_with(address, 0, &credentials, &options));
    assert_eq!((hub.carried().transport, agent.unwrap().carried().transport), (Transport::Tcp, Transport::Tcp));
}

/// Reads until the hub has closed the connection.
async fn closed(mut io: TcpStream, within: Duration) {
    let ended = async {
        let mut bytes = [0; 4096];
        while io.read(&mut bytes).await.is_ok_and(|length| length > 0) {}
    };
    tokio::time::timeout(within, ended).await.expect("the hub closes it");
}

#[tokio::test]
async fn garbage_a_foreign_protocol_and_silence_are_closed_and_agents_are_served() {
    let authority = Authority::new();
    let endpoint = authority.endpoints_over_both(1).remove(0);
    let address = endpoint.local_address().unwrap();
    for bytes in [&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], &[0xff; 5000], &[0x16, 3, 1, 0xff, 0xff], &[]] {
        let mut io = TcpStream::connect(address).await.unwrap();
        io.write_all(bytes).await.unwrap();
        io.shutdown().await.unwrap();
        closed(io, Duration::from_secs(2)).await;
    }
    let silent = TcpStream::connect(address).await.unwrap();
    serves(&endpoint, &authority).await;
    closed(silent, HANDSHAKE_TIMEOUT + Duration::from_secs(2)).await;
}

#[tokio::test]
async fn one_that_names_no_shard_or_no_protocol_of_ours_is_refused() {
    let authority = Authority::new();
    let endpoint = authority.endpoints_over_both(1).remove(0);
    let address = endpoint.local_address().unwrap();
    let good = tls::agent_over_tcp(&authority.agent("vm-1")).unwrap();
    let mut silent = ClientConfig::clone(&good);
    silent.alpn_protocols.clear();
    let mut other = ClientConfig::clone(&good);
    other.alpn_protocols = vec![b"h2".to_vec()];
    for (name, config) in [("hub.figspan", good), ("s0.hub.figspan", Arc::new(silent)), ("s0.hub.figspan", Arc::new(other))] {
        let io = TcpStream::connect(address).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from(name).unwrap();
        let mut refused = match tokio_rustls::TlsConnector::from(config).connect(name, io).await {
            // Without a word about protocols TLS itself has no objection.
            Ok(io) => io,
            Err(_) => continue,
        };
        assert!(!matches!(refused.read(&mut [0]).await, Ok(1)), "nothing is carried");
    }
    serves(&endpoint, &authority).await;
}

#[tokio::test]
async fn connections_that_prove_nothing_are_bounded_by_address() {
    let opening = Opening::default();
    let from_one: Vec<Counted> = std::iter::from_fn(|| opening.count(LOOPBACK)).collect();
    assert_eq!(from_one.len(), OPENING_OF_ADDRESS);
    let others: Vec<Counted> = (0..=u8::MAX).filter_map(|last| opening.count([10, 0, 0, last].into())).collect();
    assert_eq!(from_one.len() + others.len(), OPENING);
    drop((from_one, others));
    assert!(opening.0.lock().unwrap().is_empty());
    // And so it is on the wire: whoever comes too much is closed at once, not after a timeout.
    let authority = Authority::new();
    let endpoint = authority.endpoints_over_both(1).remove(0);
    let address = endpoint.local_address().unwrap();
    let mut held = Vec::new();
    for _ in 0..OPENING_OF_ADDRESS {
        held.push(TcpStream::connect(address).await.unwrap());
    }
    closed(TcpStream::connect(address).await.unwrap(), Duration::from_secs(2)).await;
    drop(held);
}

#[tokio::test]
async fn an_agent_has_a_few_connections_and_a_stranger_few_and_short_ones() {
    let links = Links::default();
    let peer = Authority::new().agent("vm-1").identity().id().clone();
    let link = |port, peer| Link::new(over_tcp((LOOPBACK, port).into()), None, peer);
    for port in 0..LINKS_OF_AGENT as u16 {
        assert!(links.add(&link(port, Some(peer.clone())), LINKS, LINKS_OF_AGENT));
    }
    let one_more = link(100, Some(peer));
    assert!(!links.add(&one_more, LINKS, LINKS_OF_AGENT));
    for port in 0..STRANGERS as u16 {
        assert!(links.add(&link(1000 + port, None), LINKS, STRANGERS));
    }
    assert!(!links.add(&link(2000, None), LINKS, STRANGERS));
    assert!(!links.add(&link(2001, None), LINKS_OF_AGENT + STRANGERS, usize::MAX), "nor more than there may be of all");
}

#[test]
fn the_address_of_another_process_is_refused_and_named() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = bind_both(holder.local_addr().unwrap(), 2).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains("over TCP"), "{error}");
    let (udp, shares) = bind_both(([127, 0, 0, 1], 0).into(), 3).unwrap();
    assert_eq!((udp.len(), shares.len()), (3, 3));
    assert!(shares.iter().all(|share| share.listener.local_addr().unwrap() == udp[0].local_addr().unwrap()));
    assert!(bind_tcp(([127, 0, 0, 1], 0).into(), 0).is_err() && bind_tcp(([127, 0, 0, 1], 0).into(), MAX_SHARDS + 1).is_err());
}
