//! `RequestMirror` among the filters of a rule.

use std::sync::Arc;
use std::time::Duration;

use figspan_settings::{Item, Section};

use crate::routing::Target;
use crate::routing::policy::{Compare, CompareBody, Mirror};
use crate::settings::keys;

/// Longest body that can be copied: copies under way are kept in memory until their target has taken them.
const MAX_BODY: u64 = 16 << 20;

/// Longest JSON that is compared: reading it takes time from the shard's requests.
const MAX_JSON: u64 = 1 << 20;

/// Most paths that a comparison leaves out.
const MAX_IGNORED: usize = 64;

/// `target` reads where a section points.
pub(super) fn read(section: &Section<'_>, target: &dyn Fn(&Section<'_>) -> Option<Target>) -> Option<Mirror> {
    let backend = match section.section("backend", &keys::MIRROR_BACKEND) {
        Some(backend) => target(&backend),
        None => section.required("backend").and(None),
    };
    let number = |item: Item<'_>, bounds| item.number(bounds).and_then(|n| u32::try_from(n).ok());
    Some(Mirror {
        percent: section.get("percent").and_then(|item| number(item, 1..=100)).unwrap_or(100),
        max_body: section.get("max_body").and_then(|item| item.size(0..=MAX_BODY)).map_or(1 << 20, |bytes| bytes as usize),
        timeout: section.get("timeout").and_then(|item| item.duration()).unwrap_or(Duration::from_secs(10)),
        unsafe_methods: section.get("unsafe_methods").and_then(|item| item.text()).map(Arc::from),
        compare: section.section("compare", &keys::MIRROR_COMPARE).map(|section| compare(&section)),
        target: backend?,
    })
}

fn compare(section: &Section<'_>) -> Compare {
    let body = section.get("body").and_then(|item| item.choice(&[("hash", false), ("json", true)]));
    let sample = section.get("sample_percent").and_then(|item| item.number(1..=100)).and_then(|n| u32::try_from(n).ok());
    let max_bytes = section.get("max_json").and_then(|item| item.size(1..=MAX_JSON)).map_or(64 << 10, |bytes| bytes as usize);
    let list = section.get("ignore_paths");
    let items = list.as_ref().map(|list| list.items()).unwrap_or_default();
    if let (Some(list), true) = (&list, items.len() > MAX_IGNORED) {
        list.wrong(format!("has {} entries", items.len()), format!("use at most {MAX_IGNORED}"));
    }
    let ignore = items.iter().filter_map(|item| item.parsed("write a path such as \"$.items[*].updated_at\"")).collect();
    if body != Some(true) {
        for key in ["ignore_paths", "max_json"] {
            if let Some(item) = section.get(key) {
                item.wrong("goes with body = \"json\" alone", "add that, or remove it");
            }
        }
    }
    let body = match body {
        None => CompareBody::Ignored,
        Some(false) => CompareBody::Hash,
        Some(true) => CompareBody::Json { ignore, max_bytes },
    };
    Compare { sample_percent: sample.unwrap_or(100), body }
}
