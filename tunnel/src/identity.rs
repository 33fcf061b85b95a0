//! Who an end of a tunnel is, and whom it trusts; both may change while tunnels live.
use std::sync::Arc;
use std::time::SystemTime;
use figspan_proto::join::Pin;
use figspan_proto::name::SpiffeId;

/// Why a certificate, key or bundle cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError { /// x
    #[error("{0}")] Invalid(String) }
/// A private key made here (P-256), which never leaves this machine.
#[derive(Debug)]
pub struct KeyPair;
impl KeyPair {
    /// x
    pub fn generate() -> Result<Self, IdentityError> { todo!() }
    /// x
    pub fn from_pem(pem: &str) -> Result<Self, IdentityError> { todo!() }
    /// x
    pub fn to_pem(&self) -> String { todo!() }
    /// PKCS #10 with an empty subject.
    pub fn csr(&self) -> Result<Vec<u8>, IdentityError> { todo!() }
}
/// A certificate chain, its key and the one SPIFFE id in the leaf.
#[derive(Debug)]
pub struct Identity;
impl Identity {
    /// x
    pub fn from_pem(chain: &str, key: &str) -> Result<Self, IdentityError> { todo!() }
    /// x
    pub fn from_der(chain: Vec<Vec<u8>>, key: &KeyPair) -> Result<Self, IdentityError> { todo!() }
    /// x
    pub fn id(&self) -> &SpiffeId { todo!() }
    /// x
    pub fn not_before(&self) -> SystemTime { todo!() }
    /// x
    pub fn not_after(&self) -> SystemTime { todo!() }
    /// x
    pub fn chain_pem(&self) -> String { todo!() }
}
/// Root certificates: one, or two while a CA changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots;
impl Roots {
    /// x
    pub fn from_pem(pem: &str) -> Result<Self, IdentityError> { todo!() }
    /// x
    pub fn from_der(der: Vec<Vec<u8>>) -> Result<Self, IdentityError> { todo!() }
    /// x
    pub fn to_pem(&self) -> String { todo!() }
    /// x
    pub fn to_der(&self) -> Vec<Vec<u8>> { todo!() }
    /// One for each root.
    pub fn pins(&self) -> Vec<Pin> { todo!() }
}
/// What an endpoint presents and trusts *now*; handshakes read it live, running tunnels are not touched by a change.
#[derive(Debug)]
pub struct Credentials;
impl Credentials {
    /// x
    pub fn new(identity: Identity, roots: Roots) -> Arc<Self> { todo!() }
    /// x
    pub fn identity(&self) -> Arc<Identity> { todo!() }
    /// x
    pub fn roots(&self) -> Arc<Roots> { todo!() }
    /// x
    pub fn set_identity(&self, identity: Identity) { todo!() }
    /// x
    pub fn set_roots(&self, roots: Roots) { todo!() }
}
