//! TCP and TLS: bytes both ways, half-close, servers that speak first, certificates by name, passthrough.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

use figspan_tests::bed::{Bed, http, rule};
use figspan_tests::web::{Workload, ok};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

const NO_CHECK: &str = "protocol = \"tcp\"\nhealth = { type = \"none\" }";

fn tcp(backends: &str) -> String {
    format!(
        "[[listener]]\nname = \"db\"\naddress = \"127.0.0.1:0\"\nprotocol = \"TCP\"\n\n[[tcp_route]]\nname = \"db\"\nlisteners = [\"db\"]\nbackend_refs = [{backends}]\n"
    )
}

#[test]
fn each_direction_ends_on_its_own() {
    // Reads to the end, then answers with the length and ends.
    let counter = Workload::raw(|mut connection| {
        let mut all = Vec::new();
        while let Ok(bytes) = connection.some(65536) {
            if bytes.is_empty() {
                break;
            }
            all.extend(bytes);
        }
        connection.send(&format!("{} bytes", all.len()));
    });
    let bed = Bed::start(&tcp("{ uplink = \"db\" }")).agent("vm-1", &counter.uplink("db", NO_CHECK)).ready("db", 1);
    let mut client = TcpStream::connect(bed.web()).unwrap();
    client.write_all(&vec![7; 3_000_000]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "3000000 bytes");
}

#[test]
fn a_server_that_speaks_first_is_heard() {
    let mail = Workload::raw(|mut connection| {
        connection.send("220 mail\r\n");
        let _ = connection.some(10);
    });
    let bed = Bed::start(&tcp("{ uplink = \"db\" }")).agent("vm-1", &mail.uplink("db", NO_CHECK)).ready("db", 1);
    let mut greeting = [0; 10];
    TcpStream::connect(bed.web()).unwrap().read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"220 mail\r\n");
}

#[test]
fn connections_are_split_exactly_and_go_elsewhere_when_refused() {
    let named = |name: &'static str| Workload::raw(move |mut connection| connection.send(name));
    let (one, two, gone) = (named("1"), named("2"), named("3"));
    let dead = gone.uplink("dead", NO_CHECK);
    drop(gone);
    let bed = Bed::start(&tcp("{ uplink = \"one\", weight = 3 }, { uplink = \"two\", weight = 1 }"))
        .agent("vm-1", &(one.uplink("one", NO_CHECK) + &two.uplink("two", NO_CHECK) + &dead))
        .ready("one", 1)
        .ready("two", 1);
    let said = |address: SocketAddr| {
        let mut text = String::new();
        TcpStream::connect(address).unwrap().read_to_string(&mut text).map(|_| text)
    };
    let all: String = (0..40).map(|_| said(bed.web()).unwrap()).collect();
    assert_eq!(all.matches('1').count(), 30, "{all}");
    bed.hub.rewrite(&tcp("{ uplink = \"one\" }, { uplink = \"dead\" }"));
    figspan_tests::process::eventually("the new backends are in force", std::time::Duration::from_secs(5), || {
        bed.hub.json(&["get", "routes"])[0]["rules"][0]["backends"][1]["name"] == "dead"
    });
    for _ in 0..10 {
        assert_eq!(said(bed.web()).unwrap(), "1", "a refused connection goes to the other workload");
    }
}

#[test]
fn the_workload_learns_the_clients_address_by_proxy_protocol() {
    let db = Workload::raw(|mut connection| {
        let header = connection.exactly(28).unwrap();
        connection.send(&format!("{header:?}"));
    });
    let bed = Bed::start(&tcp("{ uplink = \"db\" }"))
        .agent("vm-1", &db.uplink("db", &format!("{NO_CHECK}\nproxy_protocol = true")))
        .ready("db", 1);
    let mut client = TcpStream::connect(bed.web()).unwrap();
    let mut said = String::new();
    client.read_to_string(&mut said).unwrap();
    let mut wanted = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\x7f\0\0\x01\x7f\0\0\x01".to_vec();
    wanted.extend(client.local_addr().unwrap().port().to_be_bytes());
    wanted.extend(client.peer_addr().unwrap().port().to_be_bytes());
    assert_eq!(said, format!("{wanted:?}"));
}

