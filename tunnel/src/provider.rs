//! The one crypto provider of the whole process, passed to every TLS end by hand; no process-wide default is set or needed.

use std::sync::{Arc, OnceLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// The one crypto provider: aws-lc-rs, with the hybrid post-quantum exchange first (X25519MLKEM768), so that what is recorded
/// today stays closed later.
pub(crate) fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| {
        use aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
        Arc::new(CryptoProvider { kx_groups: vec![X25519MLKEM768, X25519, SECP256R1, SECP384R1], ..aws_lc_rs::default_provider() })
    })
}
