//! Hop: dial -> health. What the end of an attempt says about the tier that it went to.

use std::sync::Arc;
use std::time::Duration;

use figspan_model::health::{Cause, End, Failover, Outcome, Turn};
use figspan_model::moment::Moment;
use figspan_model::routing::Backend;
use figspan_model::state::RuleState;

/// The tier of one attempt, where its rule asks for failover and has a later tier.
pub struct TierOf {
    terms: Arc<Failover>,
    rule: Arc<RuleState>,
    tier: u8,
}

impl TierOf {
    /// The tier of the chosen backend.
    pub fn of(terms: Option<&Arc<Failover>>, rule: &Arc<RuleState>, backends: &[Backend], chosen: usize) -> Option<Self> {
        let terms = terms?;
        let tier = backends[chosen].fallback;
        let later = backends.iter().any(|backend| backend.fallback > tier);
        later.then(|| Self { terms: Arc::clone(terms), rule: Arc::clone(rule), tier })
    }

    /// After which time without an answer the attempt has failed, whatever comes.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.terms.latency
    }

    /// The attempt that began then has ended.
    pub(super) fn ended(&self, outcome: &Outcome, began: Moment, now: Moment) {
        let late = self.terms.latency.is_some_and(|limit| outcome.latency >= limit);
        let failure = match outcome.end {
            End::Failed => Some(Cause::NoAnswer),
            End::Answered(status) if self.terms.on(status) => Some(Cause::Status),
            End::Answered(_) | End::Connected => late.then_some(Cause::Latency),
        };
        self.record(failure, began, now);
    }

    /// There was no answer in time.
    pub(super) fn late(&self, began: Moment, now: Moment) {
        self.record(Some(Cause::Latency), began, now);
    }

    fn record(&self, failure: Option<Cause>, began: Moment, now: Moment) {
        if let Some(turn) = self.rule.tier(self.tier).record(&self.terms, failure, began, now) {
            tell(&self.rule, self.tier, turn);
        }
    }
}

/// Tells operators of a turn.
pub(super) fn tell(rule: &RuleState, tier: u8, turn: Turn) {
    let rule = &*rule.key;
    match turn {
        Turn::Failed(cause) => tracing::warn!(rule, tier, cause = cause.as_str(), "tier of backends failed; requests go to the next one"),
        Turn::FailingBack => tracing::info!(rule, tier, "tier of backends is tried again; its share grows"),
        Turn::Back => tracing::info!(rule, tier, "tier of backends is back"),
    }
}