#[test]
fn certificates_are_chosen_by_name_and_reloaded_when_they_change() {
    let shop = Workload::http(|request| ok(request.field("x-forwarded-proto")));
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name).display().to_string();
    let first = write_certificate(&path("shop"), "shop.example");
    let other = write_certificate(&path("other"), "other.example");
    let config = http(&rule("{ uplink = \"shop\" }")).replace(
        "protocol = \"HTTP\"",
        &format!(
            "protocol = \"HTTPS\"\ncertificates = [{{ certificate = \"{0}.pem\", key = \"{0}.key\" }}, {{ certificate = \"{1}.pem\", key = \"{1}.key\" }}]",
            path("shop"),
            path("other")
        ),
    );
    let bed = Bed::start(&config).agent("vm-1", &shop.uplink("shop", "health = { type = \"none\" }")).ready("shop", 1);
    let web = bed.web();
    assert_eq!(https(web, "shop.example", &first).unwrap().1, "https");
    assert_eq!(https(web, "other.example", &other).unwrap().0, other);
    let renewed = write_certificate(&path("shop"), "shop.example");
    figspan_tests::process::eventually("the renewed certificate is served", std::time::Duration::from_secs(10), || {
        https(web, "shop.example", &renewed).is_ok_and(|(certificate, _)| certificate == renewed)
    });
}

#[test]
fn tls_passes_through_to_the_workload_that_its_name_asks_for() {
    let files = tempfile::tempdir().unwrap();
    let certificate = write_certificate(&files.path().join("vault").display().to_string(), "vault.example");
    let address = tls_workload(&files.path().join("vault").display().to_string());
    let config = "[[listener]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\nprotocol = \"TLS\"\n\n\
                  [[tls_route]]\nname = \"vault\"\nlisteners = [\"tls\"]\nhostnames = [\"vault.example\"]\nbackend_refs = [{ uplink = \"vault\" }]\n";
    let uplink = format!("[[uplink]]\nname = \"vault\"\naddress = \"{address}\"\n{NO_CHECK}\n");
    let bed = Bed::start(config).agent("vm-1", &uplink).ready("vault", 1);
    let (seen, body) = https(bed.web(), "vault.example", &certificate).unwrap();
    assert_eq!((seen, body.as_str()), (certificate.clone(), "from the workload"));
    assert!(https(bed.web(), "nobody.example", &certificate).is_err(), "a name without a route is refused");
}

/// Writes `<path>.pem` and `<path>.key`; the certificate in DER.
fn write_certificate(path: &str, name: &str) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    // The key first and both by rename: a reader in between must never find halves of two pairs for long.
    for (ending, text) in [("key", made.signing_key.serialize_pem()), ("pem", made.cert.pem())] {
        std::fs::write(format!("{path}.{ending}.new"), text).unwrap();
        std::fs::rename(format!("{path}.{ending}.new"), format!("{path}.{ending}")).unwrap();
    }
    made.cert.der().clone()
}

/// One request over TLS, trusting only that certificate: the certificate seen and the body.
fn https(address: SocketAddr, name: &str, trusted: &CertificateDer<'static>) -> std::io::Result<(CertificateDer<'static>, String)> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut session = rustls::ClientConnection::new(Arc::new(config), ServerName::try_from(name.to_owned()).unwrap()).unwrap();
    let mut tcp = TcpStream::connect(address)?;
    tcp.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
    let mut tls = rustls::Stream::new(&mut session, &mut tcp);
    tls.write_all(format!("GET / HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    match tls.read_to_end(&mut answer) {
        Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => return Err(error),
        _ => {}
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    let body = text.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned();
    Ok((session.peer_certificates().unwrap()[0].clone().into_owned(), body))
}

/// A workload that ends TLS itself.
fn tls_workload(path: &str) -> SocketAddr {
    let certificate = rustls::pki_types::pem::PemObject::from_pem_file(format!("{path}.pem")).unwrap();
    let key: PrivateKeyDer<'static> = rustls::pki_types::pem::PemObject::from_pem_file(format!("{path}.key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
    let workload = Workload::raw(move |connection| {
        let mut session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut tcp = connection.write;
        let mut tls = rustls::Stream::new(&mut session, &mut tcp);
        let mut buffer = [0; 1024];
        if tls.read(&mut buffer).is_ok() {
            let _ = tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\nfrom the workload");
            session.send_close_notify();
            let _ = session.complete_io(&mut tcp);
        }
    });
    let address = workload.address;
    // Serves to the end of the test's process.
    std::mem::forget(workload);
    address
}
