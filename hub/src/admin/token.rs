//! The bearer token of the API over TCP: a file that is read for every request, so that a rotated secret counts at once.

use std::fs;
use std::hint::black_box;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::problem::Refusal;

/// Shortest token taken: 128 bits in hexadecimal are 32 characters, in base64 22.
const SHORTEST: usize = 20;

/// Most bytes of the file that are read.
const LONGEST: u64 = 4096;

/// The file.
#[derive(Debug, Clone)]
pub(crate) struct Token(Arc<PathBuf>);

impl Token {
    /// Fails when the file holds no usable token.
    pub(crate) fn new(file: PathBuf) -> Result<Self, String> {
        let token = Self(Arc::new(file));
        token.read().map(|_| token.clone()).map_err(|why| {
            format!("admin.token_file {}: {why}; write one, e.g. `openssl rand -hex 32`, readable by the hub alone", token.0.display())
        })
    }

    fn read(&self) -> Result<String, String> {
        let mut text = String::new();
        fs::File::open(&*self.0).and_then(|file| file.take(LONGEST).read_to_string(&mut text)).map_err(|e: io::Error| e.to_string())?;
        let token = text.trim();
        if token.len() < SHORTEST { Err(format!("a token needs at least {SHORTEST} characters")) } else { Ok(token.to_owned()) }
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        match (given, self.read()) {
            (Some((_, given)), Ok(token)) => same(given.trim().as_bytes(), token.as_bytes()),
            _ => false,
        }
    }
}

/// Compares in a time that depends on the lengths alone.
fn same(a: &[u8], b: &[u8]) -> bool {
    let difference = a.iter().zip(b).fold(0, |sum, (a, b)| black_box(sum | (a ^ b)));
    a.len() == b.len() && black_box(difference) == 0
}

/// Lets through only requests that carry the token.
pub(super) async fn check(State(token): State<Token>, request: Request, next: Next) -> Response {
    if token.admits(request.headers()) {
        return next.run(request).await;
    }
    let refusal = Refusal::new(StatusCode::UNAUTHORIZED, "no valid token", "send `Authorization: Bearer ...` (figspanctl: --token-file)");
    let mut response = refusal.into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> HeaderMap {
        [(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap())].into_iter().collect()
    }

    #[test]
    fn only_the_whole_token_is_admitted_and_a_rotated_one_counts_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        fs::write(&file, "0123456789abcdef0123456789abcdef\n").unwrap();
        let token = Token::new(file.clone()).unwrap();
        assert!(token.admits(&headers("Bearer 0123456789abcdef0123456789abcdef")));
        assert!(token.admits(&headers("bearer 0123456789abcdef0123456789abcdef")));
        for bad in [
            "Bearer 0123456789abcdef0123456789abcde",
            "Bearer ",
            "Basic 0123456789abcdef0123456789abcdef",
            "Bearer 0123456789abcdef0123456789abcdeX",
        ] {
            assert!(!token.admits(&headers(bad)), "{bad}");
        }
        assert!(!token.admits(&HeaderMap::new()));
        fs::write(&file, "fedcba9876543210fedcba9876543210").unwrap();
        assert!(!token.admits(&headers("Bearer 0123456789abcdef0123456789abcdef")));
        fs::remove_file(&file).unwrap();
        assert!(!token.admits(&headers("Bearer fedcba9876543210fedcba9876543210")));
    }

    #[test]
    fn a_short_or_missing_token_is_refused_at_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        assert!(Token::new(file.clone()).unwrap_err().contains("openssl rand"));
        fs::write(&file, "short").unwrap();
        assert!(Token::new(file).unwrap_err().contains("at least 20"));
    }
}
