//! `health_check` of a service.

use std::ops::RangeInclusive;
use std::time::Duration;

use figspan_settings::{Item, Section};

use crate::routing::Target;
use crate::routing::policy::{HealthCheck, Probe};
use crate::settings::keys;

pub(super) fn health_check(policy: &Section<'_>, target: Option<&Target>) -> Option<HealthCheck> {
    let section = policy.section("health_check", &keys::HEALTH_CHECK)?;
    if matches!(target, Some(Target::Uplink(_))) {
        section.wrong("an uplink is checked by its agents", "write uplink.health in agent.toml, and remove it here");
    }
    let kind = section.get("type").map_or(Some("tcp"), |item| item.choice(&[("tcp", "tcp"), ("http", "http"), ("grpc", "grpc")]));
    for (key, needs) in [("path", "http"), ("status", "http"), ("host", "http"), ("service", "grpc")] {
        if let Some(item) = section.get(key).filter(|_| kind.is_some_and(|kind| kind != needs)) {
            item.wrong(format!("belongs to type = \"{needs}\""), format!("write type = \"{needs}\", or remove it"));
        }
    }
    // All are read, whatever the type: each mistake is told.
    let path = section.get("path").and_then(|item| path(&item)).unwrap_or_else(|| "/".to_owned());
    let host = section.get("host").and_then(|item| host(&item));
    let status = section.get("status").and_then(|item| statuses(&item)).unwrap_or_else(|| vec![200..=399]);
    let service = section.get("service").and_then(|item| item.any_text()).unwrap_or_default().to_owned();
    let probe = match kind {
        Some("http") => Probe::Http { path, host, status },
        Some("grpc") => Probe::Grpc { service },
        _ => Probe::Tcp,
    };
    let duration = |key: &str, default: u64| section.get(key).and_then(|item| item.duration()).unwrap_or(Duration::from_secs(default));
    let count = |key: &str, default: u32| {
        section.get(key).and_then(|item| item.number(1..=100)).and_then(|count| u32::try_from(count).ok()).unwrap_or(default)
    };
    Some(HealthCheck {
        probe,
        interval: duration("interval", 5),
        timeout: duration("timeout", 2),
        rise: count("rise", 2),
        fall: count("fall", 3),
    })
}

fn path(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    if text.starts_with('/') && text.parse::<http::uri::PathAndQuery>().is_ok() {
        return Some(text.to_owned());
    }
    item.wrong("is not a path", "begin it with /, and write spaces and the like as %20");
    None
}

fn host(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    if text.parse::<http::uri::Authority>().is_ok() && !text.contains('@') {
        return Some(text.to_owned());
    }
    item.wrong("is not a host", "write a host, with its port where it is not 80");
    None
}

fn statuses(item: &Item<'_>) -> Option<Vec<RangeInclusive<u16>>> {
    let one = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<u16>().ok()?, last.trim().parse::<u16>().ok()?);
        (first >= 100 && first <= last && last <= 599).then_some(first..=last)
    };
    let ranges: Option<Vec<_>> = item.text()?.split(',').map(one).collect();
    if ranges.is_none() {
        item.wrong("is not a list of statuses", "write statuses from 100 to 599, as in \"200-399\" or \"200,204,401\"");
    }
    ranges
}
