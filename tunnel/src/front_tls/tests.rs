use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::*;
use crate::backend_tls::{BackendTlsClient, BackendTlsError};

/// A CA for names, and a pair for some.
struct WebCa {
    params: rcgen::CertificateParams,
    key: rcgen::KeyPair,
}

impl WebCa {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "web CA");
        Self { params, key: rcgen::KeyPair::generate().unwrap() }
    }

    fn pem(&self) -> String {
        self.params.self_signed(&self.key).unwrap().pem()
    }

    fn pair(&self, names: &[&str]) -> PemPair {
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = rcgen::CertificateParams::new(names.clone()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let issuer = rcgen::Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).unwrap().pem();
        PemPair { source: format!("{}.pem", names.join("+")), certificate, key: key.serialize_pem() }
    }
}

/// One connection to the server under a name: what the client sees, and what the server does.
async fn meet(server: &FrontTls, ca: &WebCa, name: &str, h2: Option<bool>) -> (io::Result<Vec<u8>>, io::Result<FrontStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = BackendTlsClient::new(name, Some(&ca.pem()), h2).unwrap();
    let dial = async {
        let io = client.connect(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap()).await?;
        Ok(io.get_ref().1.peer_certificates().unwrap()[0].to_vec())
    };
    let serve = async { server.accept(listener.accept().await.unwrap().0).await };
    tokio::join!(dial, serve)
}

fn der(pair: &PemPair) -> Vec<u8> {
    crate::identity::certificates("test", &pair.certificate).unwrap()[0].to_vec()
}

#[tokio::test]
async fn sni_chooses_the_certificate_and_the_first_is_the_default() {
    let ca = WebCa::new();
    let pairs = [ca.pair(&["one.example", "other.example"]), ca.pair(&["Two.Example"]), ca.pair(&["*.wild.example"])];
    let server = FrontTls::new(&pairs).unwrap();
    for (name, wanted) in [("one.example", 0), ("other.example", 0), ("two.example", 1), ("a.wild.example", 2)] {
        let (seen, stream) = meet(&server, &ca, name, Some(true)).await;
        assert_eq!(seen.unwrap(), der(&pairs[wanted]), "{name}");
        let stream = stream.unwrap();
        assert_eq!(stream.server_name.as_deref(), Some(name));
        assert!(stream.h2);
    }
    // A wildcard stands for one label: this gets the default, and a client that verifies names refuses it.
    let (seen, _) = meet(&server, &ca, "a.b.wild.example", Some(false)).await;
    assert!(seen.unwrap_err().to_string().contains("not valid for name"));
}

#[tokio::test]
async fn alpn_says_which_http_is_spoken() {
    let ca = WebCa::new();
    let server = FrontTls::new(&[ca.pair(&["one.example"])]).unwrap();
    for (offer, h2) in [(Some(true), true), (Some(false), false), (None, false)] {
        let (_, stream) = meet(&server, &ca, "one.example", offer).await;
        assert_eq!(stream.unwrap().h2, h2);
    }
}

#[tokio::test]
async fn certificates_are_replaced_for_new_handshakes_and_a_bad_set_changes_nothing() {
    let ca = WebCa::new();
    let (old, new) = (ca.pair(&["one.example"]), ca.pair(&["one.example"]));
    let server = FrontTls::new(std::slice::from_ref(&old)).unwrap();
    let mixed = PemPair { key: old.key.clone(), ..new.clone() };
    let garbled = PemPair { certificate: "nothing".into(), ..new.clone() };
    let keyless = PemPair { key: "nothing".into(), ..new.clone() };
    let errors = server.replace(&[mixed, garbled, keyless, new.clone()]).unwrap_err();
    assert!(matches!(errors[..], [FrontTlsError::Mismatch(_), FrontTlsError::Certificate { .. }, FrontTlsError::Key { .. }]), "{errors:?}");
    assert_eq!(meet(&server, &ca, "one.example", None).await.0.unwrap(), der(&old));
    server.replace(std::slice::from_ref(&new)).unwrap();
    assert_eq!(meet(&server, &ca, "one.example", None).await.0.unwrap(), der(&new));
    assert!(matches!(FrontTls::new(&[]).unwrap_err()[..], [FrontTlsError::Empty]));
    assert!(!format!("{old:?} {errors:?}").contains("PRIVATE"));
}

#[tokio::test]
async fn a_backend_must_prove_its_name_to_a_root_that_is_given() {
    let (ca, other) = (WebCa::new(), WebCa::new());
    let server = FrontTls::new(&[ca.pair(&["one.example"])]).unwrap();
    assert!(meet(&server, &ca, "one.example", None).await.0.is_ok());
    assert!(meet(&server, &ca, "else.example", None).await.0.is_err());
    assert!(meet(&server, &other, "one.example", None).await.0.is_err());
    assert!(matches!(BackendTlsClient::new("not a name", Some(&ca.pem()), None), Err(BackendTlsError::Hostname(_))));
    assert!(matches!(BackendTlsClient::new("one.example", Some("nothing"), None), Err(BackendTlsError::Roots(_))));
}

/// What a client with this name would send first.
async fn hello(name: &str) -> Vec<u8> {
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    let client = BackendTlsClient::new(name, Some(&WebCa::new().pem()), Some(true)).unwrap();
    let mut first = BytesMut::with_capacity(64 * 1024);
    tokio::select! {
        _ = client.connect(near) => panic!("nobody answers"),
        read = far.read_buf(&mut first) => { read.unwrap(); }
    }
    first.to_vec()
}

