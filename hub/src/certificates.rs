//! Certificates of the hub's own listeners, from files, as whole sets: a set that is wrong anywhere is not used at all.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use figspan_model::routing::Certificate;
use figspan_tunnel::front_tls::{FrontTls, PemPair};

/// Reads all pairs, or says everything that is wrong.
pub(crate) fn read(certificates: &[Certificate]) -> Result<Vec<PemPair>, Vec<String>> {
    let mut errors = Vec::new();
    let mut pairs = Vec::new();
    for certificate in certificates {
        match (file(&certificate.certificate), file(&certificate.key)) {
            (Ok(chain), Ok(key)) => {
                pairs.push(PemPair { source: certificate.certificate.display().to_string(), certificate: chain, key });
            }
            (chain, key) => errors.extend(chain.err().into_iter().chain(key.err())),
        }
    }
    if errors.is_empty() { Ok(pairs) } else { Err(errors) }
}

/// A server with these certificates, or everything that is wrong with them.
pub(crate) fn server(pairs: &[PemPair]) -> Result<Arc<FrontTls>, Vec<String>> {
    FrontTls::new(pairs).map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

/// Reads one file.
pub(crate) fn file(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}; the hub's user must be able to read it", path.display()))
}

/// Whether two sets hold the same bytes.
pub(crate) fn same(a: &[PemPair], b: &[PemPair]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.certificate == b.certificate && a.key == b.key)
}
