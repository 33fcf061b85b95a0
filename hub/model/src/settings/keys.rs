//! Every key that a hub's file may have. The reader refuses others; `docs/reference/hub-toml.md` is made from this.

use figspan_settings::{Key, Table};

mod balance;
mod filters;
mod guard;
mod jwt;
mod limits;
mod mirror;
mod policy;
mod routes;

pub(super) use balance::{HASH, LOAD_BALANCING, SESSION};
pub(super) use filters::{EDITED, FILTER, FILTER_KINDS, PATH_EDIT, PIN, PIN_BACKEND};
pub(super) use guard::{BREAKER_LATENCY, CIRCUIT_BREAKER, HEALTH_CHECK, OUTLIER_EJECTION};
pub(super) use jwt::{CLAIM_HEADER, JWT_PROVIDER, RULE_JWT};
pub(super) use limits::{BACKEND_LIMITS, IN_FLIGHT, RATE_LIMIT, RETRY};
pub(super) use mirror::{MIRROR_BACKEND, MIRROR_COMPARE};
pub(super) use policy::BACKEND_POLICY;
pub(super) use routes::{BACKEND, FAILOVER, HEADER, HTTP_ROUTE, HTTP_RULE, MATCH, PATH, QUERY, TCP_ROUTE, TIMEOUTS, TLS_ROUTE};

const fn key(name: &'static str, kind: &'static str, default: &'static str, doc: &'static str) -> Key {
    Key { name, kind, default, doc }
}

/// All tables, in the order of the reference.
pub static TABLES: &[&Table] = &[
    &TOP,
    &HUB,
    &CA,
    &TUNNEL,
    &ADMIN,
    &ADMIN_TLS,
    &METRICS,
    &LOG,
    &PROXIES,
    &LIMITS,
    &LISTENER,
    &CERTIFICATE,
    &SERVICE,
    &SERVICE_ADDRESS,
    &SERVICE_TLS,
    &UPLINK_TLS,
    &JWT_PROVIDER,
    &HTTP_ROUTE,
    &HTTP_RULE,
    &MATCH,
    &PATH,
    &HEADER,
    &QUERY,
    &RULE_JWT,
    &CLAIM_HEADER,
    &FILTER,
    &EDITED,
    &PATH_EDIT,
    &PIN,
    &PIN_BACKEND,
    &MIRROR_BACKEND,
    &MIRROR_COMPARE,
    &BACKEND,
    &TIMEOUTS,
    &RETRY,
    &RATE_LIMIT,
    &IN_FLIGHT,
    &FAILOVER,
    &TCP_ROUTE,
    &TLS_ROUTE,
    &SESSION,
    &HASH,
    &BACKEND_POLICY,
    &CIRCUIT_BREAKER,
    &BREAKER_LATENCY,
    &OUTLIER_EJECTION,
    &HEALTH_CHECK,
    &LOAD_BALANCING,
    &BACKEND_LIMITS,
];

pub(super) static TOP: Table = Table {
    path: "",
    doc: "All sections are optional. Relative paths start in the folder of the file.",
    keys: &[
        key("hub", "table", "", "The process."),
        key("ca", "table", "", "A CA of your own, in place of the one that the hub makes at its first start."),
        key("tunnel", "table", "", "Where agents dial."),
        key("admin", "table", "", "Where operators ask."),
        key("metrics", "table", "", "Where `/metrics`, `/livez` and `/readyz` are."),
        key("log", "table", "", "What is logged, and how."),
        key("proxies", "table", "", "Whose word about a client counts, and what workloads are told."),
        key("limits", "table", "", "Bounds on what clients and workloads may send."),
        key("listener", "list of tables", "", "Sockets that clients connect to."),
        key("service", "list of tables", "", "Services in the cluster that routes may name."),
        key(
            "uplink_tls",
            "list of tables",
            "",
            "TLS from the hub, through the tunnel, to an uplink's workloads (Gateway API: BackendTLSPolicy).",
        ),
        key("jwt_provider", "list of tables", "", "Who signs the tokens that rules ask for."),
        key("http_route", "list of tables", "", "Rules for HTTP requests (Gateway API: HTTPRoute)."),
        key("tcp_route", "list of tables", "", "Rules for TCP connections (Gateway API: TCPRoute)."),
        key(
            "tls_route",
            "list of tables",
            "",
            "Rules for TLS connections that end at the workload, by server name (Gateway API: TLSRoute).",
        ),
        key(
            "backend_policy",
            "list of tables",
            "",
            "What an uplink or a service asks for, in whichever route it is named: choice among its endpoints, breaker, ejection, limits, checks.",
        ),
    ],
};

