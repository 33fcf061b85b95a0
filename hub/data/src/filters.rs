//! Hop: forward, before and after the tries. What a rule changes of its requests and answers.
//!
//! [`Filtered::before`] may answer by itself (a redirect); else it edits the request, once, so that every try sends the same.
//! [`Filtered::answer`] edits the head of whatever the client gets, the hub's own errors included. A rule without filters has no
//! [`Filtered`]. Nothing here fails: what a filter may do was checked when the settings were read.

mod headers;
mod path;
mod redirect;

use figspan_model::routing::{Filters, Matched, Rewrite};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, Response, Uri, request};

use crate::body::Body;
use crate::reply::Failure;

/// The filters of a request's rule.
#[derive(Debug)]
pub struct Filtered<'s> {
    filters: &'s Filters,
}

/// What the hub says by itself, without any backend.
#[derive(Debug)]
pub enum Verdict<'s> {
    /// The request goes on, edited.
    Forward(Option<Filtered<'s>>),
    /// The client is sent elsewhere.
    Answer(Response<Body>),
    /// The rule cannot answer this request.
    Refuse(Filtered<'s>, Failure),
}

/// Edits a request as its rule asks, or answers it.
pub fn before<'s>(matched: &Matched<'s>, parts: &mut request::Parts) -> Verdict<'s> {
    let Some(filters) = matched.rule.policy.as_deref().map(|policy| &policy.filters).filter(|filters| !filters.is_empty()) else {
        return Verdict::Forward(None);
    };
    let filtered = Filtered { filters };
    if let Some(redirect) = &filters.redirect {
        return match redirect::answer(redirect, matched.prefix(), &parts.uri, &parts.headers) {
            None => Verdict::Refuse(filtered, Failure::RedirectLoop),
            Some(mut answer) => {
                filtered.answer(answer.headers_mut());
                Verdict::Answer(answer)
            }
        };
    }
    if let Some(edit) = &filters.request_headers {
        headers::edit(edit, &mut parts.headers);
    }
    if let Some(rewrite) = &filters.rewrite {
        parts.uri = rewritten(rewrite, matched.prefix(), std::mem::take(&mut parts.uri));
    }
    Verdict::Forward(Some(filtered))
}

/// Edits an error of the hub's own as the rule asks.
pub fn refusal(filtered: Option<&Filtered<'_>>, mut response: Response<Body>) -> Response<Body> {
    if let Some(filtered) = filtered {
        filtered.answer(response.headers_mut());
    }
    response
}

impl Filtered<'_> {
    /// Edits the head of a final answer.
    pub fn answer(&self, head: &mut HeaderMap) {
        if let Some(edit) = &self.filters.response_headers {
            headers::edit(edit, head);
        }
    }
}

/// Another host and path. X-Forwarded-Host was written before, from what the client asked for.
fn rewritten(rewrite: &Rewrite, prefix: &str, uri: Uri) -> Uri {
    let before = uri.clone();
    let mut parts = uri.into_parts();
    if let Some(hostname) = &rewrite.hostname {
        parts.authority = Authority::try_from(hostname.as_str()).ok();
    }
    if let Some(edit) = &rewrite.path {
        let path = path::edited(edit, prefix, before.path(), before.query());
        parts.path_and_query = PathAndQuery::try_from(path).ok();
    }
    // Both values were checked when they were read; a client's path is bounded by the head's limit, far below that of a URI.
    Uri::from_parts(parts).unwrap_or(before)
}

#[cfg(test)]
mod tests;
