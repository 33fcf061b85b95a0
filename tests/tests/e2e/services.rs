//! Addresses in the cluster beside uplinks: HTTP/1.1, DNS names from the first request on, and TLS, also for TCP.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use figspan_tests::bed::{Bed, http, rule};
use figspan_tests::process::eventually;
use figspan_tests::web::Workload;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

/// A TCP service behind TLS that answers with what it got, in capitals, once the client has ended its side.
fn tls_shouter(certificate: &rcgen::CertifiedKey<rcgen::KeyPair>) -> SocketAddr {
    let key = PrivateKeyDer::from_pem_slice(certificate.signing_key.serialize_pem().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(builder.with_no_client_auth().with_single_cert(vec![certificate.cert.der().clone()], key).unwrap());
    let workload = Workload::raw(move |connection| {
        let mut session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut tcp = connection.write;
        let mut heard = Vec::new();
        let mut tls = rustls::Stream::new(&mut session, &mut tcp);
        if tls.read_to_end(&mut heard).is_ok() {
            let _ = tls.write_all(&heard.to_ascii_uppercase());
            session.send_close_notify();
            let _ = session.complete_io(&mut tcp);
        }
    });
    let address = workload.address;
    // Serves to the end of the test's process.
    std::mem::forget(workload);
    address
}

fn said_back(web: SocketAddr) -> std::io::Result<String> {
    let mut client = TcpStream::connect(web)?;
    client.set_read_timeout(Some(Duration::from_secs(10)))?;
    client.write_all(b"hello")?;
    client.shutdown(Shutdown::Write)?;
    let mut said = String::new();
    client.read_to_string(&mut said).map(|_| said)
}

const TCP: &str = "[log]\nformat = \"text\"\n\n[[listener]]\nname = \"db\"\naddress = \"127.0.0.1:0\"\nprotocol = \"TCP\"\n\n[[tcp_route]]\nname = \"db\"\nlisteners = [\"db\"]\n";

#[test]
fn tcp_reaches_a_service_and_an_uplink_over_verified_tls_with_half_close() {
    let certificate = rcgen::generate_simple_self_signed(["db.example".to_owned()]).unwrap();
    let files = tempfile::tempdir().unwrap();
    let ca = files.path().join("ca.pem").display().to_string();
    std::fs::write(&ca, certificate.cert.pem()).unwrap();
    let address = tls_shouter(&certificate);
    let service = |hostname: &str| {
        format!(
            "{TCP}backend_refs = [{{ service = \"db\" }}]\n\n[[service]]\nname = \"db\"\nprotocol = \"tcp\"\naddresses = [\"{address}\"]\n\
             tls = {{ hostname = \"{hostname}\", ca_certificate = \"{ca}\" }}\n"
        )
    };
    let bed = Bed::start(&service("db.example"));
    assert_eq!(said_back(bed.web()).unwrap(), "HELLO");
    // A certificate for another name: nothing of the client leaves, and it sees a reset.
    bed.hub.rewrite(&service("other.example"));
    eventually("the new name is in force", Duration::from_secs(10), || said_back(bed.web()).is_err());
    let uplink = format!(
        "{TCP}backend_refs = [{{ uplink = \"db\" }}]\n\n[[uplink_tls]]\nuplink = \"db\"\nhostname = \"db.example\"\nca_certificate = \"{ca}\"\n"
    );
    let bed = Bed::start(&uplink)
        .agent("vm-1", &format!("[[uplink]]\nname = \"db\"\naddress = \"{address}\"\nprotocol = \"tcp\"\nhealth = {{ type = \"none\" }}\n"))
        .ready("db", 1);
    assert_eq!(said_back(bed.web()).unwrap(), "HELLO");
    let log = || std::fs::read_to_string(bed.hub.folder.join("hub.log")).unwrap();
    eventually("the connection is in the access log", Duration::from_secs(5), || {
        log().lines().any(|line| line.contains("figspan::access") && line.contains("vm-1") && line.contains("received=5"))
    });
}

#[test]
fn a_service_by_name_answers_the_first_request_after_the_start() {
    let orders = Workload::named("orders");
    let config = format!(
        "{}\n[[service]]\nname = \"orders\"\naddresses = [\"localhost:{}\"]\n",
        http(&rule("{ service = \"orders\" }")),
        orders.address.port()
    );
    for _ in 0..3 {
        let bed = Bed::start(&config);
        assert_eq!(bed.get("/").text(), "orders");
    }
    let bed =
        Bed::start(&config.replace("name = \"orders\"\naddresses = [\"localhost", "name = \"orders\"\naddresses = [\"nobody.invalid"));
    let start = std::time::Instant::now();
    assert_eq!(bed.get("/").status(), 503);
    assert!(start.elapsed() < Duration::from_secs(8), "the wait is bounded by the connect timeout");
}

#[test]
fn an_https_service_is_spoken_to_under_its_verified_name_only() {
    let certificate = rcgen::generate_simple_self_signed(["orders.example".to_owned()]).unwrap();
    let files = tempfile::tempdir().unwrap();
    let ca = files.path().join("ca.pem").display().to_string();
    std::fs::write(&ca, certificate.cert.pem()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(certificate.signing_key.serialize_pem().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(builder.with_no_client_auth().with_single_cert(vec![certificate.cert.der().clone()], key).unwrap());
    let workload = Workload::raw(move |connection| {
        let mut session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut tcp = connection.write;
        let mut tls = rustls::Stream::new(&mut session, &mut tcp);
        let mut head = [0; 1024];
        while matches!(tls.read(&mut head), Ok(1..)) {
            if tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nsecured").is_err() {
                return;
            }
        }
    });
    let service = |hostname: &str| {
        format!(
            "{}\n[[service]]\nname = \"orders\"\nprotocol = \"http1\"\naddresses = [\"{}\"]\ntls = {{ hostname = \"{hostname}\", ca_certificate = \"{ca}\" }}\n",
            http(&rule("{ service = \"orders\" }")),
            workload.address
        )
    };
    let bed = Bed::start(&service("orders.example"));
    assert_eq!(bed.get("/").text(), "secured");
    bed.hub.rewrite(&service("other.example"));
    eventually("the new name is in force", Duration::from_secs(10), || bed.get("/").field("figspan-reason") == "tls-failed");
}
