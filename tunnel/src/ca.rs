//! The certificate authority of a hub.
//!
//! Writes every name itself: of a certificate request it takes the public key and nothing else, after the request has
//! proven possession of the private key. Leafs carry one URI name, are valid as client and server, and are never CAs.

use std::time::{Duration, SystemTime};

use figspan_proto::join::{MAX_CSR, Pin};
use figspan_proto::name::{SpiffeId, TrustDomain};
use figspan_proto::permit::Permit;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, SanType,
    SerialNumber, SubjectPublicKeyInfo,
};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::identity::{KeyPair, Roots};
use crate::lifetime::clock_tolerance;

/// How long a leaf certificate lives.
pub const LEAF_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// How long a CA certificate lives: ten years. A CA is changed by overlap, not by waiting for its end.
pub const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Longest life of a leaf certificate that settings may ask for.
pub const MAX_LEAF_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// A CA: its certificate and its key.
pub struct Ca {
    trust_domain: TrustDomain,
    roots: Roots,
    key: KeyPair,
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ca").field("trust_domain", &self.trust_domain).field("pin", &self.pin()).finish_non_exhaustive()
    }
}

/// Why the CA could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The certificate request is malformed, of a kind that is not allowed, or does not prove possession of its key.
    #[error("certificate request: {0}")]
    Csr(String),
    /// The CA itself cannot be made, read or used.
    #[error("CA: {0}")]
    Ca(String),
}

fn ca_error(error: impl std::fmt::Display) -> CaError {
    CaError::Ca(error.to_string())
}

