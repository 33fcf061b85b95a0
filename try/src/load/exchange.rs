//! One request over a pooled HTTP/1.1 connection, and an honest word on what came of it.
//!
//! A connection that the hub closed while it was idle is no failure of a request: hyper says when nothing of a request was
//! sent, and then a fresh connection takes it. Nothing else is ever sent twice.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::Target;
use crate::ledger::{Echo, Outcome, Sent, Verb, sum};
use crate::workloads::{BY, ID, RECEIVED, WROTE, id_text};

/// Longest wait for one answer.
const ANSWER_TIME: Duration = Duration::from_secs(15);

/// Idle connections kept.
const MAX_IDLE: usize = 64;

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
    /// Why it failed, for people.
    pub(super) why: Option<String>,
}

/// Idle connections to the hub.
#[derive(Debug)]
pub(super) struct Pool {
    target: Rc<Target>,
    idle: RefCell<Vec<SendRequest<Full<Bytes>>>>,
}

impl Pool {
    pub(super) fn new(target: Rc<Target>) -> Self {
        Self { target, idle: RefCell::default() }
    }

    fn idle(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.borrow_mut();
        while let Some(sender) = idle.pop() {
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    async fn connection(&self, fresh: bool) -> std::io::Result<SendRequest<Full<Bytes>>> {
        if let Some(sender) = self.idle().filter(|_| !fresh) {
            return Ok(sender);
        }
        let stream = TcpStream::connect(self.target.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        // The thread's LocalSet owns the connection; it ends when the sender is dropped.
        tokio::task::spawn_local(connection);
        Ok(sender)
    }

    fn keep(&self, sender: SendRequest<Full<Bytes>>) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < MAX_IDLE {
            idle.push(sender);
        }
    }
}

/// Sends a request and reads its answer.
pub(super) async fn exchange(pool: &Pool, id: u64, verb: Verb) -> Done {
    let target = &*pool.target;
    let body = if verb == Verb::Post { format!("order {id:016x} ").repeat(1 + (id % 40) as usize) } else { String::new() };
    let body_sum = sum(body.as_bytes());
    let done = |outcome, by, why| Done { sent: Sent { id, verb, body: body_sum, outcome }, by, why };
    let broken = |untouched, why: String| done(Outcome::Broken { untouched }, None, Some(why));

    let mut request = Request::new(Full::new(Bytes::from(body)));
    *request.method_mut() = if verb == Verb::Post { Method::POST } else { Method::GET };
    *request.uri_mut() = target.path.parse().unwrap_or_default();
    request.headers_mut().insert(HOST, target.host.clone());
    if target.own {
        request.headers_mut().insert(ID, id_text(id));
    }
    let attempt = async {
        let mut request = Some(request);
        for attempt in 1..=TRIES {
            let mut sender = match pool.connection(attempt > 1).await {
                Ok(sender) => sender,
                Err(error) => return broken(true, format!("cannot connect to the hub: {error}")),
            };
            let Some(sending) = request.take() else { break };
            let response = match sender.try_send_request(sending).await {
                Ok(response) => response,
                Err(mut error) => match error.take_message() {
                    Some(unsent) => {
                        request = Some(unsent);
                        continue;
                    }
                    None => return broken(false, format!("no answer: {}", error.into_error())),
                },
            };
            let (head, body) = response.into_parts();
            let status = head.status.as_u16();
            return match Limited::new(body, MAX_ANSWER).collect().await {
                Ok(body) => {
                    if sender.ready().await.is_ok() {
                        pool.keep(sender);
                    }
                    judge(target.own, status, &head.headers, &body.to_bytes(), done)
                }
                Err(error) => broken(false, format!("the answer ({status}) broke off: {error}")),
            };
        }
        broken(true, "every connection was closed before the request was sent".to_owned())
    };
    match tokio::time::timeout(ANSWER_TIME, attempt).await {
        Ok(done) => done,
        Err(_) => broken(false, format!("no answer in {ANSWER_TIME:?}")),
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

    fn judged(own: bool, status: u16, headers: &[(&'static str, &str)], body: &[u8]) -> Done {
        let headers = headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())).collect();
        judge(own, status, &headers, body, |outcome, by, why| Done { sent: Sent { id: 1, verb: Verb::Get, body: 0, outcome }, by, why })
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
        assert_eq!(done.why.as_deref(), Some("answered 503 (nobody-ready)"));
        let done = judged(true, 502, &[], b"");
        assert_eq!(done.sent.outcome, Outcome::Refused { status: 502, explained: false, untouched: false });
    }

    #[test]
    fn a_foreign_workload_needs_no_echo() {
        let done = judged(false, 404, &[], b"not here");
        assert_eq!((done.sent.outcome, done.why), (Outcome::Foreign { status: 404 }, None));
    }
}
