//! The Compression filter.

use figspan_settings::{Item, Section};

use crate::routing::{Coding, Compression, MediaPattern};

/// What is worth compressing where nothing else is said: texts under their many names.
const USUAL: &[&str] = &[
    "text/*",
    "application/json",
    "application/*+json",
    "application/xml",
    "application/*+xml",
    "application/javascript",
    "application/x-javascript",
    "application/wasm",
    "application/x-ndjson",
    "application/vnd.ms-fontobject",
    "image/svg+xml",
    "font/ttf",
    "font/otf",
];

/// Content types of one filter.
const MAX_ENTRIES: usize = 64;

pub(super) fn read(section: &Section<'_>) -> Option<Compression> {
    let codings = section.get("algorithms").map_or_else(|| Coding::ALL.to_vec(), |item| codings(&item));
    let min_bytes = section.get("min_bytes").and_then(|item| item.size(0..=1024 * 1024)).unwrap_or(1024);
    let content_types = match section.get("content_types") {
        None => USUAL.iter().map(|usual| pattern(usual)).collect(),
        Some(item) => {
            let items = item.items();
            if items.is_empty() || items.len() > MAX_ENTRIES {
                item.wrong(format!("has {} entries", items.len()), format!("write 1 to {MAX_ENTRIES}, or leave it out"));
            }
            items.iter().filter_map(content_type).collect()
        }
    };
    Some(Compression { codings, min_bytes, content_types })
}

fn codings(list: &Item<'_>) -> Vec<Coding> {
    let words = Coding::ALL.map(|coding| (coding.as_str(), coding));
    let mut codings = Vec::new();
    for item in list.items() {
        match item.choice(&words) {
            Some(coding) if codings.contains(&coding) => item.wrong("is listed twice", "remove one"),
            Some(coding) => codings.push(coding),
            None => {}
        }
    }
    if list.is_empty_list() {
        list.wrong("is empty", "name at least one of zstd, br and gzip, or take the filter out");
    }
    codings
}

fn pattern(text: &str) -> MediaPattern {
    match text.split_once('*') {
        Some((before, after)) => MediaPattern { before: before.to_owned(), after: Some(after.to_owned()) },
        None => MediaPattern { before: text.to_owned(), after: None },
    }
}

fn content_type(item: &Item<'_>) -> Option<MediaPattern> {
    let text = item.text()?.to_ascii_lowercase();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+/*".contains(&byte);
    let stars = text.bytes().filter(|byte| *byte == b'*').count();
    let is_type = text.split('/').count() == 2 && !text.starts_with('/') && !text.ends_with('/') && !text.starts_with('*');
    if text.len() > 127 || stars > 1 || !is_type || !text.bytes().all(plain) {
        item.wrong(
            format!("`{}` is not a content type", text.escape_debug()),
            "write one without parameters, as in \"application/json\", \"text/*\" or \"application/*+json\"",
        );
        return None;
    }
    if text == "text/event-stream" || text.starts_with("application/grpc") {
        item.wrong(format!("{text} is never compressed: its messages must not wait for each other"), "remove it");
        return None;
    }
    Some(pattern(&text))
}
