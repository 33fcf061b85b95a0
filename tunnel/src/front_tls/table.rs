//! Which certificate answers to which name.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{FrontTlsError, PemPair};
use crate::identity;
use crate::provider::provider;

/// Certificates by name. Names are lower case; where two certificates carry a name, the first one listed has it.
pub(super) struct Table {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By what follows `*.`; a wildcard stands for exactly one label (RFC 9525, section 6.3).
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    default: Arc<CertifiedKey>,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("exact", &self.exact.keys()).field("wildcard", &self.wildcard.keys()).finish_non_exhaustive()
    }
}

impl Table {
    pub(super) fn new(pairs: &[PemPair]) -> Result<Self, Vec<FrontTlsError>> {
        let mut errors = Vec::new();
        let (mut exact, mut wildcard, mut default) = (HashMap::new(), HashMap::new(), None);
        for pair in pairs {
            match certified(pair) {
                Ok((certified, names)) => {
                    for name in names {
                        match name.strip_prefix("*.") {
                            Some(parent) => wildcard.entry(parent.to_owned()).or_insert_with(|| Arc::clone(&certified)),
                            None => exact.entry(name).or_insert_with(|| Arc::clone(&certified)),
                        };
                    }
                    default.get_or_insert(certified);
                }
                Err(error) => errors.push(error),
            }
        }
        match default {
            Some(default) if errors.is_empty() => Ok(Self { exact, wildcard, default }),
            None if errors.is_empty() => Err(vec![FrontTlsError::Empty]),
            _ => Err(errors),
        }
    }

    pub(super) fn pick(&self, server_name: Option<&str>) -> Arc<CertifiedKey> {
        let found = server_name.map(str::to_ascii_lowercase).and_then(|name| {
            let parent = || name.split_once('.').and_then(|(_, parent)| self.wildcard.get(parent));
            self.exact.get(&name).or_else(parent).cloned()
        });
        found.unwrap_or_else(|| Arc::clone(&self.default))
    }
}

fn certified(pair: &PemPair) -> Result<(Arc<CertifiedKey>, Vec<String>), FrontTlsError> {
    let file = || pair.source.clone();
    let bad = |why: String| FrontTlsError::Certificate { file: file(), why };
    let chain = identity::certificates("it", &pair.certificate).map_err(|error| bad(error.to_string()))?;
    let names = names(&chain[0]).map_err(bad)?;
    // The readers' own words may quote the input, and the input is a secret.
    let unreadable = |why: &str| FrontTlsError::Key { file: file(), why: why.to_owned() };
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).map_err(|_| unreadable("it is not a private key in PEM"))?;
    let certified = CertifiedKey::from_der(chain, key, provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => FrontTlsError::Mismatch(file()),
        _ => unreadable("it is of a kind that is not supported, or damaged"),
    })?;
    Ok((Arc::new(certified), names))
}

/// The DNS names in a leaf, lower case.
fn names(leaf: &[u8]) -> Result<Vec<String>, String> {
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|error| error.to_string())?;
    let names = leaf.subject_alternative_name().map_err(|error| error.to_string())?;
    let names = names.map_or(&[][..], |names| &names.value.general_names[..]);
    let dns = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    };
    Ok(names.iter().filter_map(dns).collect())
}
