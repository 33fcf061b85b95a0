//! Two answers side by side: the client's and the copy's. Bodies are hashed as they pass and never kept, but for JSON up to a
//! bound. What a comparison says holds no value of either, only where they differ.

mod json;

use bytes::{Bytes, BytesMut};
use figspan_model::routing::policy::{CompareBody, JsonPath};
use http::StatusCode;
use tokio::sync::oneshot;
use tokio::time::Instant;
use xxhash_rust::xxh3::Xxh3;

/// Looks at an answer as it passes.
pub struct Eye {
    begun: Instant,
    status: u16,
    micros: u64,
    hash: Option<Box<Xxh3>>,
    json: Option<(BytesMut, usize)>,
}

/// What was seen of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its status.
    pub status: u16,
    /// From the beginning to its head.
    pub micros: u64,
    /// Its body's hash, where it was looked at.
    pub hash: Option<u128>,
    /// Its body, where it may be JSON that is short enough.
    pub json: Option<Bytes>,
}

impl Eye {
    /// Opens at the beginning of a request.
    pub fn new(body: &CompareBody) -> Self {
        let json = match body {
            CompareBody::Json { max_bytes, .. } => Some((BytesMut::new(), *max_bytes)),
            CompareBody::Ignored | CompareBody::Hash => None,
        };
        let hash = (*body != CompareBody::Ignored).then(Box::default);
        Self { begun: Instant::now(), status: 0, micros: 0, hash, json }
    }

    /// The answer's head has come.
    pub fn answered(&mut self, status: StatusCode) {
        self.status = status.as_u16();
        self.micros = self.begun.elapsed().as_micros().try_into().unwrap_or(u64::MAX);
    }

    /// Bytes of its body pass.
    pub fn passed(&mut self, data: &[u8]) {
        if let Some(hash) = &mut self.hash {
            hash.update(data);
        }
        if let Some((kept, most)) = &mut self.json {
            if kept.len() + data.len() <= *most {
                kept.extend_from_slice(data);
            } else {
                self.json = None;
            }
        }
    }

    /// The body will not be seen whole.
    pub fn close(&mut self) {
        (self.hash, self.json) = (None, None);
    }

    /// All of it has passed.
    pub fn seen(self) -> Seen {
        let (hash, json) = (self.hash.map(|hash| hash.digest128()), self.json.map(|(kept, _)| kept.freeze()));
        Seen { status: self.status, micros: self.micros, hash, json }
    }
}

/// An eye on the client's answer, and whom to tell.
pub struct Witness {
    eye: Eye,
    to: oneshot::Sender<Seen>,
}

impl Witness {
    /// Tells `to` when the answer was whole; drops it where it was not.
    pub fn new(eye: Eye, to: oneshot::Sender<Seen>) -> Self {
        Self { eye, to }
    }

    /// See [`Eye::answered`].
    pub fn answered(&mut self, status: StatusCode) {
        self.eye.answered(status);
    }

    /// See [`Eye::passed`].
    pub fn passed(&mut self, data: &[u8]) {
        self.eye.passed(data);
    }

    /// The answer was whole.
    pub fn complete(self) {
        // The copy may have given up meanwhile.
        let _ = self.to.send(self.eye.seen());
    }
}

/// What differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// The status: the client's, then the copy's.
    Status(u16, u16),
    /// The body, and where.
    Body(String),
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(primary, mirror) => write!(f, "status {primary}, mirror {mirror}"),
            Self::Body(place) => write!(f, "body: {place}"),
        }
    }
}

/// The first difference of two answers, `None` where they are alike.
pub fn difference(primary: &Seen, mirror: &Seen, how: &CompareBody) -> Option<Difference> {
    if primary.status != mirror.status {
        return Some(Difference::Status(primary.status, mirror.status));
    }
    let (Some(one), Some(other)) = (primary.hash, mirror.hash) else { return None };
    if one == other {
        return None;
    }
    let none: &[JsonPath] = &[];
    let ignore = if let CompareBody::Json { ignore, .. } = how { ignore } else { none };
    let parsed = |seen: &Seen| serde_json::from_slice::<serde_json::Value>(seen.json.as_ref()?).ok();
    match (parsed(primary), parsed(mirror)) {
        (Some(one), Some(other)) => json::difference(&one, &other, ignore).map(Difference::Body),
        _ => Some(Difference::Body("bytes differ".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(how: &CompareBody, status: u16, body: &str) -> Seen {
        let mut eye = Eye::new(how);
        eye.answered(StatusCode::from_u16(status).unwrap());
        body.as_bytes().chunks(3).for_each(|chunk| eye.passed(chunk));
        eye.seen()
    }

    fn compared(how: &CompareBody, one: &str, other: &str) -> Option<String> {
        difference(&seen(how, 200, one), &seen(how, 200, other), how).map(|difference| difference.to_string())
    }

    #[test]
    fn answers_differ_by_status_first_and_by_body_only_where_asked() {
        let how = CompareBody::Hash;
        assert_eq!(difference(&seen(&how, 200, "a"), &seen(&how, 503, "a"), &how).unwrap().to_string(), "status 200, mirror 503");
        assert_eq!(compared(&how, "same", "same"), None);
        assert_eq!(compared(&how, "same", "other"), Some("body: bytes differ".to_owned()));
        assert_eq!(compared(&CompareBody::Ignored, "same", "other"), None);
    }

    #[test]
    fn json_is_compared_by_meaning_and_else_by_bytes() {
        let json = |max_bytes| CompareBody::Json { ignore: vec!["$.at".parse().unwrap()], max_bytes };
        assert_eq!(compared(&json(1000), r#"{"a":1,"at":5}"#, r#"{ "at": 7, "a": 1 }"#), None);
        assert_eq!(compared(&json(1000), r#"{"a":1}"#, r#"{"a":2}"#), Some("body: $.a: other value".to_owned()));
        assert_eq!(compared(&json(1000), "no json", r#"{"a":2}"#), Some("body: bytes differ".to_owned()));
        assert_eq!(compared(&json(5), r#"{"a":1}"#, r#"{"a": 1}"#), Some("body: bytes differ".to_owned()));
    }

    #[test]
    fn a_body_that_was_not_seen_whole_is_not_compared() {
        let how = CompareBody::Hash;
        let mut eye = Eye::new(&how);
        eye.answered(StatusCode::OK);
        eye.passed(b"begin");
        eye.close();
        assert_eq!(difference(&seen(&how, 200, "whole"), &eye.seen(), &how), None);
    }
}
