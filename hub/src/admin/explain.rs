//! What would become of a request: admission, matching and choosing as a shard does them, without counting as one.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use axum::body::Bytes;
use figspan_data::admission::head::{self, HeadScan, RequestHead, Side};
use figspan_data::admission::request::{Admitted, Asked, admit};
use figspan_data::admission::{HeadLimits, Marks, Reject};
use figspan_data::balance::{Chosen, NoChoice, Question, ServiceEndpoint, ServiceEndpoints, Tried};
use figspan_data::client::Client;
use figspan_data::health;
use figspan_data::retry::{MAX_ATTEMPTS, idempotent};
use figspan_model::routing::{HttpRule, Limits, ListenerProtocol, ServiceAddress, ServiceName};
use figspan_model::snapshot::Snapshot;
use figspan_model::state::Book;
use figspan_proto::admin::{ExplainRequest, Explanation};
use figspan_proto::control::plain;
use http::header::HeaderMap;
use http::{Method, StatusCode, Uri};

use super::{policies, routes};
use crate::problem::Refusal;

/// Explains. Fails only where the question itself makes no sense.
pub(super) fn explain(snapshot: &Snapshot, book: &Arc<Book>, asked: &ExplainRequest) -> Result<Explanation, Refusal> {
    let url = Url::read(&asked.url)?;
    let listener = listener(snapshot, asked.listener.as_deref(), url.scheme)?;
    let head = head_bytes(asked, &url)?;
    let refuse =
        |reject: Reject| Ok(refused(Some(reject.reason().to_owned()), url.target, reject.status(), "admission refuses it".to_owned()));
    let mut request = match read(&head, &snapshot.routing.limits) {
        Ok(request) => request,
        Err(reject) => return refuse(reject),
    };
    let client = Rc::new(client(&listener, &url));
    let marks = Marks::of(&request.headers);
    let question = Asked { method: &request.method, target: &request.target, authority: None, headers: &mut request.headers, marks };
    let uri = match admit(question, &client, &snapshot.routing.proxies) {
        Ok(Admitted::Forward { uri, .. }) => uri,
        Ok(Admitted::Ping) => return Ok(refused(None, "*", StatusCode::NO_CONTENT, "`OPTIONS *` asks the hub itself".to_owned())),
        Err(reject) => return refuse(reject),
    };
    let RequestHead { method, headers, .. } = request;
    Ok(matched(snapshot, book, &client, &method, &uri, headers))
}

fn matched(snapshot: &Snapshot, book: &Arc<Book>, client: &Client, method: &Method, uri: &Uri, headers: HeaderMap) -> Explanation {
    let matcher = snapshot.routing.matcher();
    let host = uri.host().unwrap_or_default();
    let (found, mut why) = matcher.explain_http(&client.listener, host, method, uri.path(), uri.query(), &headers);
    why.insert(0, format!("listener {}", client.listener));
    let told = Explanation { target: uri.to_string(), ..nothing() };
    let Some(found) = found else {
        return Explanation { why, status: Some(StatusCode::NOT_FOUND.as_u16()), ..told };
    };
    let rule = found.rule;
    let told = Explanation {
        route: Some(found.route.name.to_string()),
        rule: Some(found.rule_index),
        rule_name: rule.name.as_ref().map(|name| name.to_string()),
        policies: policies::of_rule(rule),
        backends: routes::backends(snapshot, &rule.backends),
        ..told
    };
    if let Some(redirect) = rule.policy.as_ref().and_then(|policy| policy.filters.redirect.as_ref()) {
        why.push("the rule redirects; no backend is asked".to_owned());
        return Explanation { why, status: Some(redirect.status.as_u16()), ..told };
    }
    let mut parts = http::Request::new(()).into_parts().0;
    (parts.method, parts.uri, parts.headers) = (method.clone(), uri.clone(), headers);
    let policy = rule.policy.as_deref();
    let hash = policy.and_then(|policy| policy.hash.as_ref()).and_then(|on| figspan_data::affinity::key::hash(on, &parts, client));
    if let Some(session) = policy.and_then(|policy| policy.session.as_ref())
        && figspan_data::affinity::key::cookie(&parts.headers, session.name()).is_some()
    {
        why.push(format!("its cookie {} may bind it elsewhere: only the shards can read it", session.name()));
    }
    if hash.is_some() {
        why.push("a hash decides, not the cursor".to_owned());
    }
    let attempts = attempts(snapshot, book, rule, hash, &mut why);
    let status = attempts.is_empty().then(|| StatusCode::SERVICE_UNAVAILABLE.as_u16());
    Explanation { why, next: attempts.first().cloned(), retried: retried(rule, method), attempts, status, ..told }
}

