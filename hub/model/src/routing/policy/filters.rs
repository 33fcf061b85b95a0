//! Filters: what a rule changes of requests and answers on their way. Names follow Gateway API's `HTTPRouteFilter`.
//!
//! The order in which they act is fixed, whatever their order in the file: a preflight is answered, a redirect is answered, a
//! request's headers are edited, its host and path rewritten; an error is replaced, an answer's headers are edited, CORS is
//! written, a body is compressed.

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
