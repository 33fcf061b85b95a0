//! Bounds on what clients and workloads may send, how long it may take, and whose word about a client counts.

use std::time::Duration;

use ipnet::IpNet;

/// Bounds per hub, each with a metric (`figspan_limit_hits_total{limit}`) and an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head, request or response: 431 or 502 above.
    pub header_bytes: usize,
    /// Fields of a head: 431 or 502 above.
    pub header_count: usize,
    /// Time from a request's first byte to the end of its head: 408 and close.
    pub header_time: Duration,
    /// Time that a kept-alive client connection may idle between requests.
    pub keep_alive: Duration,
    /// Concurrent HTTP/2 streams of a client connection.
    pub h2_streams: u32,
    /// Streams that an HTTP/2 client may reset before the connection is closed (rapid reset).
    pub h2_resets: usize,
    /// Client connections per shard; more wait in the kernel's backlog.
    pub connections: usize,
    /// Requests and connections waiting for a stream of one endpoint, per shard; more get 503.
    pub pending: usize,
    /// Idle pooled streams per endpoint, per shard.
    pub idle_streams: usize,
    /// How long a pooled stream may idle; below the keep-alive of common workloads (Tomcat 20 s, nginx 75 s).
    pub idle_stream_time: Duration,
    /// Bytes of a request body kept for another try.
    pub replay_bytes: usize,
    /// Live requests that may be retries at once, in percent, beyond [`Limits::retry_floor`].
    pub retry_percent: u32,
    /// Retries at once that are always allowed, per shard.
    pub retry_floor: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: 64 * 1024,
            header_count: 100,
            header_time: Duration::from_secs(10),
            keep_alive: Duration::from_secs(75),
            h2_streams: 100,
            h2_resets: 200,
            connections: 20_000,
            pending: 1024,
            idle_streams: 64,
            idle_stream_time: Duration::from_secs(15),
            replay_bytes: 64 * 1024,
            retry_percent: 20,
            retry_floor: 3,
        }
    }
}

/// How long the parts of a request or connection may take. Zero is never "at once": `None` is "no limit".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// Reaching the workload: stream opened and connected, or TCP and TLS to a service.
    pub connect: Duration,
    /// From the request's last byte sent to the response head's first byte.
    pub first_byte: Option<Duration>,
    /// Longest pause of a body or stream in both directions at once; never a whole-body timer.
    pub idle: Option<Duration>,
    /// The whole request with all its tries (Gateway API: `timeouts.request`); off by default. Streams are governed by
    /// [`Timeouts::idle`] alone: see `figspan_data::forward`.
    pub request: Option<Duration>,
    /// One try (Gateway API: `timeouts.backendRequest`); off by default.
    pub backend_request: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_byte: Some(Duration::from_secs(60)),
            idle: Some(Duration::from_secs(300)),
            request: None,
            backend_request: None,
        }
    }
}

/// Whose forwarded headers are believed, and which are written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proxies {
    /// Peers whose X-Forwarded-*, Forwarded or PROXY protocol is believed; nobody by default.
    pub trusted: Vec<IpNet>,
    /// What workloads are told.
    pub forwarded: ForwardedHeaders,
}

/// Which headers tell the workload about the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForwardedHeaders {
    /// X-Forwarded-For, -Proto, -Host, -Port.
    #[default]
    XForwarded,
    /// Forwarded (RFC 7239).
    Forwarded,
    /// Both.
    Both,
}
