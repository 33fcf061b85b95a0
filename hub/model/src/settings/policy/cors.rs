//! The CORS filter.

use std::time::Duration;

use figspan_settings::{Item, Section};
use http::Method;

use super::super::matches;
use crate::routing::{Cors, Origin, RouteMatch};

/// Entries of each list: that of Gateway API.
const MAX_ENTRIES: usize = 64;

/// Longest that browsers remember a preflight.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

pub(super) fn read(section: &Section<'_>, rule: &[RouteMatch]) -> Option<Cors> {
    let origins = section.required("allow_origins");
    let listed = origins.as_ref().map(bounded).unwrap_or_default();
    let any_origin = is_star(&listed);
    let credentials = section.get("allow_credentials").and_then(|item| item.boolean()).unwrap_or_default();
    if let (true, true, Some(item)) = (any_origin, credentials, &origins) {
        item.wrong("lets any site act with its visitors' credentials", "list the origins, or set allow_credentials = false");
    }
    if let Some(item) = origins.as_ref().filter(|item| item.is_empty_list()) {
        item.wrong("is empty", "list the origins that may ask, or take the filter out");
    }
    let preflight = |parts: &RouteMatch| parts.method.as_ref().is_none_or(|method| method == Method::OPTIONS);
    if !rule.is_empty() && !rule.iter().any(preflight) {
        section.warn("preflights are OPTIONS requests, which no match of this rule takes", "add a match with method = \"OPTIONS\"");
    }
    let origins = if any_origin { Vec::new() } else { listed.iter().filter_map(origin).collect() };
    let (methods, headers, expose) =
        (joined(section, "allow_methods", method), joined(section, "allow_headers", name), joined(section, "expose_headers", name));
    let max_age = section.get("max_age").and_then(|item| {
        let age = item.duration_or_off()?.unwrap_or_default();
        if age > MAX_AGE {
            item.wrong("is longer than a day, and than any browser remembers", "use at most \"24h\"");
        }
        Some(age.as_secs())
    });
    Some(Cors { origins, any_origin, methods, headers, expose, credentials, max_age: max_age.unwrap_or(5) })
}

/// Whether the entries are one star.
fn is_star(items: &[Item<'_>]) -> bool {
    matches!(items, [one] if one.any_text() == Some("*"))
}

/// The entries of a list.
fn bounded<'d>(item: &Item<'d>) -> Vec<Item<'d>> {
    let items = item.items();
    if items.len() > MAX_ENTRIES {
        item.wrong(format!("has {} entries", items.len()), format!("use at most {MAX_ENTRIES}"));
    }
    items
}

fn joined(section: &Section<'_>, key: &str, read: impl Fn(&Item<'_>) -> Option<String>) -> String {
    let items = section.get(key).map(|item| bounded(&item)).unwrap_or_default();
    if is_star(&items) { "*".to_owned() } else { items.iter().filter_map(read).collect::<Vec<_>>().join(", ") }
}

fn method(item: &Item<'_>) -> Option<String> {
    matches::method(item).map(|method| method.to_string())
}

fn name(item: &Item<'_>) -> Option<String> {
    if item.any_text() == Some("*") {
        item.wrong("stands among others", "write [\"*\"] alone, or names");
        return None;
    }
    matches::header_name(item).map(|name| name.to_string())
}

/// `scheme://host[:port]`, where the first label may be a star.
fn origin(item: &Item<'_>) -> Option<Origin> {
    let text = item.text()?.to_ascii_lowercase();
    let refuse = |mend: &str| {
        item.wrong(format!("`{}` is not an origin", text.escape_debug()), mend);
        None
    };
    if text == "*" {
        return refuse("write [\"*\"] alone, or origins");
    }
    if text == "null" {
        return refuse("any page can make its origin null: list the real ones");
    }
    let Some((scheme, host)) = text.split_once("://") else {
        return refuse("write scheme and host, as in \"https://shop.example\"");
    };
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    let own_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => "\0",
    };
    let host = host.strip_suffix(own_port).unwrap_or(host);
    let (below, name) = host.strip_prefix('*').map_or((false, host), |rest| (true, rest));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':' | b'[' | b']');
    if !is_scheme || name.is_empty() || (below && !name.starts_with('.')) || name.len() > 253 || !name.bytes().all(plain) {
        return refuse("write scheme, host and port alone, as in \"https://shop.example:8443\" or \"https://*.example\"");
    }
    Some(match below {
        true => Origin::Below { scheme: format!("{scheme}://"), suffix: name.to_owned() },
        false => Origin::Exact(format!("{scheme}://{name}")),
    })
}
