//! Who may be at the other end: chain, time, purpose, and then the one SPIFFE id in the leaf.
//!
//! Chains are verified by webpki against all roots in force at that moment (two while a CA changes). DNS names play no part.
//! The TLS signature is checked with the provider's algorithms. Nothing is read from a certificate before its chain holds.

use std::sync::{Arc, Mutex, PoisonError};

use figspan_proto::join::Pin;
use figspan_proto::name::{Role, TrustDomain};
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DistinguishedName, Error, OtherError};
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::identity::{Credentials, IdentityError, Leaf, MAX_CHAIN, Roots, pin};
use crate::provider::provider;

/// Why a verified chain still does not prove the right holder.
#[derive(thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("its identity {0} is of another trust domain than ours, {1}")]
    TrustDomain(String, TrustDomain),
    #[error("its identity {0} is not {1}")]
    Role(String, &'static str),
    #[error("no CA in its chain has the public key that the join token names; the token is for another hub, or somebody is in between")]
    Pin,
    #[error("its chain has {0} certificates; the limit is {MAX_CHAIN}")]
    Chain(usize),
}

/// rustls shows other people's errors by their `Debug` form.
impl std::fmt::Debug for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// What a person should read of a TLS failure: the reason without rustls's wrapping, and times as dates.
pub(crate) fn plain(text: &str) -> String {
    let text = text.strip_prefix("invalid peer certificate: ").unwrap_or(text);
    if let Some(ours) = text.strip_prefix("Other(OtherError(").and_then(|text| text.strip_suffix("))")) {
        return ours.to_owned();
    }
    // rustls gives times in Unix seconds: the clock's, then the certificate's. Should its wording change, it is shown as it is.
    let (what, side) = match text {
        text if text.starts_with("certificate expired: ") => ("its certificate expired at", "later"),
        text if text.starts_with("certificate not valid yet: ") => ("its certificate is not valid before", "earlier"),
        text => return text.to_owned(),
    };
    let mut times = text.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse::<i64>().ok());
    let mut next = || times.next().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    match (next(), next()) {
        (Some(clock), Some(limit)) => {
            let apart = clock.duration_since(limit).abs();
            format!("{what} {limit}; this machine's clock says {clock}, {apart:#} {side}; compare the clocks, or renew it")
        }
        _ => text.to_owned(),
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        CertificateError::Other(OtherError(Arc::new(refusal))).into()
    }
}

/// Verifies a chain against the roots, for now and for the purpose, and reads its leaf.
pub(super) fn verify(
    roots: &Roots,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
    usage: KeyUsage,
) -> Result<Leaf, Error> {
    if intermediates.len() >= MAX_CHAIN {
        return Err(Refusal::Chain(intermediates.len() + 1).into());
    }
    let algorithms = provider().signature_verification_algorithms.all;
    let end_entity = EndEntityCert::try_from(leaf).map_err(refuse)?;
    end_entity.verify_for_usage(algorithms, roots.anchors(), intermediates, now, usage, None, None).map_err(refuse)?;
    Leaf::read(leaf).map_err(|error| Refusal::from(error).into())
}

/// webpki's errors as those of rustls, which decide about the alert that the peer sees.
fn refuse(error: webpki::Error) -> Error {
    match error {
        webpki::Error::CertExpired { time, not_after } => CertificateError::ExpiredContext { time, not_after },
        webpki::Error::CertNotValidYet { time, not_before } => CertificateError::NotValidYetContext { time, not_before },
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        // A CA of the name is known, but another one signed.
        webpki::Error::InvalidSignatureForPublicKey => CertificateError::UnknownIssuer,
        webpki::Error::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        webpki::Error::BadDer | webpki::Error::BadDerTime | webpki::Error::TrailingData(_) => CertificateError::BadEncoding,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    }
    .into()
}

/// The rest of a verifier, the same for each: how a peer proves that it holds its certificate's key. TLS 1.3 only.
macro_rules! proves_its_key {
    () => {
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &rustls::pki_types::CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            Err(rustls::PeerIncompatible::Tls13RequiredForQuic.into())
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &rustls::pki_types::CertificateDer<'_>,
            signature: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            let algorithms = &$crate::provider::provider().signature_verification_algorithms;
            rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            $crate::provider::provider().signature_verification_algorithms.supported_schemes()
        }
    };
}
pub(super) use proves_its_key;

