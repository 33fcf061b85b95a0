//! Keys of filters.

use figspan_settings::Table;

use super::key;

/// Which keys go with which type; `type` goes with all.
pub(in super::super) static FILTER_KINDS: &[(&str, &[&str])] = &[
    ("RequestHeaderModifier", &["set", "add", "remove"]),
    ("ResponseHeaderModifier", &["set", "add", "remove"]),
    ("URLRewrite", &["hostname", "path"]),
    ("RequestRedirect", &["scheme", "hostname", "port", "path", "status_code"]),
    ("RequestMirror", &["backend", "percent", "max_body", "timeout", "unsafe_methods", "compare"]),
    ("CORS", &["allow_origins", "allow_methods", "allow_headers", "expose_headers", "allow_credentials", "max_age"]),
    ("Compression", &["algorithms", "min_bytes", "content_types"]),
    ("ErrorAnswer", &["statuses", "body", "body_file", "content_type", "workloads"]),
];

pub(in super::super) static FILTER: Table = Table {
    path: "http_route.rules.filters",
    doc: "What is changed of requests and answers, with the names of Gateway API where it has them; each type at most once, but `ErrorAnswer` and `RequestMirror`, which may have several targets. Filters act in a fixed order: `CORS` (preflights), `RequestRedirect`, `RequestHeaderModifier`, `URLRewrite` on requests; `ErrorAnswer`, `ResponseHeaderModifier`, `CORS` on every answer, the hub's own included, and `Compression` on those of workloads. No filter may touch fields of one hop or of a message's framing, Host, and what the hub itself says (`Forwarded`, `X-Forwarded-*`, `X-Real-IP`, `Figspan-*`, `X-Figspan-*`, `Proxy-Status`).",
    keys: &[
        key(
            "type",
            "RequestHeaderModifier, ResponseHeaderModifier, URLRewrite, RequestRedirect, CORS, Compression, ErrorAnswer or RequestMirror",
            "",
            "Which filter. Required.",
        ),
        key("set", "list of tables", "", "Header modifiers: fields to replace, or to add where they are missing."),
        key("add", "list of tables", "", "Header modifiers: fields to add beside those that are there. Keys as in `set`."),
        key("remove", "list of names", "", "Header modifiers: fields to take away, before anything is set or added."),
        key(
            "hostname",
            "host",
            "as asked",
            "URLRewrite: the Host that the workload gets; X-Forwarded-Host keeps the client's. RequestRedirect: the host to go to.",
        ),
        key("path", "table", "as asked", "URLRewrite and RequestRedirect: another path. The query stays as it is."),
        key("scheme", "http or https", "as asked", "RequestRedirect: the scheme to go to."),
        key(
            "port",
            "1 to 65535",
            "the scheme's own where `scheme` or `hostname` is given, else as asked",
            "RequestRedirect: the port to go to.",
        ),
        key("status_code", "301, 302, 303, 307 or 308", "302", "RequestRedirect: the answer's status. 307 and 308 keep method and body."),
        key(
            "backend",
            "table",
            "",
            "RequestMirror: where copies go, each with `figspan-mirror: <route>`. What it answers is dropped; it never delays a request. Required.",
        ),
        key("percent", "1 to 100", "100", "RequestMirror: which part of the requests is copied, evenly."),
        key(
            "max_body",
            "size up to 16MiB",
            "1MiB",
            "RequestMirror: the longest body that is copied. Bodies stream; a copy whose target takes it too slowly is broken off.",
        ),
        key(
            "timeout",
            "duration",
            "10s",
            "RequestMirror: how long a copy may take as a whole. 64 copies at once are made per shard; more are dropped and counted.",
        ),
        key("unsafe_methods", "text", "", "RequestMirror: why other methods than GET, HEAD and OPTIONS may be copied."),
        key("compare", "table", "", "RequestMirror: compares the answers."),
        key(
            "allow_origins",
            "list of origins",
            "",
            "CORS: who may ask: `https://shop.example`, `https://*.example` (one label or more), or `*` alone, which excludes credentials. Required.",
        ),
        key("allow_methods", "list of methods", "GET, HEAD, POST", "CORS: or `*` alone."),
        key("allow_headers", "list of names", "those that browsers always allow", "CORS: or `*` alone."),
        key("expose_headers", "list of names", "those that browsers always show", "CORS: or `*` alone."),
        key("allow_credentials", "true or false", "false", "CORS: whether cookies, client certificates and Authorization may be sent."),
        key("max_age", "duration, up to a day", "5s", "CORS: how long a browser may remember a preflight."),
        key(
            "algorithms",
            "list of zstd, br and gzip",
            "zstd, br, gzip",
            "Compression: in the order of preference; the client's q-values go first.",
        ),
        key("min_bytes", "0 to 1MiB", "1KiB", "Compression: bodies known to be smaller stay as they are."),
        key(
            "content_types",
            "list of types",
            "texts, JSON, XML, JavaScript, SVG, WebAssembly, uncompressed fonts",
            "Compression: one star each: `text/*`, `application/*+json`. gRPC and event streams never are compressed, nor partial, coded or signed bodies, nor with `Cache-Control: no-transform`.",
        ),
        key("statuses", "text", "", "ErrorAnswer: which, of 400 to 599: `\"502-504\"`, `\"404, 500-599\"`. Required."),
        key("body", "text", "", "ErrorAnswer: the body. Or `body_file`."),
        key("body_file", "path", "", "ErrorAnswer: a file with it, up to 64 KiB, read whenever the configuration is. Or `body`."),
        key("content_type", "text", "by the file's name, else text/plain; charset=utf-8", "ErrorAnswer: its type."),
        key(
            "workloads",
            "true or false",
            "false",
            "ErrorAnswer: whether the same answers of workloads are replaced too. Status, Retry-After and Proxy-Status stay. gRPC is left alone.",
        ),
    ],
};

