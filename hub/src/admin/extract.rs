//! What an operation takes from a request, with refusals in the API's own form.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use figspan_proto::control::plain;
use http::StatusCode;
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::problem::Refusal;
use crate::serve::Peer;

/// Longest name that an operator may give.
const MAX_OPERATOR: usize = 128;

/// A JSON body.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let bytes = bytes(request, state).await?;
        let wrong = |error: serde_json::Error| {
            let detail = format!("{}; its schema is in /openapi.json", plain(&error.to_string()));
            Refusal::new(StatusCode::BAD_REQUEST, "the body cannot be used", detail)
        };
        Ok(Self(serde_json::from_slice(&bytes).map_err(wrong)?))
    }
}

/// A body that is text.
pub(super) struct Text(pub(super) String);

impl<S: Send + Sync> FromRequest<S> for Text {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let bytes = bytes(request, state).await?;
        let wrong = |_| Refusal::new(StatusCode::BAD_REQUEST, "the body cannot be used", "it is not UTF-8; send the file as it is");
        String::from_utf8(bytes.into()).map(Self).map_err(wrong)
    }
}

async fn bytes<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Refusal> {
    Bytes::from_request(request, state).await.map_err(|rejection| {
        let detail = format!("{}; at most {} KiB are taken", plain(&rejection.body_text()), super::MAX_BODY / 1024);
        Refusal::new(rejection.status(), "the body cannot be read", detail)
    })
}

/// The one name in the path.
pub(super) struct Named<T>(pub(super) T);

impl<S: Send + Sync, T: std::str::FromStr<Err: std::fmt::Display>> FromRequestParts<S> for Named<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let wrong = |why: String| Refusal::new(StatusCode::BAD_REQUEST, "the path cannot be used", plain(&why));
        let Path(text) = Path::<String>::from_request_parts(parts, state).await.map_err(|e| wrong(e.body_text()))?;
        text.parse().map(Self).map_err(|error: T::Err| wrong(error.to_string()))
    }
}

/// The query.
pub(super) struct Asked<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let Query(asked) = Query::from_request_parts(parts, state).await.map_err(|rejection| {
            Refusal::new(
                StatusCode::BAD_REQUEST,
                "the query cannot be used",
                format!("{}; see /openapi.json", plain(&rejection.body_text())),
            )
        })?;
        Ok(Self(asked))
    }
}

/// An operator, as the audit names them: what they say of themselves, and what the connection proves.
pub(super) struct Who(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Who {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let said = parts.headers.get("x-figspan-operator").and_then(|value| value.to_str().ok());
        let peer = parts.extensions.get::<Peer>().copied();
        Ok(Self(who(said, peer)))
    }
}

fn who(said: Option<&str>, peer: Option<Peer>) -> String {
    let said: String = plain(said.unwrap_or_default().trim()).chars().take(MAX_OPERATOR).collect();
    let proved = match peer {
        Some(Peer::Local { uid }) => format!("uid {uid}"),
        Some(Peer::Remote(address)) => format!("token from {}", address.ip()),
        None => "in process".to_owned(),
    };
    if said.is_empty() { proved } else { format!("{said} ({proved})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audit_names_what_was_said_and_what_was_proved() {
        assert_eq!(who(Some("ann@laptop"), Some(Peer::Local { uid: 1000 })), "ann@laptop (uid 1000)");
        assert_eq!(who(None, Some(Peer::Local { uid: 0 })), "uid 0");
        assert_eq!(who(Some("bob"), Some(Peer::Remote("10.0.0.7:5".parse().unwrap()))), "bob (token from 10.0.0.7)");
        assert_eq!(who(Some(&"x".repeat(500)), None).len(), MAX_OPERATOR + " (in process)".len());
        assert!(!who(Some("a\u{1b}[2Jb"), None).contains('\u{1b}'));
    }
}
