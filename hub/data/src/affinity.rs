//! Hop: route -> *affinity* -> balance. What ties a request to where earlier ones went: a hash of what its client brings.
//!
//! Reads the request, never changes it and never chooses: that is `balance`. Without a policy it costs one branch.

pub mod key;

use figspan_model::routing::HttpRule;
use http::request;

use crate::client::Client;

/// What ties one request to a place; kept for all its tries.
#[derive(Debug, Clone, Copy, Default)]
pub struct Affinity {
    /// See [`crate::balance::Question::hash`].
    pub hash: Option<u64>,
}

impl Affinity {
    /// As the rule asks for.
    pub fn of(rule: &HttpRule, request: &request::Parts, client: &Client) -> Self {
        let Some(policy) = &rule.policy else { return Self::default() };
        Self { hash: policy.hash.as_ref().and_then(|on| key::hash(on, request, client)) }
    }
}
