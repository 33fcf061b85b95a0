//! Tokens of a rule: which provider's, whether one must be there, and what becomes of its claims.

use std::sync::Arc;

use figspan_tunnel::digest::sha256;
use http::HeaderName;

use crate::jwt::JwtProvider;

/// What a rule asks of the tokens of its requests.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleJwt {
    /// Whose tokens.
    pub provider: Arc<JwtProvider>,
    /// Whether requests without a token are refused. A token that does not count always is.
    pub required: bool,
    /// Claims that go to the workload, by their place in [`RuleJwt::names`], each in its field.
    pub headers: Vec<(usize, HeaderName)>,
    names: Vec<String>,
    digest: [u8; 32],
}

impl RuleJwt {
    /// `headers`: which claim goes into which field. `others`: claims that the rule uses besides.
    pub fn new<'n>(
        provider: Arc<JwtProvider>,
        required: bool,
        headers: Vec<(String, HeaderName)>,
        others: impl IntoIterator<Item = &'n str>,
    ) -> Self {
        let mut names: Vec<String> = Vec::new();
        let mut place = |name: &str| {
            names.iter().position(|known| known == name).unwrap_or_else(|| {
                names.push(name.to_owned());
                names.len() - 1
            })
        };
        let headers = headers.into_iter().map(|(claim, header)| (place(&claim), header)).collect();
        for name in others {
            place(name);
        }
        // No name has this character.
        let digest = sha256(names.join("\0").as_bytes());
        Self { provider, required, headers, names, digest }
    }

    /// The claims that the rule uses, each once.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// What stands for these names where verified claims are remembered.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}
