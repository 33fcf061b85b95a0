//! The ErrorAnswer filter.

use bytes::Bytes;
use figspan_settings::{Item, Section};
use http::HeaderValue;

use super::super::statuses;
use super::super::values::{Files, Want};
use crate::routing::ErrorAnswer;

/// Longest body: it is kept in memory.
const MAX_BODY: usize = 64 * 1024;

pub(super) fn read(section: &Section<'_>, files: &Files<'_>) -> Option<ErrorAnswer> {
    let statuses = section.required("statuses").and_then(|item| statuses::errors(&item));
    let (text, file) = (section.get("body"), section.get("body_file"));
    let mut usual = "text/plain; charset=utf-8";
    let body = match (&text, &file) {
        (Some(item), None) => item.any_text().and_then(|text| short(item, text)),
        (None, Some(item)) => {
            usual = by_name(item.any_text().unwrap_or_default());
            files.content(item, Want::Read(MAX_BODY)).map(Bytes::from)
        }
        (Some(_), Some(item)) => {
            item.wrong("stands beside body", "keep one of them");
            None
        }
        (None, None) => {
            section.wrong("has no body", "give it body = \"...\" or body_file = \"...\"");
            None
        }
    };
    let content_type = match section.get("content_type") {
        None => Some(HeaderValue::from_static(usual)),
        Some(item) => content_type(&item),
    };
    let workloads = section.get("workloads").and_then(|item| item.boolean()).unwrap_or_default();
    Some(ErrorAnswer { statuses: statuses?, body: body?, content_type: content_type?, workloads })
}

fn short(item: &Item<'_>, text: &str) -> Option<Bytes> {
    if text.len() > MAX_BODY {
        item.wrong(format!("has {} bytes", text.len()), format!("use at most {MAX_BODY}"));
        return None;
    }
    Some(Bytes::copy_from_slice(text.as_bytes()))
}

fn by_name(file: &str) -> &'static str {
    match file.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html" | "htm") => "text/html; charset=utf-8",
        Some("json") => "application/json",
        _ => "text/plain; charset=utf-8",
    }
}

fn content_type(item: &Item<'_>) -> Option<HeaderValue> {
    let text = item.text()?;
    let value = HeaderValue::from_str(text).ok().filter(|_| text.is_ascii() && text.contains('/') && text.len() <= 256);
    if value.is_none() {
        item.wrong(format!("`{}` is not a content type", text.escape_debug()), "write one such as \"text/html; charset=utf-8\"");
    }
    value
}