pub(in super::super) static PIN: Table = Table {
    path: "http_route.rules.pins",
    doc: "Clients who may choose a backend of the rule, by `x-figspan-pin`, whatever its weight there. A drained or unready backend answers 503: a pinned request never goes elsewhere, starts no session and is not mirrored. A pin that is not believed is ignored. The field never reaches a workload. Either `key_file` or `trusted`.",
    keys: &[
        key("backend", "table", "", "A backend of the rule: `{ uplink = \"...\" }` or `{ service = \"...\" }`. Required."),
        key(
            "key_file",
            "path",
            "",
            "A file with at least 32 bytes that others cannot read, read whenever the configuration is; `figspanctl pin` signs pins with it.",
        ),
        key(
            "trusted",
            "list of CIDR",
            "",
            "Clients, as trusted proxies tell them, who may name the backend unsigned: `x-figspan-pin: service/orders`.",
        ),
        key("always", "true or false", "false", "With `trusted`: all their requests go there, without any field."),
    ],
};

pub(in super::super) static PIN_BACKEND: Table = Table {
    path: "http_route.rules.pins.backend",
    doc: "The backend. Exactly one of `uplink` and `service`.",
    keys: &[
        key("uplink", "name", "", "Workloads on VMs, as agents advertise them."),
        key("service", "name", "", "A `[[service]]` of this file."),
    ],
};

pub(in super::super) static EDITED: Table = Table {
    path: "http_route.rules.filters.set",
    doc: "A field; the same in `add`.",
    keys: &[key("name", "text", "", "Its name. Required."), key("value", "text", "", "Its value. Required.")],
};

pub(in super::super) static PATH_EDIT: Table = Table {
    path: "http_route.rules.filters.path",
    doc: "Another path.",
    keys: &[
        key(
            "type",
            "ReplaceFullPath or ReplacePrefixMatch",
            "",
            "ReplacePrefixMatch replaces the prefix that matched, by elements; every match of the rule must then be by prefix. Required.",
        ),
        key("value", "text", "", "What stands there instead. Required."),
    ],
};
