//! `load_balancing` of a backend; `hash` of a rule.

use figspan_proto::name::Zone;
use figspan_settings::Section;

use super::super::{ZONE_VARIABLE, keys};
use super::jwt;
use crate::routing::{HashOn, LoadBalancing, Method};

const METHODS: &[(&str, Method)] = &[("RoundRobin", Method::RoundRobin), ("LeastLoad", Method::LeastLoad)];
const ZONE: &[(&str, bool)] = &[("any", false), ("prefer", true)];
const ON: &str = "use client_ip, header:NAME, cookie:NAME, query:NAME or claim:NAME";

/// Longest name of a cookie or query parameter.
const MAX_NAME: usize = 128;

pub(super) fn load_balancing(section: &Section<'_>, own: Option<&Zone>) -> Option<LoadBalancing> {
    let section = section.section("load_balancing", &keys::LOAD_BALANCING)?;
    let zone = section.get("zone");
    let asked = LoadBalancing {
        method: section.get("method").and_then(|item| item.choice(METHODS)).unwrap_or_default(),
        slow_start: section.get("slow_start").and_then(|item| item.duration_or_off()).flatten(),
        prefer_zone: zone.as_ref().and_then(|item| item.choice(ZONE)).unwrap_or_default(),
    };
    if let (true, Some(item), None) = (asked.prefer_zone, &zone, own) {
        item.warn("prefers the hub's own zone, which nobody has told", format!("write hub.zone, or set {ZONE_VARIABLE}; or remove it"));
    }
    (asked != LoadBalancing::default()).then_some(asked)
}

pub(super) fn hash(rule: &Section<'_>) -> Option<HashOn> {
    let item = rule.section("hash", &keys::HASH)?.required("on")?;
    let text = item.text()?;
    let (kind, name) = text.split_once(':').unwrap_or((text, ""));
    let plain = |name: &str| {
        let fits = !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| name.to_owned())
    };
    let on = match kind {
        "client_ip" if name.is_empty() && !text.contains(':') => Some(HashOn::ClientIp),
        "header" => name.parse().ok().map(HashOn::Header),
        "cookie" => plain(name).filter(|name| !name.contains(['=', ';', ',', '"'])).map(HashOn::Cookie),
        "query" => plain(name).map(HashOn::Query),
        "claim" => return jwt::claim(&item, name, rule).map(HashOn::Claim),
        _ => None,
    };
    if on.is_none() {
        item.wrong(format!("`{}` cannot be hashed", text.escape_debug()), ON);
    }
    on
}
