//! JSON Web Tokens (RFC 7519) as providers sign them: whether one counts, and what it claims. Pure: no I/O, no clock.
//!
//! A [`JwtProvider`] is what `[[jwt_provider]]` says and the [`Keys`] of its file, which may be replaced while shards verify.
//! [`Keys::verify`] says all of a token that time does not change; [`Claims::at`] says the rest, each time that the token is
//! used. Only asymmetric keys are read and only asymmetric algorithms can be asked for, so that neither `none` nor an HMAC
//! under a public key can ever verify. Nothing here panics on a token, whatever is in it.

mod claims;
mod keys;
mod provider;
mod terms;
mod token;

pub use claims::{Claims, MAX_DEPTH, MAX_NAME};
pub use keys::{BadKeys, Keys, MAX_JWKS};
pub use provider::JwtProvider;
pub use terms::{ALGORITHMS, Terms};
pub use token::BadToken;

#[cfg(test)]
mod tests;
