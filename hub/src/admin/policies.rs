//! Policies in words: what a rule or a backend asks for beyond matches and weights, a line each. Pure.

use std::ops::RangeInclusive;
use std::time::Duration;

use figspan_model::health::{Failover, Guard, breaker};
use figspan_model::routing::policy::{Pin, PinnedBy, RateLimit, RuleJwt};
use figspan_model::routing::{
    BackendPolicy, Filters, GrpcCodes, HashOn, HeaderEdit, HttpRule, Method, Mirror, PathEdit, RetryPolicy, RulePolicy, SessionPersistence,
    Timeouts,
};

/// What a rule asks for, in the order in which it acts.
pub(super) fn of_rule(rule: &HttpRule) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(policy) = &rule.policy {
        lines.extend(policy.jwt.as_ref().map(token));
        lines.extend(policy.pins.iter().map(pin));
        filters(&policy.filters, &mut lines);
        lines.extend(in_flight(policy).chain(rates(policy)));
        lines.extend(policy.session.as_ref().map(session));
        lines.extend(policy.hash.as_ref().map(hash));
        lines.extend(policy.retry.as_ref().map(retry));
        lines.extend(policy.failover.as_deref().map(failover));
        lines.extend(policy.mirrors.iter().map(mirror));
    }
    lines.extend(timeouts(&rule.timeouts));
    lines
}

/// Whose token it wants, and what becomes of its claims.
pub(super) fn token(jwt: &RuleJwt) -> String {
    let provider = &jwt.provider;
    let wanted = if jwt.required { "is required" } else { "may be shown, and is verified" };
    let claims: Vec<_> = jwt.headers.iter().map(|(claim, field)| format!("claim {} as {field}", jwt.names()[*claim])).collect();
    let told = if claims.is_empty() { String::new() } else { format!("; workloads get {}", claims.join(", ")) };
    let kept = if provider.terms.forward { "" } else { "; the token goes no further" };
    format!("jwt: a token of {} {wanted}{told}{kept}", provider.name)
}

/// Its rate limits, in their order.
pub(super) fn rates(policy: &RulePolicy) -> impl Iterator<Item = String> {
    let line = |limit: &RateLimit| {
        let told = if limit.told { ", told by every answer" } else { "" };
        format!("rate limit: {} in {} per {}, burst {}{told}", limit.requests, time(limit.period), limit.per, limit.burst)
    };
    policy.rate_limits.iter().map(line)
}

/// Its limit on what is under way.
pub(super) fn in_flight(policy: &RulePolicy) -> impl Iterator<Item = String> {
    policy.in_flight.iter().map(|limit| format!("at most {} under way per {}", limit.max, limit.per))
}

/// What a backend asks for.
pub(super) fn of_backend(policy: &BackendPolicy) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(balancing) = &policy.load_balancing {
        let method = match balancing.method {
            Method::RoundRobin => "by weight",
            Method::LeastLoad => "by least load",
        };
        let slow = balancing.slow_start.map(|over| format!(", slow start over {}", time(over))).unwrap_or_default();
        let zone = if balancing.prefer_zone { ", the hub's own zone first" } else { "" };
        lines.push(format!("balancing {method}{slow}{zone}"));
    }
    if let Some(guard) = &policy.guard {
        lines.extend(guarded(guard));
    }
    if let Some(limits) = &policy.limits {
        let most = |what: &str, bound: Option<std::num::NonZeroU32>| bound.map(|bound| format!("at most {bound} {what}"));
        let bounds: Vec<_> = most("requests", limits.requests).into_iter().chain(most("connections", limits.connections)).collect();
        lines.push(format!("{}; {} may wait up to {}", bounds.join(", "), limits.pending, time(limits.wait)));
    }
    lines
}

fn guarded(guard: &Guard) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(terms) = &guard.breaker {
        let whose = match terms.scope {
            breaker::Scope::Endpoint => "of each endpoint",
            breaker::Scope::Backend => "of the backend",
            breaker::Scope::Both => "of each endpoint and of the backend",
        };
        lines.push(format!(
            "circuit breaker {whose}: over {}, from {} requests; open for {}, then {} probes",
            time(terms.window),
            terms.min_requests,
            time(terms.open),
            terms.probes
        ));
    }
    if let Some(terms) = &guard.ejection {
        lines.push(format!("outlier ejection: for {} and longer, at most {} % of the endpoints", time(terms.base), terms.max_percent));
    }
    if guard.checked {
        lines.push("health checks by the hub".to_owned());
    }
    lines
}

