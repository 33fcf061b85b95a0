//! What each policy of the rule, and of its backends, does with a request, in the order in which they act.
//!
//! A policy that the rule does not ask for says nothing. Each function is one step; a new policy is one more of them.

use std::time::Duration;

use figspan_data::affinity::{key, session};
use figspan_data::balance::Bound;
use figspan_data::client::Client;
use figspan_data::filters::{self, Verdict};
use figspan_data::forward::mirror;
use figspan_data::jwt::{self, Verified};
use figspan_data::limit;
use figspan_data::metrics::SessionEvent;
use figspan_data::pins;
use figspan_model::health::Standing;
use figspan_model::routing::{self, HttpRule, Matched, RulePolicy, Timeouts};
use figspan_proto::admin::{Backend, BackendEndpoint, Decision};
use figspan_tunnel::pin::Unbelieved;
use http::{HeaderMap, request};

use super::World;
use crate::admin::backends;
use crate::admin::policies::{self, time};
use crate::standing::{Place, Tier};

/// What came of all steps.
pub(super) struct Decided<'r> {
    pub(super) decisions: Vec<Decision>,
    /// The rule by which backends are chosen: that of a pin, where one holds.
    pub(super) rule: &'r HttpRule,
    /// The request as filters leave it.
    pub(super) parts: request::Parts,
    pub(super) hash: Option<u64>,
    /// Where its session is.
    pub(super) bound: Option<Bound>,
    /// The status that the hub itself answers, and why no backend is asked.
    pub(super) answer: Option<(u16, String)>,
}

/// Takes a request through the policies of the rule that matched.
pub(super) fn of<'r>(world: &World<'_>, found: &Matched<'r>, client: &Client, mut parts: request::Parts) -> Decided<'r> {
    let own: &HttpRule = found.rule;
    let mut decisions = Vec::new();
    let mut step = |step: &str, says: Vec<String>| {
        if !says.is_empty() {
            decisions.push(Decision { step: step.to_owned(), says });
        }
    };
    let policy = own.policy.as_deref();
    let (verified, unverified, said) = tokens(own, &parts);
    step("jwt", said);
    let (rule, said) = pinned(own, client);
    step("pins", said);
    // As on the data path: what ties a request to a place is read before filters edit it.
    let (hash, bound, tied) = affinity(world, rule, client, &parts, &verified);
    let (filtered, said) = filtered(found, &mut parts);
    step("filters", said);
    let (refused, said) = policy.map_or((None, Vec::new()), |policy| limits(own, policy, client, &parts.headers, &verified));
    verified.write(&mut parts.headers);
    step("limits", said);
    step("mirrors", rule.policy.as_deref().map(|policy| mirrors(policy, &parts)).unwrap_or_default());
    step("affinity", tied);
    step("backends", standings(world, &rule.backends));
    step("failover", tiers(Place::from(rule)));
    if unverified.is_none() && filtered.is_none() && refused.is_none() {
        step("timeouts", timeouts(&rule.timeouts));
    }
    Decided { decisions, rule, parts, hash, bound, answer: unverified.or(filtered).or(refused) }
}

/// What its token claims, or why the request goes no further. Claims themselves are left out: they may be secrets.
fn tokens<'r>(rule: &'r HttpRule, parts: &request::Parts) -> (Verified<'r>, Option<(u16, String)>, Vec<String>) {
    let Some(jwt) = rule.policy.as_deref().and_then(|policy| policy.jwt.as_ref()) else { return Default::default() };
    let line = policies::token(jwt);
    if filters::is_preflight(rule, parts) {
        return (Verified::default(), None, vec![format!("{line}: not of a CORS preflight")]);
    }
    match jwt::look(jwt, &parts.headers, session::unix_now().into()) {
        Err(refused) => {
            (Verified::default(), Some((refused.failure().status(), refused.why().to_owned())), vec![format!("{line}: refused")])
        }
        Ok(verified) => {
            let claim = |name: &String| match verified.claim(name) {
                Some(_) => format!("the token has the claim {name}"),
                None => format!("the claim {name} is not there, or no text that a field can carry"),
            };
            let claims: Vec<String> = jwt.names().iter().map(claim).collect();
            (verified, None, std::iter::once(format!("{line}: passes")).chain(claims).collect())
        }
    }
}

/// How each backend stands.
pub(super) fn standings(world: &World<'_>, of: &[routing::Backend]) -> Vec<String> {
    of.iter().flat_map(|backend| states(&backends::one(world.snapshot, world.book, backend), backend.fallback)).collect()
}

