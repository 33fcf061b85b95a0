//! `session_persistence` of a rule.

use std::time::Duration;

use figspan_settings::{Item, Section};

use super::super::{keys, values};
use crate::routing::{SameSite, SessionPersistence};

const SAME_SITE: &[(&str, SameSite)] = &[("Strict", SameSite::Strict), ("Lax", SameSite::Lax), ("None", SameSite::None)];
const TYPES: &[(&str, ())] = &[("Cookie", ())];

/// Shortest and longest life of a session. Cookies count whole seconds; browsers keep none for longer than 400 days.
const TTL: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(400 * 86_400);

/// Longest name of a cookie.
const MAX_NAME: usize = 64;

pub(super) fn session(section: &Section<'_>) -> Option<SessionPersistence> {
    let section = section.section("session_persistence", &keys::SESSION)?;
    let default = SessionPersistence::default();
    // There is one kind so far; the key makes the table read as Gateway API's does.
    section.get("type").map(|item| item.choice(TYPES));
    let asked = SessionPersistence {
        name: section.get("name").and_then(|item| name(&item)),
        ttl: section.get("ttl").and_then(|item| time(&item)).unwrap_or(default.ttl),
        absolute_timeout: section.get("absolute_timeout").and_then(|item| time(&item)),
        path: section.get("path").and_then(|item| path(&item)).unwrap_or(default.path),
        domain: section.get("domain").and_then(|item| values::host(&item)),
        secure: section.get("secure").and_then(|item| item.boolean()),
        http_only: section.get("http_only").and_then(|item| item.boolean()).unwrap_or(default.http_only),
        same_site: section.get("same_site").and_then(|item| item.choice(SAME_SITE)).unwrap_or_default(),
    };
    if let (SameSite::None, Some(false), Some(item)) = (asked.same_site, asked.secure, section.get("secure")) {
        item.wrong("is false, and browsers refuse a cookie for all sites that is not secure", "remove it, or use same_site = \"Lax\"");
    }
    if let (Some(longest), Some(item)) = (asked.absolute_timeout, section.get("absolute_timeout"))
        && longest < asked.ttl
    {
        item.wrong("is shorter than ttl", "use at least ttl, or remove it");
    }
    Some(asked)
}

fn name(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.len() <= MAX_NAME && text.bytes().all(token) {
        return Some(text.to_owned());
    }
    item.wrong(format!("`{}` is not a cookie's name", text.escape_debug()), "use 1 to 64 letters, digits, '-', '_' or '.'");
    None
}

fn time(item: &Item<'_>) -> Option<Duration> {
    let time = item.duration()?;
    if TTL.contains(&time) {
        return Some(Duration::from_secs(time.as_secs()));
    }
    item.wrong("is out of range", "use 1s to 400d");
    None
}

fn path(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    if text.starts_with('/') && text.len() <= 1024 && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';') {
        return Some(text.to_owned());
    }
    item.wrong(format!("`{}` is not a path", text.escape_debug()), "write a path such as \"/\" or \"/shop\"");
    None
}
