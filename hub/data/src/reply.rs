//! Hop: any -> client. The one table of what can go wrong on the data path.
//!
//! A row says whose side failed, which status and Proxy-Status error (RFC 9209) the client gets, and the word that logs and
//! metrics use. Replies, access log, metrics and the retry decision all read this table; nothing invents a status of its own.
//! A reply names the reason and never an internal address.

use bytes::Bytes;
use figspan_proto::reset::{Reason, Side};
use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use crate::body::Body;

/// The header that carries a failure's word beside Proxy-Status.
pub const REASON_HEADER: HeaderName = HeaderName::from_static("figspan-reason");

/// Proxy-Status (RFC 9209).
pub const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// What a client is told to wait before it asks again after a 503, in seconds: agents reconnect within that time.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

macro_rules! failures {
    ($($(#[$doc:meta])* $name:ident: $side:ident, $status:literal, $error:literal, $label:literal, $text:literal;)*) => {
        /// What went wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Failure { $($(#[$doc])* $name,)* }

        impl Failure {
            /// All rows of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Whose side failed.
            pub const fn side(self) -> Side {
                match self { $(Self::$name => Side::$side,)* }
            }

            /// The HTTP status that the client gets, if nothing was answered yet.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// Error type of RFC 9209, section 2.3.
            pub const fn error(self) -> &'static str {
                match self { $(Self::$name => $error,)* }
            }

            /// A word for logs, metric labels and the `figspan-reason` header.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }

            /// One line for people.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            const fn proxy_status(self) -> &'static str {
                match self { $(Self::$name => concat!("figspan; error=", $error, "; details=\"", $label, "\""),)* }
            }
        }
    };
}

