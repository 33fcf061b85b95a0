//! Root certificates: whom an end of a tunnel believes.

use aws_lc_rs::digest::{SHA256, digest};
use figspan_proto::control::MAX_ROOTS;
use figspan_proto::join::Pin;
use rustls::pki_types::{CertificateDer, TrustAnchor};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{IdentityError, certificates, to_pem};

/// Root certificates: one, or two while a CA changes. At most [`MAX_ROOTS`].
#[derive(Debug, Clone)]
pub struct Roots {
    certificates: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
    pins: Vec<Pin>,
    /// Their names in DER.
    names: Vec<Vec<u8>>,
}

impl PartialEq for Roots {
    fn eq(&self, other: &Self) -> bool {
        self.certificates == other.certificates
    }
}

impl Eq for Roots {}

impl Roots {
    /// Reads CA certificates in PEM.
    pub fn from_pem(pem: &str) -> Result<Self, IdentityError> {
        Self::new(certificates("trust bundle", pem)?)
    }

    /// Takes CA certificates in DER.
    pub fn from_der(der: Vec<Vec<u8>>) -> Result<Self, IdentityError> {
        Self::new(der.into_iter().map(CertificateDer::from).collect())
    }

    fn new(certificates: Vec<CertificateDer<'static>>) -> Result<Self, IdentityError> {
        if certificates.is_empty() {
            return Err(IdentityError::Empty("trust bundle"));
        }
        if certificates.len() > MAX_ROOTS {
            return Err(IdentityError::TooMany { what: "trust bundle", len: certificates.len(), max: MAX_ROOTS });
        }
        let mut anchors = Vec::new();
        let mut pins = Vec::new();
        let mut names = Vec::new();
        for certificate in &certificates {
            let (rest, parsed) = X509Certificate::from_der(certificate).map_err(|error| IdentityError::Certificate(error.to_string()))?;
            if !rest.is_empty() {
                return Err(IdentityError::Certificate(format!("{} bytes behind its end", rest.len())));
            }
            if !parsed.is_ca() {
                return Err(IdentityError::NotCa);
            }
            pins.push(pin(parsed.public_key().raw));
            names.push(parsed.subject().as_raw().to_vec());
            let anchor = webpki::anchor_from_trusted_cert(certificate).map_err(|error| IdentityError::Certificate(error.to_string()))?;
            anchors.push(anchor.to_owned());
        }
        Ok(Self { certificates, anchors, pins, names })
    }

    /// The certificates in PEM.
    pub fn to_pem(&self) -> String {
        to_pem(&self.certificates)
    }

    /// The certificates in DER.
    pub fn to_der(&self) -> Vec<Vec<u8>> {
        self.certificates.iter().map(|certificate| certificate.to_vec()).collect()
    }

    /// SHA-256 of each root's public key, in the order of the roots.
    pub fn pins(&self) -> Vec<Pin> {
        self.pins.clone()
    }

    /// These roots and the others, each once: what to trust while a CA changes.
    pub fn and(&self, others: &Self) -> Result<Self, IdentityError> {
        let mut all = self.certificates.clone();
        all.extend(others.certificates.iter().filter(|other| !self.certificates.contains(other)).cloned());
        Self::new(all)
    }

    pub(super) fn named(&self, name: &[u8]) -> Option<Pin> {
        self.names.iter().position(|known| known == name).map(|index| self.pins[index])
    }

    pub(crate) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }
}

/// SHA-256 of a SubjectPublicKeyInfo in DER.
pub(crate) fn pin(public_key_info: &[u8]) -> Pin {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, public_key_info).as_ref());
    Pin(hash)
}
