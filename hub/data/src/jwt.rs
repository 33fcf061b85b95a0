//! Hop: route -> *jwt* -> limit. Whether a request shows a token that counts, and what the token claims.
//!
//! Asked before anything else that a rule does, so that a refused request uses up nobody's limits and reaches no workload and no
//! mirror. A token's signature is checked once per shard for as
//! long as it is [`remembered`]; its time, each time it is used. Clients hear little of why (RFC 6750, section 3), metrics more.

pub mod remembered;

use std::rc::Rc;

use figspan_model::jwt::{BadToken, Claims, Keys, Terms};
use figspan_model::routing::policy::RuleJwt;
use http::{HeaderMap, HeaderValue, Response, header};

use crate::body::Body;
use crate::metrics::{Metrics, TokenEvent};
use crate::reply::Failure;
use remembered::{Remembered, mark};

/// What a request's token claims, as far as its rule asks; nothing for most rules.
#[derive(Debug, Default)]
pub struct Verified<'r>(Option<(&'r RuleJwt, Rc<Claims>)>);

impl<'r> Verified<'r> {
    /// What the token of that rule claims.
    pub fn new(jwt: &'r RuleJwt, claims: Rc<Claims>) -> Self {
        Self(Some((jwt, claims)))
    }

    /// A claim that the rule uses, where the token has it.
    pub fn claim(&self, name: &str) -> Option<&HeaderValue> {
        let (jwt, claims) = self.0.as_ref()?;
        claims.text(jwt.names().iter().position(|known| known == name)?)
    }

    /// Writes the claims that the workload shall have, and takes the token away if it shall not have that.
    pub fn write(&self, headers: &mut HeaderMap) {
        let Some((jwt, claims)) = &self.0 else { return };
        let terms = &jwt.provider.terms;
        if !terms.forward {
            headers.remove(&terms.header);
        }
        for (claim, field) in &jwt.headers {
            match claims.text(*claim) {
                Some(text) => drop(headers.insert(field, text.clone())),
                None => drop(headers.remove(field)),
            }
        }
    }
}

/// Why a request does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It shows no token.
    Missing,
    /// Its token does not count.
    Bad(BadToken),
}

impl Refused {
    /// What the client hears.
    pub fn failure(self) -> Failure {
        match self {
            Self::Missing => Failure::NoToken,
            Self::Bad(_) => Failure::BadToken,
        }
    }

    /// Why, for operators.
    pub fn why(self) -> &'static str {
        match self {
            Self::Missing => "the rule wants a token, and the request has none",
            Self::Bad(BadToken::Malformed) => "its token is no signed JWT, or wants something that is not understood",
            Self::Bad(BadToken::TooLarge) => "its token is longer than max_token_bytes of the provider",
            Self::Bad(BadToken::Algorithm) => "its token has an algorithm (alg) that is none of the provider's",
            Self::Bad(BadToken::UnknownKey) => "its token names a key (kid) that the provider's jwks_file does not hold",
            Self::Bad(BadToken::Signature) => "its token is not signed by the provider",
            Self::Bad(BadToken::Issuer) => "its token has another issuer (iss) than the provider",
            Self::Bad(BadToken::Audience) => "its token is for none of the provider's audiences (aud)",
            Self::Bad(BadToken::Expired) => "its token has expired (exp)",
            Self::Bad(BadToken::NotYet) => "its token is not valid yet (nbf)",
        }
    }

    /// Adds to the failure's answer what kind of token is wanted (RFC 6750, section 3). Without a token no error is told. Which
    /// keys, issuer and audiences would do is nobody's business who has none.
    pub fn tell(self, response: &mut Response<Body>) {
        let value = match self {
            Self::Missing => "Bearer realm=\"figspan\"",
            Self::Bad(BadToken::Expired) => "Bearer error=\"invalid_token\", error_description=\"the token has expired\"",
            Self::Bad(BadToken::NotYet) => "Bearer error=\"invalid_token\", error_description=\"the token is not valid yet\"",
            Self::Bad(BadToken::Malformed | BadToken::TooLarge) => {
                "Bearer error=\"invalid_token\", error_description=\"the token cannot be read\""
            }
            Self::Bad(_) => "Bearer error=\"invalid_token\", error_description=\"the token is not accepted here\"",
        };
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(value));
    }
}