fn filters(filters: &Filters, lines: &mut Vec<String>) {
    if let Some(cors) = &filters.cors {
        let who = if cors.any_origin { "any origin".to_owned() } else { format!("{} origins", cors.origins.len()) };
        lines.push(format!("CORS: for {who}; preflights are answered by the hub"));
    }
    if let Some(redirect) = &filters.redirect {
        lines.push(format!("RequestRedirect: answered {} by the hub", redirect.status.as_u16()));
    }
    lines.extend(filters.request_headers.as_ref().map(|edit| header_edit("RequestHeaderModifier", edit)));
    if let Some(rewrite) = &filters.rewrite {
        let host = rewrite.hostname.as_ref().map(|host| format!("host {host}"));
        let path = rewrite.path.as_ref().map(|path| match path {
            PathEdit::Full(path) => format!("path {path}"),
            PathEdit::Prefix(prefix) => format!("prefix becomes {}", if prefix.is_empty() { "/" } else { prefix }),
        });
        lines.push(format!("URLRewrite: {}", host.into_iter().chain(path).collect::<Vec<_>>().join(", ")));
    }
    of_answers(filters, lines);
    if let Some(compression) = &filters.compression {
        let codings: Vec<_> = compression.codings.iter().map(|coding| coding.as_str()).collect();
        lines.push(format!("Compression: {} from {} bytes", codings.join(", "), compression.min_bytes));
    }
}

/// What is changed of answers, coding aside.
pub(super) fn of_answers(filters: &Filters, lines: &mut Vec<String>) {
    lines.extend(filters.response_headers.as_ref().map(|edit| header_edit("ResponseHeaderModifier", edit)));
    for errors in &filters.errors {
        let statuses: Vec<_> = errors.statuses.iter().map(|range| format!("{}-{}", range.start(), range.end())).collect();
        let whose = if errors.workloads { "whoever gave it" } else { "of the hub" };
        lines.push(format!("ErrorAnswer: its own page for {}, {whose}", statuses.join(", ")));
    }
}

fn header_edit(name: &str, edit: &HeaderEdit) -> String {
    let names = |list: &[(http::HeaderName, http::HeaderValue)]| list.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>();
    let removed = edit.remove.iter().map(ToString::to_string).collect::<Vec<_>>();
    let parts = [("set", names(&edit.set)), ("add", names(&edit.add)), ("remove", removed)];
    let parts = parts.iter().filter(|(_, names)| !names.is_empty()).map(|(what, names)| format!("{what} {}", names.join(", ")));
    format!("{name}: {}", parts.collect::<Vec<_>>().join("; "))
}

/// A pin by its backend and who may use it.
pub(super) fn pin(pin: &Pin) -> String {
    let target = format!("pin to {} {}", pin.target.kind(), pin.target.name());
    match &pin.by {
        PinnedBy::Key(_) => format!("{target} for a signed x-figspan-pin"),
        PinnedBy::Trusted { addresses, always } => {
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            let who = if *always { "all clients" } else { "an x-figspan-pin" };
            format!("{target} for {who} from {}", addresses.join(", "))
        }
    }
}

/// A mirror by its target.
pub(super) fn mirror(mirror: &Mirror) -> String {
    let unsafe_methods = mirror.unsafe_methods.as_ref().map(|why| format!(", any method ({why})")).unwrap_or_default();
    let compare = mirror.compare.as_ref().map(|compare| format!(", {} % of them compared", compare.sample_percent)).unwrap_or_default();
    let target = &mirror.target;
    format!("RequestMirror: {} % to {} {}{unsafe_methods}{compare}", mirror.percent, target.kind(), target.name())
}

/// Sessions by their cookie.
pub(super) fn session(session: &SessionPersistence) -> String {
    let most = session.absolute_timeout.map(|most| format!(", {} at most", time(most))).unwrap_or_default();
    format!("sessions by cookie {} for {}{most}", session.name(), time(session.ttl))
}

/// A hash by what it is of.
pub(super) fn hash(hash: &HashOn) -> String {
    match hash {
        HashOn::ClientIp => "hash of the client's address".to_owned(),
        HashOn::Header(name) => format!("hash of header {name}"),
        HashOn::Cookie(name) => format!("hash of cookie {name}"),
        HashOn::Query(name) => format!("hash of query parameter {name}"),
        HashOn::Claim(name) => format!("hash of claim {name}"),
    }
}

/// When a tier of backends is left.
pub(super) fn failover(terms: &Failover) -> String {
    let statuses: Vec<_> = terms.on_status.iter().map(range).collect();
    let status = if statuses.is_empty() { String::new() } else { format!(" or {}", statuses.join(", ")) };
    let late = terms.latency.map(|limit| format!(" or none within {}", time(limit))).unwrap_or_default();
    let (hold, failback) = (time(terms.hold), time(terms.failback));
    format!(
        "failover: {} of {} answers fail (no answer{status}{late}); held for {hold}, back over {failback}",
        terms.failures, terms.answers
    )
}

