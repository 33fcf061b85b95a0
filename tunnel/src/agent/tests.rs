use std::time::{Duration, Instant, SystemTime};

use figspan_proto::name::Role;
use figspan_proto::reset::Close;

use super::*;
use crate::ca::{Ca, LEAF_LIFETIME};
use crate::carrier::socket::Route;
use crate::hub::{Established, HubConfig, HubEndpoint, bind_shards};
use crate::provider::provider;
use crate::testing::{Authority, accept, join_up};

const HOUR: Duration = Duration::from_secs(3600);

fn endpoint_with(credentials: Arc<Credentials>) -> HubEndpoint {
    let socket = bind_shards(([127, 0, 0, 1], 0).into(), 1).unwrap().remove(0);
    HubEndpoint::new(socket, HubConfig { shard: 0, shards: 1, credentials, reset_key: [1; 64] }).unwrap()
}

/// Dials while the hub does its part; returns both results.
async fn meet(endpoint: &HubEndpoint, credentials: &Arc<Credentials>) -> (Result<Established, TunnelError>, Result<Tunnel, TunnelError>) {
    let address = endpoint.local_address().unwrap();
    let hub = async { endpoint.accept().await.unwrap().establish().await };
    tokio::join!(hub, dial(address, 0, credentials))
}

fn vm() -> Role {
    Role::Agent("vm-1".parse().unwrap())
}

#[tokio::test]
async fn both_ends_know_each_other_by_their_verified_names() {
    let authority = Authority::new();
    let endpoint = authority.endpoints(1).remove(0);
    let (hub, agent) = join_up(&endpoint, &authority.agent("vm-1")).await;
    assert_eq!(hub.peer().to_string(), "spiffe://figspan.local/agent/vm-1");
    assert_eq!(agent.peer().to_string(), "spiffe://figspan.local/hub/hub-0");
    assert!(hub.peer_not_after() > SystemTime::now() + 23 * HOUR);
    assert_ne!(hub.id(), agent.id());
    assert!(agent.mtu() >= 1200);
}

#[tokio::test]
async fn an_agent_of_another_ca_is_refused_and_told_so() {
    let endpoint = Authority::new().endpoints(1).remove(0);
    let stranger = Authority::new();
    // It trusts this hub, or it would give up first.
    let credentials = stranger.agent("vm-1");
    let (hub, agent) = meet(&endpoint, &credentials).await;
    assert!(matches!(&agent, Err(TunnelError::Identity(text)) if text.contains("cannot be trusted")), "{agent:?}");
    assert!(hub.is_err());
}

#[tokio::test]
async fn a_hub_refuses_an_agent_whose_ca_it_does_not_know() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let endpoint = ours.endpoints(1).remove(0);
    let credentials = Credentials::new(theirs.identity(vm(), SystemTime::now(), HOUR), ours.ca.roots());
    let (hub, agent) = meet(&endpoint, &credentials).await;
    assert!(matches!(&hub, Err(TunnelError::Identity(_))), "{hub:?}");
    assert!(
        matches!(&agent, Err(TunnelError::Identity(text)) if text.contains("refuses our certificate") && text.contains("join")),
        "{agent:?}"
    );
}

#[tokio::test]
async fn roles_cannot_be_swapped() {
    let authority = Authority::new();
    // A hub's certificate does not open a tunnel as an agent.
    let endpoint = authority.endpoints(1).remove(0);
    let (hub, agent) = meet(&endpoint, &authority.hub("hub-1")).await;
    assert!(matches!(&hub, Err(TunnelError::Identity(text)) if text.contains("not an agent's")), "{hub:?}");
    assert!(agent.is_err());
    // An agent's certificate does not make a hub.
    let endpoint = endpoint_with(authority.agent("vm-2"));
    let (_, agent) = meet(&endpoint, &authority.agent("vm-1")).await;
    assert!(matches!(&agent, Err(TunnelError::Identity(text)) if text.contains("not a hub's")), "{agent:?}");
}

