//! Entries as text and as JSON. Pure. Nothing that came from the network can end a line or steer a terminal.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use tracing::Level;

use crate::entry::{Entry, Value};

/// What every JSON line has, and no field replaces.
const OWN: [&str; 4] = ["time", "level", "target", "message"];

/// `2026-11-21T04:05:06.123456Z INFO figspan_hub::shard listening listener=web address=0.0.0.0:8080`
pub(crate) fn text(entry: &Entry, out: &mut String) {
    time(entry, out);
    out.push_str(match entry.level {
        Level::ERROR => " ERROR ",
        Level::WARN => "  WARN ",
        Level::INFO => "  INFO ",
        Level::DEBUG => " DEBUG ",
        Level::TRACE => " TRACE ",
    });
    out.push_str(&escaped(&entry.target));
    if !entry.message.is_empty() {
        out.push(' ');
        out.push_str(&escaped(&entry.message));
    }
    for (name, value) in entry.fields.iter() {
        out.push(' ');
        out.push_str(name);
        out.push('=');
        show(value, quoted, out);
    }
    out.push('\n');
}

/// One object: `time`, `level`, `target`, `message`, then the fields; a field never replaces one of those four.
pub(crate) fn json(entry: &Entry, out: &mut String) {
    out.push_str("{\"time\":\"");
    time(entry, out);
    out.push_str("\",\"level\":\"");
    out.push_str(entry.level.as_str());
    out.push_str("\",\"target\":");
    json_text(&entry.target, out);
    out.push_str(",\"message\":");
    json_text(&entry.message, out);
    for (name, value) in entry.fields.iter().filter(|(name, _)| !OWN.contains(name)) {
        out.push(',');
        json_text(name, out);
        out.push(':');
        match value {
            // JSON knows no number that is none.
            Value::Float(n) if !n.is_finite() => out.push_str("null"),
            value => show(value, json_text, out),
        }
    }
    out.push_str("}\n");
}

/// Replaces characters that could end a line, steer a terminal or turn text around by `\n`, `\t`, `\u{1b}` and the like.
pub fn escape(text: &str) -> String {
    escaped(text).into_owned()
}

pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    // Nearly all of it is ASCII, of which many bytes are looked at in one instruction.
    let plain = text.bytes().fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~'));
    if plain || !text.chars().any(unsafe_to_show) {
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

/// Bytes that text shows as they are and without quotes: a look into a table is the cheapest for texts as short as these.
static BARE: [bool; 256] = {
    let mut bare = [false; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        bare[byte as usize] = !matches!(byte, b'"' | b'=' | b'\\');
        byte += 1;
    }
    bare
};

fn quoted(text: &str, out: &mut String) {
    if !text.is_empty() && text.bytes().all(|byte| BARE[usize::from(byte)]) {
        return out.push_str(text);
    }
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

fn json_text(text: &str, out: &mut String) {
    let plain = text.bytes().fold(true, |plain, byte| plain & matches!(byte, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~'));
    if plain {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(escaped(text)).to_string());
    }
}

/// Texts as the format has them; all else looks the same in both.
fn show(value: Value<'_>, text_of_format: fn(&str, &mut String), out: &mut String) {
    match value {
        Value::Text(text) => text_of_format(text, out),
        Value::Int(n) => out.push_str(itoa::Buffer::new().format(n)),
        Value::Uint(n) => out.push_str(itoa::Buffer::new().format(n)),
        Value::Float(n) => out.push_str(&n.to_string()),
        Value::Bool(b) => out.push_str(if b { "true" } else { "false" }),
    }
}

fn time(entry: &Entry, out: &mut String) {
    const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(6));
    let at = Timestamp::try_from(entry.at).unwrap_or(Timestamp::UNIX_EPOCH);
    // Writing into memory does not fail.
    let _ = PRINTER.print_timestamp(&at, out);
}
