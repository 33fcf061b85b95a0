//! How the tiers and backends of rules stand now: read from the long-lived states, as a choice would see them.
//!
//! For people and for scrapes: nothing here is asked of a shard, and nothing is changed.

mod as_written;

use std::sync::Arc;

use figspan_data::balance::{Question, Tried, now};
use figspan_data::health;
use figspan_model::health::{Cause, Failover, Standing, WHOLE};
use figspan_model::moment::Moment;
use figspan_model::routing::{Backend, HttpRule, StreamRoute};
use figspan_model::snapshot::Snapshot;
use figspan_model::state::{Book, RuleState};

pub(crate) use as_written::AsWritten;

/// A place where a choice among backends is made.
#[derive(Clone, Copy)]
pub(crate) struct Place<'r> {
    pub(crate) backends: &'r [Backend],
    pub(crate) state: &'r RuleState,
    pub(crate) failover: Option<&'r Failover>,
}

impl<'r> From<&'r HttpRule> for Place<'r> {
    fn from(rule: &'r HttpRule) -> Self {
        Self { backends: &rule.backends, state: &rule.state, failover: rule.failover().map(|terms| &**terms) }
    }
}

impl<'r> From<&'r StreamRoute> for Place<'r> {
    fn from(route: &'r StreamRoute) -> Self {
        Self { backends: &route.backends, state: &route.state, failover: route.failover.as_deref() }
    }
}

impl<'r> Place<'r> {
    /// What `balance` is asked for the next request here.
    pub(crate) fn question<'p, 'q>(self, snapshot: &'p Snapshot, tried: &'q Tried, services: &'q AsWritten<'q>) -> Question<'p, 'q>
    where
        'r: 'q,
    {
        Question { failover: self.failover, ..Question::new(snapshot, self.backends, self.state, tried, services) }.now()
    }

    /// The part of the next requests that each backend gets, 0 to 1.
    pub(crate) fn shares(self, snapshot: &Snapshot, book: &Arc<Book>) -> Vec<f64> {
        let (services, tried) = (AsWritten::new(snapshot, book), Tried::default());
        health::shares(self.question(snapshot, &tried, &services))
    }

    /// Its tiers but the last, which nothing takes over from; none where no failover is asked for.
    pub(crate) fn tiers(self) -> Vec<Tier> {
        let Some(terms) = self.failover else { return Vec::new() };
        let mut numbers: Vec<u8> = self.backends.iter().map(|backend| backend.fallback).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.pop();
        let now = now();
        numbers.into_iter().map(|number| Tier::of(number, terms, self.state, now)).collect()
    }
}

/// How a tier stands.
#[derive(Debug)]
pub(crate) struct Tier {
    pub(crate) number: u8,
    pub(crate) standing: Standing,
    /// Of the requests that come to it, 0 to 1.
    pub(crate) share: f64,
    /// Seconds until it may be tried again, or gets all.
    pub(crate) left: Option<f64>,
    /// How often it failed, by cause.
    pub(crate) failed: [(Cause, u64); Cause::ALL.len()],
}

impl Tier {
    fn of(number: u8, terms: &Failover, rule: &RuleState, now: Moment) -> Self {
        let tier = rule.tier(number);
        let standing = tier.standing();
        let left = match standing {
            Standing::New | Standing::Up => None,
            Standing::Held { until, .. } => Some(until.since(now)),
            Standing::FailingBack { since, .. } => Some((since + terms.failback).since(now)),
        };
        Self {
            number,
            standing,
            share: f64::from(tier.share(terms, now)) / f64::from(WHOLE),
            left: left.map(|left| left.as_secs_f64()),
            failed: Cause::ALL.map(|cause| (cause, tier.failed(cause))),
        }
    }

    /// Why it failed, where it has not come back yet.
    pub(crate) fn cause(&self) -> Option<Cause> {
        match self.standing {
            Standing::New | Standing::Up => None,
            Standing::Held { cause, .. } | Standing::FailingBack { cause, .. } => Some(cause),
        }
    }
}
