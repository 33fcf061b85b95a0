//! `set`, `add` and `remove` of header modifiers, and which fields no filter may touch.

use figspan_settings::{Item, Section};
use http::{HeaderName, HeaderValue};

use super::super::{keys, matches};
use crate::routing::{HeaderEdit, fields};

/// Entries of each list: that of Gateway API.
const MAX_ENTRIES: usize = 16;

/// Bytes of a value: that of Gateway API.
const MAX_VALUE: usize = 4096;

/// Whose head is edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Request,
    Response,
}

pub(super) fn read(section: &Section<'_>, of: Of) -> Option<HeaderEdit> {
    let mut names: Vec<HeaderName> = Vec::new();
    let mut lines = |key: &str| -> Vec<(HeaderName, HeaderValue)> {
        bounded(section, key);
        let mut lines = Vec::new();
        for line in section.sections(key, &keys::EDITED) {
            let name = line.required("name").and_then(|item| field(&item, of, &mut names));
            let value = line.required("value").and_then(|item| value(&item));
            lines.extend(name.zip(value));
        }
        lines
    };
    let (set, add) = (lines("set"), lines("add"));
    bounded(section, "remove");
    let items = section.get("remove").map(|item| item.items()).unwrap_or_default();
    let remove = items.iter().filter_map(|item| field(item, of, &mut names)).collect();
    if ["set", "add", "remove"].iter().all(|key| section.get(key).is_none_or(|item| item.is_empty_list())) {
        section.wrong("changes nothing", "give it set, add or remove, or take it out");
    }
    let edit = HeaderEdit { set, add, remove };
    (edit != HeaderEdit::default()).then_some(edit)
}

fn bounded(section: &Section<'_>, key: &str) {
    if let Some(item) = section.get(key)
        && item.items().len() > MAX_ENTRIES
    {
        item.wrong(format!("has {} entries", item.items().len()), format!("use at most {MAX_ENTRIES}"));
    }
}

/// The name of a field that a filter may touch, once.
fn field(item: &Item<'_>, of: Of, names: &mut Vec<HeaderName>) -> Option<HeaderName> {
    let name = matches::header_name(item)?;
    if let Some((why, mend)) = refused(name.as_str().as_bytes(), of) {
        item.wrong(format!("{name} {why}"), mend);
        None
    } else if names.contains(&name) {
        item.wrong(format!("{name} is edited twice"), "name each field once, in set, add or remove");
        None
    } else {
        names.push(name.clone());
        Some(name)
    }
}

/// Why a field is out of a filter's reach, and what to do instead.
fn refused(name: &[u8], of: Of) -> Option<(&'static str, &'static str)> {
    if fields::same(name, "host") && of == Of::Request {
        Some(("is the request's target", "use URLRewrite with hostname"))
    } else if fields::is_of_the_hop(name) {
        Some(("belongs to one hop, or says where a message ends: the hub writes it", "remove it here"))
    } else if fields::is_hubs(name) || fields::same(name, "proxy-status") {
        Some(("is the hub's own word, which workloads and clients rely on", "use a name of your own"))
    } else if of == Of::Response && ["content-encoding", "content-range"].iter().any(|field| fields::same(name, field)) {
        Some(("says what the body's bytes are", "use Compression, or mend the workload"))
    } else {
        None
    }
}

fn value(item: &Item<'_>) -> Option<HeaderValue> {
    let text = item.any_text()?;
    let value = HeaderValue::from_str(text).ok().filter(|_| text.len() <= MAX_VALUE && text.is_ascii() && text.trim() == text);
    if value.is_none() {
        item.wrong(
            format!("is longer than {MAX_VALUE} bytes, has blanks at an end, or characters that no field carries"),
            "write visible ASCII, with blanks and tabs only inside",
        );
    }
    value
}