pub(super) static HUB: Table = Table {
    path: "hub",
    doc: "The process. Changes need a restart, except of `zone`.",
    keys: &[
        key("replica", "name", "the host's name", "The id of this replica, in its certificate and in the directory that agents get."),
        key("trust_domain", "name", "figspan.local", "The domain of all identities: `spiffe://<trust_domain>/agent/<name>`."),
        key(
            "zone",
            "label value of Kubernetes",
            "FIGSPAN_ZONE in the environment",
            "Where this replica is, as in `topology.kubernetes.io/zone`: what `load_balancing.zone` prefers.",
        ),
        key("state_dir", "path", "/var/lib/figspan-hub", "CA, grants, weight overrides and events; only the hub's user may read it."),
        key(
            "session_key_file",
            "path",
            "session.key in state_dir",
            "The key of session cookies: 32 bytes in base64 on a line, made at the first start. Give all replicas the same. With several lines the first seals, and each opens: so the key is changed.",
        ),
        key("shards", "1 to 128", "cores", "Threads that carry traffic, each with its own sockets."),
        key(
            "lame_duck",
            "duration, 0s is off",
            "5s",
            "How long a leaving hub goes on serving: `/readyz` says 503 and clients are asked to go elsewhere (`Connection: close`, GOAWAY), but nobody is refused yet.",
        ),
        key("drain_timeout", "duration", "30s", "How long a leaving hub lets old work finish after that."),
        key(
            "certificate_lifetime",
            "10s to 30d",
            "24h",
            "How long certificates of the hub and of agents live. They are renewed at about two thirds of it, without a reconnect; an agent that is away for longer has to join again.",
        ),
    ],
};

pub(super) static CA: Table = Table {
    path: "ca",
    doc: "A CA that somebody else looks after, for all replicas alike. `figspanctl ca begin` does not change it. Changes need a restart.",
    keys: &[key("certificate", "path", "", "PEM, one CA certificate. Required."), key("key", "path", "", "PEM, its key. Required.")],
};

pub(super) static TUNNEL: Table = Table {
    path: "tunnel",
    doc: "Where agents dial. Changes need a restart.",
    keys: &[
        key("address", "IP:port", "0.0.0.0:7443", "The UDP address that all shards share."),
        key(
            "advertise",
            "list of host:port",
            "the address",
            "What grants tell agents to dial. Names may have many addresses; all are tried.",
        ),
        key(
            "tcp",
            "true or false",
            "true",
            "Serve the same port over TCP (TLS 1.3, same identities) for agents whose network lets no UDP pass; they go back to UDP when it does.",
        ),
    ],
};

pub(super) static ADMIN: Table = Table {
    path: "admin",
    doc: "Where operators ask. Over TCP it needs a token, client certificates, or both. Changes need a restart.",
    keys: &[
        key("socket", "path", "/run/figspan-hub/admin.sock", "The Unix socket that `figspanctl` uses."),
        key("address", "IP:port", "off", "The same over TCP."),
        key("token_file", "path", "", "A file with the token that TCP clients show as `Authorization: Bearer`."),
        key("tls", "table", "", "TLS for `address`."),
    ],
};

pub(super) static ADMIN_TLS: Table = Table {
    path: "admin.tls",
    doc: "TLS for `admin.address`.",
    keys: &[
        key("certificate", "path", "", "PEM, leaf first. Required."),
        key("key", "path", "", "PEM. Required."),
        key("client_ca", "path", "", "PEM; clients must show a certificate that it signed."),
    ],
};

pub(super) static METRICS: Table = Table {
    path: "metrics",
    doc: "Where `/metrics`, `/livez` and `/readyz` are.",
    keys: &[key("address", "IP:port or \"off\"", "127.0.0.1:9464", "Its address.")],
};

pub(super) static LOG: Table = Table {
    path: "log",
    doc: "What is logged, and how.",
    keys: &[
        key("format", "auto, journald, text or json", "auto", "`auto`: the journal with fields where stderr leads there, else text."),
        key("level", "text", "info", "off, error, warn, info, debug or trace; or directives such as `info,figspan_data=debug`."),
        key("access", "true or false", "true", "Whether each request and connection is logged."),
    ],
};

pub(super) static PROXIES: Table = Table {
    path: "proxies",
    doc: "Whose word about a client counts, and what workloads are told.",
    keys: &[
        key("trusted", "list of CIDR", "nobody", "Peers whose X-Forwarded-*, Forwarded or PROXY protocol is believed."),
        key("forwarded", "x-forwarded, forwarded or both", "x-forwarded", "Which headers tell the workload about the client."),
    ],
};

