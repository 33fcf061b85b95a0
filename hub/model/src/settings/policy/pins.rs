//! `pins` of a rule.

use figspan_settings::{Item, Section};
use figspan_tunnel::pin::{MAX_KEY, MIN_KEY, PinKey};
use ipnet::IpNet;

use super::super::keys;
use super::super::values::{Files, Want};
use crate::routing::Target;
use crate::routing::draft::BackendDraft;
use crate::routing::policy::{Pin, PinnedBy};

/// Pins of one rule, and addresses of one pin.
const MAX_ENTRIES: usize = 32;

/// `target` reads where a section points.
pub(in super::super) fn read(
    rule: &Section<'_>,
    backends: &[BackendDraft],
    files: &Files<'_>,
    target: &dyn Fn(&Section<'_>) -> Option<Target>,
) -> Vec<Pin> {
    let list = rule.sections("pins", &keys::PIN);
    if let (Some(item), true) = (rule.get("pins"), list.len() > MAX_ENTRIES) {
        item.wrong(format!("has {} entries", list.len()), format!("use at most {MAX_ENTRIES}"));
    }
    let pin = |section: &Section<'_>| {
        let by = proof(section, files);
        let backend = match section.section("backend", &keys::PIN_BACKEND) {
            Some(backend) => target(&backend),
            None => section.required("backend").and(None),
        }?;
        if !backends.iter().any(|known| known.target == backend) {
            section.wrong(format!("{} is no backend of this rule", backend.key()), "add it to backend_refs, with weight = 0 if need be");
            return None;
        }
        Some(Pin { target: backend, by: by? })
    };
    list.iter().filter_map(pin).collect()
}

fn proof(section: &Section<'_>, files: &Files<'_>) -> Option<PinnedBy> {
    let always = section.get("always").and_then(|item| item.boolean());
    match (section.get("key_file"), section.get("trusted")) {
        (Some(file), None) => {
            if let Some(item) = section.get("always") {
                item.wrong("goes with trusted alone", "remove it");
            }
            let key = PinKey::read(&files.content(&file, Want::Secret(MAX_KEY))?);
            if key.is_none() {
                file.wrong(format!("holds less than {MIN_KEY} bytes"), "make one with `openssl rand -hex 32`");
            }
            key.map(PinnedBy::Key)
        }
        (None, Some(list)) => {
            let items = list.items();
            if items.is_empty() || items.len() > MAX_ENTRIES {
                list.wrong(format!("has {} entries", items.len()), format!("write 1 to {MAX_ENTRIES}"));
            }
            let address = |item: &Item<'_>| item.parsed::<IpNet>("write a network such as \"10.1.0.0/16\"");
            Some(PinnedBy::Trusted { addresses: items.iter().filter_map(address).collect(), always: always.unwrap_or_default() })
        }
        (Some(_), Some(item)) => {
            item.wrong("stands beside key_file", "write two pins");
            None
        }
        (None, None) => {
            section.wrong("says of nobody that they may", "give it key_file or trusted");
            None
        }
    }
}
