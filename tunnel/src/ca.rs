//! The certificate authority of a hub.
use std::time::{Duration, SystemTime};
use figspan_proto::join::Pin;
use figspan_proto::name::{SpiffeId, TrustDomain};
use crate::identity::Roots;

/// How long a leaf certificate lives.
pub const LEAF_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// A CA: its certificate and its key.
#[derive(Debug)]
pub struct Ca;
/// Why the CA could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CaError { /// x
    #[error("certificate request: {0}")] Csr(String), /// x
    #[error("CA: {0}")] Ca(String) }
impl Ca {
    /// Makes a CA (P-256, 10 years, CA:TRUE pathlen 0, URI name constraint/SAN spiffe://<trust domain>).
    pub fn create(trust_domain: &TrustDomain, now: SystemTime) -> Result<Self, CaError> { todo!() }
    /// Reads one.
    pub fn from_pem(trust_domain: &TrustDomain, certificate: &str, key: &str) -> Result<Self, CaError> { todo!() }
    /// PEM of the certificate.
    pub fn certificate_pem(&self) -> String { todo!() }
    /// PEM of the key. Secret.
    pub fn key_pem(&self) -> String { todo!() }
    /// The certificate as the only root.
    pub fn roots(&self) -> Roots { todo!() }
    /// Hash of its public key.
    pub fn pin(&self) -> Pin { todo!() }
    /// The domain.
    pub fn trust_domain(&self) -> &TrustDomain { todo!() }
    /// Signs a leaf for the public key of the request (checked proof of possession) and nothing else of it; names are `id` alone.
    /// Returns the chain in DER: leaf, then this CA's certificate (so that a joining agent can check the pin).
    pub fn issue(&self, id: &SpiffeId, csr: &[u8], now: SystemTime, lifetime: Duration) -> Result<Vec<Vec<u8>>, CaError> { todo!() }
}