/// How each tier stands.
pub(super) fn tiers(place: Place<'_>) -> Vec<String> {
    place.tiers().iter().map(tier).collect()
}

/// What a tier of backends gets, and why.
fn tier(tier: &Tier) -> String {
    let (number, share) = (tier.number, tier.share * 100.0);
    let left = time(Duration::from_millis((tier.left.unwrap_or_default() * 1000.0).round() as u64));
    match tier.standing {
        Standing::New | Standing::Up => format!("tier {number} is up"),
        Standing::Held { cause, .. } => format!("tier {number} is held for {left} more at least: it failed ({})", cause.as_str()),
        Standing::FailingBack { cause, .. } => {
            format!("tier {number} is failing back, and gets {share:.0} % now, all in {left}: it had failed ({})", cause.as_str())
        }
    }
}

fn pinned<'r>(rule: &'r HttpRule, client: &Client) -> (&'r HttpRule, Vec<String>) {
    let Some(policy) = rule.policy.as_deref() else { return (rule, Vec::new()) };
    let mut says = Vec::new();
    for (pin, pinned) in policy.pins.iter().zip(&rule.pinned) {
        let held = pins::holds(pin, client, &|| session::unix_now().into());
        let outcome = match held {
            Ok(true) => "holds: the request goes there and nowhere else",
            Ok(false) => "does not hold for this client",
            Err(Unbelieved::Elsewhere) => "the request names another backend",
            Err(Unbelieved::Malformed) => "what the request shows is no pin",
            Err(Unbelieved::Forged) => "the key has not signed what the request shows",
            Err(Unbelieved::Expired) => "what the request shows has ended",
        };
        says.push(format!("{}: {outcome}", policies::pin(pin)));
        if held == Ok(true) {
            return (pinned, says);
        }
    }
    (rule, says)
}

/// What is changed of the request, or the answer that it gets at once. Values are left out: they may be secrets.
fn filtered(found: &Matched<'_>, parts: &mut request::Parts) -> (Option<(u16, String)>, Vec<String>) {
    let before = parts.clone();
    let filtered = match filters::before(found, parts) {
        Verdict::Forward(None) => return (None, Vec::new()),
        Verdict::Forward(Some(filtered)) => filtered,
        Verdict::Answer(answer) => {
            let status = answer.status().as_u16();
            let location = answer.headers().get(http::header::LOCATION).and_then(|location| location.to_str().ok());
            let said = match location {
                Some(location) => format!("redirected: {status} to {location}"),
                None => format!("a CORS preflight: answered {status}"),
            };
            let reason = if location.is_some() { "the rule redirects" } else { "the rule answers preflights" };
            return (Some((status, format!("{reason}; no backend is asked"))), vec![said]);
        }
        Verdict::Refuse(_, failure) => {
            return (Some((failure.status(), format!("{}; no backend is asked", failure.text()))), vec![failure.text().to_owned()]);
        }
    };
    let mut says = edited(&before.headers, &parts.headers);
    if before.uri.authority() != parts.uri.authority() {
        says.extend(parts.uri.authority().map(|host| format!("the host becomes {host}")));
    }
    if before.uri.path() != parts.uri.path() {
        says.push(format!("the path becomes {}", parts.uri.path()));
    }
    let rules = found.rule.policy.as_deref().map(|policy| &policy.filters);
    if let Some(rules) = rules {
        let mut of_answers = Vec::new();
        policies::of_answers(rules, &mut of_answers);
        says.extend(of_answers.into_iter().map(|line| format!("answers: {line}")));
        if rules.compression.is_some() {
            says.push(match filtered.coding() {
                Some(coding) => format!("the answer is coded with {} if its type and size are right", coding.as_str()),
                None => "the answer is not coded: the request does not accept it, or cannot have it".to_owned(),
            });
        }
    }
    (None, says)
}

fn edited(before: &HeaderMap, after: &HeaderMap) -> Vec<String> {
    let changed = |name: &&http::HeaderName| !before.get_all(*name).iter().eq(after.get_all(*name).iter());
    let mut says: Vec<String> = after.keys().filter(changed).map(|name| format!("the request's {name} is written")).collect();
    says.extend(before.keys().filter(|name| !after.contains_key(*name)).map(|name| format!("the request's {name} is removed")));
    says.sort();
    says
}

