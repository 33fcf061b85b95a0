//! What a rule matches: path, method, headers, query. Bounds on regular expressions are here.

use figspan_settings::{Item, Section};
use http::{HeaderName, Method};
use regex::{Regex, RegexBuilder};

use super::keys;
use crate::routing::{HeaderMatch, PathMatch, RouteMatch, ValueMatch};

/// Longest path, value or expression to match, in bytes: that of Gateway API.
pub(super) const MAX_VALUE: usize = 1024;

/// Bytes that a compiled expression may take; `(\w{99}){99}` and its like end here. Measure check times before raising it.
const MAX_REGEX: usize = 256 * 1024;

/// Headers or query parameters of one match: that of Gateway API.
const MAX_PARTS: usize = 16;

#[derive(Debug, Clone, Copy)]
enum Kind {
    Exact,
    Prefix,
    Regex,
}

pub(super) fn route_match(section: &Section<'_>) -> RouteMatch {
    let path = section.section("path", &keys::PATH).and_then(|section| path(&section));
    let method = section.get("method").and_then(|item| method(&item));
    let headers = few(section, "headers", section.sections("headers", &keys::HEADER));
    let query = few(section, "query_params", section.sections("query_params", &keys::QUERY));
    RouteMatch { path, method, headers: headers.iter().filter_map(header).collect(), query: query.iter().filter_map(query_param).collect() }
}

fn few<'d>(section: &Section<'d>, key: &str, list: Vec<Section<'d>>) -> Vec<Section<'d>> {
    if let (true, Some(item)) = (list.len() > MAX_PARTS, section.get(key)) {
        item.wrong(format!("has {} entries", list.len()), format!("use at most {MAX_PARTS}"));
    }
    list
}

fn path(section: &Section<'_>) -> Option<PathMatch> {
    let words = [("Exact", Kind::Exact), ("PathPrefix", Kind::Prefix), ("RegularExpression", Kind::Regex)];
    let kind = section.get("type").map_or(Some(Kind::Prefix), |item| item.choice(&words));
    let item = section.required("value")?;
    let text = short(&item)?;
    match kind? {
        Kind::Regex => regex(&item, text).map(PathMatch::Regex),
        Kind::Exact => plain_path(&item, text).map(|path| PathMatch::Exact(path.to_owned())),
        Kind::Prefix => plain_path(&item, text).map(|path| match path.strip_suffix('/') {
            Some("") | None => PathMatch::Prefix(path.to_owned()),
            Some(stem) => PathMatch::Prefix(stem.to_owned()),
        }),
    }
}

/// A path in the canonical form that admission makes of every request's: another would never match.
pub(super) fn plain_path<'d>(item: &Item<'d>, text: &'d str) -> Option<&'d str> {
    let refuse = |why: &str, mend: &str| {
        item.wrong(format!("path `{}` {why}", text.escape_debug()), mend);
        None
    };
    let lower = text.to_ascii_lowercase();
    if !text.starts_with('/') {
        refuse("does not begin with /", "write it from the root, as in \"/orders\"")
    } else if text.split('/').any(|element| element == "." || element == "..") {
        refuse("has a dot segment", "write the path that remains without it")
    } else if text.contains("//") {
        refuse("has an empty element", "write single slashes")
    } else if text.contains(['?', '#']) {
        refuse("has a query or fragment", "match the query with query_params")
    } else if text.contains('\\') || lower.contains("%2f") || lower.contains("%5c") || lower.contains("%2e") {
        refuse("has a hidden separator or dot", "requests with such paths are refused; write plain / and .")
    } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        refuse("has characters that no request line carries", "percent-encode them")
    } else {
        Some(text)
    }
}

pub(super) fn method(item: &Item<'_>) -> Option<Method> {
    let text = item.text()?;
    let upper = text.to_ascii_uppercase();
    let standard = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"];
    if upper == "CONNECT" {
        item.wrong("CONNECT is refused by the hub", "match WebSockets as GET");
    } else if upper != text && standard.contains(&upper.as_str()) {
        item.wrong(format!("method `{text}` is not in capitals"), format!("write \"{upper}\""));
    } else if let Some(method) = Method::from_bytes(text.as_bytes()).ok().filter(|_| text.len() <= 32) {
        return Some(method);
    } else {
        item.wrong(format!("`{}` is not a method", text.escape_debug()), "write one such as \"GET\"");
    }
    None
}

fn header(section: &Section<'_>) -> Option<HeaderMatch> {
    let name = section.required("name").and_then(|item| header_name(&item));
    let value = value_match(section);
    Some(HeaderMatch { name: name?, value: value? })
}

pub(super) fn header_name(item: &Item<'_>) -> Option<HeaderName> {
    let text = item.text()?;
    let name = HeaderName::from_bytes(text.to_ascii_lowercase().as_bytes()).ok();
    if name.is_none() {
        item.wrong(format!("`{}` is not a header name", text.escape_debug()), "use letters, digits and '-', as in \"x-version\"");
    }
    name
}

fn query_param(section: &Section<'_>) -> Option<(String, ValueMatch)> {
    let name = section.required("name").and_then(|item| short(&item).map(str::to_owned));
    let value = value_match(section);
    Some((name?, value?))
}

fn value_match(section: &Section<'_>) -> Option<ValueMatch> {
    let words = [("Exact", Kind::Exact), ("RegularExpression", Kind::Regex)];
    let kind = section.get("type").map_or(Some(Kind::Exact), |item| item.choice(&words));
    let item = section.required("value")?;
    let text = match kind? {
        Kind::Regex => return regex(&item, short(&item)?).map(ValueMatch::Regex),
        Kind::Exact | Kind::Prefix => item.any_text()?,
    };
    if text.len() > MAX_VALUE || text.chars().any(char::is_control) {
        item.wrong("is longer than 1024 bytes, or has control characters", "write a value that a request can carry");
        return None;
    }
    Some(ValueMatch::Exact(text.to_owned()))
}

fn short<'d>(item: &Item<'d>) -> Option<&'d str> {
    let text = item.text()?;
    if text.len() > MAX_VALUE {
        item.wrong(format!("has {} bytes", text.len()), format!("use at most {MAX_VALUE}"));
        return None;
    }
    Some(text)
}

/// An expression, anchored at both ends. It is compiled alone first, so that `a)|(b` cannot undo the anchors.
fn regex(item: &Item<'_>, text: &str) -> Option<Regex> {
    let compile = |pattern: &str| RegexBuilder::new(pattern).size_limit(MAX_REGEX).dfa_size_limit(MAX_REGEX).nest_limit(50).build();
    match compile(text).and_then(|_| compile(&format!(r"\A(?:{text})\z"))) {
        Ok(regex) => Some(regex),
        Err(regex::Error::CompiledTooBig(_)) => {
            item.wrong("is too large an expression", format!("make it simpler; compiled it may take {} KiB", MAX_REGEX / 1024));
            None
        }
        Err(error) => {
            // The last line says what is wrong; the others draw a picture that does not fit a line.
            let text = error.to_string();
            let why = text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ");
            item.wrong(format!("is not an expression: {why}"), "write RE2 syntax, without look-around and back-references");
            None
        }
    }
}
