//! `path = { type = "ReplacePrefixMatch", value = "/v2" }` of a filter.

use figspan_settings::{Item, Section};

use super::super::matches;
use crate::routing::{PathEdit, PathMatch, RouteMatch};

#[derive(Debug, Clone, Copy)]
enum Kind {
    Full,
    Prefix,
}

pub(super) fn read(section: &Section<'_>, rule: &[RouteMatch]) -> Option<PathEdit> {
    let kind =
        section.required("type").and_then(|item| item.choice(&[("ReplaceFullPath", Kind::Full), ("ReplacePrefixMatch", Kind::Prefix)]));
    let by_prefix = |parts: &RouteMatch| matches!(parts.path, None | Some(PathMatch::Prefix(_)));
    if let (Some(Kind::Prefix), false, Some(item)) = (kind, rule.iter().all(by_prefix), section.get("type")) {
        item.wrong("needs prefixes, and a match of this rule is none", "match by PathPrefix, or use ReplaceFullPath");
    }
    let item = section.required("value")?;
    // Gateway API lets an empty prefix stand for the root.
    let root = matches!(kind, Some(Kind::Prefix)) && item.any_text() == Some("");
    let path = if root { String::new() } else { canonical(&item)? };
    Some(match kind? {
        Kind::Full => PathEdit::Full(path),
        Kind::Prefix => PathEdit::Prefix(path.trim_end_matches('/').to_owned()),
    })
}

/// A path in the form that admission gives to those of clients, so that it may stand in a request line and in Location.
fn canonical(item: &Item<'_>) -> Option<String> {
    let text = matches::plain_path(item, item.text()?)?;
    if text.len() > matches::MAX_VALUE {
        item.wrong(format!("has {} bytes", text.len()), format!("use at most {}", matches::MAX_VALUE));
        return None;
    }
    let dotted = |element: &str| matches!(element.to_ascii_lowercase().replace("%3b", ";").split(';').next(), Some("." | ".."));
    if text.split('/').any(|element| element.contains([';', '%']) && dotted(element)) {
        item.wrong("has a dot segment with parameters", "write the path that remains without it");
        return None;
    }
    let mut path = String::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digits: Option<[u8; 2]> = bytes.next().zip(bytes.next()).map(|(high, low)| [high, low]);
                let Some(digits) = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit)) else {
                    item.wrong("has a `%` without two hexadecimal digits", "write %25 for the character itself");
                    return None;
                };
                path.push('%');
                path.extend(digits.map(|digit| digit.to_ascii_uppercase() as char));
            }
            b'"' | b'<' | b'>' | b'[' | b']' | b'^' | b'`' | b'{' | b'|' | b'}' => path.push_str(&format!("%{byte:02X}")),
            _ => path.push(byte as char),
        }
    }
    Some(path)
}
