//! Choice by a hash of something that the client brings: the same value goes to the same backend and endpoint.

use http::HeaderName;

/// What is hashed. Requests without it are balanced as if no hash was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashOn {
    /// The client's address, as trusted proxies tell it.
    ClientIp,
    /// A header; several lines of one name are joined by commas.
    Header(HeaderName),
    /// A cookie.
    Cookie(String),
    /// A query parameter, decoded; the first of its name.
    Query(String),
    /// A claim of the verified token; the rule then has a [`super::RuleJwt`].
    Claim(String),
}