/// What the request's token claims, or why the request does not pass. `now` is the Unix time in seconds.
pub fn check<'r>(
    jwt: &'r RuleJwt,
    headers: &HeaderMap,
    now: u64,
    remembered: &Remembered,
    metrics: &Metrics,
) -> Result<Verified<'r>, Refused> {
    // Loaded once: what these keys have verified must not be remembered as verified by others.
    let keys = jwt.provider.keys();
    let checked = judge(jwt, headers, now, |token| {
        let mark = mark(&keys, jwt, token);
        match remembered.find(&mark) {
            Some(claims) => Ok((claims, TokenEvent::Remembered)),
            None => Ok((remembered.keep(mark, verify(&keys, jwt, token)?), TokenEvent::Verified)),
        }
    });
    metrics.token(match &checked {
        Ok(Some((_, event))) => *event,
        Ok(None) => TokenEvent::Absent,
        Err(refused) => event(*refused),
    });
    Ok(checked?.map(|(claims, _)| Verified::new(jwt, claims)).unwrap_or_default())
}

/// The same for a question about a request: nothing is remembered or counted.
pub fn look<'r>(jwt: &'r RuleJwt, headers: &HeaderMap, now: u64) -> Result<Verified<'r>, Refused> {
    let keys = jwt.provider.keys();
    let verified = judge(jwt, headers, now, |token| Ok((Rc::new(verify(&keys, jwt, token)?), TokenEvent::Verified)))?;
    Ok(verified.map(|(claims, _)| Verified::new(jwt, claims)).unwrap_or_default())
}

type Judged = (Rc<Claims>, TokenEvent);

/// `None`: there is no token, and there need not be one.
fn judge(
    jwt: &RuleJwt,
    headers: &HeaderMap,
    now: u64,
    claims: impl FnOnce(&str) -> Result<Judged, BadToken>,
) -> Result<Option<Judged>, Refused> {
    let terms = &jwt.provider.terms;
    match token(headers, terms).map_err(Refused::Bad)? {
        None if jwt.required => Err(Refused::Missing),
        None => Ok(None),
        Some(token) => {
            let judged = claims(token).and_then(|judged| judged.0.at(now, terms.clock_skew).map(|()| judged));
            judged.map(Some).map_err(Refused::Bad)
        }
    }
}

fn verify(keys: &Keys, jwt: &RuleJwt, token: &str) -> Result<Claims, BadToken> {
    Claims::of(&keys.verify(token)?, jwt.names())
}

/// The request's token. Other ways to authenticate in the same field are none.
fn token<'h>(headers: &'h HeaderMap, terms: &Terms) -> Result<Option<&'h str>, BadToken> {
    let mut lines = headers.get_all(&terms.header).iter();
    let (Some(line), second) = (lines.next(), lines.next()) else { return Ok(None) };
    let Ok(text) = line.to_str() else { return Err(BadToken::Malformed) };
    let token = if terms.prefix.is_empty() {
        text.trim_ascii()
    } else {
        let (word, token) = text.split_once(' ').unwrap_or((text, ""));
        if !word.eq_ignore_ascii_case(&terms.prefix) {
            return if second.is_some() { Err(BadToken::Malformed) } else { Ok(None) };
        }
        token.trim_ascii()
    };
    if second.is_some() {
        Err(BadToken::Malformed)
    } else if token.len() > terms.max_token_bytes {
        Err(BadToken::TooLarge)
    } else {
        Ok(Some(token))
    }
}

fn event(refused: Refused) -> TokenEvent {
    match refused {
        Refused::Missing => TokenEvent::Missing,
        Refused::Bad(BadToken::Malformed) => TokenEvent::Malformed,
        Refused::Bad(BadToken::TooLarge) => TokenEvent::TooLarge,
        Refused::Bad(BadToken::Algorithm) => TokenEvent::Algorithm,
        Refused::Bad(BadToken::UnknownKey) => TokenEvent::UnknownKey,
        Refused::Bad(BadToken::Signature) => TokenEvent::Signature,
        Refused::Bad(BadToken::Issuer) => TokenEvent::Issuer,
        Refused::Bad(BadToken::Audience) => TokenEvent::Audience,
        Refused::Bad(BadToken::Expired) => TokenEvent::Expired,
        Refused::Bad(BadToken::NotYet) => TokenEvent::NotYet,
    }
}

#[cfg(test)]
mod tests;