pub(super) static LIMITS: Table = Table {
    path: "limits",
    doc: "Bounds on what clients and workloads may send. Each has a metric and an answer.",
    keys: &[
        key("header_bytes", "1KiB to 1MiB", "64KiB", "Bytes of a head: 431 or 502 above."),
        key("header_count", "1 to 1000", "100", "Fields of a head: 431 or 502 above."),
        key("header_time", "duration", "10s", "From a request's first byte to the end of its head: 408 and close above."),
        key("keep_alive", "duration", "75s", "How long a client connection may idle between requests."),
        key("h2_streams", "1 to 10000", "100", "Concurrent HTTP/2 streams of a client connection."),
        key("h2_resets", "1 to 100000", "200", "Streams that an HTTP/2 client may reset before its connection is closed."),
        key("connections", "1 to 1000000", "20000", "Client connections per shard; more wait in the kernel's backlog."),
        key("pending", "1 to 1000000", "1024", "Requests waiting for a stream of one endpoint, per shard; more get 503."),
        key("idle_streams", "0 to 10000", "64", "Idle pooled streams per endpoint, per shard."),
        key("idle_stream_time", "duration", "15s", "How long a pooled stream may idle; stay below the keep-alive of the workloads."),
        key("replay_bytes", "0 to 16MiB", "64KiB", "Bytes of a request body kept for another try."),
        key("retry_percent", "0 to 100", "20", "Live requests that may be retries, in percent, beyond `retry_floor`."),
        key("retry_floor", "0 to 1000", "3", "Retries at once that are always allowed, per shard."),
    ],
};

pub(super) static LISTENER: Table = Table {
    path: "listener",
    doc: "A socket that clients connect to.",
    keys: &[
        key("name", "name", "", "Routes attach to it by this name. Required."),
        key("address", "IP:port", "", "Its address; port 0 lets the kernel choose. Required."),
        key(
            "protocol",
            "HTTP, HTTPS, TCP or TLS",
            "",
            "What clients speak. HTTP and HTTPS take HTTP/1.1 and HTTP/2; TLS is passed through by server name. Required.",
        ),
        key(
            "certificates",
            "list of tables",
            "",
            "For HTTPS: at least one, chosen by server name, the first by default. Read again on change.",
        ),
        key(
            "accept_proxy_protocol",
            "true or false",
            "false",
            "Connections begin with a PROXY protocol header; only from `proxies.trusted`.",
        ),
    ],
};

pub(super) static CERTIFICATE: Table = Table {
    path: "listener.certificates",
    doc: "A certificate chain and its key.",
    keys: &[
        key("certificate", "path", "", "PEM, leaf first. Required."),
        key("key", "path", "", "PEM: PKCS #8, SEC1 or PKCS #1. Required."),
    ],
};

pub(super) static SERVICE: Table = Table {
    path: "service",
    doc: "A service in the cluster, by address.",
    keys: &[
        key("name", "name", "", "Backends name it by this. Required."),
        key("protocol", "http1, h2c or tcp", "http1", "What it speaks. With `tls`, `h2c` means HTTP/2 by ALPN."),
        key(
            "addresses",
            "list of host:port, or of tables",
            "",
            "Its endpoints. Every address of a DNS name is one; names are looked up again as their TTL says. Required.",
        ),
        key("weight", "0 to 1000000", "100", "Its share where a backend gives none."),
        key("tls", "table", "", "TLS towards it."),
    ],
};

pub(super) static SERVICE_ADDRESS: Table = Table {
    path: "service.addresses",
    doc: "An address that is more than a text.",
    keys: &[
        key("address", "host:port", "", "Where it is. Required."),
        key(
            "zone",
            "label value of Kubernetes",
            "",
            "Its zone, which `load_balancing.zone` may prefer. Of a DNS name, that of all its addresses.",
        ),
    ],
};

pub(super) static SERVICE_TLS: Table = Table {
    path: "service.tls",
    doc: "TLS towards a service. Verification cannot be turned off.",
    keys: &[
        key("hostname", "DNS name", "", "Sent as SNI and checked in the certificate. Required."),
        key("ca_certificate", "path", "", "PEM file of the roots to trust; or `system`."),
        key("system", "true or false", "false", "Trust the system's roots; or `ca_certificate`."),
    ],
};

pub(super) static UPLINK_TLS: Table = Table {
    path: "uplink_tls",
    doc: "TLS from the hub to an uplink's workloads, through the tunnel. Verification cannot be turned off.",
    keys: &[
        key("uplink", "name", "", "The uplink. Required."),
        key("hostname", "DNS name", "", "Sent as SNI and checked in the certificate. Required."),
        key("ca_certificate", "path", "", "PEM file of the roots to trust; or `system`."),
        key("system", "true or false", "false", "Trust the system's roots; or `ca_certificate`."),
    ],
};