#[tokio::test]
async fn a_client_hello_is_read_without_being_answered_however_it_is_cut() {
    let hello = hello("Passed.Example").await;
    for piece in [1, 7, 500, hello.len()] {
        let (mut near, mut far) = tokio::io::duplex(piece);
        let write = async {
            far.write_all(&hello).await.unwrap();
            far
        };
        let ((name, seen), _far) = tokio::join!(async { client_hello(&mut near).await.unwrap() }, write);
        assert_eq!(name.as_deref(), Some("passed.example"));
        assert_eq!(seen, hello, "all that was read is handed on");
    }
}

#[tokio::test]
async fn what_follows_a_client_hello_is_handed_on_with_it() {
    let mut bytes = hello("one.example").await;
    bytes.extend_from_slice(b"early");
    let (name, seen) = client_hello(&mut &bytes[..]).await.unwrap();
    assert_eq!((name.as_deref(), &seen[..]), (Some("one.example"), &bytes[..]));
}

#[tokio::test]
async fn what_is_not_tls_too_short_or_too_long_is_an_error() {
    let kind = async |bytes: Vec<u8>| client_hello(&mut &bytes[..]).await.unwrap_err().kind();
    assert_eq!(kind(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()).await, io::ErrorKind::InvalidData);
    let hello = hello("one.example").await;
    assert_eq!(kind(hello[..hello.len() / 2].to_vec()).await, io::ErrorKind::UnexpectedEof);
    // Records of one handshake message that never ends: type 1, length 0xffff.
    let mut endless = vec![22, 3, 1, 0x3f, 0xff, 1, 0, 0xff, 0xff];
    endless.resize(40_000, 0);
    assert_eq!(kind(endless).await, io::ErrorKind::InvalidData);
}

/// A client that shows a certificate, or none; whether the server took it, and the protocol agreed on.
async fn operator(server: &FrontTls, ca: &WebCa, shown: Option<&PemPair>) -> io::Result<FrontStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap()).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(provider())).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match shown {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
            let key = rustls_pki_types::PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dial = async {
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let name = rustls_pki_types::ServerName::try_from("hub.example").unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await
    };
    let serve = async { server.accept(listener.accept().await.unwrap().0).await };
    let (_client, served) = tokio::join!(dial, serve);
    served
}

#[tokio::test]
async fn operators_show_a_certificate_of_the_right_ca_and_speak_http1() {
    let (ca, other) = (WebCa::new(), WebCa::new());
    let pair = ca.pair(&["hub.example"]);
    let server = FrontTls::for_operators(&pair, Some(&ca.pem())).unwrap();
    assert!(operator(&server, &ca, None).await.is_err(), "no certificate");
    assert!(operator(&server, &ca, Some(&other.pair(&["ann"]))).await.is_err(), "a foreign certificate");
    assert!(!operator(&server, &ca, Some(&ca.pair(&["ann"]))).await.unwrap().h2);
    let open = FrontTls::for_operators(&pair, None).unwrap();
    assert!(operator(&open, &ca, None).await.is_ok());
    assert!(FrontTls::for_operators(&pair, Some("no pem")).unwrap_err()[0].to_string().contains("roots"));
}

/// A client of that version, which keeps its sessions.
fn keeper(ca: &WebCa, version: &'static rustls::SupportedProtocolVersion) -> Arc<rustls::ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap()).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(provider())).with_protocol_versions(&[version]).unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// One connection of a client, which hears a byte; the kind of its handshake.
async fn visit(server: &FrontTls, client: &Arc<rustls::ClientConfig>) -> rustls::HandshakeKind {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dial = async {
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let name = rustls_pki_types::ServerName::try_from("hub.example").unwrap();
        let mut io = tokio_rustls::TlsConnector::from(Arc::clone(client)).connect(name, tcp).await.unwrap();
        assert_eq!(io.read_u8().await.unwrap(), 7);
        io.get_ref().1.handshake_kind().unwrap()
    };
    let serve = async {
        let tcp = listener.accept().await.unwrap().0;
        tcp.set_nodelay(true).unwrap();
        let mut stream = server.accept(tcp).await.unwrap();
        stream.io.write_u8(7).await.unwrap();
        stream.io.flush().await.unwrap();
        stream
    };
    tokio::join!(dial, serve).0
}

#[tokio::test]
async fn who_comes_back_takes_up_its_session_however_many_came_between() {
    let ca = WebCa::new();
    let server = FrontTls::new(&[ca.pair(&["hub.example"])]).unwrap();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let first = keeper(&ca, version);
        assert_ne!(visit(&server, &first).await, rustls::HandshakeKind::Resumed);
        for _ in 0..300 {
            visit(&server, &keeper(&ca, version)).await;
        }
        assert_eq!(visit(&server, &first).await, rustls::HandshakeKind::Resumed, "{version:?}");
    }
}

#[tokio::test]
async fn an_operator_shows_its_certificate_each_time() {
    let ca = WebCa::new();
    let server = FrontTls::for_operators(&ca.pair(&["hub.example"]), None).unwrap();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let client = keeper(&ca, version);
        for _ in 0..2 {
            assert_ne!(visit(&server, &client).await, rustls::HandshakeKind::Resumed, "{version:?}");
        }
    }
}