#[tokio::test]
async fn another_trust_domain_under_the_same_root_is_refused() {
    let authority = Authority::new();
    let other = Ca::from_pem(&"other.example".parse().unwrap(), &authority.ca.certificate_pem(), &authority.ca.key_pem()).unwrap();
    let foreign = Authority { ca: other };
    let endpoint = authority.endpoints(1).remove(0);
    let (hub, agent) = meet(&endpoint, &foreign.agent("vm-1")).await;
    assert!(matches!(&agent, Err(TunnelError::Identity(text)) if text.contains("trust domain")), "{agent:?}");
    assert!(hub.is_err());
}

#[tokio::test]
async fn an_expired_agent_hears_of_times_and_clocks() {
    let authority = Authority::new();
    let endpoint = authority.endpoints(1).remove(0);
    let past = SystemTime::now() - 48 * HOUR;
    let credentials = Credentials::new(authority.identity(vm(), past, LEAF_LIFETIME), authority.ca.roots());
    let (hub, agent) = meet(&endpoint, &credentials).await;
    assert!(matches!(&hub, Err(TunnelError::Identity(text)) if text.contains("expired")), "{hub:?}");
    let Err(TunnelError::Identity(text)) = agent else { panic!("{agent:?}") };
    assert!(text.contains("expired") && text.contains("valid from") && text.contains("clock"), "{text}");
}

#[tokio::test]
async fn an_expired_hub_is_refused_with_its_times_and_our_clock() {
    let authority = Authority::new();
    let role = Role::Hub("hub-0".parse().unwrap());
    let expired = authority.identity(role, SystemTime::now() - 48 * HOUR, LEAF_LIFETIME);
    let endpoint = endpoint_with(Credentials::new(expired, authority.ca.roots()));
    let (_, agent) = meet(&endpoint, &authority.agent("vm-1")).await;
    let Err(TunnelError::Identity(text)) = agent else { panic!("{agent:?}") };
    assert!(text.contains("expired") && text.contains("this machine's clock says"), "{text}");
}

#[tokio::test]
async fn two_roots_overlap_while_a_ca_changes_and_running_tunnels_stay() {
    let (old, new) = (Authority::new(), Authority::new());
    let both = old.ca.roots().and(&new.ca.roots()).unwrap();
    let hub_credentials = old.hub("hub-0");
    let agent_credentials = old.agent("vm-1");
    let endpoint = endpoint_with(Arc::clone(&hub_credentials));
    let (_hub, first) = join_up(&endpoint, &agent_credentials).await;
    hub_credentials.set_roots(both.clone());
    agent_credentials.set_roots(both);
    let (_hub, old_leaf) = join_up(&endpoint, &agent_credentials).await;
    hub_credentials.set_identity(new.identity(Role::Hub("hub-0".parse().unwrap()), SystemTime::now(), HOUR));
    agent_credentials.set_identity(new.identity(vm(), SystemTime::now(), HOUR));
    let (_hub, new_leaf) = join_up(&endpoint, &agent_credentials).await;
    hub_credentials.set_roots(new.ca.roots());
    agent_credentials.set_roots(new.ca.roots());
    let (_hub, last) = join_up(&endpoint, &agent_credentials).await;
    assert!([first, old_leaf, new_leaf, last].iter().all(|tunnel| !tunnel.is_closed()));
    let (_, refused) = meet(&endpoint, &old.agent("vm-1")).await;
    assert!(refused.is_err(), "the old root is gone");
}

#[tokio::test]
async fn blocked_udp_is_a_timeout_that_says_so_and_not_longer_than_promised() {
    // A bound socket that nobody reads from drops everything silently.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let began = Instant::now();
    let result = dial(silent.local_addr().unwrap(), 0, &Authority::new().agent("vm-1")).await;
    assert!(matches!(result, Err(TunnelError::Timeout(_))), "{result:?}");
    assert!(began.elapsed() < HANDSHAKE_TIMEOUT + Duration::from_secs(1));
}

