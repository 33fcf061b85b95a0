//! Policies: of a rule, inside `[[http_route.rules]]`, and of an uplink or service, `[[backend_policy]]`. Each policy is read
//! in a file of its own; here they are put together.

mod balance;
mod compression;
mod cors;
mod error_answer;
mod failover;
mod filters;
mod guard;
mod header_edit;
mod health_check;
mod jwt;
mod limits;
mod mirror;
mod path_edit;
mod pins;
mod retry;
mod session;

use std::sync::Arc;

use figspan_proto::name::Zone;
use figspan_settings::Section;

use super::jwt::Providers;
use crate::routing::draft::BackendDraft;
use crate::routing::policy::Pin;
use crate::routing::{BackendPolicy, RulePolicy, Target};

pub(super) use failover::failover;
pub(super) use filters::{Read, read as filters};
pub(super) use pins::read as pins;

/// The policy of a rule; `None` where it asks for nothing.
pub(super) fn rule(
    section: &Section<'_>,
    filters: Read,
    pins: Vec<Pin>,
    backends: &[BackendDraft],
    providers: &Providers,
) -> Option<Arc<RulePolicy>> {
    let mut policy = RulePolicy {
        jwt: None,
        filters: filters.filters,
        pins,
        mirrors: filters.mirrors,
        hash: balance::hash(section),
        session: session::session(section),
        retry: retry::retry(section),
        rate_limits: limits::rates(section),
        in_flight: limits::in_flight(section),
        failover: failover(section, backends, true),
    };
    policy.jwt = jwt::jwt(section, providers, &policy);
    (policy != RulePolicy::default()).then(|| Arc::new(policy))
}

/// The policy of a backend. `target` is `None` where the section names none that exists; `zone` is the hub's own.
pub(super) fn backend(section: &Section<'_>, target: Option<&Target>, zone: Option<&Zone>) -> BackendPolicy {
    let health_check = health_check::health_check(section, target);
    BackendPolicy {
        guard: guard::guard(section, health_check.is_some()),
        health_check,
        load_balancing: balance::load_balancing(section, zone),
        limits: limits::backend(section),
    }
}

#[cfg(test)]
mod tests;
