//! Backends: the weighted entries of a rule, and the services in the cluster that they may name.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use figspan_proto::control::Protocol;
use figspan_proto::name::Zone;
use figspan_proto::weight::Weight;

use super::policy::{BackendPolicy, LoadBalancing};
use super::target::{ServiceName, Target};
use crate::state::{BackendState, Book, ShareState};

/// A weighted entry of a rule (Gateway API: `backendRef`).
#[derive(Debug, Clone)]
pub struct Backend {
    /// Where requests go.
    pub target: Target,
    /// The entry's share of the rule. `None` takes the effective weight of the target: an uplink's from its agents or an
    /// operator, a service's from its own settings.
    pub weight: Option<Weight>,
    /// Its tier: 0 gets requests as long as a backend of it can take them, then 1, and so on.
    pub fallback: u8,
    /// What the target asks for, the same wherever it is named.
    pub policy: Option<Arc<BackendPolicy>>,
    /// The target's long-lived state, the same wherever it is named; survives reloads.
    pub state: Arc<BackendState>,
    /// What this rule gave to this entry; survives reloads.
    pub share: Arc<ShareState>,
}

impl Backend {
    /// An entry without a policy, with the state that the book holds for its target. Its share is that of no rule.
    pub fn plain(target: Target, weight: Option<Weight>, book: &Book) -> Self {
        let key = target.key();
        Self { state: book.backend(&key), share: book.share(&key), target, weight, fallback: 0, policy: None }
    }

    /// How its endpoints share its requests, where its target says anything about it.
    pub fn load_balancing(&self) -> Option<&LoadBalancing> {
        self.policy.as_ref()?.load_balancing.as_ref()
    }
}

/// A service that the hub reaches by address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// What it speaks: HTTP/1.1, h2c, or any bytes. With [`Service::tls`], h2c means HTTP/2 by ALPN.
    pub protocol: Protocol,
    /// Its endpoints; every address that a DNS name resolves to is one more endpoint.
    pub addresses: Vec<ServiceAddress>,
    /// Where each of the addresses is, in their order; shorter where the last ones are anywhere.
    pub zones: Vec<Option<Zone>>,
    /// Its share where a backend gives none.
    pub weight: Weight,
    /// TLS towards it, if any.
    pub tls: Option<Arc<BackendTls>>,
}

impl Service {
    /// Where one of its addresses is, by its place in the list.
    pub fn zone(&self, at: usize) -> Option<&Zone> {
        self.zones.get(at).and_then(Option::as_ref)
    }
}

/// One address of a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ServiceAddress {
    /// Fixed.
    Socket(SocketAddr),
    /// A DNS name and port; A and AAAA records, looked up again as their TTL says.
    Name {
        /// The name.
        host: String,
        /// The port.
        port: u16,
    },
}

/// How the hub speaks TLS to a backend (Gateway API: `BackendTLSPolicy.spec.validation`). There is no "do not verify".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendTls {
    /// Name sent as SNI and checked in the certificate.
    pub hostname: String,
    /// Whom to trust.
    pub roots: BackendTlsRoots,
}

/// Whom to trust for a backend's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendTlsRoots {
    /// The system's certificate store.
    System,
    /// A PEM file.
    File(PathBuf),
}
