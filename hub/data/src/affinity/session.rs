//! Sessions of one rule: which one a request belongs to, and the cookie that its answer brings.
//!
//! A cookie that was forged, stolen from another rule or has ended is as good as none, and counted. A client gets one only with
//! a final answer of a workload, and only if it has no good one: at the begin of a session, when the session had to move, and
//! in the second half of its time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use figspan_model::routing::{Backend, SameSite, SessionPersistence};
use figspan_model::state::EndpointState;
use http::{HeaderMap, HeaderValue, header};

use super::key::cookies;
use crate::metrics::{Metrics, SessionEvent};
use crate::seal::{Sealer, Session};

/// Cookies of one name that are looked at; browsers send more than one where paths or domains differ.
const MAX_COOKIES: usize = 4;

/// Unix time in seconds.
pub fn unix_now() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

/// The session that a request belongs to, if it has a good one.
pub fn find(policy: &SessionPersistence, sealer: &Sealer, headers: &HeaderMap, now: u32, metrics: &Metrics) -> Option<Session> {
    match look(policy, sealer, headers, now) {
        Ok(session) => session,
        Err(why) => {
            metrics.session(why);
            None
        }
    }
}

/// The same uncounted: `Ok(None)` where the request has no cookie, and why the ones that it has are as good as none.
pub fn look(policy: &SessionPersistence, sealer: &Sealer, headers: &HeaderMap, now: u32) -> Result<Option<Session>, SessionEvent> {
    let mut refused = None;
    for value in cookies(headers, policy.name()).take(MAX_COOKIES) {
        match sealer.open(policy.name(), value) {
            Some(session) if lives(policy, &session, now) => return Ok(Some(session)),
            Some(_) => refused = Some(SessionEvent::Expired),
            None => refused = refused.or(Some(SessionEvent::Forged)),
        }
    }
    refused.map_or(Ok(None), Err)
}

fn lives(policy: &SessionPersistence, session: &Session, now: u32) -> bool {
    session.ends > now && policy.absolute_timeout.is_none_or(|longest| after(session.born, longest) > now)
}

fn after(from: u32, time: Duration) -> u32 {
    from.saturating_add(u32::try_from(time.as_secs()).unwrap_or(u32::MAX))
}

/// What an answer needs to know of the session of its request.
pub struct Answered<'a> {
    /// What the rule asks for.
    pub policy: &'a SessionPersistence,
    /// Seals its cookie.
    pub sealer: &'a Sealer,
    /// The request's session, if it had a good one.
    pub session: Option<Session>,
    /// Who answered.
    pub backend: &'a Backend,
    /// Where.
    pub endpoint: &'a EndpointState,
    /// Whether the client came over TLS.
    pub secure: bool,
    /// Unix time in seconds.
    pub now: u32,
}

impl Answered<'_> {
    /// Counts the session where it is now, and gives the client its cookie if it needs one. `random`: a fresh number.
    pub fn note(&self, headers: &mut HeaderMap, metrics: &Metrics, random: u64) {
        let (backend, endpoint) = (self.backend.state.id, self.endpoint.id);
        let (event, mut session) = match self.session {
            Some(session) if (session.backend, session.endpoint) == (backend, endpoint) => {
                self.endpoint.sessions.bind(session.id, session.ends);
                let renewed = self.ends(session.born);
                let half = u32::try_from(self.policy.ttl.as_secs() / 2).unwrap_or(u32::MAX);
                if session.ends.saturating_sub(self.now) > half || renewed <= session.ends {
                    return metrics.session(SessionEvent::Kept);
                }
                (SessionEvent::Renewed, session)
            }
            Some(session) => (SessionEvent::Moved, Session { backend, endpoint, id: random, ..session }),
            None => (SessionEvent::Started, Session { backend, endpoint, id: random, born: self.now, ends: 0 }),
        };
        session.ends = self.ends(session.born);
        let Some(cookie) = self.cookie(&session) else { return };
        // Before the client has it, so that the count is never too low.
        self.endpoint.sessions.bind(session.id, session.ends);
        headers.append(header::SET_COOKIE, cookie);
        metrics.session(event);
    }

    fn ends(&self, born: u32) -> u32 {
        let sliding = after(self.now, self.policy.ttl);
        self.policy.absolute_timeout.map_or(sliding, |longest| sliding.min(after(born, longest)))
    }

    fn cookie(&self, session: &Session) -> Option<HeaderValue> {
        let policy = self.policy;
        let value = self.sealer.seal(policy.name(), session)?;
        let lasts = session.ends.saturating_sub(self.now);
        let mut cookie =
            format!("{}={value}; Path={}; Max-Age={lasts}; SameSite={}", policy.name(), policy.path, policy.same_site.as_str());
        if let Some(domain) = &policy.domain {
            cookie.push_str("; Domain=");
            cookie.push_str(domain);
        }
        if policy.secure.unwrap_or(self.secure || policy.same_site == SameSite::None) {
            cookie.push_str("; Secure");
        }
        if policy.http_only {
            cookie.push_str("; HttpOnly");
        }
        HeaderValue::try_from(cookie).ok()
    }
}

#[cfg(test)]
mod tests;