#[tokio::test]
async fn an_address_without_a_route_fails_at_once() {
    // Reserved, and routed nowhere (RFC 1112, section 4); the kernel refuses it.
    let began = Instant::now();
    let result = dial(([255, 255, 255, 255], 7443).into(), 0, &Authority::new().agent("vm-1")).await;
    assert!(matches!(result, Err(TunnelError::Socket { .. })), "{result:?}");
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn a_close_is_heard_with_its_reason() {
    let authority = Authority::new();
    let endpoint = authority.endpoints(1).remove(0);
    let (hub, agent) = join_up(&endpoint, &authority.agent("vm-1")).await;
    hub.close(Close::Revoked);
    let closed = agent.closed().await;
    assert!(closed.by_peer && closed.close == Some(Close::Revoked) && closed.detail.contains("revoked"), "{closed:?}");
    assert_eq!(agent.open().await.unwrap_err().close(), Some(Close::Revoked));
    let ours = hub.closed().await;
    assert!(hub.is_closed() && !ours.by_peer && ours.close == Some(Close::Revoked), "{ours:?}");
}

#[tokio::test]
async fn dropping_all_handles_of_an_agents_tunnel_closes_it_in_good_order() {
    let authority = Authority::new();
    let endpoint = authority.endpoints(1).remove(0);
    let (hub, agent) = join_up(&endpoint, &authority.agent("vm-1")).await;
    drop(agent.clone());
    assert!(!agent.is_closed());
    drop(agent);
    let closed = hub.closed().await;
    assert!(closed.by_peer && closed.close == Some(Close::Done), "{closed:?}");
}

#[tokio::test]
async fn a_join_reaches_only_the_pinned_hub_and_sends_nothing_to_another() {
    let authority = Authority::new();
    let endpoint = authority.endpoints(1).remove(0);
    let address = endpoint.local_address().unwrap();
    let hub = async {
        match endpoint.accept().await.unwrap().establish().await {
            Ok(Established::Joining(mut joining)) => {
                let mut stream = joining.accept().await.unwrap();
                let mut question = [0; 5];
                stream.read_exact(&mut question).await.unwrap();
                assert!(joining.accept().await.is_err(), "one question only");
                stream.write_chunk("answer".into()).await.unwrap();
                stream.finish();
                joining.finish().await;
                question
            }
            other => panic!("{other:?}"),
        }
    };
    let vm = async {
        let mut join = dial_join(address, authority.ca.pin()).await.unwrap();
        assert_eq!(join.roots, authority.ca.roots());
        join.stream.write_chunk("hello".into()).await.unwrap();
        let mut answer = [0; 6];
        join.stream.read_exact(&mut answer).await.unwrap();
        answer
    };
    let (question, answer) = tokio::join!(hub, vm);
    assert_eq!((&question, &answer), (b"hello", b"answer"));

    let wrong = Authority::new().ca.pin();
    let (hub, vm) = tokio::join!(async { endpoint.accept().await.unwrap().establish().await }, dial_join(address, wrong));
    assert!(matches!(&vm, Err(TunnelError::Identity(text)) if text.contains("token")), "{vm:?}");
    assert!(hub.is_err());
}

#[tokio::test]
async fn without_a_certificate_no_tunnel_is_opened() {
    // The join's TLS with the tunnel's protocol name: what a client without a certificate might try.
    let authority = Authority::new();
    let endpoint = authority.endpoints(1).remove(0);
    let pinned = Pinned::new(authority.ca.pin());
    let crypto = tls::anonymous(pinned, figspan_proto::ALPN_TUNNEL).unwrap();
    let address = endpoint.local_address().unwrap();
    let call = Call { address, shard: 0, identity: None, recording: None };
    let connect = call.connect(crypto, Route::Udp, Arc::default());
    let (hub, client) = tokio::join!(async { endpoint.accept().await.unwrap().establish().await }, connect);
    assert!(matches!(hub, Err(TunnelError::Identity(_))), "{hub:?}");
    let client = client.unwrap();
    let closed = crate::closed::closed(client.connection.closed().await);
    assert_eq!(closed.close, Some(Close::Identity), "{closed:?}");
}

#[tokio::test]
async fn handshakes_use_the_hybrid_exchange_and_leave_no_ticket() {
    let (first, others) = provider().kx_groups.split_first().unwrap();
    assert_eq!(first.name(), rustls::NamedGroup::X25519MLKEM768);
    assert!(!others.is_empty());
    let authority = Authority::new();
    let endpoint = authority.endpoints(1).remove(0);
    let credentials = authority.agent("vm-1");
    let (_hub, _agent) = join_up(&endpoint, &credentials).await;
    // A second dial under a changed identity shows the new one: nothing was resumed.
    credentials.set_identity(authority.identity(Role::Agent("vm-2".parse().unwrap()), SystemTime::now(), HOUR));
    let address = endpoint.local_address().unwrap();
    let (hub, _agent) = tokio::join!(accept(&endpoint), dial(address, 0, &credentials));
    assert_eq!(hub.peer().agent().unwrap().as_str(), "vm-2");
}

#[tokio::test]
async fn one_identity_over_tcp_and_another_inside_is_refused() {
    let authority = Authority::new();
    let endpoint = authority.endpoints_over_both(1).remove(0);
    let address = endpoint.local_address().unwrap();
    let (outside, inside) = (authority.agent("vm-1"), authority.agent("vm-2"));
    let links = Arc::default();
    let link = link::open(address, 0, tls::agent_over_tcp(&outside).unwrap(), &links).await.unwrap();
    let call = Call { address, shard: 0, identity: None, recording: None };
    let connect = call.connect(tls::agent(&inside).unwrap(), Route::Link(link), links);
    let (hub, client) = tokio::join!(async { endpoint.accept().await.unwrap().establish().await }, connect);
    assert!(matches!(&hub, Err(TunnelError::Identity(text)) if text.contains("somebody else")), "{hub:?}");
    let closed = crate::closed::closed(client.unwrap().connection.closed().await);
    assert_eq!(closed.close, Some(Close::Identity), "{closed:?}");
}

#[tokio::test]
async fn a_tunnel_that_comes_by_a_connection_of_somebody_else_is_closed() {
    let authority = Authority::new();
    let endpoint = authority.endpoints_over_both(1).remove(0);
    let (hub, agent) = join_up(&endpoint, &authority.agent("vm-1")).await;
    let links = agent.links().unwrap();
    let other = tls::agent_over_tcp(&authority.agent("vm-2")).unwrap();
    let link = link::open(endpoint.local_address().unwrap(), 0, other, &links).await.unwrap();
    agent.switch(Route::Link(link), Transport::Tcp, crate::carrier::Why::Silent).unwrap();
    let closed = agent.closed().await;
    assert_eq!((closed.by_peer, closed.close), (true, Some(Close::Identity)), "{closed:?}");
    assert!(hub.is_closed());
}

#[tokio::test]
async fn over_tcp_both_ends_are_proven_as_well() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let endpoint = ours.endpoints_over_both(1).remove(0);
    let address = endpoint.local_address().unwrap();
    let tcp = DialOptions { preference: Preference::Tcp, ..DialOptions::default() };
    let stranger = dial_with(address, 0, &theirs.agent("vm-1"), &tcp).await;
    assert!(matches!(&stranger, Err(TunnelError::Identity(text)) if text.contains("cannot be trusted")), "{stranger:?}");
    let unknown = Credentials::new(theirs.identity(vm(), SystemTime::now(), HOUR), ours.ca.roots());
    let unknown = dial_with(address, 0, &unknown, &tcp).await;
    // TLS 1.3 lets a client finish before its certificate is refused, so this shows on the first read; nothing was carried.
    assert!(unknown.is_err(), "{unknown:?}");
    let wrong = dial_join_with(address, theirs.ca.pin(), Preference::Tcp).await;
    assert!(matches!(&wrong, Err(TunnelError::Identity(text)) if text.contains("token")), "{wrong:?}");
    assert_eq!(endpoint.open_connections(), 0, "nobody has reached QUIC");
}
