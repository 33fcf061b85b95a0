//! `circuit_breaker` and `outlier_ejection` of a backend.

use std::time::Duration;

use figspan_settings::{Item, Section};

use crate::health::breaker::{self, MAX_PROBES, Scope};
use crate::health::{Condition, Guard, ejection};
use crate::settings::keys;

/// Most of anything that is counted in a row or in a window.
const MOST: u64 = 1_000_000;

pub(super) fn guard(policy: &Section<'_>, checked: bool) -> Option<Guard> {
    let guard = Guard {
        breaker: policy.section("circuit_breaker", &keys::CIRCUIT_BREAKER).and_then(|section| breaker(&section)),
        ejection: policy.section("outlier_ejection", &keys::OUTLIER_EJECTION).map(|section| ejection(&section)),
        checked,
    };
    (!guard.is_empty()).then_some(guard)
}

fn breaker(section: &Section<'_>) -> Option<breaker::Terms> {
    let scope = section.get("scope").map_or(Some(Scope::default()), |item| {
        item.choice(&[("endpoint", Scope::Endpoint), ("backend", Scope::Backend), ("both", Scope::Both)])
    });
    let condition = condition(section);
    let duration = |key: &str, default: u64| section.get(key).and_then(|item| item.duration()).unwrap_or(Duration::from_secs(default));
    Some(breaker::Terms {
        scope: scope?,
        condition: condition?,
        window: duration("window", 10),
        min_requests: number(section, "min_requests", 1..=MOST, 20),
        open: duration("open", 10),
        probes: number(section, "probes", 1..=u64::from(MAX_PROBES), 3),
    })
}

/// What the section watches, as one condition: each part alone opens the breaker.
fn condition(section: &Section<'_>) -> Option<Condition> {
    let mut parts = Vec::new();
    let mut good = true;
    if let Some(item) = section.get("error_ratio") {
        match item.fraction() {
            Some(ratio) => parts.push(format!("ErrorRatio() >= {ratio}")),
            None => good = false,
        }
    }
    if let Some(latency) = section.section("latency", &keys::BREAKER_LATENCY) {
        let quantile = latency.get("quantile").map_or(Some(0.99), |item| item.fraction());
        match (quantile, latency.required("above").and_then(|item| item.duration())) {
            (Some(quantile), Some(above)) => {
                parts.push(format!("LatencyAtQuantileMS({}) > {}", (quantile * 1e6).round() / 1e4, above.as_millis()));
            }
            _ => good = false,
        }
    }
    if let Some(item) = section.get("expression") {
        match item.text().map(|text| (text, Condition::parse(text))) {
            Some((text, Ok(_))) if parts.is_empty() => parts.push(text.to_owned()),
            Some((text, Ok(_))) => parts.push(format!("({text})")),
            Some((_, Err(mistake))) => {
                item.wrong(mistake.to_string(), "correct the expression there; docs/reference/hub-toml.md tells its words");
                good = false;
            }
            None => good = false,
        }
    }
    if parts.is_empty() {
        parts.push("ErrorRatio() >= 0.5".to_owned());
    }
    if !good {
        return None;
    }
    Condition::parse(&parts.join(" || "))
        .inspect_err(|mistake| section.wrong(format!("error_ratio, latency and expression are too much together: {mistake}"), "keep fewer"))
        .ok()
}

fn ejection(section: &Section<'_>) -> ejection::Terms {
    let duration = |key: &str, default: u64| section.get(key).and_then(|item| item.duration()).unwrap_or(Duration::from_secs(default));
    let terms = ejection::Terms {
        consecutive_5xx: number(section, "consecutive_5xx", 0..=MOST, 3),
        consecutive_gateway_errors: number(section, "consecutive_gateway_errors", 0..=MOST, 3),
        latency: section.get("latency").and_then(|item| item.duration()),
        consecutive_slow: number(section, "consecutive_slow", 1..=MOST, 3),
        interval: duration("interval", 10),
        base: duration("base", 30),
        max: duration("max", 300),
        max_percent: number(section, "max_percent", 1..=100, 50),
    };
    if terms.consecutive_5xx == 0 && terms.consecutive_gateway_errors == 0 && terms.latency.is_none() {
        section.wrong("ejects nobody", "give consecutive_5xx, consecutive_gateway_errors or latency, or remove it");
    }
    if let (Some(item), true) = (section.get("consecutive_slow"), terms.latency.is_none()) {
        item.wrong("says nothing without latency", "add latency = \"2s\", or remove it");
    }
    if terms.max < terms.base {
        section.wrong(format!("base ({:?}) is longer than max ({:?})", terms.base, terms.max), "raise max, or lower base");
    }
    terms
}

fn number(section: &Section<'_>, key: &str, bounds: std::ops::RangeInclusive<u64>, default: u32) -> u32 {
    let read = |item: Item<'_>| item.number(bounds).and_then(|number| u32::try_from(number).ok());
    section.get(key).and_then(read).unwrap_or(default)
}

#[cfg(test)]
mod tests;
