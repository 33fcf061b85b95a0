//! Listeners: where clients arrive (Gateway API: `Gateway.spec.listeners`).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// Names a listener; routes attach to it by this name.
pub type ListenerName = Arc<str>;

/// A socket that clients connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its name.
    pub name: ListenerName,
    /// Its address; port 0 lets the kernel choose (tests, `figspan-try`).
    pub address: SocketAddr,
    /// What clients speak to it.
    pub protocol: ListenerProtocol,
    /// Whether connections begin with a PROXY protocol header (from trusted proxies only; others are refused).
    pub accept_proxy_protocol: bool,
}

/// What clients speak to a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenerProtocol {
    /// HTTP/1.1, and HTTP/2 with prior knowledge, without TLS.
    Http,
    /// The same inside TLS that ends here; the certificate is chosen by SNI, the first one is the default.
    Https {
        /// At least one.
        certificates: Vec<Certificate>,
    },
    /// Any bytes; one stream route takes every connection.
    Tcp,
    /// TLS that ends at the workload; stream routes match by SNI.
    TlsPassthrough,
}

/// A certificate chain and its key, as files in PEM; both are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Certificate {
    /// Leaf first.
    pub certificate: PathBuf,
    /// PKCS #8, SEC1 or PKCS #1.
    pub key: PathBuf,
}
