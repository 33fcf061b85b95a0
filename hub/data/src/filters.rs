//! Hop: forward, before and after the tries. What a rule changes of its requests and answers.
//!
//! [`before`] may answer by itself (a preflight, a redirect); else it edits the request, once, so that every try sends the same.
//! [`Filtered`] is what is left to do with the answer: [`Filtered::head`] edits the head of whatever the client gets, the hub's
//! own errors included; [`Filtered::replaced`], [`Filtered::whole`] and [`Filtered::coder`] see to the body. A rule without
//! filters has no [`Filtered`]. Nothing here fails: what a filter may do was checked when the settings were read.

mod compress;
mod cors;
mod errors;
mod headers;
mod negotiate;
mod path;
mod redirect;

use std::sync::Arc;

use bytes::Bytes;
use figspan_model::routing::{Coding, ErrorAnswer, Filters, HttpRule, Matched, Rewrite};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header, request};

use crate::body::Body;
use crate::metrics::{Limit, Metrics};
use crate::reply::Failure;

pub use compress::{Coded, Encoder, Frames};

/// The filters of a request's rule, and what they need to know of the request as the client sent it.
#[derive(Debug)]
pub struct Filtered<'s> {
    filters: &'s Filters,
    origin: Option<HeaderValue>,
    coding: Option<Coding>,
    head_only: bool,
    grpc: bool,
}

/// What comes of a request before any backend is asked.
#[derive(Debug)]
pub enum Verdict<'s> {
    /// The request goes on, edited.
    Forward(Option<Filtered<'s>>),
    /// The rule has its answer.
    Answer(Response<Body>),
    /// The rule cannot answer this request.
    Refuse(Filtered<'s>, Failure),
}

/// Whether the rule answers the request as a CORS preflight, so that no token is looked for: browsers send none with it.
pub fn is_preflight(rule: &HttpRule, parts: &request::Parts) -> bool {
    rule.policy.as_deref().is_some_and(|policy| policy.filters.cors.is_some()) && cors::is_preflight(parts)
}

/// What is to be done with an answer that the rule gives before [`before`].
pub fn of<'s>(rule: &'s HttpRule, parts: &request::Parts) -> Option<Filtered<'s>> {
    let filters = rule.policy.as_deref().map(|policy| &policy.filters).filter(|filters| !filters.is_empty())?;
    Some(Filtered::of(filters, parts))
}

/// Edits a request as its rule asks, or answers it.
pub fn before<'s>(matched: &Matched<'s>, parts: &mut request::Parts) -> Verdict<'s> {
    let Some(filtered) = of(matched.rule, parts) else { return Verdict::Forward(None) };
    let filters = filtered.filters;
    if let Some(mut answer) = filters.cors.as_ref().and_then(|cors| cors::preflight(cors, parts)) {
        filtered.edit(answer.headers_mut());
        return Verdict::Answer(answer);
    }
    if let Some(redirect) = &filters.redirect {
        return match redirect::answer(redirect, matched.prefix(), &parts.uri, &parts.headers) {
            None => Verdict::Refuse(filtered, Failure::RedirectLoop),
            Some(mut answer) => {
                filtered.head(answer.headers_mut());
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
    let Some(filtered) = filtered else { return response };
    if let Some(error) = filtered.error(response.status(), false) {
        *response.body_mut() = Body::Full(error.body.clone());
        errors::describe(error, response.headers_mut());
    }
    filtered.head(response.headers_mut());
    response
}

impl<'s> Filtered<'s> {
    fn of(filters: &'s Filters, parts: &request::Parts) -> Self {
        let grpc = parts.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        Self {
            filters,
            origin: filters.cors.as_ref().and_then(|_| parts.headers.get(header::ORIGIN).cloned()),
            coding: filters.compression.as_ref().and_then(|compression| negotiate::coding(&compression.codings, &parts.headers)),
            head_only: parts.method == Method::HEAD,
            grpc,
        }
    }

    /// Edits the head of a final answer: last of all, but before its body is coded.
    pub fn head(&self, head: &mut HeaderMap) {
        self.edit(head);
        if let Some(cors) = &self.filters.cors {
            cors::write(cors, self.origin.as_ref(), head);
        }
    }

    /// How the body of its answer is coded, where its type and size allow that.
    pub fn coding(&self) -> Option<Coding> {
        self.coding.filter(|_| !self.head_only && !self.grpc)
    }

    fn edit(&self, head: &mut HeaderMap) {
        if let Some(edit) = &self.filters.response_headers {
            headers::edit(edit, head);
        }
    }

    fn error(&self, status: StatusCode, of_workload: bool) -> Option<&'s ErrorAnswer> {
        errors::for_status(&self.filters.errors, status, of_workload).filter(|_| !self.grpc)
    }

    /// The body in place of a workload's error, which the head then describes.
    pub fn replaced(&self, head: &mut Response<()>) -> Option<Bytes> {
        let error = self.error(head.status(), true)?;
        errors::describe(error, head.headers_mut());
        Some(error.body.clone())
    }

    /// What codes the body of this answer, which the head then describes; `length` is the body's, where it is known.
    pub fn coder(&self, head: &mut Response<()>, length: Option<u64>, metrics: &Arc<Metrics>) -> Option<Encoder> {
        let encoder = self.encoder(head, length, metrics)?;
        negotiate::describe(head.headers_mut(), Some(encoder.coding()));
        Some(encoder)
    }

    /// The body, coded if that gains anything; the head then describes it.
    pub fn whole(&self, head: &mut Response<()>, body: Bytes, metrics: &Arc<Metrics>) -> Bytes {
        let Some(encoder) = self.encoder(head, Some(body.len() as u64), metrics) else { return body };
        let coding = encoder.coding();
        let Some(coded) = encoder.whole(&body) else { return body };
        negotiate::describe(head.headers_mut(), Some(coding));
        head.headers_mut().insert(header::CONTENT_LENGTH, coded.len().into());
        coded
    }

    fn encoder(&self, head: &mut Response<()>, length: Option<u64>, metrics: &Arc<Metrics>) -> Option<Encoder> {
        let compression = self.filters.compression.as_ref()?;
        if self.head_only || self.grpc || !negotiate::eligible(compression, head.status(), head.headers(), length) {
            return None;
        }
        negotiate::describe(head.headers_mut(), None);
        let encoder = Encoder::new(self.coding?, metrics);
        if encoder.is_none() {
            metrics.limit_hit(Limit::Compressions);
        }
        encoder
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
