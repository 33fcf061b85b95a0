//! Who an end of a tunnel is, and whom it trusts; both may change while tunnels live.
//!
//! Owns keys, certificate chains and trust bundles in memory. Promises that an [`Identity`] in hand is whole: its leaf speaks
//! for exactly one figspan id and its key is the leaf's. Handshakes read [`Credentials`] live; running tunnels are never
//! touched by a change. Must never write a private key anywhere but into the text that [`KeyPair::to_pem`] returns.

mod leaf;
pub(crate) mod permit;
mod roots;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use figspan_proto::name::{SpiffeError, SpiffeId};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

pub use leaf::Leaf;
pub use roots::Roots;
pub(crate) use roots::pin;

use crate::provider::provider;

/// Most certificates in a chain: a leaf and what an organisation may put between it and a root.
pub const MAX_CHAIN: usize = 8;

/// Why a certificate, key or bundle cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The text holds no readable PEM.
    #[error("{what} is not PEM: {why}")]
    Pem {
        /// What was to be read.
        what: &'static str,
        /// What the reader found.
        why: String,
    },
    /// There is nothing in it.
    #[error("{0} holds no certificate")]
    Empty(&'static str),
    /// There are more than anybody needs.
    #[error("{what} holds {len} certificates; the limit is {max}")]
    TooMany {
        /// What was to be read.
        what: &'static str,
        /// How many it holds.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The bytes are not a certificate.
    #[error("cannot read certificate: {0}")]
    Certificate(String),
    /// The leaf does not carry exactly one name.
    #[error("certificate carries {0} names; a figspan identity has exactly one, a spiffe:// URI")]
    Names(usize),
    /// The leaf's one name is not a URI.
    #[error("certificate's name is not a URI; a figspan identity has exactly one name, a spiffe:// URI")]
    NotUri,
    /// The leaf's URI is not one of figspan's.
    #[error(transparent)]
    Spiffe(#[from] SpiffeError),
    /// A CA stands where a leaf belongs.
    #[error("certificate is a CA's; an identity needs a leaf certificate first in its chain")]
    IsCa,
    /// A leaf stands where a CA belongs.
    #[error("certificate is not a CA's; a trust bundle holds CA certificates only")]
    NotCa,
    /// The certificate says something about its grant that no hub of ours says.
    #[error("the certificate's permit cannot be read: {0}")]
    Permit(String),
    /// The private key cannot be used.
    #[error("cannot use private key: {0}")]
    Key(String),
    /// The key belongs to another certificate.
    #[error("private key does not belong to the certificate; join again, or restore the pair of files together")]
    Mismatch,
}

/// A private key made here (P-256), which never leaves this machine.
pub struct KeyPair(rcgen::KeyPair);

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyPair(..)")
    }
}

impl KeyPair {
    /// Makes a new key from the system's randomness.
    pub fn generate() -> Result<Self, IdentityError> {
        rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map(Self).map_err(|error| IdentityError::Key(error.to_string()))
    }

    /// Reads a key in PKCS #8, SEC1 or PKCS #1 PEM.
    pub fn from_pem(pem: &str) -> Result<Self, IdentityError> {
        // The reader's own words may quote the input, and the input is a secret.
        rcgen::KeyPair::from_pem(pem).map(Self).map_err(|_| IdentityError::Key("not a private key in PEM".into()))
    }

    /// The key in PKCS #8 PEM. Secret: store it with mode 0600.
    pub fn to_pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// A certificate request (PKCS #10, DER) that proves possession of the key and wishes for nothing.
    pub fn csr(&self) -> Result<Vec<u8>, IdentityError> {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let csr = params.serialize_request(&self.0).map_err(|error| IdentityError::Key(error.to_string()))?;
        Ok(csr.der().to_vec())
    }

    pub(crate) fn inner(&self) -> &rcgen::KeyPair {
        &self.0
    }

    fn to_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.0.serialize_der()).into()
    }
}

/// A certificate chain, its key and the one SPIFFE id in the leaf.
pub struct Identity {
    leaf: Leaf,
    certified: Arc<CertifiedKey>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("leaf", &self.leaf).finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads a chain (leaf first) and the leaf's key.
    pub fn from_pem(chain: &str, key: &str) -> Result<Self, IdentityError> {
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| IdentityError::Key("not a private key in PEM".into()))?;
        Self::new(certificates("certificate chain", chain)?, key)
    }

    /// Takes a chain (leaf first) in DER, as a hub issues it, and the key that it was issued for.
    pub fn from_der(chain: Vec<Vec<u8>>, key: &KeyPair) -> Result<Self, IdentityError> {
        Self::new(chain.into_iter().map(CertificateDer::from).collect(), key.to_der())
    }

    fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, IdentityError> {
        if chain.len() > MAX_CHAIN {
            return Err(IdentityError::TooMany { what: "certificate chain", len: chain.len(), max: MAX_CHAIN });
        }
        let leaf = Leaf::read(chain.first().ok_or(IdentityError::Empty("certificate chain"))?)?;
        let certified = CertifiedKey::from_der(chain, key, provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => IdentityError::Mismatch,
            error => IdentityError::Key(error.to_string()),
        })?;
        Ok(Self { leaf, certified: Arc::new(certified) })
    }

    /// What the leaf says.
    pub fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    /// Whom the leaf speaks for.
    pub fn id(&self) -> &SpiffeId {
        &self.leaf.id
    }

    /// When the leaf begins to be valid.
    pub fn not_before(&self) -> SystemTime {
        self.leaf.not_before
    }

    /// When the leaf ends to be valid.
    pub fn not_after(&self) -> SystemTime {
        self.leaf.not_after
    }

    /// The chain in PEM, leaf first.
    pub fn chain_pem(&self) -> String {
        to_pem(&self.certified.cert)
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }
}

/// What an endpoint presents and trusts *now*; handshakes read it live, running tunnels are not touched by a change.
#[derive(Debug)]
pub struct Credentials {
    identity: ArcSwap<Identity>,
    roots: ArcSwap<Roots>,
}

impl Credentials {
    /// Puts an identity and the roots that it trusts together.
    pub fn new(identity: Identity, roots: Roots) -> Arc<Self> {
        Arc::new(Self { identity: ArcSwap::from_pointee(identity), roots: ArcSwap::from_pointee(roots) })
    }

    /// What is presented now.
    pub fn identity(&self) -> Arc<Identity> {
        self.identity.load_full()
    }

    /// Who is trusted now.
    pub fn roots(&self) -> Arc<Roots> {
        self.roots.load_full()
    }

    /// Presents another identity from the next handshake on.
    pub fn set_identity(&self, identity: Identity) {
        self.identity.store(Arc::new(identity));
    }

    /// Trusts other roots from the next handshake on.
    pub fn set_roots(&self, roots: Roots) {
        self.roots.store(Arc::new(roots));
    }
}

pub(crate) fn certificates(what: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let all = all.map_err(|error| IdentityError::Pem { what, why: format!("{error:?}") })?;
    if all.is_empty() { Err(IdentityError::Empty(what)) } else { Ok(all) }
}

pub(crate) fn to_pem(certificates: &[CertificateDer<'_>]) -> String {
    use base64::Engine;
    let mut out = String::new();
    for certificate in certificates {
        let text = base64::engine::general_purpose::STANDARD.encode(certificate);
        out.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in text.as_bytes().chunks(64) {
            out.extend(line.iter().map(|&byte| char::from(byte)));
            out.push('\n');
        }
        out.push_str("-----END CERTIFICATE-----\n");
    }
    out
}

#[cfg(test)]
mod tests;
