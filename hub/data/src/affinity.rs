//! Hop: route -> *affinity* -> balance. What ties a request to where earlier ones went: its session, or a hash of what its
//! client brings.
//!
//! Reads the request as the client sent it, and may add a cookie to its answer; never chooses: that is `balance`. One cookie
//! decides on backend and endpoint. Without a policy it costs one branch.

pub mod key;
pub mod session;

use figspan_model::routing::{Backend, HttpRule};
use figspan_model::state::EndpointState;
use http::{HeaderMap, request};

use crate::balance::Bound;
use crate::client::Client;
use crate::jwt::Verified;
use crate::seal::Session;
use crate::shard::ShardContext;

/// What ties one request to a place; kept for all its tries.
#[derive(Debug, Clone, Copy, Default)]
pub struct Affinity {
    /// See [`crate::balance::Question::hash`].
    pub hash: Option<u64>,
    /// The session that it belongs to.
    pub session: Option<Session>,
}

impl Affinity {
    /// As the rule asks for.
    pub fn of(shard: &ShardContext, rule: &HttpRule, request: &request::Parts, client: &Client, verified: &Verified<'_>) -> Self {
        let Some(policy) = &rule.policy else { return Self::default() };
        let hash = policy.hash.as_ref().and_then(|on| key::hash(on, request, client, verified));
        let session = policy
            .session
            .as_ref()
            .and_then(|policy| session::find(policy, &shard.sessions, &request.headers, session::unix_now(), &shard.metrics));
        Self { hash, session }
    }

    /// What `balance` is to know of the session.
    pub fn bound(&self) -> Option<Bound> {
        self.session.map(|Session { backend, endpoint, .. }| Bound { backend, endpoint })
    }

    /// Gives the client its cookie with a final answer of a workload, if the rule asks for sessions and it needs one.
    pub fn answered(
        &self,
        shard: &ShardContext,
        rule: &HttpRule,
        backend: &Backend,
        endpoint: &EndpointState,
        secure: bool,
        headers: &mut HeaderMap,
    ) {
        if let Some(policy) = rule.policy.as_ref().and_then(|policy| policy.session.as_ref()) {
            let now = session::unix_now();
            let answered = session::Answered { policy, sealer: &shard.sessions, session: self.session, backend, endpoint, secure, now };
            answered.note(headers, &shard.metrics, rand::random());
        }
    }
}