/// The hub's verifier: agents of our own trust domain. A client without a certificate passes here and is held to joining by
/// its ALPN.
#[derive(Debug)]
pub(crate) struct AgentsOnly(Arc<Credentials>);

impl AgentsOnly {
    pub(crate) fn new(credentials: Arc<Credentials>) -> Self {
        Self(credentials)
    }
}

impl ClientCertVerifier for AgentsOnly {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let leaf = verify(&self.0.roots(), end_entity, intermediates, now, KeyUsage::client_auth())?;
        own_domain(&self.0, &leaf)?;
        match leaf.id.role {
            Role::Agent(_) => Ok(ClientCertVerified::assertion()),
            Role::Hub(_) => Err(Refusal::Role(leaf.id.to_string(), "an agent's").into()),
        }
    }

    proves_its_key!();
}

/// The agent's verifier: hubs of our own trust domain.
#[derive(Debug)]
pub(crate) struct HubsOnly(Arc<Credentials>);

impl HubsOnly {
    pub(crate) fn new(credentials: Arc<Credentials>) -> Self {
        Self(credentials)
    }
}

fn own_domain(credentials: &Credentials, leaf: &Leaf) -> Result<(), Error> {
    let identity = credentials.identity();
    let own = &identity.id().trust_domain;
    if leaf.id.trust_domain == *own { Ok(()) } else { Err(Refusal::TrustDomain(leaf.id.to_string(), own.clone()).into()) }
}

pub(super) fn hub_role(leaf: &Leaf) -> Result<ServerCertVerified, Error> {
    match leaf.id.role {
        Role::Hub(_) => Ok(ServerCertVerified::assertion()),
        Role::Agent(_) => Err(Refusal::Role(leaf.id.to_string(), "a hub's").into()),
    }
}

impl ServerCertVerifier for HubsOnly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let leaf = verify(&self.0.roots(), end_entity, intermediates, now, KeyUsage::server_auth())?;
        own_domain(&self.0, &leaf)?;
        hub_role(&leaf)
    }

    proves_its_key!();
}

/// The verifier of a VM that joins: it trusts one CA, known by the hash of its public key.
#[derive(Debug)]
pub(crate) struct Pinned {
    pin: Pin,
    found: Mutex<Option<Roots>>,
}

impl Pinned {
    pub(crate) fn new(pin: Pin) -> Arc<Self> {
        Arc::new(Self { pin, found: Mutex::default() })
    }

    /// The CA that matched, once the handshake is over.
    pub(crate) fn found(&self) -> Option<Roots> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn root(&self, chain: &[CertificateDer<'_>]) -> Result<Roots, Refusal> {
        let matches = |der: &&CertificateDer<'_>| match X509Certificate::from_der(der) {
            Ok((_, certificate)) => pin(certificate.public_key().raw) == self.pin,
            Err(_) => false,
        };
        let root = chain.iter().take(MAX_CHAIN).find(matches).ok_or(Refusal::Pin)?;
        Ok(Roots::from_der(vec![root.to_vec()])?)
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let roots = self.root(intermediates)?;
        let leaf = verify(&roots, end_entity, intermediates, now, KeyUsage::server_auth())?;
        let verified = hub_role(&leaf)?;
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(roots);
        Ok(verified)
    }

    proves_its_key!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_dates_and_our_own_reasons_as_they_are() {
        let time = |seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let expired = Error::from(CertificateError::ExpiredContext { time: time(1_800_000_000), not_after: time(1_700_000_000) });
        assert_eq!(
            plain(&expired.to_string()),
            "its certificate expired at 2023-11-14T22:13:20Z; this machine's clock says 2027-01-15T08:00:00Z, 27777h 46m 40s later; compare the clocks, or renew it"
        );
        let early = Error::from(CertificateError::NotValidYetContext { time: time(1_700_000_000), not_before: time(1_800_000_000) });
        assert!(plain(&early.to_string()).starts_with("its certificate is not valid before 2027-01-15T08:00:00Z; "));
        assert!(plain(&Error::from(Refusal::Pin).to_string()).starts_with("no CA in its chain"));
        assert_eq!(plain("anything else"), "anything else");
    }
}
