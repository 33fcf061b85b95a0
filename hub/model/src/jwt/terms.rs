//! What a provider's tokens have to be, and where they stand.

use std::time::Duration;

use http::{HeaderName, header};
use jsonwebtoken::Algorithm;

/// Algorithms that may be asked for, with their names (RFC 7518, section 3.1; RFC 8037). All of them by default.
pub const ALGORITHMS: &[(&str, Algorithm)] = &[
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

/// What a provider's tokens have to be, and where they stand in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// `iss` of its tokens.
    pub issuer: String,
    /// One of these is in `aud`.
    pub audiences: Vec<String>,
    /// Of [`ALGORITHMS`].
    pub algorithms: Vec<Algorithm>,
    /// How far the provider's clock and ours may be apart.
    pub clock_skew: Duration,
    /// The field with the token.
    pub header: HeaderName,
    /// The word before the token, compared without case; empty: the token alone.
    pub prefix: String,
    /// Whether workloads get the token too.
    pub forward: bool,
    /// Longest token in bytes.
    pub max_token_bytes: usize,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audiences: Vec::new(),
            algorithms: ALGORITHMS.iter().map(|(_, algorithm)| *algorithm).collect(),
            clock_skew: Duration::from_secs(60),
            header: header::AUTHORIZATION,
            prefix: "Bearer".to_owned(),
            forward: true,
            max_token_bytes: 8 * 1024,
        }
    }
}
