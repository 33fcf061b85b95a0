//! Who a client is: what its connection shows, corrected by proxies that are trusted.

use std::net::SocketAddr;
use std::sync::Arc;

/// A client's connection, as the workload shall hear of it.
#[derive(Debug, Clone)]
pub struct Client {
    /// The TCP peer.
    pub peer: SocketAddr,
    /// The client's own address: the peer, or what a trusted proxy said (PROXY protocol or forwarded headers).
    pub address: SocketAddr,
    /// The address that it called.
    pub local: SocketAddr,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// SNI, lower case.
    pub server_name: Option<Arc<str>>,
    /// The listener's name.
    pub listener: Arc<str>,
    /// Unique within the process; isolates pooled streams where authentication is bound to a connection (NTLM, Negotiate).
    pub connection: u64,
}
