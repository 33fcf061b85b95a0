//! Entries as text and as JSON. Pure. Nothing that came from the network can end a line or steer a terminal.

use std::borrow::Cow;
use std::fmt::Write;

use jiff::Timestamp;

use crate::entry::{Entry, Value};

/// `2026-11-21T04:05:06.123456Z INFO figspan_hub::shard listening listener=web address=0.0.0.0:8080`
pub(crate) fn text(entry: &Entry, out: &mut String) {
    let _ = write!(out, "{} {:>5} {}", time(entry), entry.level, escaped(&entry.target));
    if !entry.message.is_empty() {
        let _ = write!(out, " {}", escaped(&entry.message));
    }
    for (name, value) in &entry.fields {
        let _ = write!(out, " {name}=");
        match value {
            Value::Text(text) => quoted(text, out),
            other => {
                let _ = write!(out, "{other}");
            }
        }
    }
    out.push('\n');
}

/// One object: `time`, `level`, `target`, `message`, then the fields; a field never replaces one of those four.
pub(crate) fn json(entry: &Entry, out: &mut String) {
    let mut object = serde_json::Map::new();
    for (name, value) in &entry.fields {
        let value = match value {
            Value::Text(text) => escaped(text).into(),
            Value::Int(n) => (*n).into(),
            Value::Uint(n) => (*n).into(),
            Value::Float(n) => (*n).into(),
            Value::Bool(b) => (*b).into(),
        };
        object.insert((*name).to_owned(), value);
    }
    object.insert("time".into(), time(entry).to_string().into());
    object.insert("level".into(), entry.level.as_str().into());
    object.insert("target".into(), escaped(&entry.target).into());
    object.insert("message".into(), escaped(&entry.message).into());
    out.push_str(&serde_json::Value::Object(object).to_string());
    out.push('\n');
}

/// Replaces characters that could end a line, steer a terminal or turn text around by `\n`, `\t`, `\u{1b}` and the like.
pub fn escape(text: &str) -> String {
    escaped(text).into_owned()
}

pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    if !text.chars().any(unsafe_to_show) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if unsafe_to_show(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// C0, DEL and C1 controls; line and paragraph separators; marks that override the direction of text.
fn unsafe_to_show(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn quoted(text: &str, out: &mut String) {
    let plain = !text.is_empty() && !text.contains(|c: char| c == '"' || c == '=' || c == '\\' || c.is_whitespace());
    if plain {
        out.push_str(&escaped(text));
        return;
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if unsafe_to_show(c) => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn time(entry: &Entry) -> impl std::fmt::Display + use<> {
    let at = Timestamp::try_from(entry.at).unwrap_or(Timestamp::UNIX_EPOCH);
    jiff::fmt::temporal::DateTimePrinter::new().precision(Some(6)).timestamp_to_string(&at)
}
