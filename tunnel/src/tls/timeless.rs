//! A hub's proof without a word about time: for asking the hub what time it is, when our own clock may be what is wrong.
//!
//! Chain, purpose, role and name are verified as for a tunnel, at a moment when the certificate was valid. Whoever holds a key
//! of the hub that has expired could thus tell a wrong time: so nothing but the question for the time is ever sent behind this
//! proof, and nothing acts on the answer but a person.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::Error;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::KeyUsage;

use super::verify::{Pinned, Refusal, hub_role, proves_its_key, verify};
use crate::identity::{Leaf, Roots};

/// Whom to believe.
#[derive(Debug)]
pub(crate) enum Anchor {
    Pinned(Arc<Pinned>),
    Roots(Arc<Roots>),
}

/// The verifier.
#[derive(Debug)]
pub(crate) struct Timeless {
    anchor: Anchor,
    found: Mutex<Option<Leaf>>,
}

impl Timeless {
    pub(crate) fn new(anchor: Anchor) -> Arc<Self> {
        Arc::new(Self { anchor, found: Mutex::default() })
    }

    /// The hub's leaf, once the handshake is over.
    pub(crate) fn found(&self) -> Option<Leaf> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ServerCertVerifier for Timeless {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let roots = match &self.anchor {
            Anchor::Pinned(pinned) => Arc::new(pinned.root(intermediates)?),
            Anchor::Roots(roots) => Arc::clone(roots),
        };
        let claimed = Leaf::read(end_entity).map_err(Refusal::from)?;
        let middle = claimed.not_before + claimed.not_after.duration_since(claimed.not_before).unwrap_or_default() / 2;
        let middle = middle.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let leaf = verify(&roots, end_entity, intermediates, UnixTime::since_unix_epoch(middle), KeyUsage::server_auth())?;
        let verified = hub_role(&leaf)?;
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(leaf);
        Ok(verified)
    }

    proves_its_key!();
}
