//! The front of a chain, as a load reaches it: plain, or inside TLS with or without sessions from before.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::keys::NAME;

/// Where a load goes, and how.
#[derive(Debug, Clone)]
pub enum Front {
    /// HTTP as it is.
    Plain(SocketAddr),
    /// HTTPS.
    Tls(SocketAddr, Client),
}

impl Front {
    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Plain(address) | Self::Tls(address, _) => *address,
        }
    }

    /// The name that requests ask for, which is that of the certificate where there is one.
    pub(super) fn host(&self) -> &'static str {
        match self {
            Self::Plain(_) => "bench.example",
            Self::Tls(..) => NAME,
        }
    }

    /// The same for one client of many, which has no sessions but its own.
    pub(super) fn of_one(&self) -> Self {
        match self {
            Self::Plain(address) => Self::Plain(*address),
            Self::Tls(address, client) => Self::Tls(*address, client.of_one()),
        }
    }
}

/// A client of TLS 1.3 that trusts the run's CA and makes each session anew. Offers X25519 alone, so that all chains do the same
/// exchange of keys.
#[derive(Debug, Clone)]
pub struct Client {
    config: Arc<ClientConfig>,
    resumes: bool,
}

impl Client {
    /// With the CA of that folder.
    pub fn new(folder: &Path) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(folder.join("ca.pem")).context("the run's CA cannot be read")?)?;
        let provider = rustls::crypto::CryptoProvider { kx_groups: vec![aws_lc_rs::kx_group::X25519], ..aws_lc_rs::default_provider() };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), resumes: false })
    }

    /// One that takes up its last session where it has one.
    pub fn resuming(&self) -> Self {
        Self { resumes: true, ..self.clone() }
    }

    fn of_one(&self) -> Self {
        let mut config = (*self.config).clone();
        if self.resumes {
            config.resumption = Resumption::in_memory_sessions(1);
        }
        Self { config: Arc::new(config), resumes: self.resumes }
    }

    pub(super) async fn handshake(&self, tcp: TcpStream) -> anyhow::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(NAME)?;
        TlsConnector::from(Arc::clone(&self.config)).connect(name, tcp).await.context("no TLS handshake")
    }
}
