//! `limits` of a backend; `rate_limits` and `in_flight` of a rule.

use std::num::NonZeroU32;
use std::time::Duration;

use figspan_settings::{Item, Section};
use http::HeaderName;

use super::jwt;
use crate::routing::policy::{BackendLimits, InFlightLimit, Per, RateLimit};
use crate::settings::keys;

/// Most rate limits of a rule: each is asked for every request.
const MAX_RATE_LIMITS: usize = 8;

/// Longest time in which a burst comes back; it also keeps the arithmetic on nanoseconds far from its end.
const LONGEST_REFILL: Duration = Duration::from_secs(366 * 24 * 3600);

/// Largest number of a limit.
const MOST: u64 = 10_000_000;

pub(super) fn backend(policy: &Section<'_>) -> Option<BackendLimits> {
    let section = policy.section("limits", &keys::BACKEND_LIMITS)?;
    let default = BackendLimits::default();
    let limits = BackendLimits {
        connections: section.get("connections").and_then(|item| count(&item)),
        requests: section.get("requests").and_then(|item| count(&item)),
        pending: section
            .get("pending")
            .and_then(|item| item.number(0..=MOST))
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(default.pending),
        wait: section.get("wait").and_then(|item| item.duration()).unwrap_or(default.wait),
    };
    if section.get("connections").is_none() && section.get("requests").is_none() {
        section.wrong("limits nothing", "add connections = ... or requests = ..., or remove it");
    }
    Some(limits)
}

pub(super) fn rates(rule: &Section<'_>) -> Vec<RateLimit> {
    let sections = rule.sections("rate_limits", &keys::RATE_LIMIT);
    if let (Some(list), true) = (rule.get("rate_limits"), sections.len() > MAX_RATE_LIMITS) {
        list.wrong(format!("has {} entries", sections.len()), format!("use at most {MAX_RATE_LIMITS}"));
    }
    let mut rates: Vec<RateLimit> = Vec::new();
    for section in &sections {
        let Some(rate) = rate(section, rule) else { continue };
        if rates.iter().any(|other| other.key() == rate.key()) {
            section.wrong(format!("is a second limit per {} with that period", rate.per), "remove one, or give it another period");
        }
        rates.push(rate);
    }
    rates
}

fn rate(section: &Section<'_>, rule: &Section<'_>) -> Option<RateLimit> {
    let per = section.required("per").and_then(|item| per(&item, rule));
    let requests = section.required("requests").and_then(|item| count(&item));
    let period = section.required("period").and_then(|item| item.duration());
    let burst = section.get("burst").map(|item| count(&item));
    let told = section.get("tell").and_then(|item| item.choice(&[("refused", false), ("always", true)])).unwrap_or_default();
    let (per, requests, period) = (per?, requests?, period?);
    let burst = match burst {
        Some(burst) => burst?,
        None => requests,
    };
    if period.as_secs_f64() * f64::from(burst.get()) / f64::from(requests.get()) > LONGEST_REFILL.as_secs_f64() {
        section.wrong("a burst takes more than a year to come back", "use a smaller burst, a shorter period, or more requests");
    }
    Some(RateLimit { per, requests, period, burst, told })
}

pub(super) fn in_flight(rule: &Section<'_>) -> Option<InFlightLimit> {
    let section = rule.section("in_flight", &keys::IN_FLIGHT)?;
    let per = section.required("per").and_then(|item| per(&item, rule));
    let max = section.required("max").and_then(|item| count(&item));
    let limit = InFlightLimit { per: per?, max: max? };
    if limit.max.get() > InFlightLimit::MOST {
        section.wrong(format!("max is above {}", InFlightLimit::MOST), "use a smaller number");
    }
    Some(limit)
}

fn count(item: &Item<'_>) -> Option<NonZeroU32> {
    item.number(1..=MOST).and_then(|n| u32::try_from(n).ok()).and_then(NonZeroU32::new)
}

fn per(item: &Item<'_>, rule: &Section<'_>) -> Option<Per> {
    let text = item.text()?;
    match text.split_once(':') {
        None if text == "client" => Some(Per::Client),
        Some(("header", name)) => match name.parse::<HeaderName>() {
            Ok(name) => Some(Per::Header(name)),
            Err(_) => {
                item.wrong(
                    format!("`{}` is not the name of a header", name.escape_debug()),
                    "write header:NAME, as in \"header:x-api-key\"",
                );
                None
            }
        },
        Some(("claim", name)) => jwt::claim(item, name, rule).map(Per::Claim),
        _ => {
            item.wrong(format!("`{}` is unknown", text.escape_debug()), "use \"client\", \"header:NAME\" or \"claim:NAME\"");
            None
        }
    }
}