failures! {
    /// The client went away before its answer.
    ClientGone: Client, 499, "http_request_error", "client-gone", "the client closed the connection";
    /// The client's body broke off or was malformed.
    ClientBody: Client, 400, "http_request_error", "client-body", "the request's body ended early or was malformed";
    /// The client sent no byte of its body for the idle time.
    ClientIdle: Client, 408, "http_request_error", "client-idle", "the request's body did not arrive in time";
    /// The route wants a token, and there is none.
    NoToken: Client, 401, "http_request_denied", "no-token", "this route wants a token";
    /// The request's token does not count.
    BadToken: Client, 401, "http_request_denied", "bad-token", "the token does not count here";
    /// The source of the request has sent too many.
    RateLimited: Client, 429, "http_request_denied", "rate-limited", "too many requests; come back later";
    /// The source of the request has too many under way.
    TooManyInFlight: Client, 429, "http_request_denied", "too-many-in-flight", "too many requests at once";
    /// No route matches.
    NoRoute: Client, 404, "destination_not_found", "no-route", "no route matches this host and path";
    /// The rule exists but has no weighted backend that is ready.
    NobodyReady: Hub, 503, "destination_unavailable", "nobody-ready", "no backend of this route is ready";
    /// Every backend of the rule has weight 0.
    AllDrained: Hub, 503, "destination_unavailable", "all-drained", "all backends of this route are drained (weight 0)";
    /// What is ready is behind a circuit breaker that is open, or half-open with all of its probes under way.
    BreakerOpen: Hub, 503, "destination_unavailable", "breaker-open", "the circuit breaker of this route's backend is open";
    /// Too many requests wait for a stream of the endpoint.
    QueueFull: Hub, 503, "connection_limit_reached", "queue-full", "too many requests wait for this backend";
    /// The backend has as many requests or connections as it may, and the queue for more was full or too slow.
    BackendLimit: Hub, 503, "connection_limit_reached", "backend-limit", "this backend has as much as it may";
    /// The route's whole-request time ran out.
    RequestTimeout: Hub, 504, "http_response_timeout", "request-timeout", "the request took longer than its route allows";
    /// The hub ends, and its time to finish old work is over.
    HubDeadline: Hub, 503, "connection_terminated", "hub-deadline", "the hub was stopped";
    /// TLS settings of a backend cannot be used.
    BackendTls: Hub, 502, "proxy_configuration_error", "backend-tls-settings", "the backend's TLS settings cannot be used";
    /// A WebSocket was asked of a backend that cannot carry one.
    NoWebSocket: Hub, 501, "http_upgrade_failed", "no-websocket", "this backend does not carry WebSockets";
    /// The route's redirect leads to what was asked.
    RedirectLoop: Hub, 500, "proxy_configuration_error", "redirect-loop", "this route would redirect the request to itself";
    /// An answer could not be compressed.
    Compression: Hub, 500, "proxy_internal_error", "compression", "the answer could not be compressed";
    /// No live tunnel to the agent.
    NoTunnel: Tunnel, 503, "destination_unavailable", "no-tunnel", "no tunnel to the backend's agent";
    /// The tunnel ended.
    TunnelLost: Tunnel, 502, "connection_terminated", "tunnel-lost", "the tunnel to the backend's agent was lost";
    /// Nothing has come over the tunnel for so long that another endpoint was tried.
    TunnelSilent: Tunnel, 504, "connection_read_timeout", "tunnel-silent", "the backend's agent does not answer";
    /// No stream within the connect time.
    StreamTimeout: Tunnel, 504, "connection_timeout", "stream-timeout", "no stream to the backend's agent in time";
    /// The agent takes nothing new.
    AgentDraining: Agent, 503, "destination_unavailable", "agent-draining", "the backend's agent is draining";
    /// The agent has as many connections as it allows itself.
    AgentLimit: Agent, 503, "connection_limit_reached", "agent-limit", "the backend's agent has no connection left";
    /// The agent advertises the uplink no more.
    AgentUnknownUplink: Agent, 503, "destination_unavailable", "unknown-uplink", "the backend's agent no longer knows this uplink";
    /// The agent failed.
    AgentFailed: Agent, 502, "connection_terminated", "agent-failed", "the backend's agent failed";
    /// The agent cut the stream because nothing moved.
    AgentIdle: Agent, 504, "connection_read_timeout", "agent-idle", "the backend was silent for too long";
    /// The agent's drain deadline passed.
    AgentDeadline: Agent, 502, "connection_terminated", "drain-deadline", "the backend's agent was stopped";
    /// The backend refused the connection.
    ConnectRefused: Workload, 503, "connection_refused", "connect-refused", "the backend refused the connection";
    /// The backend did not answer a connection attempt.
    ConnectTimeout: Workload, 504, "connection_timeout", "connect-timeout", "the backend did not answer in time";
    /// The backend cannot be reached otherwise.
    ConnectFailed: Workload, 503, "destination_ip_unroutable", "connect-failed", "the backend cannot be reached";
    /// TLS to the backend failed.
    TlsFailed: Workload, 502, "tls_protocol_error", "tls-failed", "TLS with the backend failed";
    /// The backend closed the connection before its answer.
    WorkloadClosed: Workload, 502, "connection_terminated", "workload-closed", "the backend closed the connection without an answer";
    /// The backend's connection broke.
    WorkloadReset: Workload, 502, "connection_terminated", "workload-reset", "the backend's connection broke";
    /// The backend refused the HTTP/2 stream unprocessed.
    StreamRefused: Workload, 503, "http_request_denied", "stream-refused", "the backend refused the request unprocessed";
    /// The backend leaves and did not process the request (GOAWAY).
    GoingAway: Workload, 503, "destination_unavailable", "going-away", "the backend is going away";
    /// No response head in time.
    FirstByteTimeout: Workload, 504, "http_response_timeout", "first-byte-timeout", "the backend did not answer in time";
    /// A try took longer than the route allows.
    TryTimeout: Workload, 504, "http_response_timeout", "backend-request-timeout", "the backend did not answer in the time of one try";
    /// No byte of a body moved for the idle time.
    WorkloadIdle: Workload, 504, "connection_read_timeout", "workload-idle", "the backend was silent for too long";
    /// The response breaks HTTP.
    Malformed: Workload, 502, "http_protocol_error", "malformed-response", "the backend's response is malformed";
    /// The response's head is above the limits.
    HeadTooLarge: Workload, 502, "http_response_header_section_size", "response-head-too-large", "the backend's response head is too large";
    /// The backend's response head has too many fields.
    TooManyFields: Workload, 502, "http_response_header_section_size", "response-too-many-fields", "the backend's response has too many fields";
    /// The response ended before its declared length.
    Incomplete: Workload, 502, "http_response_incomplete", "response-incomplete", "the backend's response ended early";
    /// The backend answered an upgrade in a way that is none.
    UpgradeFailed: Workload, 502, "http_upgrade_failed", "upgrade-failed", "the backend did not carry out the upgrade";
}

impl Failure {
    /// What an agent's reset means here.
    pub const fn of_reset(reason: Reason) -> Self {
        match reason {
            Reason::Draining => Self::AgentDraining,
            Reason::Limit => Self::AgentLimit,
            Reason::UnknownUplink => Self::AgentUnknownUplink,
            Reason::ConnectRefused => Self::ConnectRefused,
            Reason::ConnectTimeout => Self::ConnectTimeout,
            Reason::ConnectFailed => Self::ConnectFailed,
            Reason::WorkloadClosed => Self::WorkloadClosed,
            Reason::WorkloadReset => Self::WorkloadReset,
            Reason::Idle => Self::AgentIdle,
            Reason::DrainDeadline => Self::AgentDeadline,
            Reason::ClientGone => Self::ClientGone,
            Reason::Internal | Reason::BadPreamble | Reason::Cancelled | Reason::Malformed => Self::AgentFailed,
            // Words of hubs to agents; an agent that says one is broken.
            Reason::ServiceDenied
            | Reason::UnknownService
            | Reason::ServiceProtocol
            | Reason::ServiceUnavailable
            | Reason::HubDraining
            | Reason::HubLimit => Self::AgentFailed,
        }
    }

