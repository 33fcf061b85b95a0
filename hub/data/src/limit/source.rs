//! Hop: route -> limit. The limits on sources of a rule's requests: rates, and how many are under way.
//!
//! What a source is called never leaves this file: it is hashed under a key of the process at once.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use figspan_model::routing::policy::{Per, RateLimit};
use figspan_model::routing::{HttpRule, RulePolicy};
use figspan_model::state::{Entry, InFlightState};
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};

use super::rate;
use crate::body::Body;
use crate::client::Client;
use crate::jwt::Verified;
use crate::metrics::{Limit, Metrics};
use crate::reply::Failure;

/// A request counted for its source, until dropped.
#[derive(Debug)]
pub struct Counted {
    state: Arc<InFlightState>,
    place: usize,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.state.leave(self.place);
    }
}

/// Why a request of a source does not pass.
#[derive(Debug)]
pub struct Refused<'p> {
    /// What the client hears.
    pub failure: Failure,
    /// The rate limit, and how long it has to wait.
    rate: Option<(&'p RateLimit, Duration)>,
}

impl Refused<'_> {
    /// Adds to the failure's answer when to come back, and which limit it was (draft-ietf-httpapi-ratelimit-headers).
    pub fn tell(&self, response: &mut Response<Body>) {
        let headers = response.headers_mut();
        let Some((limit, wait)) = self.rate else {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            return;
        };
        headers.insert(header::RETRY_AFTER, seconds(wait).into());
        Told::of(limit, 0, wait).tell(headers);
    }
}

/// A request that passed.
#[derive(Debug, Default)]
pub struct Passed {
    /// It counts for its source, where the rule bounds what is under way.
    pub counted: Option<Counted>,
    /// What its answer says of rate limits, where one shall be told.
    pub told: Option<Told>,
}

/// The fields of draft-ietf-httpapi-ratelimit-headers: lists, an item for each rate limit that is told.
#[derive(Debug)]
pub struct Told {
    policy: String,
    state: String,
}

impl Told {
    /// One limit: how many more requests of the source would pass at once, and when that changes for the better.
    fn of(limit: &RateLimit, left: u32, reset: Duration) -> Self {
        let (per, window, reset) = (&limit.per, seconds(limit.period), seconds(reset));
        let policy = format!("\"{per}-{window}s\";q={};w={window}", limit.requests);
        Self { policy, state: format!("\"{per}-{window}s\";r={left};t={reset}") }
    }

    fn and(self, other: Self) -> Self {
        Self { policy: self.policy + ", " + &other.policy, state: self.state + ", " + &other.state }
    }

    /// Adds them to an answer. What a workload says of its own limits stands beside them.
    pub fn tell(self, headers: &mut HeaderMap) {
        for (name, value) in [("ratelimit-policy", self.policy), ("ratelimit", self.state)] {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.append(HeaderName::from_static(name), value);
            }
        }
    }
}

/// Whole seconds, at least one and never too few.
fn seconds(duration: Duration) -> u64 {
    duration.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX).max(1)
}

/// Lets a request pass, counted where the rule bounds what is under way. Without limits that are told, nothing is allocated.
pub fn admit<'p>(
    rule: &HttpRule,
    policy: &'p RulePolicy,
    client: &Client,
    headers: &HeaderMap,
    verified: &Verified<'_>,
    metrics: &Metrics,
) -> Result<Passed, Refused<'p>> {
    let counted = match (&policy.in_flight, &rule.sources.in_flight) {
        (Some(limit), Some(state)) => match state.enter(source(&limit.per, client, headers, verified), limit.max.get()) {
            Entry::Counted(place) => Some(Counted { state: Arc::clone(state), place }),
            Entry::Refused => {
                metrics.limit_hit(Limit::InFlight);
                return Err(Refused { failure: Failure::TooManyInFlight, rate: None });
            }
            Entry::NoPlace => {
                metrics.limit_hit(Limit::Sources);
                None
            }
        },
        _ => None,
    };
    let mut told = None;
    for (limit, debts) in policy.rate_limits.iter().zip(&rule.sources.rates) {
        match rate::pass(limit, debts, source(&limit.per, client, headers, verified)) {
            Ok(left) if limit.told => {
                // Until the whole burst would pass again.
                let whole = rate::each(limit).saturating_mul(limit.burst.get().saturating_sub(left));
                let this = Told::of(limit, left, whole);
                told = Some(match told {
                    Some(others) => Told::and(others, this),
                    None => this,
                });
            }
            Ok(_) => {}
            Err(wait) => {
                metrics.limit_hit(Limit::Rate);
                return Err(Refused { failure: Failure::RateLimited, rate: Some((limit, wait)) });
            }
        }
    }
    Ok(Passed { counted, told })
}