impl Ca {
    /// Makes a CA: P-256, ten years, no CA below it, named after the trust domain.
    pub fn create(trust_domain: &TrustDomain, now: SystemTime) -> Result<Self, CaError> {
        let key = KeyPair::generate().map_err(ca_error)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        // Two CAs of one domain overlap while one replaces the other; a name of its own tells them apart in logs and chains.
        let mark: u32 = rand::random();
        params.distinguished_name.push(DnType::CommonName, format!("figspan CA of {trust_domain} {mark:08x}"));
        let uri = format!("spiffe://{trust_domain}").try_into().map_err(ca_error)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, now, CA_LIFETIME)?;
        params.serial_number = Some(serial());
        let certificate = params.self_signed(key.inner()).map_err(ca_error)?;
        let roots = Roots::from_der(vec![certificate.der().to_vec()]).map_err(ca_error)?;
        Ok(Self { trust_domain: trust_domain.clone(), roots, key })
    }

    /// Reads a CA: exactly one certificate, and its key.
    pub fn from_pem(trust_domain: &TrustDomain, certificate: &str, key: &str) -> Result<Self, CaError> {
        let roots = Roots::from_pem(certificate).map_err(ca_error)?;
        let key = KeyPair::from_pem(key).map_err(ca_error)?;
        let pins = roots.pins();
        if pins.len() != 1 {
            return Err(CaError::Ca(format!("its file holds {} certificates; it must hold one", pins.len())));
        }
        let public = rcgen::PublicKeyData::subject_public_key_info(key.inner());
        if pins[0] != crate::identity::pin(&public) {
            return Err(CaError::Ca("its key does not belong to its certificate".into()));
        }
        Ok(Self { trust_domain: trust_domain.clone(), roots, key })
    }

    /// The certificate in PEM.
    pub fn certificate_pem(&self) -> String {
        self.roots.to_pem()
    }

    /// The key in PKCS #8 PEM. Secret: store it with mode 0600.
    pub fn key_pem(&self) -> String {
        self.key.to_pem()
    }

    /// The certificate as the only root.
    pub fn roots(&self) -> Roots {
        self.roots.clone()
    }

    /// SHA-256 of its public key: what a join token carries.
    pub fn pin(&self) -> Pin {
        self.roots.pins()[0]
    }

    /// The domain that it vouches for.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Signs a leaf for the public key of the request (PKCS #10, DER; P-256, P-384 or Ed25519) and nothing else of it; names
    /// are `id` alone. The leaf begins [`crate::lifetime::clock_tolerance`] before `now` and ends `lifetime` after it, but not after the CA.
    ///
    /// Returns the chain in DER: leaf, then this CA's certificate, so that a joining agent can check the pin. An id of another
    /// trust domain is an error.
    pub fn issue(&self, id: &SpiffeId, csr: &[u8], now: SystemTime, lifetime: Duration) -> Result<Vec<Vec<u8>>, CaError> {
        self.sign(id, None, csr, now, lifetime)
    }

    /// The same for an agent, with what its grant allows written in, so that all hubs of this CA can read it there.
    pub fn issue_permitted(
        &self,
        id: &SpiffeId,
        permit: &Permit,
        csr: &[u8],
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<Vec<Vec<u8>>, CaError> {
        self.sign(id, Some(permit), csr, now, lifetime)
    }

    fn sign(
        &self,
        id: &SpiffeId,
        permit: Option<&Permit>,
        csr: &[u8],
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<Vec<Vec<u8>>, CaError> {
        if id.trust_domain != self.trust_domain {
            return Err(CaError::Ca(format!("{id} is outside its trust domain {}", self.trust_domain)));
        }
        let public_key = public_key(csr)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let name = match &id.role {
            figspan_proto::name::Role::Agent(name) => name.as_str(),
            figspan_proto::name::Role::Hub(name) => name.as_str(),
        };
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![SanType::URI(id.to_string().try_into().map_err(ca_error)?)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.custom_extensions = permit.map(crate::identity::permit::extensions).unwrap_or_default();
        set_validity(&mut params, now, lifetime)?;
        params.serial_number = Some(serial());
        let root = self.roots.to_der().swap_remove(0);
        let (_, parsed) = X509Certificate::from_der(&root).map_err(ca_error)?;
        params.not_after = params.not_after.min(parsed.validity().not_after.to_datetime());
        if params.not_after <= params.not_before {
            return Err(CaError::Ca("its certificate has expired; make a new CA and let the two overlap".into()));
        }
        let issuer = Issuer::from_ca_cert_der(&root.as_slice().into(), self.key.inner()).map_err(ca_error)?;
        let leaf = params.signed_by(&public_key, &issuer).map_err(ca_error)?;
        Ok(vec![leaf.der().to_vec(), root])
    }
}

/// SHA-256 of the key that a request asks a certificate for, once it has proven possession of it: whether two requests are of one key.
pub fn requested_key(csr: &[u8]) -> Result<Pin, CaError> {
    let public = rcgen::PublicKeyData::subject_public_key_info(&public_key(csr)?);
    Ok(crate::identity::pin(&public))
}

/// The request's public key, once the request has proven possession of its private key.
fn public_key(csr: &[u8]) -> Result<SubjectPublicKeyInfo, CaError> {
    if csr.len() > MAX_CSR {
        return Err(CaError::Csr(format!("{} bytes; the limit is {MAX_CSR}", csr.len())));
    }
    let (rest, request) = X509CertificationRequest::from_der(csr).map_err(|error| CaError::Csr(format!("not PKCS #10 in DER: {error}")))?;
    if !rest.is_empty() {
        return Err(CaError::Csr(format!("{} bytes behind its end", rest.len())));
    }
    let public = SubjectPublicKeyInfo::from_der(request.certification_request_info.subject_pki.raw)
        .map_err(|error| CaError::Csr(format!("its public key cannot be read: {error}")))?;
    let algorithm = rcgen::PublicKeyData::algorithm(&public);
    let allowed = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519];
    if !allowed.contains(&algorithm) {
        return Err(CaError::Csr("its key is not P-256, P-384 or Ed25519".into()));
    }
    request.verify_signature().map_err(|_| CaError::Csr("its signature is not its own key's".into()))?;
    Ok(public)
}

fn set_validity(params: &mut CertificateParams, now: SystemTime, lifetime: Duration) -> Result<(), CaError> {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| CaError::Ca("this machine's clock is before 1970".into()))?;
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let seconds = Duration::from_secs(since.as_secs());
    params.not_before = epoch + seconds.saturating_sub(clock_tolerance(lifetime));
    params.not_after = epoch + seconds + lifetime;
    Ok(())
}

/// 127 random bits: positive, and unique without a counter to keep (RFC 5280, section 4.1.2.2).
fn serial() -> SerialNumber {
    let mut bytes: [u8; 16] = rand::random();
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    SerialNumber::from_slice(&bytes)
}

#[cfg(test)]
mod tests;