/// Where the next request of the rule would go, and where it would go on if each endpoint failed before it.
fn attempts(snapshot: &Snapshot, book: &Arc<Book>, rule: &HttpRule, hash: Option<u64>, why: &mut Vec<String>) -> Vec<String> {
    let services = AsWritten { snapshot, book };
    let (mut tried, mut attempts) = (Tried::default(), Vec::new());
    while attempts.len() < MAX_ATTEMPTS as usize {
        let question = Question { hash, ..Question::new(snapshot, &rule.backends, &rule.state, &tried, &services).now() };
        match health::peek(question) {
            Ok(choice) => {
                let target = &rule.backends[choice.backend].target;
                attempts.push(match &choice.endpoint {
                    Chosen::Uplink { endpoint, .. } => format!("uplink {} on agent {}", target.name(), endpoint.agent),
                    Chosen::Service { endpoint, .. } if endpoint.address.ip().is_unspecified() => format!("service {}", target.name()),
                    Chosen::Service { endpoint, .. } => format!("service {} at {}", target.name(), endpoint.address),
                });
                tried.add(&choice);
            }
            Err(_) if !attempts.is_empty() => break,
            Err(reason) => {
                let mend = match reason {
                    NoChoice::AllZero => "raise a weight, or undrain an uplink",
                    NoChoice::Unknown => "does an agent advertise it? figspanctl get uplinks",
                    NoChoice::Breaker => "figspanctl get backends shows it; mend the backend, and probes will close it",
                    NoChoice::NobodyReady | NoChoice::Shut | NoChoice::AllTried => "figspanctl get backends says why nobody is ready",
                };
                why.push(format!("no backend can take it: {reason}; {mend}"));
                break;
            }
        }
    }
    attempts
}

/// When a request of that method goes on to the next endpoint.
fn retried(rule: &HttpRule, method: &Method) -> Vec<String> {
    let retry = rule.policy.as_ref().and_then(|policy| policy.retry.as_ref());
    let mut when = vec!["no workload saw it: always, while its body is kept".to_owned()];
    if idempotent(method) || retry.is_some_and(|retry| retry.idempotent.is_some()) {
        when.push("a workload may have seen it and did not answer: within the budget of retries".to_owned());
        if let Some(retry) = retry {
            let codes: Vec<_> = retry.codes.iter().map(u16::to_string).collect();
            if !codes.is_empty() {
                when.push(format!("it is answered {}: {} times at most", codes.join(", "), retry.attempts));
            }
            when.extend(retry.hedge.map(|after| format!("no answer within {}: another one is asked as well", policies::time(after))));
        }
    } else {
        when.push(format!("a workload may have seen it: never, {method} must not be repeated"));
    }
    when
}

/// An explanation that says nothing yet.
fn nothing() -> Explanation {
    Explanation {
        refused: None,
        target: String::new(),
        route: None,
        rule: None,
        rule_name: None,
        policies: Vec::new(),
        why: Vec::new(),
        backends: Vec::new(),
        next: None,
        attempts: Vec::new(),
        retried: Vec::new(),
        status: None,
    }
}

fn refused(refused: Option<String>, target: &str, status: StatusCode, why: String) -> Explanation {
    Explanation { refused, target: plain(target), why: vec![why], status: Some(status.as_u16()), ..nothing() }
}

fn wrong(what: &str, mend: &str) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, format!("{what} cannot be read"), mend)
}

