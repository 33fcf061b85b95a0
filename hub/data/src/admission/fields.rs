//! Hop `admission`: which fields cross a hop.
//!
//! Connection-specific fields go first, and what Connection names (RFC 9110, section 7.6.1). Then go all fields that only the
//! hub may set, whatever they are spelt like: CGI and its heirs read `X_Forwarded_For` and `X-Forwarded-For` as one variable,
//! so names are compared with every character but letters and digits taken for `-`. Trailers lose whatever could change how a
//! message is framed, routed, authorised or understood (RFC 9110, section 6.5.1).

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::marks::Marks;
use super::reject::Reject;
use super::syntax::{is_token, list};
use figspan_model::routing::Reserved;
use figspan_model::routing::fields::{is_alias, is_figspans, is_hubs, same, starts};

/// Most names that Connection may list: more than any client sends, few enough to look each one up.
const CONNECTION_NAMES: usize = 32;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
/// Read by CGI programs as the address of a proxy to use ("httpoxy").
const PROXY: HeaderName = HeaderName::from_static("proxy");

/// Takes away what concerns one connection only. `TE: trailers` stays, as gRPC needs it to.
pub fn remove_hop_by_hop(headers: &mut HeaderMap, marks: Marks) -> Result<(), Reject> {
    if marks.has(Marks::CONNECTION) {
        let mut named = Vec::new();
        for name in list(headers, header::CONNECTION) {
            if !is_token(name) || named.len() == CONNECTION_NAMES {
                return Err(Reject::Connection);
            }
            let name = HeaderName::from_bytes(name).map_err(|_| Reject::Connection)?;
            // Without them the message would be another one.
            if name == header::HOST || name == header::CONTENT_LENGTH {
                return Err(Reject::Connection);
            }
            if name != header::TE && headers.contains_key(&name) {
                named.push(name);
            }
        }
        headers.remove(header::CONNECTION);
        for name in named {
            headers.remove(name);
        }
    }
    if marks.has(Marks::TE) {
        let trailers = list(headers, header::TE).any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
        headers.remove(header::TE);
        if trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
    }
    if marks.has(Marks::TRANSFER_ENCODING) {
        headers.remove(header::TRANSFER_ENCODING);
    }
    if marks.has(Marks::UPGRADE) {
        headers.remove(header::UPGRADE);
    }
    if marks.has(Marks::HOP) {
        for name in [KEEP_ALIVE, PROXY_CONNECTION, HTTP2_SETTINGS, PROXY, header::PROXY_AUTHENTICATE, header::PROXY_AUTHORIZATION] {
            headers.remove(name);
        }
    }
    Ok(())
}

/// Takes away what only the hub, or a trusted proxy before it, may say, under all spellings. From a trusted peer the true
/// spellings stay, for [`super::forwarded`] to read; figspan's own fields stay from nobody, as a proxy in front may have passed
/// its client's on.
pub fn remove_trusted(headers: &mut HeaderMap, marks: Marks, peer_is_trusted: bool) {
    if !marks.has(Marks::TRUSTED) {
        return;
    }
    let doomed = |name: &HeaderName| {
        let name = name.as_str().as_bytes();
        match is_alias(name) {
            true => is_hubs(name) || DELIMITING.iter().any(|field| same(name, field)),
            false => is_hubs(name) && (!peer_is_trusted || is_figspans(name)),
        }
    };
    let names: Vec<_> = headers.keys().filter(|name| doomed(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Takes away what is kept for claims, from whomever it comes: a proxy in front may have passed its client's on.
pub fn remove_reserved(headers: &mut HeaderMap, reserved: &Reserved) {
    if reserved.is_empty() {
        return;
    }
    let names: Vec<_> = headers.keys().filter(|name| reserved.in_head(name.as_str().as_bytes())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Takes away what is kept for claims, or is a token's, from a request's trailers.
pub fn filter_reserved_trailers(trailers: &mut HeaderMap, reserved: &Reserved) {
    let names: Vec<_> = trailers.keys().filter(|name| reserved.in_trailers(name.as_str().as_bytes())).cloned().collect();
    for name in names {
        trailers.remove(name);
    }
}

/// Fields whose aliases would let a workload see another message than the hub did.
const DELIMITING: [&str; 6] = ["content-length", "transfer-encoding", "host", "authorization", "cookie", "proxy"];

/// Takes away what no trailer may say, in both directions.
pub fn filter_trailers(trailers: &mut HeaderMap) {
    let names: Vec<_> = trailers.keys().filter(|name| !may_trail(name)).cloned().collect();
    for name in names {
        trailers.remove(name);
    }
}

fn may_trail(name: &HeaderName) -> bool {
    let bytes = name.as_str().as_bytes();
    let forbidden = |field: &str| same(bytes, field);
    let families = ["content-", "if-", "proxy-", "access-control-", "sec-", "www-authenticate"];
    !(is_hubs(bytes) || families.into_iter().any(|family| starts(bytes, family)) || NEVER_TRAILING.into_iter().any(forbidden))
}

const NEVER_TRAILING: [&str; 28] = [
    "age",
    "authorization",
    "authentication-info",
    "cache-control",
    "connection",
    "cookie",
    "date",
    "expect",
    "expires",
    "host",
    "http2-settings",
    "keep-alive",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "proxy",
    "range",
    "referer",
    "retry-after",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "via",
    "warning",
];

#[cfg(test)]
mod tests;
