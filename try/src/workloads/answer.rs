//! One request to one of our own workloads.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::Seen;
use crate::ledger::{Ledger, Verb, sum};

/// Id of a request of our own load.
pub(crate) const ID: HeaderName = HeaderName::from_static("x-try-id");
/// Sum of the request's body as it arrived.
pub(crate) const RECEIVED: HeaderName = HeaderName::from_static("x-try-received");
/// Length and sum of the answer's body.
pub(crate) const WROTE: HeaderName = HeaderName::from_static("x-try-wrote");
/// Who answers.
pub(crate) const BY: HeaderName = HeaderName::from_static("x-try-by");

/// Largest request body read; our own load sends a thousandth of it.
const MAX_BODY: usize = 16 << 20;

/// Largest body of an answer to our own load.
const MAX_ANSWER: u64 = 8 * 1024;

/// Who a workload is.
pub(super) struct About {
    pub(super) name: &'static str,
    pub(super) instance: String,
    pub(super) ledger: Arc<Ledger>,
    pub(super) seen: Arc<Seen>,
}

/// An id as it is written in headers.
pub(crate) fn id_text(id: u64) -> HeaderValue {
    HeaderValue::try_from(format!("{id:016x}")).expect("hexadecimal digits are header text")
}

pub(super) async fn answer(about: &About, request: Request<Incoming>) -> Response<Chunks> {
    let (head, body) = request.into_parts();
    if head.uri.path() == "/healthz" {
        return Response::new(Chunks::whole(Bytes::from_static(b"ok\n")));
    }
    about.seen.requests.fetch_add(1, Ordering::SeqCst);
    let Ok(body) = Limited::new(body, MAX_BODY).collect().await.map(|body| body.to_bytes()) else {
        return status(StatusCode::BAD_REQUEST);
    };
    let id = head.headers.get(ID).and_then(|id| u64::from_str_radix(id.to_str().ok()?, 16).ok());
    let verb = match head.method {
        Method::GET => Verb::Get,
        Method::POST => Verb::Post,
        Method::HEAD if id.is_none() => Verb::Get,
        _ => return status(StatusCode::METHOD_NOT_ALLOWED),
    };
    let mut response = match id {
        Some(id) => {
            let received = sum(&body);
            about.ledger.enter(id, verb, received);
            // Something for the monolith to think about, so that requests overlap.
            tokio::time::sleep(Duration::from_millis(id % 5)).await;
            echo(id, received)
        }
        None => page(about, &head.headers, head.uri.path()),
    };
    response.headers_mut().insert(BY, HeaderValue::from_static(about.name));
    response
}

/// The answer to our own load: a body that only this id has, whole or in chunks, with its length and sum announced.
fn echo(id: u64, received: u64) -> Response<Chunks> {
    let body = body_of(id);
    let wrote = format!("{} {:016x}", body.len(), sum(&body));
    let chunked = id.is_multiple_of(8);
    let mut response = Response::new(if chunked { Chunks::parts(body) } else { Chunks::whole(body) });
    let headers = response.headers_mut();
    headers.insert(ID, id_text(id));
    headers.insert(RECEIVED, id_text(received));
    headers.insert(WROTE, HeaderValue::try_from(wrote).expect("digits are header text"));
    response
}

/// Bytes that follow from the id.
fn body_of(id: u64) -> Bytes {
    let length = 64 + sum(&id.to_be_bytes()) % MAX_ANSWER;
    (0..length).map(|at| (id.wrapping_mul(31).wrapping_add(at.wrapping_mul(7)) % 251) as u8).collect()
}

/// The answer to people.
fn page(about: &About, headers: &HeaderMap, path: &str) -> Response<Chunks> {
    let said = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned();
    let text = format!(
        "{} ({}) answers {path}\n  host            {}\n  x-forwarded-for {}\n",
        about.name,
        about.instance,
        said("host"),
        said("x-forwarded-for")
    );
    let mut response = Response::new(Chunks::whole(text.into()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn status(status: StatusCode) -> Response<Chunks> {
    let mut response = Response::new(Chunks::whole(Bytes::new()));
    *response.status_mut() = status;
    response
}

/// A body with a known length, or one in parts whose length is not announced.
pub(super) enum Chunks {
    Whole(Full<Bytes>),
    Parts(Bytes),
}

impl Chunks {
    fn whole(body: Bytes) -> Self {
        Self::Whole(Full::new(body))
    }

    const fn parts(body: Bytes) -> Self {
        Self::Parts(body)
    }
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(cx),
            Self::Parts(rest) if rest.is_empty() => Poll::Ready(None),
            Self::Parts(rest) => {
                let part = rest.split_to(rest.len().min(1024));
                Poll::Ready(Some(Ok(Frame::data(part))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Parts(rest) => rest.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Parts(_) => SizeHint::default(),
        }
    }
}
