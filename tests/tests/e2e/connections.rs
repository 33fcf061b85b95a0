//! Connections under the same policies as requests: weights, drain, ejection, bounds and fallbacks for TCP and TLS passthrough.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use figspan_tests::bed::Bed;
use figspan_tests::process::{eventually, text};
use figspan_tests::web::Workload;
use rustls::pki_types::ServerName;

const NO_CHECK: &str = "protocol = \"tcp\"\nhealth = { type = \"none\" }";

fn tcp(backends: &str) -> String {
    format!(
        "[[listener]]\nname = \"db\"\naddress = \"127.0.0.1:0\"\nprotocol = \"TCP\"\n\n[[tcp_route]]\nname = \"db\"\nlisteners = [\"db\"]\nbackend_refs = [{backends}]\n"
    )
}

/// Says its name to who has said something, and then whatever it hears.
fn named(name: &'static str) -> Workload {
    Workload::raw(move |mut connection| {
        while let Ok(bytes) = connection.some(4096) {
            if bytes.is_empty() || connection.write.write_all(name.as_bytes()).is_err() {
                return;
            }
        }
    })
}

/// A connection that has said something.
fn open(address: SocketAddr, first: &[u8]) -> TcpStream {
    let mut tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    tcp.write_all(first).unwrap();
    tcp
}

/// What is said back, in so many bytes; an error where the connection is refused.
fn heard(tcp: &mut TcpStream, length: usize) -> std::io::Result<String> {
    let mut bytes = vec![0; length];
    tcp.read_exact(&mut bytes).map(|()| String::from_utf8(bytes).unwrap())
}

/// Who answers a new connection; all names have three letters.
fn who(address: SocketAddr) -> std::io::Result<String> {
    heard(&mut open(address, b"who?"), 3)
}

fn metric(bed: &Bed, name: &str) -> u64 {
    bed.metrics().lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0)
}

#[test]
fn a_connection_stays_on_an_uplink_that_drains_and_keeps_it_from_being_drained() {
    let (old, new) = (named("old"), named("new"));
    let bed = Bed::start(&tcp("{ uplink = \"old\" }, { uplink = \"new\" }"))
        .agent("vm-1", &(old.uplink("old", NO_CHECK) + &new.uplink("new", NO_CHECK)))
        .ready("old", 1)
        .ready("new", 1);
    let db = bed.web();
    let mut first = open(db, b"who?");
    let mut second = open(db, b"who?");
    let (one, two) = (heard(&mut first, 3).unwrap(), heard(&mut second, 3).unwrap());
    let (mut stays, ends) = if one == "old" { (first, second) } else { (second, first) };
    assert_eq!([one.as_str(), two.as_str()].iter().filter(|name| **name == "old").count(), 1, "shares are exact");
    drop(ends);
    let early = bed.hub.ctl(&["drain", "uplink", "old", "--reason", "test", "--wait", "--timeout", "500ms"]);
    assert!(early.status.code() == Some(3) && text(&early).contains("1 requests or connections under way"), "{}", text(&early));
    for _ in 0..4 {
        assert_eq!(who(db).unwrap(), "new", "nothing new goes there");
    }
    stays.write_all(b"still there?").unwrap();
    assert_eq!(heard(&mut stays, 3).unwrap(), "old", "what is open goes on");
    drop(stays);
    let drained = bed.hub.ctl(&["drain", "uplink", "old", "--reason", "test", "--wait", "--timeout", "10s"]);
    assert!(drained.status.success(), "{}", text(&drained));
}

#[test]
fn a_connection_is_explained_as_it_then_goes_and_explaining_opens_none() {
    let (old, new) = (named("old"), named("new"));
    let tls = "\n[[listener]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\nprotocol = \"TLS\"\n\n[[tls_route]]\nname = \"shop\"\nlisteners = [\"tls\"]\nhostnames = [\"*.shop.example\"]\nbackend_refs = [{ uplink = \"new\" }]\n";
    let bed = Bed::start(&(tcp("{ uplink = \"old\", weight = 3 }, { uplink = \"new\", weight = 1 }") + tls))
        .agent("vm-1", &(old.uplink("old", NO_CHECK) + &new.uplink("new", NO_CHECK)))
        .ready("old", 1)
        .ready("new", 1);
    for _ in 0..8 {
        let told = bed.hub.json(&["explain-connection", "db", "--client", "10.1.2.3"]);
        assert_eq!((&told["route"], told["attempts"].as_array().map(Vec::len)), (&"db".into(), Some(2)), "{told}");
        let next = told["next"].as_str().unwrap().to_owned();
        let went = who(bed.web()).unwrap();
        assert_eq!(next, format!("uplink {went} on agent vm-1"), "what is told is what happens");
    }
    let route = bed.hub.json(&["get", "route", "db"]);
    let picked = [0, 1].map(|backend| route["rules"][0]["backends"][backend]["picked"].as_u64().unwrap());
    assert_eq!(picked, [6, 2], "none was opened to explain");
    let told = bed.hub.json(&["explain-connection", "tls", "--server-name", "a.shop.example"]);
    assert_eq!((&told["route"], &told["next"]), (&"shop".into(), &"uplink new on agent vm-1".into()), "{told}");
    let page = text(&bed.hub.ctl(&["explain-connection", "tls", "--server-name", "other.example"]));
    assert!(page.contains("the connection ends with the alert unrecognized_name"), "{page}");
    let page = text(&bed.hub.ctl(&["explain-connection", "nowhere"]));
    assert!(page.contains("no such listener"), "{page}");
}

