//! Filters: what a rule changes of requests and answers on their way. Names follow Gateway API's `HTTPRouteFilter`.
//!
//! The order in which they act is fixed, whatever their order in the file: a preflight is answered, a redirect is answered, a
//! request's headers are edited, its host and path rewritten; an error is replaced, an answer's headers are edited, CORS is
//! written, a body is compressed.

use std::ops::RangeInclusive;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};

/// All filters of a rule. Nothing is asked by default.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filters {
    /// `RequestHeaderModifier`
    pub request_headers: Option<HeaderEdit>,
    /// `ResponseHeaderModifier`
    pub response_headers: Option<HeaderEdit>,
    /// `URLRewrite`
    pub rewrite: Option<Rewrite>,
    /// `RequestRedirect`; the rule then has no backends.
    pub redirect: Option<Redirect>,
    /// `CORS`
    pub cors: Option<Cors>,
    /// `Compression`
    pub compression: Option<Compression>,
    /// `ErrorAnswer`, the first that names a status counts.
    pub errors: Vec<ErrorAnswer>,
}

impl Filters {
    /// Whether anything is asked.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Edits of a head: removed first, then set, then added.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderEdit {
    /// Replaced, or added where they were missing.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Added as lines of their own beside what is there.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Taken away.
    pub remove: Vec<HeaderName>,
}

/// Another host or path for the workload. X-Forwarded-Host keeps the one that the client asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rewrite {
    /// In place of the host and its port; lower case.
    pub hostname: Option<String>,
    /// In place of the path; the query stays as it is.
    pub path: Option<PathEdit>,
}

/// Another path. Values are in canonical form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathEdit {
    /// In place of the whole path.
    Full(String),
    /// In place of the prefix that matched; without a final slash, so empty for `/`. The rule matches prefixes only.
    Prefix(String),
}

/// An answer that sends the client elsewhere. What is not given stays as the client asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<&'static str>,
    /// Lower case.
    pub hostname: Option<String>,
    /// Not written where it is the scheme's own.
    pub port: Option<u16>,
    /// The query stays as it is.
    pub path: Option<PathEdit>,
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
}

/// What browsers are told about requests from other origins (Gateway API: HTTPCORSFilter).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// Who may ask. With `any_origin`, nobody is listed.
    pub origins: Vec<Origin>,
    /// Whoever asks may; never together with `credentials`.
    pub any_origin: bool,
    /// Joined by commas, `*` for any, empty for the simple ones.
    pub methods: String,
    /// Joined by commas, `*` for any, empty for the simple ones.
    pub headers: String,
    /// Joined by commas, `*` for any, empty for the simple ones.
    pub expose: String,
    /// Whether cookies and the like may be sent.
    pub credentials: bool,
    /// How long a browser may remember a preflight, in seconds.
    pub max_age: u64,
}

/// An origin as browsers spell it: lower case, without the scheme's own port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// `https://shop.example`
    Exact(String),
    /// `https://*.example:8443`, where the star stands for one label or more.
    Below {
        /// `https://`
        scheme: String,
        /// `.example:8443`
        suffix: String,
    },
}

impl Origin {
    /// Whether a browser's `Origin` is this one.
    pub fn admits(&self, origin: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == origin,
            Self::Below { scheme, suffix } => {
                let name = origin.strip_prefix(scheme.as_str()).and_then(|rest| rest.strip_suffix(suffix.as_str()));
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
                name.is_some_and(|name| !name.is_empty() && !name.starts_with('.') && name.bytes().all(plain))
            }
        }
    }
}

/// Which answers are compressed, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compression {
    /// In the order of preference among those that a client likes equally.
    pub codings: Vec<Coding>,
    /// Bodies known to be smaller stay as they are.
    pub min_bytes: u64,
    /// Which content types, lower case, without parameters.
    pub content_types: Vec<MediaPattern>,
}

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// RFC 8878
    Zstd,
    /// RFC 7932
    Brotli,
    /// RFC 1952
    Gzip,
}

impl Coding {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Brotli, Self::Gzip];

    /// Its name in Content-Encoding and Accept-Encoding.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }
}

/// A content type, or a family of them: `text/*`, `application/*+json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaPattern {
    /// Before the star.
    pub before: String,
    /// After the star; `None`: there is no star.
    pub after: Option<String>,
}

impl MediaPattern {
    /// Whether a content type (without parameters) is of the family, whatever its case.
    pub fn fits(&self, media: &str) -> bool {
        let (media, before) = (media.as_bytes(), self.before.as_bytes());
        let Some(after) = self.after.as_deref().map(str::as_bytes) else { return media.eq_ignore_ascii_case(before) };
        media.len() >= before.len() + after.len()
            && media[..before.len()].eq_ignore_ascii_case(before)
            && media[media.len() - after.len()..].eq_ignore_ascii_case(after)
    }
}

/// What a client reads in place of an error's own body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorAnswer {
    /// Which statuses, 400 to 599.
    pub statuses: Vec<RangeInclusive<u16>>,
    /// The body.
    pub body: Bytes,
    /// Its type.
    pub content_type: HeaderValue,
    /// Whether errors of workloads are replaced too, not only the hub's own.
    pub workloads: bool,
}
