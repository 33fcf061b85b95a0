//! One request over a pooled connection, and an honest word on what came of it.
//!
//! A connection that the hub closed while it was idle is no failure of a request: hyper says when nothing of a request was
//! sent, and then a fresh connection takes it. Nothing else is ever sent twice.

use std::time::Duration;

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body_util::{BodyExt, Limited};

use super::mix::Ask;
use super::pool::Pool;
use crate::fields::{BY, ID, RECEIVED, USER, WROTE, id_text};
use crate::join::{Echo, Outcome, Sent, sum};

/// Longest wait for one answer.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// Connections tried for one request; each but the last was closed before anything was sent.
const TRIES: usize = 4;

/// Largest answer read.
const MAX_ANSWER: usize = 64 << 20;

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
const REASON: HeaderName = HeaderName::from_static("figspan-reason");

/// What came of a request, and who answered.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) sent: Sent,
    pub(super) by: Option<String>,
}

/// Sends a request and reads its answer.
pub(super) async fn exchange(pool: &Pool, ask: &Ask) -> Done {
    let target = &*pool.target;
    let (id, verb, replayable, body) = (ask.id, ask.verb, ask.replayable(), sum(&ask.body));
    let done = |outcome, by, why| Done { sent: Sent { id, verb, replayable, time: Default::default(), body, outcome, why }, by };
    let broken = |untouched, begun, why: String| done(Outcome::Broken { untouched, begun }, None, Some(why));

    let mut request = Request::new(ask.chunks());
    *request.method_mut() = verb.method();
    let uri = if ask.h2 { format!("http://{}{}", target.host.to_str().unwrap_or_default(), target.path) } else { target.path.clone() };
    *request.uri_mut() = uri.parse().unwrap_or_default();
    if !ask.h2 {
        request.headers_mut().insert(HOST, target.host.clone());
    }
    if target.own.is_some() {
        request.headers_mut().insert(ID, id_text(id));
    }
    if let Some(user) = ask.user {
        request.headers_mut().insert(USER, user.into());
        pool.jar.add_to(user, request.headers_mut());
    }
    let attempt = async {
        let mut request = Some(request);
        for attempt in 1..=TRIES {
            let mut sender = match pool.connection(ask.h2, attempt > 1).await {
                Ok(sender) => sender,
                // The one HTTP/2 connection that all shared has ended: another one takes its place.
                Err(_) if ask.h2 && attempt < TRIES => continue,
                Err(error) => return broken(true, false, format!("cannot connect to the hub: {error}")),
            };
            let Some(sending) = request.take() else { break };
            let response = match sender.send(sending).await {
                Ok(response) => response,
                Err(mut error) => match error.take_message() {
                    Some(unsent) => {
                        request = Some(unsent);
                        continue;
                    }
                    None => return broken(false, false, format!("no answer: {:?}", error.into_error())),
                },
            };
            let (head, body) = response.into_parts();
            let status = head.status.as_u16();
            ask.user.into_iter().for_each(|user| pool.jar.keep(user, &head.headers));
            return match Limited::new(body, MAX_ANSWER).collect().await {
                Ok(body) => {
                    pool.keep(sender).await;
                    judge(target.own.is_some(), status, &head.headers, &body.to_bytes(), done)
                }
                Err(error) => broken(false, true, format!("the answer ({status}) broke off: {error:?}")),
            };
        }
        broken(true, false, "every connection was closed before the request was sent".to_owned())
    };
    match tokio::time::timeout(ANSWER_TIME, attempt).await {
        Ok(done) => done,
        Err(_) => broken(false, false, format!("no answer in {ANSWER_TIME:?}")),
    }
}

/// Tells an answer of a workload from one of the hub itself.
fn judge(
    own: bool,
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
    done: impl FnOnce(Outcome, Option<String>, Option<String>) -> Done,
) -> Done {
    let text = |name: &HeaderName| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let reason = text(&REASON);
    let explained = headers.contains_key(PROXY_STATUS);
    let by = text(&BY).map(str::to_owned);
    let hex = |name: &HeaderName| u64::from_str_radix(text(name)?, 16).ok();
    let wrote = || {
        let (length, sum) = text(&WROTE)?.split_once(' ')?;
        Some((length.parse().ok()?, u64::from_str_radix(sum, 16).ok()?))
    };
    if let (true, 200, Some(id), Some(received), Some(wrote)) = (own, status, hex(&ID), hex(&RECEIVED), wrote()) {
        let read = (body.len() as u64, sum(body));
        return done(Outcome::Answered(Echo { id, received, wrote, read }), by, None);
    }
    if !own && reason.is_none() {
        let why = (status >= 500).then(|| format!("the workload answered {status}"));
        return done(Outcome::Foreign { status }, by.or_else(|| Some("workload".to_owned())), why);
    }
    let why = format!("answered {status} ({})", reason.unwrap_or("no reason given"));
    // 503 is the hub's word for "no workload saw it" (see the retry table in docs).
    done(Outcome::Refused { status, explained, untouched: status == 503 }, None, Some(why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verb::Verb;

    fn judged(own: bool, status: u16, headers: &[(&'static str, &str)], body: &[u8]) -> Done {
        let headers = headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())).collect();
        judge(own, status, &headers, body, |outcome, by, why| Done {
            sent: Sent { id: 1, verb: Verb::Get, replayable: true, time: Default::default(), body: 0, outcome, why },
            by,
        })
    }

    #[test]
    fn an_echo_is_read_with_what_was_written_and_what_arrived() {
        let wrote = format!("5 {:016x}", sum(b"hello"));
        let headers = [("x-try-id", "000000000000000a"), ("x-try-received", "7"), ("x-try-wrote", &wrote), ("x-try-by", "orders")];
        let done = judged(true, 200, &headers, b"hell");
        assert_eq!(done.by.as_deref(), Some("orders"));
        let Outcome::Answered(echo) = done.sent.outcome else { panic!("{:?}", done.sent) };
        assert_eq!(echo, Echo { id: 10, received: 7, wrote: (5, sum(b"hello")), read: (4, sum(b"hell")) });
    }

    #[test]
    fn the_hubs_own_answers_are_failures_and_a_503_claims_that_nobody_saw_it() {
        let done = judged(true, 503, &[("proxy-status", "figspan; error=x"), ("figspan-reason", "nobody-ready")], b"");
        assert_eq!(done.sent.outcome, Outcome::Refused { status: 503, explained: true, untouched: true });
        assert_eq!(done.sent.why.as_deref(), Some("answered 503 (nobody-ready)"));
        let done = judged(true, 502, &[], b"");
        assert_eq!(done.sent.outcome, Outcome::Refused { status: 502, explained: false, untouched: false });
    }

    #[test]
    fn a_foreign_workload_needs_no_echo() {
        let done = judged(false, 404, &[], b"not here");
        assert_eq!((done.sent.outcome, done.sent.why), (Outcome::Foreign { status: 404 }, None));
    }
}
