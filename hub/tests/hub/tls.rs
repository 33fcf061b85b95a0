//! TLS of the hub's own sockets: listeners whose certificates change, and the admin API over TCP.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use figspan_hub::{Config, Hub, Options};
use figspan_tunnel::backend_tls::BackendTlsClient;
use tokio::net::TcpStream;

use crate::client::Connection;
use crate::{TestHub, eventually, preamble};

/// Writes a self-signed certificate for `localhost` and its key; returns the certificate.
fn issue(dir: &Path) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
    fs::write(dir.join("new-key.pem"), key.serialize_pem()).unwrap();
    fs::write(dir.join("new-chain.pem"), &certificate).unwrap();
    fs::rename(dir.join("new-key.pem"), dir.join("key.pem")).unwrap();
    fs::rename(dir.join("new-chain.pem"), dir.join("chain.pem")).unwrap();
    certificate
}

async fn connect(address: SocketAddr, trusted: &str) -> std::io::Result<Connection> {
    let client = BackendTlsClient::new("localhost", Some(trusted), Some(false)).unwrap();
    let io = client.connect(TcpStream::connect(address).await.unwrap()).await?;
    Ok(Connection::over(io).await)
}

const SECURE: &str = r#"
[[listener]]
name = "secure"
address = "127.0.0.1:0"
protocol = "HTTPS"
certificates = [{ certificate = "chain.pem", key = "key.pem" }]
[[http_route]]
name = "everything"
[[http_route.rules]]
backend_refs = [{ uplink = "monolith" }]
"#;

fn secure() -> (TestHub, String) {
    let dir = tempfile::tempdir().unwrap();
    let certificate = issue(dir.path());
    let file = dir.path().join("hub.toml");
    fs::write(&file, preamble(&dir) + SECURE).unwrap();
    let running = Hub::start(Options::new(Config::File(file))).unwrap();
    (TestHub { running, dir }, certificate)
}

#[tokio::test]
async fn a_replaced_certificate_counts_for_new_connections_and_keeps_old_ones() {
    let (hub, first) = secure();
    let address = hub.running.listener("secure").unwrap();
    let mut old = connect(address, &first).await.unwrap();
    assert_eq!(old.get_at("localhost", "/").await.unwrap().0, 503);
    let second = issue(hub.dir.path());
    // Nobody asks for a reload: the files are watched.
    eventually("the new certificate is shown", || async { connect(address, &second).await.is_ok() }).await;
    assert!(connect(address, &first).await.is_err());
    assert_eq!(old.get_at("localhost", "/").await.unwrap().0, 503, "the old connection goes on");
}

#[tokio::test]
async fn a_key_that_does_not_fit_keeps_the_old_pair_and_is_told() {
    let (hub, first) = secure();
    let address = hub.running.listener("secure").unwrap();
    let foreign = rcgen::KeyPair::generate().unwrap();
    fs::write(hub.dir.path().join("key.pem"), foreign.serialize_pem()).unwrap();
    let told =
        || hub.running.control().events(0, 100).iter().any(|event| event.subject == "certificates" && event.message.contains("chain.pem"));
    eventually("the mismatch is told", || async { told() }).await;
    assert!(connect(address, &first).await.is_ok());
    let found = figspan_hub::check::file(&hub.file());
    assert!(found.errors.iter().any(|error| error.contains("chain.pem")), "{found:?}");
}

#[tokio::test]
async fn the_admin_api_over_tcp_asks_for_its_token() {
    let dir = tempfile::tempdir().unwrap();
    let certificate = issue(dir.path());
    fs::write(dir.path().join("token"), "0123456789abcdef0123456789abcdef\n").unwrap();
    let tcp = "address = \"127.0.0.1:0\"\ntoken_file = \"token\"\ntls = { certificate = \"chain.pem\", key = \"key.pem\" }\n[metrics]";
    let file = dir.path().join("hub.toml");
    fs::write(&file, preamble(&dir).replace("[metrics]", tcp)).unwrap();
    let running = Hub::start(Options::new(Config::File(file))).unwrap();
    let address = running.admin_address().unwrap();
    let mut connection = connect(address, &certificate).await.unwrap();
    for (token, code) in [("0123456789abcdef0123456789abcdef", 200), ("0123456789abcdef0123456789abcdee", 401)] {
        assert_eq!(connection.get_with_token("/v1/status", token).await.unwrap().0, code);
    }
    assert_eq!(connection.get("/v1/status").await.unwrap().0, 401);
}

#[tokio::test]
async fn the_admin_api_with_a_client_ca_lets_nobody_in_without_a_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let certificate = issue(dir.path());
    let tcp = "address = \"127.0.0.1:0\"\ntls = { certificate = \"chain.pem\", key = \"key.pem\", client_ca = \"chain.pem\" }\n[metrics]";
    let file = dir.path().join("hub.toml");
    fs::write(&file, preamble(&dir).replace("[metrics]", tcp)).unwrap();
    let running = Hub::start(Options::new(Config::File(file))).unwrap();
    // In TLS 1.3 the client learns of its refusal with the first answer.
    let refused = match connect(running.admin_address().unwrap(), &certificate).await {
        Ok(mut connection) => connection.get("/v1/status").await.is_err(),
        Err(_) => true,
    };
    assert!(refused);
}
