//! Whether a token is the provider's own: all that time does not change.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, decode};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::keys::{Key, Keys};

/// Most signatures that are checked for one token: a token that names its key needs one.
const MAX_TRIES: usize = 4;

/// Why a token does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadToken {
    /// It is no signed token, says twice what may be said once, or wants something that is not understood.
    Malformed,
    /// It has more bytes than the provider's may have.
    TooLarge,
    /// Its algorithm is not one of the provider's.
    Algorithm,
    /// No key of the provider is the one that it names.
    UnknownKey,
    /// The key that it names did not sign it.
    Signature,
    /// Somebody else issued it.
    Issuer,
    /// It was made for somebody else.
    Audience,
    /// Its time has passed.
    Expired,
    /// Its time has not come.
    NotYet,
}

/// What is read of a header before its signature is checked.
#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: Option<String>,
    /// Names what must be understood (RFC 7515, section 4.1.11); nothing of it is here.
    crit: Option<IgnoredAny>,
}

impl Keys {
    /// What the token claims, once signature, issuer and audience are found right.
    pub fn verify(&self, token: &str) -> Result<Map<String, Value>, BadToken> {
        let mut parts = token.split('.');
        let (Some(head), Some(_), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(BadToken::Malformed);
        };
        let head = BASE64_URL_SAFE_NO_PAD.decode(head).map_err(|_| BadToken::Malformed)?;
        let head: Head = serde_json::from_slice(&head).map_err(|_| BadToken::Malformed)?;
        if head.crit.is_some() {
            return Err(BadToken::Malformed);
        }
        let algorithm: Algorithm = head.alg.parse().map_err(|_| BadToken::Algorithm)?;
        let able = |key: &&Key| key.validation.algorithms.contains(&algorithm);
        if !self.keys.iter().any(|key| able(&key)) {
            return Err(BadToken::Algorithm);
        }
        let named = |key: &&Key| key.id.is_none() || head.kid.is_none() || key.id == head.kid;
        let candidates = || self.keys.iter().filter(able).filter(named);
        if !(1..=MAX_TRIES).contains(&candidates().count()) {
            return Err(BadToken::UnknownKey);
        }
        for key in candidates() {
            match decode(token, &key.key, &key.validation) {
                Ok(verified) => return Ok(verified.claims),
                Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => {}
                Err(error) => return Err(why(error.kind())),
            }
        }
        Err(BadToken::Signature)
    }
}

fn why(error: &ErrorKind) -> BadToken {
    match error {
        ErrorKind::InvalidIssuer => BadToken::Issuer,
        ErrorKind::InvalidAudience => BadToken::Audience,
        ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => BadToken::Issuer,
        ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => BadToken::Audience,
        ErrorKind::InvalidAlgorithm => BadToken::Algorithm,
        _ => BadToken::Malformed,
    }
}
