//! TLS of the hub's own listeners: certificates by SNI, replaced while connections live; SNI read without ending TLS.
//!
//! Hop on the path: hub listener, before HTTP or tcp. Owns the table of certificates and keys in memory. Promises that a bad
//! set of certificates changes nothing, and that a ClientHello is read within fixed bounds and never answered when it is only
//! to be looked at. TLS 1.2 and 1.3, aws-lc-rs, hybrid exchange preferred.

mod table;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{Acceptor, ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::provider::provider;
use table::Table;

/// Longest ClientHello, in bytes: one TLS record's worth; hybrid key shares need about 2 KiB.
pub const MAX_CLIENT_HELLO: usize = 16 * 1024;

/// How long a handshake may take, first byte to last.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FrontTlsError {
    /// There is nothing to present.
    #[error("no certificate is given; a TLS listener needs at least one")]
    Empty,
    /// The chain cannot be read.
    #[error("{file}: cannot read the certificate chain: {why}")]
    Certificate {
        /// Where it came from.
        file: String,
        /// What is wrong.
        why: String,
    },
    /// The key cannot be read.
    #[error("{file}: cannot read the private key: {why}")]
    Key {
        /// Where it came from.
        file: String,
        /// What is wrong; never any of the key.
        why: String,
    },
    /// The key belongs to another certificate.
    #[error("{0}: the private key does not belong to the certificate; give the pair that was issued together")]
    Mismatch(String),
    /// The roots for clients' certificates cannot be used.
    #[error("cannot use the roots for clients' certificates: {0}")]
    ClientRoots(String),
}

/// One chain and key in PEM, with a name for errors (the file).
#[derive(Clone)]
pub struct PemPair {
    /// For errors.
    pub source: String,
    /// The chain in PEM, leaf first.
    pub certificate: String,
    /// The leaf's private key in PEM.
    pub key: String,
}

impl std::fmt::Debug for PemPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PemPair").field("source", &self.source).finish_non_exhaustive()
    }
}

/// A TLS server: TLS 1.2 and 1.3, ALPN h2 and http/1.1. Names are read from each leaf; the first pair is the default.
pub struct FrontTls {
    names: Arc<Names>,
    config: Arc<rustls::ServerConfig>,
}

impl std::fmt::Debug for FrontTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrontTls").field("names", &self.names).finish_non_exhaustive()
    }
}

/// The table in force.
#[derive(Debug)]
struct Names(arc_swap::ArcSwap<Table>);

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load().pick(hello.server_name()))
    }
}

impl FrontTls {
    /// Takes certificates; all errors at once. A client that comes back within 6 to 12 hours takes up its session by a ticket: any
    /// number of them, whichever shard they meet, for as long as the process lives.
    pub fn new(pairs: &[PemPair]) -> Result<Arc<Self>, Vec<FrontTlsError>> {
        // Without randomness for a key there are no tickets: each handshake is a whole one then.
        Self::build(pairs, WebPkiClientVerifier::no_client_auth(), &[b"h2", b"http/1.1"], Ticketer::new().ok())
    }

    /// A server for operators: HTTP/1.1 alone, each handshake a whole one. With `client_roots` (PEM) a client must show a certificate
    /// that chains to them.
    pub fn for_operators(pair: &PemPair, client_roots: Option<&str>) -> Result<Arc<Self>, Vec<FrontTlsError>> {
        let verifier = match client_roots {
            None => WebPkiClientVerifier::no_client_auth(),
            Some(pem) => client_verifier(pem).map_err(|why| vec![FrontTlsError::ClientRoots(why)])?,
        };
        Self::build(std::slice::from_ref(pair), verifier, &[b"http/1.1"], None)
    }

    fn build(
        pairs: &[PemPair],
        clients: Arc<dyn ClientCertVerifier>,
        alpn: &[&[u8]],
        tickets: Option<Arc<dyn ProducesTickets>>,
    ) -> Result<Arc<Self>, Vec<FrontTlsError>> {
        let names = Arc::new(Names(arc_swap::ArcSwap::from_pointee(Table::new(pairs)?)));
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(&names) as _;
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::clone(provider()))
            .with_safe_default_protocol_versions()
            // The provider is a constant and knows the default versions.
            .expect("aws-lc-rs serves TLS 1.2 and 1.3")
            .with_client_cert_verifier(clients)
            .with_cert_resolver(resolver);
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        // What the client keeps needs no memory here, and no lock that all shards share.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        match tickets {
            Some(tickets) => config.ticketer = tickets,
            None => config.send_tls13_tickets = 0,
        }
        Ok(Arc::new(Self { names, config: Arc::new(config) }))
    }

    /// Replaces the certificates for new handshakes; on error nothing changes.
    pub fn replace(&self, pairs: &[PemPair]) -> Result<(), Vec<FrontTlsError>> {
        self.names.0.store(Arc::new(Table::new(pairs)?));
        Ok(())
    }

    /// Takes a client through the handshake, in at most [`HANDSHAKE_TIMEOUT`].
    pub async fn accept(&self, tcp: TcpStream) -> io::Result<FrontStream> {
        let handshake = TlsAcceptor::from(Arc::clone(&self.config)).accept(tcp);
        let io = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let session = io.get_ref().1;
        let h2 = session.alpn_protocol() == Some(b"h2");
        let server_name = session.server_name().map(str::to_ascii_lowercase);
        Ok(FrontStream { io, h2, server_name })
    }
}

fn client_verifier(pem: &str) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
    }
    // Without a root the builder fails, and says so.
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider())).build();
    verifier.map_err(|error| error.to_string())
}

/// A client's TLS connection.
#[derive(Debug)]
pub struct FrontStream {
    /// The bytes inside.
    pub io: tokio_rustls::server::TlsStream<TcpStream>,
    /// ALPN chose h2.
    pub h2: bool,
    /// SNI, lower case.
    pub server_name: Option<String>,
}

/// Reads a ClientHello (bounded by [`MAX_CLIENT_HELLO`]) without answering: server name (lower case), and all bytes read, to be
/// forwarded first. The caller bounds the time.
///
/// `InvalidData` when it is not TLS or too long, `UnexpectedEof` when it ends too early.
pub async fn client_hello<T: AsyncRead + Unpin>(io: &mut T) -> io::Result<(Option<String>, Bytes)> {
    let mut acceptor = Acceptor::default();
    let mut seen = BytesMut::with_capacity(2048);
    let mut fed = 0;
    loop {
        if seen.len() >= MAX_CLIENT_HELLO {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "ClientHello is longer than 16 KiB"));
        }
        if io.read_buf(&mut seen).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "connection ended before its ClientHello"));
        }
        while fed < seen.len() {
            fed += acceptor.read_tls(&mut &seen[fed..])?;
            match acceptor.accept() {
                Ok(Some(accepted)) => {
                    let name = accepted.client_hello().server_name().map(str::to_ascii_lowercase);
                    return Ok((name, seen.freeze()));
                }
                Ok(None) => {}
                Err((error, _)) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
    }
}

/// `AsyncRead + AsyncWrite` in one bound.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

#[cfg(test)]
mod tests;
