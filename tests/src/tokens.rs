//! A provider of tokens: its keys, the set that it publishes, and what it signs, good or bad.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

/// What the provider is called in `iss`.
pub const ISSUER: &str = "https://id.office.example/";

/// Somebody with a key.
pub struct Signer {
    /// The key's id.
    pub id: &'static str,
    algorithm: Algorithm,
    key: EncodingKey,
}

impl Signer {
    /// A fresh P-256 key.
    pub fn ec(id: &'static str) -> Self {
        let key = rcgen::KeyPair::generate().expect("a key").serialize_der();
        Self { id, algorithm: Algorithm::ES256, key: EncodingKey::from_ec_der(&key) }
    }

    /// A fresh RSA key.
    pub fn rsa(id: &'static str) -> Self {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key").serialize_der();
        // Behind 26 bytes of PKCS#8 that say "RSA".
        Self { id, algorithm: Algorithm::RS256, key: EncodingKey::from_rsa_der(&key[26..]) }
    }

    /// Its public half.
    pub fn jwk(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).expect("a public half");
        jwk.common.key_id = Some(self.id.to_owned());
        serde_json::to_value(jwk).expect("JSON")
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.id.to_owned()), ..Header::new(self.algorithm) };
        encode(&header, claims, &self.key).expect("a token")
    }

    /// A good token of somebody.
    pub fn token(&self, subject: &str) -> String {
        self.sign(&claims(subject))
    }
}

/// The set that a provider with these keys publishes.
pub fn jwks(signers: &[&Signer]) -> String {
    json!({ "keys": signers.iter().map(|signer| signer.jwk()).collect::<Vec<_>>() }).to_string()
}

/// What a good token says: for `shop`, for five minutes.
pub fn claims(subject: &str) -> Value {
    json!({ "iss": ISSUER, "aud": "shop", "sub": subject, "exp": now() + 300, "nbf": now() })
}

/// The claims of a good token, one of them changed; gone with `null`.
pub fn claims_with(name: &str, value: Value) -> Value {
    let mut claims = claims("ann");
    match value {
        Value::Null => drop(claims.as_object_mut().expect("an object").remove(name)),
        value => claims[name] = value,
    }
    claims
}

/// A token that is signed with a secret, as if that was good enough.
pub fn under_secret(id: &str, secret: &[u8]) -> String {
    let header = Header { kid: Some(id.to_owned()), ..Header::new(Algorithm::HS256) };
    encode(&header, &claims("ann"), &EncodingKey::from_secret(secret)).expect("a token")
}

/// Unix time in seconds.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