fn limits(
    rule: &HttpRule,
    policy: &RulePolicy,
    client: &Client,
    headers: &HeaderMap,
    verified: &Verified<'_>,
) -> (Option<(u16, String)>, Vec<String>) {
    let (waits, under_way) = limit::source::look(rule, policy, client, headers, verified);
    let mut refused = None;
    let mut says = Vec::new();
    for (line, (limit, under_way)) in policies::in_flight(policy).zip(policy.in_flight.as_ref().zip(under_way)) {
        says.push(format!("{line}: {under_way} now"));
        if under_way >= limit.max.get() {
            refused = Some((429, "its source has as much under way as it may".to_owned()));
        }
    }
    for (line, wait) in policies::rates(policy).zip(waits) {
        match wait {
            None => says.push(format!("{line}: passes")),
            Some(wait) => {
                says.push(format!("{line}: used up, passes again in {:.1} s", wait.as_secs_f64()));
                refused = refused.or(Some((429, "its source has used up a rate limit".to_owned())));
            }
        }
    }
    (refused, says)
}

fn mirrors(policy: &RulePolicy, parts: &request::Parts) -> Vec<String> {
    let line = |mirror| match mirror::copies(mirror, &parts.method) {
        true => format!("{}, bodies up to {} bytes", policies::mirror(mirror), mirror.max_body),
        false => format!("{}: not of a {}, which may change something", policies::mirror(mirror), parts.method),
    };
    policy.mirrors.iter().map(line).collect()
}

fn affinity(
    world: &World<'_>,
    rule: &HttpRule,
    client: &Client,
    parts: &request::Parts,
    verified: &Verified<'_>,
) -> (Option<u64>, Option<Bound>, Vec<String>) {
    let Some(policy) = rule.policy.as_deref() else { return (None, None, Vec::new()) };
    let mut says = Vec::new();
    let mut bound = None;
    if let Some(asked) = &policy.session {
        let seen = session::look(asked, world.sessions, &parts.headers, session::unix_now());
        let outcome = match seen {
            Ok(Some(session)) => {
                bound = Some(Bound { backend: session.backend, endpoint: session.endpoint });
                match rule.backends.iter().find(|backend| backend.state.id == session.backend) {
                    Some(backend) => format!("its session belongs to {} {}", backend.target.kind(), backend.target.name()),
                    None => "its session belongs to a backend that is not here any more: it moves".to_owned(),
                }
            }
            Ok(None) => "no session yet; the answer brings its cookie".to_owned(),
            Err(SessionEvent::Expired) => "its session has ended; the answer brings a new cookie".to_owned(),
            Err(_) => "its cookie was not made by this hub's key; the answer brings a new one".to_owned(),
        };
        says.push(format!("{}: {outcome}", policies::session(asked)));
    }
    let hash = policy.hash.as_ref().and_then(|on| key::hash(on, parts, client, verified));
    if let Some(on) = &policy.hash {
        let outcome = if hash.is_some() { "decides, not the cursor" } else { "the request has none: the cursor decides" };
        says.push(format!("{}: {outcome}", policies::hash(on)));
    }
    (hash, bound, says)
}

/// A backend's tier, what its policy asks, how it stands, and which of its endpoints are passed over.
fn states(backend: &Backend, tier: u8) -> Vec<String> {
    let name = format!("{} {}", backend.kind, backend.name);
    let mut says = Vec::new();
    if tier > 0 {
        says.push(format!("{name}: tier {tier}, for when the tiers above cannot take it"));
    }
    says.extend(backend.policies.iter().map(|policy| format!("{name}: {policy}")));
    if let Some(breaker) = backend.breaker.as_ref().filter(|breaker| breaker.state != "closed") {
        says.push(format!("{name}: its circuit breaker is {}", breaker.state));
    }
    for (what, bound) in [("requests", &backend.requests), ("connections", &backend.connections)] {
        says.extend(bound.as_ref().map(|bound| format!("{name}: {} of {} {what}, {} waiting", bound.used, bound.max, bound.waiting)));
    }
    let telling = |endpoint: &&BackendEndpoint| endpoint.verdict != "ready";
    says.extend(backend.endpoints.iter().filter(telling).map(|endpoint| {
        let reason = if endpoint.reason.is_empty() { String::new() } else { format!(" ({})", endpoint.reason) };
        format!("{name} on {}: {}{reason}", endpoint.name, endpoint.verdict)
    }));
    says
}

fn timeouts(timeouts: &Timeouts) -> Vec<String> {
    let parts = [
        ("to reach the workload", Some(timeouts.connect)),
        ("to the answer's first byte", timeouts.first_byte),
        ("of silence in a body or stream", timeouts.idle),
        ("for one try, streams aside", timeouts.backend_request),
        ("for the request with all its tries, streams aside", timeouts.request),
    ];
    parts.iter().filter_map(|(what, limit)| Some(format!("{} {what}", time((*limit)?)))).collect()
}
