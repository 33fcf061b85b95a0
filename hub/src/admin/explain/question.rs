//! The request that is asked about, as a client would send it: bytes of a head, read as a shard reads them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::body::Bytes;
use figspan_data::admission::head::{self, HeadScan, RequestHead, Side};
use figspan_data::admission::{HeadLimits, Reject};
use figspan_data::client::Client;
use figspan_model::routing::{Limits, ListenerProtocol};
use figspan_model::snapshot::Snapshot;
use figspan_proto::admin::ExplainRequest;
use http::StatusCode;

use crate::problem::Refusal;

fn wrong(what: &str, mend: &str) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, format!("{what} cannot be read"), mend)
}

/// A URL, cut but not judged: what is wrong with its path is admission's to say.
pub(super) struct Url<'u> {
    pub(super) scheme: &'static str,
    authority: &'u str,
    pub(super) target: &'u str,
}

impl<'u> Url<'u> {
    pub(super) fn read(text: &'u str) -> Result<Self, Refusal> {
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

/// The listener that a client would call.
pub(super) fn listener(snapshot: &Snapshot, named: Option<&str>, scheme: &str) -> Result<Arc<str>, Refusal> {
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
pub(super) fn head_bytes(asked: &ExplainRequest, url: &Url<'_>) -> Result<Bytes, Refusal> {
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
pub(super) fn read(bytes: &[u8], limits: &Limits) -> Result<RequestHead, Reject> {
    let limits = HeadLimits { bytes: limits.header_bytes, count: limits.header_count };
    // Its last line is empty, so that it is whole.
    head::take_request(&mut bytes.into(), &mut HeadScan::new(Side::Request), limits)?.ok_or(Reject::LineEnd)
}

/// A client of that address, or one on this machine.
pub(super) fn client(listener: &Arc<str>, url: &Url<'_>, address: Option<&str>) -> Result<Client, Refusal> {
    let address = match address {
        None => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Some(text) => text.parse().map_err(|_| wrong("the client's address", "write an IP address such as 10.1.2.3"))?,
    };
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let client = Client::connected(Arc::clone(listener), SocketAddr::from((address, 0)), local, None);
    if url.scheme == "https" {
        let host = url.authority.rsplit_once(':').map_or(url.authority, |(host, _)| host);
        return Ok(client.over_tls(Some(host.to_ascii_lowercase())));
    }
    Ok(client)
}