/// What the limits of a rule would say of a request now: the wait of each rate limit that is used up, and how many of its
/// source are under way. Counts nothing.
pub fn look(
    rule: &HttpRule,
    policy: &RulePolicy,
    client: &Client,
    headers: &HeaderMap,
    verified: &Verified<'_>,
) -> (Vec<Option<Duration>>, Option<u32>) {
    let rates = policy.rate_limits.iter().zip(&rule.sources.rates);
    let waits = rates.map(|(limit, debts)| rate::would_pass(limit, debts, source(&limit.per, client, headers, verified)).err()).collect();
    let counted = policy.in_flight.as_ref().zip(rule.sources.in_flight.as_ref());
    (waits, counted.map(|(limit, state)| state.under_way(source(&limit.per, client, headers, verified))))
}

fn source(per: &Per, client: &Client, headers: &HeaderMap, verified: &Verified<'_>) -> u64 {
    static KEY: OnceLock<RandomState> = OnceLock::new();
    let mut hasher = KEY.get_or_init(RandomState::new).build_hasher();
    match per {
        Per::Client => match client.address.ip().to_canonical() {
            IpAddr::V4(address) => address.hash(&mut hasher),
            // One customer has at least this many addresses.
            IpAddr::V6(address) => address.segments()[..4].hash(&mut hasher),
        },
        Per::Header(name) => headers.get_all(name).iter().for_each(|value| value.as_bytes().hash(&mut hasher)),
        Per::Claim(name) => verified.claim(name).map(HeaderValue::as_bytes).hash(&mut hasher),
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(address: &str) -> Client {
        Client::connected("web".into(), format!("{address}:1").parse().unwrap(), ([127, 0, 0, 1], 80).into(), None)
    }

    #[test]
    fn a_client_is_an_ipv4_address_or_64_bits_of_an_ipv6_one() {
        let of = |address: &str| source(&Per::Client, &client(address), &HeaderMap::new(), &Verified::default());
        assert_eq!(of("10.0.0.1"), of("[::ffff:10.0.0.1]"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
        assert_eq!(of("[2001:db8::1]"), of("[2001:db8::ffff:1:2:3]"));
        assert_ne!(of("[2001:db8::1]"), of("[2001:db8:0:1::1]"));
    }

    #[test]
    fn a_header_is_told_apart_by_all_its_lines_and_its_absence_is_one_source() {
        let per = Per::Header(HeaderName::from_static("x-api-key"));
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("x-api-key", HeaderValue::from_static(value));
            }
            source(&per, &client("10.0.0.1"), &headers, &Verified::default())
        };
        assert_eq!((of(&["a"]), of(&[])), (of(&["a"]), of(&[])));
        assert!(of(&["a"]) != of(&["b"]) && of(&["a", "b"]) != of(&["ab"]) && of(&[]) != of(&[""]));
    }

    #[test]
    fn the_answer_tells_the_limit_and_when_to_come_back() {
        let count = |n| std::num::NonZeroU32::new(n).unwrap();
        let limit =
            RateLimit { per: Per::Client, requests: count(100), period: Duration::from_millis(1500), burst: count(100), told: true };
        let mut response = Failure::RateLimited.reply();
        Refused { failure: Failure::RateLimited, rate: Some((&limit, Duration::from_millis(10))) }.tell(&mut response);
        let field = |name: &str| response.headers()[name].to_str().unwrap();
        assert_eq!((response.status().as_u16(), field("retry-after")), (429, "1"));
        assert_eq!((field("ratelimit-policy"), field("ratelimit")), ("\"client-2s\";q=100;w=2", "\"client-2s\";r=0;t=1"));
        let mut both = HeaderMap::new();
        Told::of(&limit, 7, Duration::from_secs(3)).and(Told::of(&limit, 8, Duration::ZERO)).tell(&mut both);
        assert_eq!(both["ratelimit"], "\"client-2s\";r=7;t=3, \"client-2s\";r=8;t=1");
    }
}
