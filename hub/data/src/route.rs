//! Hop: route. Which rule a request or connection belongs to.
//!
//! A thin hop: the matcher was compiled when the configuration was loaded and travels with the snapshot's routing, so that
//! every shard asks the same one and no request pays for it. Pure; no allocation.

use figspan_model::routing::{Matched, StreamRoute};
use figspan_model::snapshot::Snapshot;
use http::uri::Authority;
use http::{HeaderMap, Method, Uri};
use std::sync::Arc;

/// The rule of an admitted request: its URI is absolute, its path canonical. `None` is a 404.
pub fn http<'s>(snapshot: &'s Snapshot, listener: &str, method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<Matched<'s>> {
    // The matcher passes over a port by itself.
    let host = uri.authority().map_or("", Authority::as_str);
    snapshot.routing.matcher().http(listener, host, method, uri.path(), uri.query(), headers)
}

/// The route of a TCP listener's connections. `None`: close.
pub fn tcp<'s>(snapshot: &'s Snapshot, listener: &str) -> Option<&'s Arc<StreamRoute>> {
    snapshot.routing.matcher().tcp(listener)
}

/// The route of a TLS connection by its server name. `None`: close with `unrecognized_name`.
pub fn tls<'s>(snapshot: &'s Snapshot, listener: &str, server_name: Option<&str>) -> Option<&'s Arc<StreamRoute>> {
    snapshot.routing.matcher().tls(listener, server_name)
}
