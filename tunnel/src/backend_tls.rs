//! TLS from the hub to a backend that asks for it. Verification cannot be turned off.
//!
//! Hop on the path: hub dial. The backend's certificate must be valid for the configured host name and chain to the given roots
//! or to the system's.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use crate::front_tls::{Duplex, PemPair};
use crate::identity;
use crate::provider::provider;

/// How long a handshake may take, first byte to last.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why TLS to a backend cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum BackendTlsError {
    /// The host name is not one.
    #[error("`{0}` is not a host name that a certificate can carry; correct tls.hostname")]
    Hostname(String),
    /// The roots cannot be read.
    #[error("cannot use the CA certificates: {0}")]
    Roots(String),
    /// Our own certificate cannot be shown.
    #[error("cannot use the certificate of {0}")]
    Certificate(String),
    /// The system has none.
    #[error("the system has no CA certificates ({0}); install ca-certificates, or give tls.ca_certificate")]
    NoSystemRoots(String),
}

/// A TLS client for one backend. Clones share it.
#[derive(Clone)]
pub struct BackendTlsClient {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl std::fmt::Debug for BackendTlsClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackendTlsClient").field("name", &self.name).finish_non_exhaustive()
    }
}

impl BackendTlsClient {
    /// Takes the name that the backend must prove and the roots to believe: PEM, or with `None` the system's. `alpn_h2`: offer
    /// h2, else http/1.1; `None` offers nothing (TCP).
    pub fn new(hostname: &str, roots_pem: Option<&str>, alpn_h2: Option<bool>) -> Result<Self, BackendTlsError> {
        Self::build(hostname, roots_pem, alpn_h2, None)
    }

    /// The same for a server that asks who its client is; shows the pair's certificate.
    pub fn with_certificate(
        hostname: &str,
        roots_pem: Option<&str>,
        alpn_h2: Option<bool>,
        pair: &PemPair,
    ) -> Result<Self, BackendTlsError> {
        Self::build(hostname, roots_pem, alpn_h2, Some(pair))
    }

    fn build(hostname: &str, roots_pem: Option<&str>, alpn_h2: Option<bool>, pair: Option<&PemPair>) -> Result<Self, BackendTlsError> {
        let name = ServerName::try_from(hostname.to_owned()).map_err(|_| BackendTlsError::Hostname(hostname.to_owned()))?;
        let builder = ClientConfig::builder_with_provider(Arc::clone(provider()))
            .with_safe_default_protocol_versions()
            .expect("aws-lc-rs speaks TLS 1.2 and 1.3")
            .with_root_certificates(roots(roots_pem)?);
        let mut config = match pair {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let unusable = |why: String| BackendTlsError::Certificate(format!("{}: {why}", pair.source));
                let chain =
                    identity::certificates("the client certificate", &pair.certificate).map_err(|error| unusable(error.to_string()))?;
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).map_err(|error| unusable(error.to_string()))?;
                builder.with_client_auth_cert(chain, key).map_err(|error| unusable(error.to_string()))?
            }
        };
        config.alpn_protocols = match alpn_h2 {
            Some(true) => vec![b"h2".to_vec()],
            Some(false) => vec![b"http/1.1".to_vec()],
            None => Vec::new(),
        };
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }

    /// Makes the handshake over any stream, in at most [`HANDSHAKE_TIMEOUT`].
    pub async fn connect<T: Duplex>(&self, io: T) -> io::Result<tokio_rustls::client::TlsStream<T>> {
        let handshake = self.connector.connect(self.name.clone(), io);
        tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

fn roots(pem: Option<&str>) -> Result<RootCertStore, BackendTlsError> {
    let mut store = RootCertStore::empty();
    match pem {
        Some(pem) => {
            let all = identity::certificates("tls.ca_certificate", pem).map_err(|error| BackendTlsError::Roots(error.to_string()))?;
            for certificate in all {
                store.add(certificate).map_err(|error| BackendTlsError::Roots(error.to_string()))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            // Systems carry a few roots that rustls does not read; the others do.
            store.add_parsable_certificates(found.certs.into_iter().map(CertificateDer::into_owned));
            if store.is_empty() {
                let why = found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
                return Err(BackendTlsError::NoSystemRoots(why));
            }
        }
    }
    Ok(store)
}
