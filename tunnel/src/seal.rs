//! A sealing cipher for the crates that may not know the crypto provider: what is sealed is secret, and bound to a context.
//!
//! AES-256-GCM-SIV (RFC 8452) with a random nonce: a nonce that comes twice shows at most that the same text was sealed twice.
//! Holds keys only; never prints them.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, Nonce, RandomizedNonceKey};

/// Bytes of a key.
pub const KEY: usize = 32;

/// Bytes of a nonce.
pub const NONCE: usize = 12;

/// Bytes that sealing adds to a text, beside the nonce.
pub const TAG: usize = 16;

/// A key that seals and opens.
#[derive(Debug)]
pub struct SealKey(RandomizedNonceKey);

impl SealKey {
    /// From its bytes, all of which must be random.
    pub fn new(bytes: &[u8; KEY]) -> Self {
        Self(RandomizedNonceKey::new(&AES_256_GCM_SIV, bytes).expect("the key has the algorithm's length"))
    }

    /// Seals a text in place, which grows by [`TAG`] bytes; the nonce that opens it. `None` where the system gives no randomness:
    /// the text is then of no use.
    pub fn seal(&self, context: &[u8], text: &mut Vec<u8>) -> Option<[u8; NONCE]> {
        let nonce = self.0.seal_in_place_append_tag(Aad::from(context), text).ok()?;
        Some(*nonce.as_ref())
    }

    /// Opens in place what this key sealed under that context; `None` for anything else.
    pub fn open<'t>(&self, context: &[u8], nonce: [u8; NONCE], sealed: &'t mut [u8]) -> Option<&'t mut [u8]> {
        self.0.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(context), sealed).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_opens_with_its_key_and_context_alone() {
        let (key, other) = (SealKey::new(&[1; KEY]), SealKey::new(&[2; KEY]));
        let mut sealed = b"secret".to_vec();
        let nonce = key.seal(b"a", &mut sealed).unwrap();
        assert_eq!(sealed.len(), 6 + TAG);
        assert_eq!(key.open(b"a", nonce, &mut sealed.clone()).map(|text| text.to_vec()), Some(b"secret".to_vec()));
        assert_eq!(key.open(b"b", nonce, &mut sealed.clone()), None);
        assert_eq!(other.open(b"a", nonce, &mut sealed.clone()), None);
        sealed[0] ^= 1;
        assert_eq!(key.open(b"a", nonce, &mut sealed), None);
        assert_eq!(key.open(b"a", nonce, &mut [0; TAG - 1]), None);
    }

    #[test]
    fn a_key_is_never_shown() {
        assert!(!format!("{:?}", SealKey::new(&[77; KEY])).contains("77"));
    }
}