/// A URL, cut but not judged: what is wrong with its path is admission's to say.
struct Url<'u> {
    scheme: &'static str,
    authority: &'u str,
    target: &'u str,
}

impl<'u> Url<'u> {
    fn read(text: &'u str) -> Result<Self, Refusal> {
        let mend = "write http://host/path or https://host/path";
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("the URL", mend))?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => "http",
            "https" => "https",
            _ => return Err(wrong("the URL", mend)),
        };
        let (authority, target) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        // A fragment is the browser's own and never sent.
        let target = target.split('#').next().unwrap_or_default();
        if authority.is_empty() {
            return Err(wrong("the URL", mend));
        }
        Ok(Self { scheme, authority, target: if target.starts_with('/') { target } else { "/" } })
    }
}

fn listener(snapshot: &Snapshot, named: Option<&str>, scheme: &str) -> Result<Arc<str>, Refusal> {
    let fits = |protocol: &ListenerProtocol| match protocol {
        ListenerProtocol::Http => scheme == "http",
        ListenerProtocol::Https { .. } => scheme == "https",
        ListenerProtocol::Tcp | ListenerProtocol::TlsPassthrough => false,
    };
    let mut listeners = snapshot.routing.listeners.iter();
    let found = match named {
        Some(name) => listeners.find(|listener| &*listener.name == name),
        None => listeners.find(|listener| fits(&listener.protocol)),
    };
    let missing = || Refusal::new(StatusCode::NOT_FOUND, "no such listener", "GET /v1/status lists those there are");
    found.map(|listener| Arc::clone(&listener.name)).ok_or_else(missing)
}

/// The request as a client would send it. What could end a line early is refused here; all else is admission's to judge.
fn head_bytes(asked: &ExplainRequest, url: &Url<'_>) -> Result<Bytes, Refusal> {
    let named = |name: &str| asked.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
    let mut head = format!("{} {} HTTP/1.1\r\n", asked.method, url.target);
    if !named("host") {
        head.push_str(&format!("Host: {}\r\n", url.authority));
    }
    for (name, value) in &asked.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let lines = 1 + asked.headers.len() + usize::from(!named("host"));
    if head.matches(['\r', '\n']).count() != 2 * lines {
        return Err(wrong("the request", "its method, URL and headers cannot hold line ends"));
    }
    head.push_str("\r\n");
    Ok(head.into())
}

/// Reads it as a shard does.
fn read(bytes: &Bytes, limits: &Limits) -> Result<RequestHead, Reject> {
    let limits = HeadLimits { bytes: limits.header_bytes, count: limits.header_count };
    HeadScan::new(Side::Request).scan(bytes, limits)?;
    head::request(bytes)
}

/// A client on this machine, since the question says nothing of one.
fn client(listener: &Arc<str>, url: &Url<'_>) -> Client {
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let client = Client::connected(Arc::clone(listener), nobody, nobody, None);
    if url.scheme == "https" {
        let host = url.authority.rsplit_once(':').map_or(url.authority, |(host, _)| host);
        return client.over_tls(Some(host.to_ascii_lowercase()));
    }
    client
}

/// Services by what the configuration says: what a DNS name resolves to is each shard's own knowledge, so that it is one
/// endpoint here, without an address.
struct AsWritten<'s> {
    snapshot: &'s Snapshot,
    book: &'s Arc<Book>,
}

impl ServiceEndpoints for AsWritten<'_> {
    fn endpoints(&self, service: &ServiceName) -> Rc<[ServiceEndpoint]> {
        let Some(service) = self.snapshot.routing.services.get(service) else { return Rc::new([]) };
        let endpoint = |address: &ServiceAddress| {
            let address = match address {
                ServiceAddress::Socket(address) => *address,
                ServiceAddress::Name { port, .. } => SocketAddr::from((Ipv4Addr::UNSPECIFIED, *port)),
            };
            ServiceEndpoint::new(address, self.book.endpoint(&format!("service/{}/{address}", service.name)))
        };
        service.addresses.iter().map(endpoint).collect()
    }
}
