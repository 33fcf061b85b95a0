//! One request to one of our own workloads.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use super::Seen;
use super::mood::{Crash, Mood};
use crate::chunks::{Chunks, CutOff, Watch};
use crate::fields::{BY, ID, RECEIVED, WROTE, id_text};
use crate::join::{Ledger, sum};
use crate::verb::Verb;

/// Largest request body read; our own load sends a thousandth of it.
const MAX_BODY: usize = 16 << 20;

/// Largest body of an answer to our own load.
const MAX_ANSWER: u64 = 8 * 1024;

/// Every which answer is a large one, and how large.
const LARGE_EVERY: u64 = 61;
const LARGE_ANSWER: u64 = 256 * 1024;

/// Who a workload is.
pub(super) struct About {
    pub(super) name: &'static str,
    pub(super) instance: String,
    pub(super) ledger: Arc<Ledger>,
    pub(super) seen: Arc<Seen>,
    pub(super) mood: Arc<Mood>,
}

/// Answers; an error is a connection or stream that breaks off.
pub(super) async fn answer(about: &About, request: Request<Incoming>) -> Result<Response<Chunks>, CutOff> {
    let (head, body) = request.into_parts();
    if head.uri.path() == "/healthz" {
        let healthy = if about.mood.is_sick() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
        return Ok(status(healthy));
    }
    about.seen.requests.fetch_add(1, Ordering::SeqCst);
    // Nothing is entered of a body that did not come whole: nobody has acted upon it.
    let body = Limited::new(body, MAX_BODY).collect().await.map_err(|_| CutOff)?.to_bytes();
    let id = head.headers.get(ID).and_then(|id| u64::from_str_radix(id.to_str().ok()?, 16).ok());
    let Some(verb) = Verb::of(&head.method) else {
        return Ok(status(StatusCode::METHOD_NOT_ALLOWED));
    };
    let mut response = match id {
        Some(id) => own(about, id, verb, sum(&body)).await?,
        None => page(about, &head.headers, head.uri.path()),
    };
    response.headers_mut().insert(BY, HeaderValue::from_static(about.name));
    Ok(response)
}

/// Enters a request of our own load, and then answers it, if the mood lets it.
async fn own(about: &About, id: u64, verb: Verb, received: u64) -> Result<Response<Chunks>, CutOff> {
    about.ledger.enter(id, verb, received);
    let (ledger, mood) = (Arc::clone(&about.ledger), Arc::clone(&about.mood));
    // Dropped before its end: on purpose only if the workload goes down just now.
    let watch = Watch(Some(Box::new(move || {
        if mood.is_down() {
            ledger.cut(id);
        }
    })));
    // Something for the monolith to think about, so that requests overlap.
    tokio::time::sleep(Duration::from_millis(id % 5) + about.mood.delay()).await;
    // What has no body cannot end in its middle.
    let crash = about.mood.crashes().map(|crash| if verb == Verb::Head { Crash::BeforeTheAnswer } else { crash });
    if crash.is_some() {
        about.ledger.cut(id);
    }
    match crash {
        Some(Crash::BeforeTheAnswer) => Err(CutOff),
        Some(Crash::WithinTheAnswer) => Ok(echo(id, received, verb).map(|_| {
            let body = body_of(id);
            let half = body.len() / 2;
            Chunks::Cut(body.slice(..half), body.len() as u64)
        })),
        None => Ok(echo(id, received, verb).map(|body| Chunks::Watched(Box::new(body), watch))),
    }
}

/// The answer to our own load: a body that only this id has, whole or in chunks, with its length and sum announced.
fn echo(id: u64, received: u64, verb: Verb) -> Response<Chunks> {
    let body = body_of(id);
    // To a HEAD, none of it is sent.
    let told = if verb == Verb::Head { &[] } else { &*body };
    let wrote = format!("{} {:016x}", told.len(), sum(told));
    let mut response = match verb {
        Verb::Head => Response::new(Chunks::whole(Bytes::new())),
        _ if id.is_multiple_of(8) => Response::new(Chunks::parts(body.clone())),
        _ => Response::new(Chunks::whole(body.clone())),
    };
    let headers = response.headers_mut();
    if verb == Verb::Head {
        headers.insert(CONTENT_LENGTH, body.len().into());
    }
    headers.insert(ID, id_text(id));
    headers.insert(RECEIVED, id_text(received));
    headers.insert(WROTE, HeaderValue::try_from(wrote).expect("digits are header text"));
    response
}

/// Bytes that follow from the id.
fn body_of(id: u64) -> Bytes {
    let most = if id % LARGE_EVERY == 1 { LARGE_ANSWER } else { MAX_ANSWER };
    let length = 64 + sum(&id.to_be_bytes()) % most;
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
