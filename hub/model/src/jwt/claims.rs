//! What a verified token claims, as far as a rule asks: texts that can stand in a header field, and the token's time.

use std::time::Duration;

use http::HeaderValue;
use serde_json::{Map, Value};

use super::token::BadToken;

/// Longest name of a claim, in bytes.
pub const MAX_NAME: usize = 128;

/// Most dots of a name: how deep a claim may lie.
pub const MAX_DEPTH: usize = 8;

/// Longest text of a claim, in bytes: what the whole head of a request may have with common workloads is twice that.
const MAX_TEXT: usize = 4096;

/// The claims that were asked for, in their order, and when the token counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Unix time in seconds at which it ends.
    expires: u64,
    /// Unix time in seconds at which it begins.
    begins: u64,
    texts: Box<[Option<HeaderValue>]>,
}

impl Claims {
    /// The claims of those names. A dot leads into a claim's own members, unless a claim has the dot in its name.
    pub fn of(token: &Map<String, Value>, names: &[String]) -> Result<Self, BadToken> {
        let expires = token.get("exp").and_then(seconds).ok_or(BadToken::Malformed)?;
        let begins = token.get("nbf").map_or(Some(0), seconds).ok_or(BadToken::Malformed)?;
        let texts = names.iter().map(|name| find(token, name).and_then(text)).collect();
        Ok(Self { expires, begins, texts })
    }

    /// Whether the token counts at that Unix time in seconds.
    pub fn at(&self, now: u64, skew: Duration) -> Result<(), BadToken> {
        if now >= self.expires.saturating_add(skew.as_secs()) {
            Err(BadToken::Expired)
        } else if now.saturating_add(skew.as_secs()) < self.begins {
            Err(BadToken::NotYet)
        } else {
            Ok(())
        }
    }

    /// The claim at that place of the names, where the token has it and a header field can carry it.
    pub fn text(&self, index: usize) -> Option<&HeaderValue> {
        self.texts.get(index)?.as_ref()
    }

    /// Bytes of all texts.
    pub fn size(&self) -> usize {
        self.texts.iter().flatten().map(HeaderValue::len).sum()
    }
}

/// A NumericDate (RFC 7519, section 2) in whole seconds.
fn seconds(value: &Value) -> Option<u64> {
    // A cast of a float saturates.
    value.as_u64().or_else(|| value.as_f64().filter(|date| *date >= 0.0).map(|date| date as u64))
}

fn find<'t>(token: &'t Map<String, Value>, name: &str) -> Option<&'t Value> {
    let below = |(dot, _): (usize, &str)| find(token.get(&name[..dot])?.as_object()?, &name[dot + 1..]);
    token.get(name).or_else(|| name.match_indices('.').find_map(below))
}

/// A claim as the text of a field; lists are joined by commas. What would be read as something else there is no text: blanks at
/// an end, control characters, a comma inside a list's entry.
fn text(value: &Value) -> Option<HeaderValue> {
    let text = match value {
        Value::Array(entries) => {
            let entries: Option<Vec<String>> = entries.iter().map(|entry| scalar(entry).filter(|text| !text.contains(','))).collect();
            entries?.join(",")
        }
        value => scalar(value)?,
    };
    let whole = text.len() <= MAX_TEXT && text.trim() == text && !text.contains('\t');
    HeaderValue::try_from(text).ok().filter(|_| whole)
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
