//! Clients over TLS: HTTP/2 by ALPN with exact shares over its streams, and WebSocket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use figspan_tests::bed::{Bed, http, rule};
use figspan_tests::web::{Workload, accept_websocket};
use rustls::pki_types::ServerName;

const NO_CHECK: &str = "health = { type = \"none\" }";

/// The configuration with its listener as HTTPS, and a client's settings that trust it.
fn https(folder: &std::path::Path, config: &str, alpn: &[&[u8]]) -> (String, Arc<rustls::ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(["shop.example".to_owned()]).unwrap();
    let (certificate, key) = (folder.join("shop.pem"), folder.join("shop.key"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let pair =
        format!("protocol = \"HTTPS\"\ncertificates = [{{ certificate = \"{}\", key = \"{}\" }}]", certificate.display(), key.display());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut client = builder.with_root_certificates(roots).with_no_client_auth();
    client.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    (config.replace("protocol = \"HTTP\"", &pair), Arc::new(client))
}

#[test]
fn http_2_by_alpn_splits_its_streams_exactly() {
    let (old, new) = (Workload::named("old"), Workload::named("new"));
    let files = tempfile::tempdir().unwrap();
    let plain = http(&rule("{ uplink = \"old\", weight = 9 }, { uplink = \"new\", weight = 1 }"));
    let (config, tls) = https(files.path(), &plain, &[b"h2", b"http/1.1"]);
    let bed =
        Bed::start(&config).agent("vm-1", &(old.uplink("old", NO_CHECK) + &new.uplink("new", NO_CHECK))).ready("old", 1).ready("new", 1);
    let web = bed.web();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let tcp = tokio::net::TcpStream::connect(web).await.unwrap();
        let name = ServerName::try_from("shop.example").unwrap();
        let io = tokio_rustls::TlsConnector::from(tls).connect(name, tcp).await.unwrap();
        assert_eq!(io.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (sender, connection) = h2::client::handshake(io).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            let _ = connection.await;
        });
        // Ten at once, ten times: all under way together on one connection.
        for _ in 0..10 {
            let mut answers = Vec::new();
            for _ in 0..10 {
                let mut sender: h2::client::SendRequest<Bytes> = sender.clone().ready().await.unwrap();
                let request = hyper::Request::get("https://shop.example/").body(()).unwrap();
                answers.push(sender.send_request(request, true).unwrap().0);
            }
            for answer in answers {
                let mut answer = answer.await.unwrap();
                assert_eq!(answer.status(), 200);
                while let Some(data) = answer.body_mut().data().await {
                    data.unwrap();
                }
            }
        }
    });
    assert_eq!((old.seen(), new.seen()), (90, 10));
}

fn tls_client(web: SocketAddr, config: Arc<rustls::ClientConfig>) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    let session = rustls::ClientConnection::new(config, ServerName::try_from("shop.example").unwrap()).unwrap();
    let tcp = TcpStream::connect(web).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    rustls::StreamOwned::new(session, tcp)
}

#[test]
fn a_websocket_goes_through_a_tls_listener() {
    let echo = Workload::raw(|mut connection| {
        let Ok(Some(request)) = connection.message() else { return };
        connection.send(&accept_websocket(&request));
        while let Ok(bytes) = connection.some(1024) {
            if bytes.is_empty() || connection.write.write_all(&bytes).is_err() {
                return;
            }
        }
    });
    let files = tempfile::tempdir().unwrap();
    let (config, tls) = https(files.path(), &http(&rule("{ uplink = \"shop\" }")), &[b"http/1.1"]);
    let bed = Bed::start(&config).agent("vm-1", &echo.uplink("shop", NO_CHECK)).ready("shop", 1);
    let mut client = tls_client(bed.web(), tls);
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    let asked = format!(
        "GET /chat HTTP/1.1\r\nhost: shop.example\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n\r\n"
    );
    client.write_all(asked.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101") && head.contains("s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
    client.write_all(b"hello").unwrap();
    let mut said = [0; 5];
    client.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"hello");
}

#[test]
fn a_tcp_connection_outlives_weight_zero_and_keeps_its_uplink_from_being_drained() {
    let echo = Workload::raw(|mut connection| {
        while let Ok(bytes) = connection.some(1024) {
            if bytes.is_empty() || connection.write.write_all(&bytes).is_err() {
                return;
            }
        }
    });
    let config = "[[listener]]\nname = \"db\"\naddress = \"127.0.0.1:0\"\nprotocol = \"TCP\"\n\n[[tcp_route]]\nname = \"db\"\n\
                  listeners = [\"db\"]\nbackend_refs = [{ uplink = \"db\" }]\n";
    let bed = Bed::start(config).agent("vm-1", &echo.uplink("db", &format!("protocol = \"tcp\"\n{NO_CHECK}"))).ready("db", 1);
    let mut open = TcpStream::connect(bed.web()).unwrap();
    open.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut said = [0; 5];
    let mut echoed = |open: &mut TcpStream| {
        open.write_all(b"hello").unwrap();
        open.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"hello");
    };
    echoed(&mut open);
    let set = bed.hub.ctl(&["drain", "uplink", "db", "--reason", "test", "--wait", "--timeout", "1s"]);
    assert!(!set.status.success(), "it is not drained while a connection is open");
    let mut late = TcpStream::connect(bed.web()).unwrap();
    late.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert!(late.read(&mut [0]).is_err(), "a new connection is reset");
    echoed(&mut open);
    drop(open);
    let set = bed.hub.ctl(&["drain", "uplink", "db", "--reason", "test", "--wait", "--timeout", "20s"]);
    assert!(set.status.success(), "{}", figspan_tests::process::text(&set));
}