fn range(range: &RangeInclusive<u16>) -> String {
    if range.start() == range.end() { range.start().to_string() } else { format!("{}-{}", range.start(), range.end()) }
}

fn retry(retry: &RetryPolicy) -> String {
    let mut text = format!("retries: {} more, {} apart", retry.attempts, time(retry.backoff));
    if !retry.codes.is_empty() {
        text += &format!(", after {}", retry.codes.iter().map(u16::to_string).collect::<Vec<_>>().join(", "));
    }
    if !retry.grpc_codes.is_empty() {
        text += &format!(", after gRPC {}", grpc_codes(retry.grpc_codes).join(", "));
    }
    if let Some(why) = &retry.idempotent {
        text += &format!(", any method ({why})");
    }
    if let Some(after) = retry.hedge {
        text += &format!(", hedged after {}", time(after));
    }
    text
}

/// The words of a set of codes.
pub(super) fn grpc_codes(codes: GrpcCodes) -> Vec<&'static str> {
    let has = |code: u8| codes.has(code.to_string().as_bytes());
    GrpcCodes::WORDS.iter().filter(|(_, code)| has(*code)).map(|(word, _)| *word).collect()
}

/// Time limits that are not the defaults.
fn timeouts(timeouts: &Timeouts) -> Option<String> {
    let default = Timeouts::default();
    let changed = |name: &str, now: Option<Duration>, usual: Option<Duration>| {
        (now != usual).then(|| format!("{name} {}", now.map(time).unwrap_or_else(|| "unlimited".to_owned())))
    };
    let changed: Vec<_> = [
        changed("connect", Some(timeouts.connect), Some(default.connect)),
        changed("first byte", timeouts.first_byte, default.first_byte),
        changed("idle", timeouts.idle, default.idle),
        changed("request", timeouts.request, default.request),
        changed("try", timeouts.backend_request, default.backend_request),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!changed.is_empty()).then(|| format!("timeouts: {}", changed.join(", ")))
}

/// A duration as the settings write it.
pub(super) fn time(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        _ if millis.is_multiple_of(3_600_000) && millis > 0 => format!("{}h", millis / 3_600_000),
        _ if millis.is_multiple_of(60_000) && millis > 0 => format!("{}m", millis / 60_000),
        _ if millis.is_multiple_of(1000) => format!("{}s", millis / 1000),
        _ => format!("{millis}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_the_settings_write_them() {
        let times = [0, 50, 1000, 1500, 90_000, 120_000, 3_600_000].map(|millis| time(Duration::from_millis(millis)));
        assert_eq!(times, ["0s", "50ms", "1s", "1500ms", "90s", "2m", "1h"]);
    }

    /// What is in any file that the sample names; keys of tokens are RFC 7517's own, appendix A.1.
    fn content(path: &std::path::Path, _: figspan_model::settings::Want) -> Result<Vec<u8>, String> {
        let jwks = r#"{"keys":[{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","kid":"1"}]}"#;
        Ok(if path.extension().is_some_and(|kind| kind == "json") { jwks.into() } else { vec![b'x'; 64] })
    }

    #[test]
    fn every_policy_of_the_full_sample_is_told() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/samples/hub/full.toml");
        let text = std::fs::read_to_string(file).unwrap();
        let loaded = figspan_model::settings::parse_with(&text, "full.toml", &content).unwrap();
        let routing = loaded.routing.build(&figspan_model::state::Book::new(1));
        let told: Vec<String> = routing.http_routes.iter().flat_map(|route| &route.rules).flat_map(|rule| of_rule(rule)).collect();
        for word in [
            "pin to",
            "RequestHeaderModifier: set",
            "ResponseHeaderModifier",
            "URLRewrite",
            "RequestRedirect",
            "rate limit",
            "under way per",
            "RequestMirror: 10 % to service orders",
            "CORS",
            "Compression: zstd",
            "ErrorAnswer",
        ] {
            assert!(told.iter().any(|line| line.contains(word)), "{word} is not in {told:#?}");
        }
        for word in ["a token of office is required", "claim sub as x-claim-sub"] {
            assert!(told.iter().any(|line| line.contains(word)), "{word} is not in {told:#?}");
        }
        for word in ["sessions by cookie", "hash of", "retries:", "failover: 5 of 10 answers fail (no answer or 500, 502-504"] {
            assert!(told.iter().any(|line| line.contains(word)), "{word} is not in {told:#?}");
        }
        let policies = routing.http_routes.iter().flat_map(|route| &route.rules).flat_map(|rule| &rule.backends);
        let told: Vec<String> = policies.filter_map(|backend| backend.policy.as_deref()).flat_map(of_backend).collect();
        for word in ["balancing", "own zone first", "circuit breaker", "outlier ejection", "at most"] {
            assert!(told.iter().any(|line| line.contains(word)), "{word} is not in {told:#?}");
        }
    }
}
