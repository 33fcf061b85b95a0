//! A provider of tokens, whose keys may be replaced under the shards.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use super::keys::{BadKeys, Keys};
use super::terms::Terms;

/// `[[jwt_provider]]`
#[derive(Debug)]
pub struct JwtProvider {
    /// Its name.
    pub name: Arc<str>,
    /// What its tokens have to be.
    pub terms: Terms,
    /// Where its keys are.
    pub jwks_file: PathBuf,
    keys: ArcSwap<Keys>,
}

impl JwtProvider {
    /// A provider with the keys that its file holds.
    pub fn new(name: Arc<str>, terms: Terms, jwks_file: PathBuf, jwks: &[u8]) -> Result<Self, BadKeys> {
        let keys = ArcSwap::from_pointee(Keys::read(jwks, &terms)?);
        Ok(Self { name, terms, jwks_file, keys })
    }

    /// The keys as they are now. No lock; no count that shards share is touched.
    pub fn keys(&self) -> Guard<Arc<Keys>> {
        self.keys.load()
    }

    /// Takes other keys into use, for all tokens from now on, remembered ones too. Says whether they are others at all. With an
    /// error those before stay in use.
    pub fn replace(&self, jwks: &[u8]) -> Result<bool, BadKeys> {
        let keys = Keys::read(jwks, &self.terms)?;
        let others = keys.identity() != self.keys().identity();
        if others {
            self.keys.store(Arc::new(keys));
        }
        Ok(others)
    }
}

impl PartialEq for JwtProvider {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && self.terms == other.terms
            && self.jwks_file == other.jwks_file
            && self.keys().identity() == other.keys().identity()
    }
}
