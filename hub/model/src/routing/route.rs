//! Routes: rules that match requests or connections to weighted backends (Gateway API: HTTPRoute, TCPRoute, TLSRoute).

use std::fmt;
use std::sync::Arc;

use figspan_proto::weight::Weight;

use super::backend::Backend;
use super::limits::Timeouts;
use super::listener::ListenerName;
use super::policy::{BackendPolicy, Mirror, RulePolicy};
use crate::health::Failover;
use crate::state::{Book, InFlightState, MirrorState, RateState, RuleState};

/// Names a route.
pub type RouteName = Arc<str>;

/// Names a rule of a route.
pub type RuleName = Arc<str>;

/// Rules for HTTP requests.
#[derive(Debug)]
pub struct HttpRoute {
    /// Its name.
    pub name: RouteName,
    /// Listeners that it serves; empty means all HTTP and HTTPS listeners.
    pub listeners: Vec<ListenerName>,
    /// Hosts that it serves, lower case, exact (`shop.example`) or with a first label `*` (`*.example`, one label or more);
    /// empty means all.
    pub hostnames: Vec<String>,
    /// Its rules, in the order of the file.
    pub rules: Vec<Arc<HttpRule>>,
}

/// One rule of an HTTP route.
#[derive(Debug)]
pub struct HttpRule {
    /// Its name, unique in its route. Its state is kept under it, so that it keeps its state wherever it stands in the file.
    pub name: Option<RuleName>,
    /// Any of these; empty matches all requests.
    pub matches: Vec<RouteMatch>,
    /// Where matching requests go.
    pub backends: Vec<Backend>,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// What else is asked of its requests.
    pub policy: Option<Arc<RulePolicy>>,
    /// The rule's long-lived state, kept under [`HttpRule::key`]; survives reloads.
    pub state: Arc<RuleState>,
    /// What is kept of the sources of its requests, where its policy limits them; survives reloads.
    pub sources: Sources,
    /// Where copies of its requests go: one for each of [`RulePolicy::mirrors`], in their order.
    pub mirrors: Vec<MirrorTarget>,
    /// By which pinned requests go: one for each of [`RulePolicy::pins`], in their order, with that backend alone.
    pub pinned: Vec<Arc<HttpRule>>,
}

/// The target of a mirror, with its long-lived states.
#[derive(Debug)]
pub struct MirrorTarget {
    /// The target as a backend whose weight is always in force.
    pub backend: Backend,
    /// The cursor of choices there.
    pub cursor: Arc<RuleState>,
    /// What became of the copies.
    pub state: Arc<MirrorState>,
}

impl MirrorTarget {
    /// The states that the book holds for a mirror. `key` is that of the rule.
    pub fn of(mirror: &Mirror, key: &str, policy: Option<Arc<BackendPolicy>>, book: &Book) -> Self {
        let key = format!("{key}/mirror/{}", mirror.target.key());
        let backend = Backend { policy, ..Backend::plain(mirror.target.clone(), Some(Weight::DEFAULT), book) };
        Self { backend, cursor: book.rule(&key), state: book.mirror(&key) }
    }
}

/// The long-lived states of a rule's limits on sources.
#[derive(Debug, Default)]
pub struct Sources {
    /// One for each of [`RulePolicy::rate_limits`], in their order.
    pub rates: Vec<Arc<RateState>>,
    /// Where [`RulePolicy::in_flight`] is asked for.
    pub in_flight: Option<Arc<InFlightState>>,
}

impl Sources {
    /// The states that the book holds for a rule's limits. `key` is the rule's own.
    pub fn of(policy: &RulePolicy, key: &str, book: &Book) -> Self {
        Self {
            rates: policy.rate_limits.iter().map(|limit| book.rate(&format!("{key}/{}", limit.key()))).collect(),
            in_flight: policy.in_flight.as_ref().map(|limit| book.in_flight(&format!("{key}/{}", limit.per))),
        }
    }
}

impl HttpRule {
    /// When it leaves a tier of its backends, if it asks for that.
    pub fn failover(&self) -> Option<&Arc<Failover>> {
        self.policy.as_ref()?.failover.as_ref()
    }

    /// What the state of a rule is kept under: `rule/<route>/<name>`, and `rule/<route>/#<index>` for one without a name.
    pub fn key(route: &str, name: Option<&str>, index: usize) -> String {
        match name {
            Some(name) => format!("rule/{route}/{name}"),
            None => format!("rule/{route}/#{index}"),
        }
    }
}

/// All parts must match.
#[derive(Debug, Clone, Default)]
pub struct RouteMatch {
    /// The path; `None` matches all.
    pub path: Option<PathMatch>,
    /// The method.
    pub method: Option<http::Method>,
    /// Headers, all of them.
    pub headers: Vec<HeaderMatch>,
    /// Query parameters, all of them; the first value of a name counts.
    pub query: Vec<(String, ValueMatch)>,
}

/// How a path is matched.
#[derive(Debug, Clone)]
pub enum PathMatch {
    /// The whole path.
    Exact(String),
    /// By elements: `/a` matches `/a` and `/a/b`, not `/ab`. No trailing slash is kept but of `/` itself.
    Prefix(String),
    /// RE2 syntax, anchored at both ends.
    Regex(regex::Regex),
}

/// How a header is matched.
#[derive(Debug, Clone)]
pub struct HeaderMatch {
    /// Its name.
    pub name: http::HeaderName,
    /// Its value; several lines of one name are joined by commas first (RFC 9110, section 5.3).
    pub value: ValueMatch,
}

/// How a value is matched.
#[derive(Debug, Clone)]
pub enum ValueMatch {
    /// To the letter.
    Exact(String),
    /// RE2 syntax, anchored at both ends.
    Regex(regex::Regex),
}

/// A rule for connections: TCP, or TLS passthrough by SNI.
#[derive(Debug)]
pub struct StreamRoute {
    /// Its name.
    pub name: RouteName,
    /// Listeners that it serves (TCP or TLS-passthrough ones); never empty.
    pub listeners: Vec<ListenerName>,
    /// For TLS passthrough: server names, exact or `*.suffix`; empty means all. Always empty for TCP.
    pub hostnames: Vec<String>,
    /// Where connections go.
    pub backends: Vec<Backend>,
    /// How long things may take (connect and idle apply).
    pub timeouts: Timeouts,
    /// When it leaves a tier of its backends; statuses are never among the reasons.
    pub failover: Option<Arc<Failover>>,
    /// Long-lived state, as in [`HttpRule::state`].
    pub state: Arc<RuleState>,
}

impl fmt::Display for RouteMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(PathMatch::Exact(path)) => write!(f, "path = {path}")?,
            Some(PathMatch::Prefix(path)) => write!(f, "path below {path}")?,
            Some(PathMatch::Regex(regex)) => write!(f, "path ~ {}", plain(regex))?,
            None => write!(f, "any path")?,
        }
        if let Some(method) = &self.method {
            write!(f, ", method {method}")?;
        }
        for header in &self.headers {
            write!(f, ", header {} {}", header.name, header.value)?;
        }
        self.query.iter().try_for_each(|(name, value)| write!(f, ", query {name} {value}"))
    }
}

impl fmt::Display for ValueMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(value) => write!(f, "= {value}"),
            Self::Regex(regex) => write!(f, "~ {}", plain(regex)),
        }
    }
}

/// The expression as it was written, without our anchors.
fn plain(regex: &regex::Regex) -> &str {
    let pattern = regex.as_str();
    pattern.strip_prefix(r"\A(?:").and_then(|pattern| pattern.strip_suffix(r")\z")).unwrap_or(pattern)
}
