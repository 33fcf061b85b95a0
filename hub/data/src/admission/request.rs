//! Hop `admission`: all rules about one request's head, whatever version it came in, in the order in which they matter.

use std::rc::Rc;

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{Method, Uri, Version};

use super::forwarded::Told;
use super::framing::Framing;
use super::host::LastAsked;
use super::marks::Marks;
use super::reject::Reject;
use super::syntax::list;
use super::target::{self, Target};
use super::{fields, forwarded};
use crate::client::Client;
use figspan_model::routing::fields::PIN;
use figspan_model::routing::{Proxies, Reserved};

/// A request's head as its protocol brought it.
#[derive(Debug)]
pub struct Asked<'r> {
    /// Its method; GET for an extended CONNECT.
    pub method: &'r Method,
    /// Its target as written: HTTP/1's request target, HTTP/2's `:path`.
    pub target: &'r Bytes,
    /// HTTP/2's `:authority`.
    pub authority: Option<&'r str>,
    /// Its fields, from which all that may not pass is taken.
    pub headers: &'r mut HeaderMap,
    /// The marks of these fields.
    pub marks: Marks,
    /// What its connection asked for before.
    pub last: &'r LastAsked,
}

/// What may go on.
#[derive(Debug)]
pub enum Admitted {
    /// To a backend, under this absolute URI, for this client.
    Forward {
        /// `scheme://authority/path?query`.
        uri: Uri,
        /// The connection's client, or the one that its trusted proxies named.
        client: Rc<Client>,
    },
    /// `OPTIONS *`: the hub answers by itself.
    Ping,
}

/// Admits a request or says why not. Afterwards the headers hold no Host (the URI's authority is the one), nothing
/// connection-specific, and the hub's own word about the client.
pub fn admit(asked: Asked<'_>, client: &Rc<Client>, proxies: &Proxies, reserved: &Reserved) -> Result<Admitted, Reject> {
    let Asked { method, target, authority, headers, marks, last } = asked;
    let host = target::host(headers, last)?;
    let own = match (authority.map(|authority| last.parse(authority.as_bytes())).transpose()?, host) {
        (Some(authority), Some(host)) if authority != host => return Err(Reject::AuthorityMismatch),
        (Some(authority), _) => authority,
        (None, Some(host)) => host,
        (None, None) => return Err(Reject::Host),
    };
    let (authority, path) = match target::parse(method, target)? {
        Target::Path { authority, path } => (authority.unwrap_or(own), Some(path)),
        Target::Asterisk => (own, None),
    };
    target::agree_with_server_name(&authority, client.server_name.as_deref())?;
    expects_continue(headers, marks)?;
    fields::remove_hop_by_hop(headers, marks)?;
    let Some(path) = path else { return Ok(Admitted::Ping) };
    let peer = client.address.ip();
    // A VM may stand in a network whose proxies are trusted; its processes are none.
    let trusted = client.agent.is_none() && forwarded::is_trusted(peer, proxies);
    let pin = if marks.has(Marks::TRUSTED) { headers.remove(PIN) } else { None };
    fields::remove_trusted(headers, marks, trusted);
    fields::remove_reserved(headers, reserved);
    let told = if trusted && marks.has(Marks::TRUSTED) { forwarded::take(headers, proxies) } else { Told::default() };
    let scheme = told.proto.unwrap_or(client.scheme);
    let host = headers.remove(header::HOST);
    forwarded::write(headers, &told, client, scheme, (&authority, host), proxies.forwarded);
    if let Some(agent) = &client.agent {
        headers.insert(forwarded::AGENT, agent.clone());
    }
    let uri = target::uri(scheme, authority, target, path)?;
    let client = match (told.chain.first(), pin) {
        (None, None) if scheme == client.scheme => Rc::clone(client),
        (first, pin) => Rc::new(Client { pin, ..client.named(first.copied().unwrap_or(client.address), scheme) }),
    };
    Ok(Admitted::Forward { uri, client })
}

/// Whether the client waits for 100 (Continue) before it sends a body.
pub fn expects_continue(headers: &HeaderMap, marks: Marks) -> Result<bool, Reject> {
    if !marks.has(Marks::EXPECT) {
        return Ok(false);
    }
    let mut expectations = headers.get_all(header::EXPECT).into_iter();
    match (expectations.next(), expectations.next()) {
        (None, _) => Ok(false),
        (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"100-continue") => Ok(true),
        _ => Err(Reject::Expectation),
    }
}

/// Whether an HTTP/1 request asks for a WebSocket (RFC 6455, section 4.1). Other upgrades are not offered and are dropped with
/// the connection-specific fields, except `h2c`, which is refused: behind it lies the oldest way to smuggle past a gateway.
pub fn asks_for_websocket(method: &Method, version: Version, headers: &HeaderMap, marks: Marks, framing: Framing) -> Result<bool, Reject> {
    if !marks.has(Marks::UPGRADE) {
        return Ok(false);
    }
    let names = |protocol: &'static [u8]| list(headers, header::UPGRADE).any(move |name| name.eq_ignore_ascii_case(protocol));
    if names(b"h2c") {
        return Err(Reject::UpgradeH2c);
    }
    let upgrades = list(headers, header::CONNECTION).any(|name| name.eq_ignore_ascii_case(b"upgrade"));
    if version != Version::HTTP_11 || !upgrades || !names(b"websocket") {
        return Ok(false);
    }
    let bodiless = matches!(framing, Framing::None | Framing::Length(0));
    if *method != Method::GET || !bodiless || !is_key(headers) || !is_version(headers) {
        return Err(Reject::WebSocket);
    }
    Ok(true)
}

/// 16 bytes in base64, given once.
fn is_key(headers: &HeaderMap) -> bool {
    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).into_iter();
    let (Some(key), None) = (keys.next(), keys.next()) else { return false };
    matches!(key.as_bytes(), [digits @ .., b'=', b'='] if digits.len() == 22 && digits.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')))
}

/// A number, given once. Which one is the workload's affair: it answers 426 to those that it does not speak.
fn is_version(headers: &HeaderMap) -> bool {
    let mut versions = headers.get_all(header::SEC_WEBSOCKET_VERSION).into_iter();
    let (Some(version), None) = (versions.next(), versions.next()) else { return false };
    matches!(version.as_bytes(), digits @ ([_] | [_, _] | [_, _, _]) if digits.iter().all(u8::is_ascii_digit))
}
