//! No bytes verify as a token, and neither tokens, claims nor key sets are a panic.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use figspan_model::jwt::{Claims, Keys, Terms};
use libfuzzer_sys::fuzz_target;

/// Public keys of RFC 7517, appendix A.1, whose private halves nobody here has.
const JWKS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","kid":"1"}]}"#;

static TERMS: LazyLock<Terms> =
    LazyLock::new(|| Terms { issuer: "https://id.example".into(), audiences: vec!["shop".into()], ..Terms::default() });

static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys::read(JWKS.as_bytes(), &TERMS).expect("keys"));

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    match first % 3 {
        0 => {
            if let Ok(token) = std::str::from_utf8(rest) {
                assert!(KEYS.verify(token).is_err());
            }
        }
        1 => drop(Keys::read(rest, &TERMS)),
        _ => {
            let names = ["sub".to_owned(), "a.b.c".to_owned(), "roles".to_owned()];
            if let Ok(token) = serde_json::from_slice(rest)
                && let Ok(claims) = Claims::of(&token, &names)
            {
                let _ = claims.at(1_790_000_000, Duration::from_secs(60));
                for text in (0..4).filter_map(|index| claims.text(index)) {
                    assert!(text.as_bytes().iter().all(|byte| *byte >= b' ' && *byte != 127));
                }
            }
        }
    }
});
