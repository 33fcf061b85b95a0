use std::collections::HashMap;

use proptest::prelude::*;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::*;

const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const TTL: u32 = 60;

/// A name server for a few names: answers by (name, type), and NXDOMAIN for the rest.
struct NameServer {
    address: SocketAddr,
    _task: JoinSet<()>,
}

fn encode(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out
}

fn srv(priority: u16, weight: u16, port: u16, target: &str) -> Vec<u8> {
    [&priority.to_be_bytes()[..], &weight.to_be_bytes(), &port.to_be_bytes(), &encode(target)].concat()
}

impl NameServer {
    async fn start(records: &[(&str, u16, Vec<u8>)]) -> Self {
        let mut zone: HashMap<(String, u16), Vec<Vec<u8>>> = HashMap::new();
        for (name, kind, data) in records {
            zone.entry(((*name).to_owned(), *kind)).or_default().push(data.clone());
        }
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                if let Some(answer) = reply(&buffer[..length], &zone) {
                    socket.send_to(&answer, from).await.unwrap();
                }
            }
        });
        Self { address, _task: task }
    }

    fn resolver(&self) -> Resolver {
        Resolver::with_name_servers(vec![self.address])
    }
}

/// RFC 1035, section 4, for one question.
fn reply(query: &[u8], zone: &HashMap<(String, u16), Vec<Vec<u8>>>) -> Option<Vec<u8>> {
    let (mut at, mut labels) = (12, Vec::new());
    while *query.get(at)? != 0 {
        let length = usize::from(query[at]);
        labels.push(String::from_utf8(query.get(at + 1..=at + length)?.to_vec()).ok()?);
        at += 1 + length;
    }
    let kind = u16::from_be_bytes([*query.get(at + 1)?, *query.get(at + 2)?]);
    let question = &query[12..at + 5];
    let name = labels.join(".").to_ascii_lowercase();
    let answers = zone.get(&(name.clone(), kind)).cloned().unwrap_or_default();
    let known = zone.keys().any(|(other, _)| *other == name);
    let mut out = query[..2].to_vec();
    out.extend_from_slice(&[0x85, if known { 0x80 } else { 0x83 }, 0, 1]);
    out.extend_from_slice(&(answers.len() as u16).to_be_bytes());
    out.extend_from_slice(&[0, 0, 0, 0]);
    out.extend_from_slice(question);
    for data in answers {
        out.extend_from_slice(&[0xc0, 12]);
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&[0, 1]);
        out.extend_from_slice(&TTL.to_be_bytes());
        out.extend_from_slice(&(data.len() as u16).to_be_bytes());
        out.extend_from_slice(&data);
    }
    Some(out)
}

fn v4(last: u8, port: u16) -> SocketAddr {
    ([10, 0, 0, last], port).into()
}

fn v6(last: u16, port: u16) -> SocketAddr {
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, last], port).into()
}

fn a(last: u8) -> Vec<u8> {
    vec![10, 0, 0, last]
}

fn aaaa(last: u16) -> Vec<u8> {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).octets().to_vec()
}

#[tokio::test]
async fn all_addresses_of_a_name_are_candidates_with_families_interleaved() {
    let server =
        NameServer::start(&[("hub.test", A, a(1)), ("hub.test", A, a(2)), ("hub.test", AAAA, aaaa(1)), ("hub.test", AAAA, aaaa(2))]).await;
    let answer = server.resolver().lookup("hub.test:7443", 1).await.unwrap();
    let mut sorted = answer.addresses.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [v4(1, 7443), v4(2, 7443), v6(1, 7443), v6(2, 7443)]);
    assert_eq!(answer.addresses.iter().map(SocketAddr::is_ipv6).collect::<Vec<_>>(), [true, false, true, false]);
    assert!(answer.valid_for <= Duration::from_secs(60) && answer.valid_for > Duration::from_secs(50), "{:?}", answer.valid_for);
}

#[tokio::test]
async fn a_name_without_a_port_is_asked_for_by_srv() {
    let server = NameServer::start(&[
        ("_figspan._udp.hub.test", SRV, srv(20, 1, 7445, "spare.test")),
        ("_figspan._udp.hub.test", SRV, srv(10, 1, 7443, "one.test")),
        ("_figspan._udp.hub.test", SRV, srv(10, 0, 7444, "one.test")),
        ("_figspan._udp.hub.test", SRV, srv(10, 5, 7446, "gone.test")),
        ("one.test", A, a(1)),
        ("one.test", AAAA, aaaa(1)),
        ("spare.test", A, a(9)),
    ])
    .await;
    let answer = server.resolver().lookup("hub.test", 1).await.unwrap();
    let (first, last) = answer.addresses.split_at(4);
    let mut first = first.to_vec();
    first.sort_unstable();
    assert_eq!(first, [v4(1, 7443), v4(1, 7444), v6(1, 7443), v6(1, 7444)], "a target without an address is left out");
    assert_eq!(last, [v4(9, 7445)], "the higher priority number comes last");
}

#[tokio::test]
async fn a_name_without_srv_records_gets_the_default_port() {
    let server = NameServer::start(&[("hub.test", A, a(1))]).await;
    assert_eq!(server.resolver().lookup("hub.test", 7443).await.unwrap().addresses, [v4(1, 7443)]);
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_said_to_have_no_address() {
    let server = NameServer::start(&[("hub.test", A, a(1))]).await;
    let error = server.resolver().lookup("typo.test:7443", 1).await.unwrap_err();
    assert!(matches!(&error, ResolveError::NoAddress(name) if name == "typo.test"), "{error:?}");
}

#[tokio::test]
async fn a_dead_name_server_is_a_failure_in_bounded_time_and_not_for_literals() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let resolver = Resolver::with_name_servers(vec![silent.local_addr().unwrap()]);
    let began = Instant::now();
    let error = resolver.lookup("hub.test:7443", 1).await.unwrap_err();
    assert!(matches!(error, ResolveError::Failed { .. }), "{error:?}");
    assert!(began.elapsed() < LOOKUP_TIMEOUT + Duration::from_secs(1));
    assert_eq!(resolver.lookup("192.0.2.1:5", 1).await.unwrap().addresses, ["192.0.2.1:5".parse().unwrap()]);
}

#[tokio::test]
async fn literals_and_localhost_ask_nobody() {
    let resolver = Resolver::system().unwrap();
    for (target, wanted) in [
        ("192.0.2.1:5", vec!["192.0.2.1:5"]),
        ("192.0.2.1", vec!["192.0.2.1:7443"]),
        ("[2001:db8::1]:5", vec!["[2001:db8::1]:5"]),
        ("[2001:db8::1]", vec!["[2001:db8::1]:7443"]),
        ("2001:db8::1", vec!["[2001:db8::1]:7443"]),
        ("localhost:8080", vec!["127.0.0.1:8080", "[::1]:8080"]),
        ("LocalHost", vec!["127.0.0.1:7443", "[::1]:7443"]),
    ] {
        let wanted: Vec<SocketAddr> = wanted.iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(resolver.lookup(target, 7443).await.unwrap().addresses, wanted, "{target}");
    }
    assert!(resolver.0.resolver.load().is_none(), "no configuration was read");
}

#[test]
fn what_is_no_target_is_refused_with_an_example() {
    for bad in ["", ":80", "a:b", "a:70000", "a b", "a/b", "http://a", "a..b", ".a", "[::1", "user@host:1", &"x".repeat(300)] {
        let error = parse(bad, 1).unwrap_err();
        assert!(error.to_string().contains("hub.example:7443"), "{bad}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in ".{0,80}") {
        let _ = parse(&text, 1);
    }
}