#[test]
fn an_agent_whose_workload_refuses_connections_is_ejected_and_asked_no_more() {
    let (good, gone) = (named("one"), named("two"));
    let dead = gone.uplink("db", NO_CHECK);
    drop(gone);
    let policy = "\n[[backend_policy]]\nuplink = \"db\"\noutlier_ejection = { base = \"60s\" }\n";
    let bed =
        Bed::start(&(tcp("{ uplink = \"db\" }") + policy)).agent("vm-1", &good.uplink("db", NO_CHECK)).agent("vm-2", &dead).ready("db", 2);
    for _ in 0..20 {
        assert_eq!(who(bed.web()).unwrap(), "one", "a refused connection goes to the other agent");
    }
    let refused = metric(&bed, "figspan_failures_total{side=\"workload\",reason=\"connect-refused\"}");
    assert_eq!(refused, 3, "three in a row eject it, and nobody knocks there any more");
    let verdicts = bed.hub.json(&["get", "backends"])[0]["endpoints"].clone();
    let of = |agent: &str| verdicts.as_array().unwrap().iter().find(|endpoint| endpoint["name"] == agent).unwrap()["verdict"].clone();
    assert_eq!((of("vm-1"), of("vm-2")), ("ready".into(), "ejected".into()));
}

#[test]
fn connections_beyond_a_backends_bound_wait_then_are_refused_or_go_to_the_tier_below() {
    let (main, spare) = (named("one"), named("two"));
    let limits = "\n[[backend_policy]]\nuplink = \"db\"\nlimits = { connections = 1, wait = \"1500ms\" }\n";
    let bed = Bed::start(&(tcp("{ uplink = \"db\" }") + limits)).agent("vm-1", &main.uplink("db", NO_CHECK)).ready("db", 1);
    let db = bed.web();
    let mut first = open(db, b"who?");
    assert_eq!(heard(&mut first, 3).unwrap(), "one");
    let begun = Instant::now();
    assert!(who(db).is_err(), "refused visibly");
    assert!(begun.elapsed() >= Duration::from_millis(1500), "not before its time to wait: {:?}", begun.elapsed());
    assert_eq!(metric(&bed, "figspan_limit_hits_total{limit=\"backend_connections\"}"), 1);
    // Who waits gets the room that ends in time.
    let waiting = std::thread::spawn(move || who(db));
    eventually("it waits", Duration::from_secs(5), || bed.hub.json(&["get", "backends"])[0]["connections"]["waiting"] == 1);
    drop(first);
    assert_eq!(waiting.join().unwrap().unwrap(), "one");
    let service = format!("\n[[service]]\nname = \"spare\"\nprotocol = \"tcp\"\naddresses = [\"{}\"]\n", spare.address);
    bed.hub.rewrite(&(tcp("{ uplink = \"db\" }, { service = \"spare\", fallback = 1 }") + limits + &service));
    eventually("the tier below is known", Duration::from_secs(5), || {
        bed.hub.json(&["get", "routes"])[0]["rules"][0]["backends"][1]["name"] == "spare"
    });
    let mut holds = open(db, b"who?");
    assert_eq!(heard(&mut holds, 3).unwrap(), "one");
    assert_eq!(who(db).unwrap(), "two", "a full backend is as good as none");
}

/// What a client of that name begins with.
fn client_hello(name: &'static str) -> Vec<u8> {
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let mut session = rustls::ClientConnection::new(Arc::new(config), ServerName::try_from(name).unwrap()).unwrap();
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    hello
}

#[test]
fn tls_that_passes_through_is_split_drained_bounded_and_fails_over_like_tcp() {
    let (one, two, spare) = (named("one"), named("two"), named("bad"));
    let config = format!(
        "[[listener]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\nprotocol = \"TLS\"\n\n[[tls_route]]\nname = \"vault\"\nlisteners = [\"tls\"]\n\
         hostnames = [\"*.example\"]\nbackend_refs = [{{ uplink = \"one\" }}, {{ uplink = \"two\" }}, {{ service = \"spare\", fallback = 1 }}]\n\n\
         [[service]]\nname = \"spare\"\nprotocol = \"tcp\"\naddresses = [\"{}\"]\n\n\
         [[backend_policy]]\nuplink = \"two\"\nlimits = {{ requests = 1, wait = \"1s\" }}\noutlier_ejection = {{ base = \"60s\" }}\n",
        spare.address
    );
    let bed = Bed::start(&config)
        .agent("vm-1", &one.uplink("one", &format!("{NO_CHECK}\nweight = 3")))
        .agent("vm-2", &two.uplink("two", &format!("{NO_CHECK}\nweight = 1")))
        .ready("one", 1)
        .ready("two", 1);
    let (tls, hello) = (bed.web(), client_hello("vault.example"));
    let ask = || heard(&mut open(tls, &hello), 3).unwrap();
    let split: Vec<String> = (0..20).map(|_| ask()).collect();
    assert_eq!(split.iter().filter(|name| *name == "one").count(), 15, "{split:?}");
    bed.hub.json(&["drain", "uplink", "one", "--reason", "test", "--wait"]);
    assert_eq!((ask(), ask()), ("two".to_owned(), "two".to_owned()));
    let mut holds = open(tls, &hello);
    assert_eq!(heard(&mut holds, 3).unwrap(), "two");
    assert_eq!(ask(), "bad", "a second connection finds no room there, and the tier below has some");
    assert_eq!(metric(&bed, "figspan_limit_hits_total{limit=\"backend_requests\"}"), 1);
    drop(holds);
    eventually("its room is free", Duration::from_secs(5), || ask() == "two");
    drop(two);
    for _ in 0..8 {
        assert_eq!(ask(), "bad", "what the workload refuses goes to the tier below");
    }
    assert!(bed.metrics().contains("figspan_failures_total{side=\"workload\",reason=\"connect-refused\"}"));
}
