//! The keys of a provider, read from a JWK set (RFC 7517).
//!
//! A key is bound to the algorithms that its own type allows, narrowed by its `alg` and by the provider's terms: what a token
//! says of its algorithm only ever chooses among those.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use figspan_tunnel::digest::sha256;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::Value;

use super::terms::Terms;

/// Longest file in bytes: far above any provider's, which mostly have two or three keys.
pub const MAX_JWKS: usize = 256 * 1024;

/// Most keys of a set.
const MAX_KEYS: usize = 64;

/// Bytes of an RSA modulus: 2048 bits is the least that is safe, above 8192 a check takes too long for a shard.
const MODULUS: std::ops::RangeInclusive<usize> = 256..=1024;

/// Why a file's keys are not taken into use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadKeys {
    /// It is no JWK set.
    #[error("it is no JWK set ({0})")]
    NoSet(String),
    /// It has too many.
    #[error("it has {0} keys, and {MAX_KEYS} are the most")]
    TooMany(usize),
    /// With a symmetric key, whoever verifies tokens could make them.
    #[error("key {0} is symmetric (kty oct), so whoever reads the file could make tokens")]
    Symmetric(String),
    /// The provider's secret is in it.
    #[error("key {0} is a private key; the public half is enough")]
    Private(String),
    /// It is not what its type wants.
    #[error("key {0} is malformed")]
    Malformed(String),
    /// It is too short to be safe, or too long to be checked quickly.
    #[error("key {0} has {1} bits, and 2048 to 8192 are possible")]
    Strength(String, usize),
    /// Nothing is left.
    #[error("it has no key for signatures with the algorithms asked for")]
    Nothing,
}

/// Keys that verify, each with what else a token has to be.
pub struct Keys {
    pub(super) keys: Vec<Key>,
    identity: [u8; 32],
}

pub(super) struct Key {
    pub(super) id: Option<String>,
    pub(super) key: DecodingKey,
    /// Holds the algorithms of the key, all of one family, and the provider's issuer and audiences.
    pub(super) validation: Validation,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| (&key.id, &key.validation.algorithms))).finish()
    }
}

impl Keys {
    /// Reads a JWK set. Keys of unknown types and for other uses are passed over (RFC 7517, section 5).
    pub fn read(jwks: &[u8], terms: &Terms) -> Result<Self, BadKeys> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(jwks).map_err(|error| BadKeys::NoSet(error.to_string()))?;
        if set.keys.len() > MAX_KEYS {
            return Err(BadKeys::TooMany(set.keys.len()));
        }
        let mut keys = Vec::new();
        for (index, value) in set.keys.into_iter().enumerate() {
            keys.extend(key(index, value, terms)?);
        }
        if keys.is_empty() {
            return Err(BadKeys::Nothing);
        }
        Ok(Self { keys, identity: identity(jwks, terms) })
    }

    /// Differs where anything differs that decides whether a token verifies, time aside.
    pub fn identity(&self) -> &[u8; 32] {
        &self.identity
    }
}

fn key(index: usize, value: Value, terms: &Terms) -> Result<Option<Key>, BadKeys> {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let called = || text("kid").map_or_else(|| format!("{}", index + 1), |id| format!("`{}`", id.escape_debug()));
    match text("kty") {
        Some("oct") => return Err(BadKeys::Symmetric(called())),
        Some("RSA" | "EC" | "OKP") if value.get("d").is_some() => return Err(BadKeys::Private(called())),
        Some("RSA" | "EC" | "OKP") => {}
        _ => return Ok(None),
    }
    let jwk = Jwk::deserialize(&value).map_err(|_| BadKeys::Malformed(called()))?;
    let common = &jwk.common;
    let verifies = common.key_operations.as_ref().is_none_or(|uses| uses.contains(&KeyOperations::Verify));
    if !verifies || common.public_key_use.as_ref().is_some_and(|of| *of != PublicKeyUse::Signature) {
        return Ok(None);
    }
    let mut algorithms = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => AlgorithmFamily::Rsa.algorithms().to_vec(),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => vec![Algorithm::ES256],
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => vec![Algorithm::ES384],
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => vec![Algorithm::EdDSA],
        AlgorithmParameters::EllipticCurve(_) | AlgorithmParameters::OctetKeyPair(_) => return Ok(None),
        _ => return Err(BadKeys::Malformed(called())),
    };
    let own = common.key_algorithm.map(Algorithm::try_from);
    algorithms.retain(|algorithm| {
        terms.algorithms.contains(algorithm) && own.as_ref().is_none_or(|own| matches!(own, Ok(own) if own == algorithm))
    });
    let Some(first) = algorithms.first() else { return Ok(None) };
    let length = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).ok().map(|bytes| bytes.iter().skip_while(|byte| **byte == 0).count());
    let fits = |text: &str, bytes: usize| BASE64_URL_SAFE_NO_PAD.decode(text).is_ok_and(|decoded| decoded.len() == bytes);
    let whole = match &jwk.algorithm {
        AlgorithmParameters::RSA(key) => match (length(&key.n), length(&key.e)) {
            (Some(modulus), _) if !MODULUS.contains(&modulus) => return Err(BadKeys::Strength(called(), modulus * 8)),
            (Some(_), Some(exponent)) => exponent > 0,
            _ => false,
        },
        AlgorithmParameters::EllipticCurve(key) => {
            let bytes = if *first == Algorithm::ES256 { 32 } else { 48 };
            fits(&key.x, bytes) && fits(&key.y, bytes)
        }
        AlgorithmParameters::OctetKeyPair(key) => fits(&key.x, 32),
        _ => false,
    };
    let key = DecodingKey::from_jwk(&jwk).ok().filter(|_| whole).ok_or_else(|| BadKeys::Malformed(called()))?;
    let mut validation = Validation::new(*first);
    validation.algorithms = algorithms;
    validation.set_issuer(&[&terms.issuer]);
    validation.set_audience(&terms.audiences);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    // Time is looked at when a token is used, not when it is verified: see `Claims::at`.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    Ok(Some(Key { id: jwk.common.key_id, key, validation }))
}

fn identity(jwks: &[u8], terms: &Terms) -> [u8; 32] {
    let mut all = Vec::new();
    let mut add = |part: &[u8]| {
        all.extend_from_slice(&(part.len() as u64).to_be_bytes());
        all.extend_from_slice(part);
    };
    add(jwks);
    add(terms.issuer.as_bytes());
    terms.audiences.iter().for_each(|audience| add(audience.as_bytes()));
    add(format!("{:?}", terms.algorithms).as_bytes());
    sha256(&all)
}
