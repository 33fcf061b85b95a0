//! Takes out of texts what could be a secret. Pure.
//!
//! By what secrets look like (our tokens, private keys, bearer and JSON Web tokens, passwords in URLs), and by what they are called:
//! the value of whatever has a word such as `password` in its name. Rather too much than too little.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

/// What stands in a secret's place.
const GONE: &str = "(redacted)";

/// Parts of names that secrets go by.
const WORDS: &str = r"passw(?:or)?d|passphrase|pwd|secret|token|api[_-]?key|private[_-]?key|access[_-]?key|credential|authorization|cookie|session[_-]?id|signature";

static PATTERNS: LazyLock<Vec<(Regex, String)>> = LazyLock::new(|| {
    let line = |pattern: &str, with: &str| (Regex::new(pattern).expect("a pattern of this file"), with.to_owned());
    vec![
        line(r"figspan1\.[A-Za-z0-9_-]+", GONE),
        line(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)", GONE),
        line(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?", GONE),
        line(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}", &format!("$1 {GONE}")),
        line(r"://[^/\s:@]*:[^/\s@]+@", &format!("://{GONE}@")),
        line(r"(?im)\b((?:proxy-)?authorization|(?:set-)?cookie)\s*:[^\r\n]*", &format!("$1: {GONE}")),
        line(
            &format!(r#"(?i)([\w.-]*(?:{WORDS})[\w.-]*["']?\s*[:=]\s*)("[^"\n]*"|'[^'\n]*'|[^\s,;}}\]&"'\\]+)"#),
            &format!("${{1}}{GONE}"),
        ),
        line(r#"(?i)([?&](?:sig|key|code|auth)=)[^&\s"']+"#, &format!("${{1}}{GONE}")),
    ]
});

static NAME: LazyLock<Regex> = LazyLock::new(|| Regex::new(&format!("(?i){WORDS}")).expect("a pattern of this file"));

/// Free text.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    let mut clean = Cow::Borrowed(text);
    for (pattern, with) in PATTERNS.iter() {
        if let Cow::Owned(cleaner) = pattern.replace_all(&clean, with.as_str()) {
            clean = Cow::Owned(cleaner);
        }
    }
    clean
}

/// All texts in a JSON value, and whatever has a secret's name.
pub(super) fn json(value: &mut Value) {
    match value {
        Value::String(content) => *content = text(content).into_owned(),
        Value::Array(items) => items.iter_mut().for_each(json),
        Value::Object(fields) => fields.iter_mut().for_each(|(name, value)| {
            if is_secret(name) && !value.is_null() {
                *value = GONE.into();
            } else {
                json(value);
            }
        }),
        _ => {}
    }
}

/// All texts in settings: of keys that the reader does not know, and of those with a secret's name, nothing is left.
pub(super) fn toml(value: &mut toml::Value, known: &dyn Fn(&str) -> bool) {
    match value {
        toml::Value::String(content) => *content = text(content).into_owned(),
        toml::Value::Array(items) => items.iter_mut().for_each(|item| toml(item, known)),
        toml::Value::Table(fields) => fields.iter_mut().for_each(|(name, value)| {
            if is_secret(name) || !known(name) {
                *value = GONE.into();
            } else {
                toml(value, known);
            }
        }),
        _ => {}
    }
}

fn is_secret(name: &str) -> bool {
    NAME.is_match(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_by_their_looks_and_by_their_names() {
        for bad in [
            "printf %s 'figspan1.HUNTER2abc_-' | figspan-agent",
            "-----BEGIN PRIVATE KEY-----\nHUNTER2\n-----END PRIVATE KEY-----",
            "-----BEGIN EC PRIVATE KEY-----\nHUNTER2, cut off",
            "Authorization: Basic HUNTER2==\nnext",
            "authorization=HUNTER2",
            "bearer HUNTER2.abc-def",
            "Cookie: a=b; sid=HUNTER2",
            "postgres://shop:HUNTER2@db/shop",
            "password = \"HUNTER2 with spaces\"",
            "DB_PASSWORD='HUNTER2'",
            "\"apiKey\": \"HUNTER2\"",
            "GET /healthz?token=HUNTER2&x=1",
            "GET /healthz?a=1&sig=HUNTER2",
            "x-session-id: HUNTER2",
            "eyJhbGciOiJIUzI1NiJ9.HUNTER2.HUNTER2",
        ] {
            let clean = text(bad);
            assert!(!clean.contains("HUNTER2") && clean.contains(GONE), "{bad}: {clean}");
        }
    }

    #[test]
    fn what_is_no_secret_stays_as_it_is() {
        for good in [
            "tunnel to hub hub-0 shard 1 of 2 at 192.0.2.1:7443 is up",
            "cannot reach workload monolith at 127.0.0.1:8080: connection refused; start it",
            "https://hub.example:7443/a?b=c",
            "2026-11-21T10:00:00Z INFO figspan_agent::tunnels up replica=hub-0",
        ] {
            assert!(matches!(text(good), Cow::Borrowed(_)), "{good}");
        }
    }

    #[test]
    fn structured_values_are_cleaned_in_place() {
        let mut value =
            serde_json::json!({ "seen": "token=HUNTER2", "secret": ["HUNTER2"], "list": [{ "path": "/?password=HUNTER2" }], "n": 1 });
        json(&mut value);
        assert!(!value.to_string().contains("HUNTER2") && value["n"] == 1, "{value}");
        let mut settings: toml::Value =
            toml::from_str("name = \"vm-1\"\nadress = \"HUNTER2\"\n[uplink]\npassword = \"HUNTER2\"\n").unwrap();
        toml(&mut settings, &|name| ["name", "uplink"].contains(&name));
        let settings = settings.to_string();
        assert!(!settings.contains("HUNTER2") && settings.contains("vm-1"), "{settings}");
    }
}