    /// Whether another endpoint could do better at all. What the workload may have seen is another question: see `retry`.
    pub const fn elsewhere(self) -> bool {
        match self.side() {
            Side::Tunnel | Side::Agent | Side::Workload => !matches!(self, Self::UpgradeFailed),
            Side::Client => false,
            Side::Hub => matches!(self, Self::QueueFull | Self::BackendLimit | Self::NoWebSocket | Self::BackendTls),
        }
    }

    /// Whether the endpoint is to blame, for its `failed` counter.
    pub const fn blames_endpoint(self) -> bool {
        matches!(self.side(), Side::Tunnel | Side::Agent | Side::Workload)
    }

    /// The answer for the client.
    pub fn reply(self) -> Response<Body> {
        let text = Bytes::from_static(self.text().as_bytes());
        let mut response = Response::new(Body::Full(text));
        let status = StatusCode::from_u16(self.status()).unwrap_or(StatusCode::BAD_GATEWAY);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(PROXY_STATUS, HeaderValue::from_static(self.proxy_status()));
        headers.insert(REASON_HEADER, HeaderValue::from_static(self.as_str()));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response
    }
}

/// A word for a side, as metric labels show it.
pub const fn side_name(side: Side) -> &'static str {
    match side {
        Side::Client => "client",
        Side::Hub => "hub",
        Side::Tunnel => "tunnel",
        Side::Agent => "agent",
        Side::Workload => "workload",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Error types registered by RFC 9209, section 2.3, and the statuses that go with them here.
    const REGISTERED: &[&str] = &[
        "dns_timeout",
        "dns_error",
        "destination_not_found",
        "destination_unavailable",
        "destination_ip_prohibited",
        "destination_ip_unroutable",
        "connection_refused",
        "connection_terminated",
        "connection_timeout",
        "connection_read_timeout",
        "connection_write_timeout",
        "connection_limit_reached",
        "tls_protocol_error",
        "tls_certificate_error",
        "tls_alert_received",
        "http_request_error",
        "http_request_denied",
        "http_response_incomplete",
        "http_response_header_section_size",
        "http_response_header_size",
        "http_response_body_size",
        "http_response_trailer_section_size",
        "http_response_trailer_size",
        "http_response_transfer_coding",
        "http_response_content_coding",
        "http_response_timeout",
        "http_upgrade_failed",
        "http_protocol_error",
        "proxy_internal_response",
        "proxy_internal_error",
        "proxy_configuration_error",
        "proxy_loop_detected",
    ];

    #[test]
    fn every_failure_has_a_registered_error_and_a_word_of_its_own() {
        let mut words = std::collections::HashSet::new();
        for failure in Failure::ALL {
            assert!(REGISTERED.contains(&failure.error()), "{failure:?}");
            assert!(words.insert(failure.as_str()), "{failure:?} shares its word");
            assert!((400..600).contains(&failure.status()), "{failure:?}");
        }
    }

    #[test]
    fn statuses_follow_the_side_that_failed() {
        for failure in Failure::ALL {
            match failure.side() {
                Side::Client => assert!(failure.status() < 500 && !failure.elsewhere(), "{failure:?}"),
                Side::Hub | Side::Tunnel | Side::Agent | Side::Workload => assert!(failure.status() >= 500, "{failure:?}"),
            }
        }
    }

    #[test]
    fn every_503_says_when_to_come_back_and_no_reply_shows_an_address() {
        for failure in Failure::ALL {
            let reply = failure.reply();
            assert_eq!(reply.headers().contains_key(header::RETRY_AFTER), failure.status() == 503, "{failure:?}");
            assert_eq!(reply.headers()[PROXY_STATUS], format!("figspan; error={}; details=\"{}\"", failure.error(), failure.as_str()));
            assert!(!failure.text().contains(|c: char| c.is_ascii_digit() && !failure.text().contains("weight 0")), "{failure:?}");
        }
    }

    #[test]
    fn every_reason_of_an_agent_keeps_its_side() {
        for reason in Reason::ALL {
            let failure = Failure::of_reset(*reason);
            let hub_codes = reason.side() == Side::Hub || *reason == Reason::ServiceUnavailable;
            assert!(hub_codes || failure.side() == reason.side(), "{reason:?} became {failure:?}");
        }
    }
}
