//! Hop: balance -> dial. Choosing behind the gates of health, and hearing how each attempt ended.
//!
//! [`choose`] asks `balance` with the gates of breakers, ejection and checks in force, and takes the permit that a half-open
//! breaker asks for in the same step. A [`Watch`] gives the permit back with what came of the attempt, however it ends, and
//! tells the attempt's tier where the rule asks for failover.
//! Rules whose backends ask for nothing go straight to `balance`. Never waits, never decides about a repetition.

mod gates;
mod tier;
mod watch;

use figspan_model::health::{Guard, Permit};
use figspan_model::routing::Backend;
use figspan_model::state::EndpointState;

use crate::balance::{self, Choice, NoChoice, Question, now};
use gates::HealthGates;

pub use tier::TierOf;
pub use watch::Watch;

/// Choices that others may spoil by taking the last probe first, before the request is told that nobody is left.
const TURNS: usize = 8;

/// Chooses behind the gates. Between this and the count of work in flight there must be no await.
pub fn choose<'p>(question: Question<'p, '_>) -> Result<(Choice<'p>, Permit), NoChoice> {
    if is_free(&question) {
        return balance::choose(question).map(|choice| (choice, Permit::FREE));
    }
    let now = now();
    for _ in 0..TURNS {
        let gates = HealthGates::new(question.gates, now);
        let choice = balance::choose(Question { gates: Some(&gates), ..question }).map_err(|none| gates.name(none))?;
        let backend = &question.backends[choice.backend];
        let Some(guard) = guard(backend) else { return Ok((choice, Permit::FREE)) };
        if let Some(permit) = guard.enter(&backend.state.health, &choice.state().health, now) {
            return Ok((choice, permit));
        }
    }
    Err(NoChoice::Breaker)
}

/// Gives back what came with a choice that leads nowhere.
pub fn give_back(backend: &Backend, endpoint: &EndpointState, permit: Permit) {
    if let Some(guard) = guard(backend) {
        guard.forget(&backend.state.health, &endpoint.health, permit);
    }
}

/// What [`choose`] would say to the next request, without counting it and without taking a probe.
pub fn peek<'p>(question: Question<'p, '_>) -> Result<Choice<'p>, NoChoice> {
    if is_free(&question) {
        return balance::peek(question);
    }
    let gates = HealthGates::new(question.gates, now());
    balance::peek(Question { gates: Some(&gates), ..question }).map_err(|none| gates.name(none))
}

/// What each backend of a rule would get of the next requests, with the gates in force; see [`balance::shares`].
pub fn shares(question: Question<'_, '_>) -> Vec<f64> {
    let gates = HealthGates::new(question.gates, now());
    balance::shares(Question { gates: Some(&gates), ..question })
}

/// Whether nothing stands between the rule and its endpoints.
fn is_free(question: &Question<'_, '_>) -> bool {
    question.failover.is_none() && !question.backends.iter().any(|backend| guard(backend).is_some())
}

/// What a backend's policy asks about health.
fn guard(backend: &Backend) -> Option<&Guard> {
    backend.policy.as_ref()?.guard.as_ref()
}
