//! Keys of routes, rules and their parts.

use figspan_settings::Table;

use super::key;

pub(in super::super) static HTTP_ROUTE: Table = Table {
    path: "http_route",
    doc: "Rules for HTTP requests. Over all routes of a listener the most specific match wins: exact host, longest wildcard, any host; then exact path, longest regular expression, longest prefix; then method, number of headers, number of query parameters, order in the file.",
    keys: &[
        key("name", "name", "", "Its name. Required."),
        key("listeners", "list of names", "all HTTP and HTTPS listeners", "Where it applies."),
        key("hostnames", "list of hosts", "all", "Exact (`shop.example`) or wildcard (`*.example`: one label or more)."),
        key("rules", "list of tables", "", "Its rules. Required."),
    ],
};

pub(in super::super) static HTTP_RULE: Table = Table {
    path: "http_route.rules",
    doc: "One rule of a route.",
    keys: &[
        key(
            "name",
            "name",
            "",
            "Its name, unique in the route. What the hub knows of the rule (cursors, shares, breakers, sessions) is kept under it, else under its place in the route: a rule with a name may be moved, and others put before it, without a change for it.",
        ),
        key("matches", "list of tables", "all requests", "Any of these."),
        key("jwt", "table", "", "Whose tokens its requests show, and which claims workloads get."),
        key("filters", "list of tables", "", "What is changed of requests and answers. Their order does not matter."),
        key("pins", "list of tables", "", "Clients who may choose a backend."),
        key("backend_refs", "list of tables", "", "Where matching requests go. Required, but not beside a `RequestRedirect`."),
        key("timeouts", "table", "", "How long things may take."),
        key("session_persistence", "table", "", "Keeps a client where its first request went."),
        key("hash", "table", "", "Chooses by a hash of what the client brings, in place of the next in turn."),
        key(
            "retry",
            "table",
            "",
            "When a request is tried again; without it, whatever was lost on the way and may be repeated is, without waiting.",
        ),
        key("rate_limits", "list of tables", "", "How many requests of a source pass in a time; all must agree."),
        key("in_flight", "table", "", "How many requests of a source may be under way."),
        key("failover", "table", "", "When requests leave a tier of `backend_refs`, and how they come back."),
    ],
};

pub(in super::super) static MATCH: Table = Table {
    path: "http_route.rules.matches",
    doc: "All parts must match.",
    keys: &[
        key("path", "table", "all", "The path, in its canonical form."),
        key("method", "text", "all", "The method."),
        key("headers", "list of tables", "", "Headers, all of them."),
        key("query_params", "list of tables", "", "Query parameters, all of them; the first value of a name counts."),
    ],
};

pub(in super::super) static PATH: Table = Table {
    path: "http_route.rules.matches.path",
    doc: "How a path is matched.",
    keys: &[
        key(
            "type",
            "Exact, PathPrefix or RegularExpression",
            "PathPrefix",
            "PathPrefix goes by elements: `/a` matches `/a/b`, not `/ab`. RegularExpression is RE2 and must match the whole path.",
        ),
        key("value", "text", "", "What it is compared with. Required."),
    ],
};

pub(in super::super) static HEADER: Table = Table {
    path: "http_route.rules.matches.headers",
    doc: "How a header is matched.",
    keys: &[
        key("name", "text", "", "Its name. Required."),
        key("value", "text", "", "Its value; several lines of one name are joined by commas. Required."),
        key("type", "Exact or RegularExpression", "Exact", "RegularExpression is RE2 and must match the whole value."),
    ],
};

pub(in super::super) static QUERY: Table = Table {
    path: "http_route.rules.matches.query_params",
    doc: "How a query parameter is matched.",
    keys: &[
        key("name", "text", "", "Its name, decoded. Required."),
        key("value", "text", "", "Its value, decoded. Required."),
        key("type", "Exact or RegularExpression", "Exact", "RegularExpression is RE2 and must match the whole value."),
    ],
};

pub(in super::super) static BACKEND: Table = Table {
    path: "http_route.rules.backend_refs",
    doc: "A weighted entry of a rule; the same in `tcp_route` and `tls_route`. Exactly one of `uplink` and `service`.",
    keys: &[
        key("uplink", "name", "", "Workloads on VMs, as agents advertise them."),
        key("service", "name", "", "A `[[service]]` of this file."),
        key("weight", "0 to 1000000", "that of the uplink or service", "The share of the rule; 0 sends nothing new."),
        key(
            "fallback",
            "0 to 8",
            "0",
            "The tier. Requests go to the lowest one with a backend that can take them: with weight, ready, not drained, not held back.",
        ),
    ],
};

pub(in super::super) static TIMEOUTS: Table = Table {
    path: "http_route.rules.timeouts",
    doc: "How long things may take; the same in `tcp_route` and `tls_route`, where `connect` and `idle` apply.",
    keys: &[
        key("connect", "duration", "5s", "Reaching the workload."),
        key("first_byte", "duration, 0s is off", "60s", "From the request's last byte to the response's first."),
        key("idle", "duration, 0s is off", "5m", "Longest pause of a body or stream in both directions at once."),
        key(
            "request",
            "duration, 0s is off",
            "0s",
            "The whole request with all its tries. Streams are governed by `idle` alone: once a WebSocket, event stream, gRPC answer, or an answer of unknown length or above `limits.replay_bytes` has begun, this ends; while such a body is being sent by the client, it has not begun.",
        ),
        key(
            "backend_request",
            "duration, 0s is off",
            "0s",
            "One try: from the choice of an endpoint to its answer, for streams as in `request`. Not longer than `request`.",
        ),
    ],
};

pub(in super::super) static FAILOVER: Table = Table {
    path: "http_route.rules.failover",
    doc: "When a tier of `backend_refs` (see `fallback`) counts as failed, and how it comes back; the same in `tcp_route` and `tls_route`. A tier fails at once when none of its endpoints is ready, when breakers, ejection or checks shut all that are, and when too many of its last answers are failures; no answer always is one. Then requests go to the next tier that can take them; what a workload may have seen goes there only as `retry` says. Without this table a tier is left while it cannot take requests, and used again at once. A weight of 0 is no failure. Kept under the rule over reloads.",
    keys: &[
        key(
            "on_status",
            "list of 400 to 599, or text such as \"500-599\"",
            "none",
            "Statuses that are failures; gRPC's in an answer's head count as 500, 503 or 504. Not for connections.",
        ),
        key(
            "latency",
            "duration",
            "off",
            "An answer that has not begun by then is a failure; for connections: one that is not made by then.",
        ),
        key(
            "failures",
            "1 to 32",
            "5",
            "So many failures among the last `answers` make the tier fail. Those more than a minute apart do not add up.",
        ),
        key("answers", "1 to 32", "10", "How many answers count. While a tier comes back, the same part of those since is enough."),
        key(
            "hold",
            "duration",
            "10s",
            "How long a failed tier gets nothing: since it failed, or was last seen unable. It is used all the same where no other tier can.",
        ),
        key(
            "failback",
            "duration, 0s is off",
            "30s",
            "How long its share takes to grow from 5 % to all. It falls back at once if it fails again.",
        ),
    ],
};

pub(in super::super) static TCP_ROUTE: Table = Table {
    path: "tcp_route",
    doc: "Where the connections of TCP listeners go. One route per listener.",
    keys: &[
        key("name", "name", "", "Its name. Required."),
        key("listeners", "list of names", "", "TCP listeners. Required."),
        key("backend_refs", "list of tables", "", "Where connections go. Required."),
        key("timeouts", "table", "", "`connect` and `idle`."),
        key("failover", "table", "", "When connections leave a tier of `backend_refs`: as for requests, but not by status."),
    ],
};

pub(in super::super) static TLS_ROUTE: Table = Table {
    path: "tls_route",
    doc: "Where the connections of TLS listeners go, by server name: exact, longest wildcard, any.",
    keys: &[
        key("name", "name", "", "Its name. Required."),
        key("listeners", "list of names", "", "TLS listeners. Required."),
        key("hostnames", "list of hosts", "all", "Server names, exact or wildcard."),
        key("backend_refs", "list of tables", "", "Where connections go. Required."),
        key("timeouts", "table", "", "`connect` and `idle`."),
        key("failover", "table", "", "When connections leave a tier of `backend_refs`: as for requests, but not by status."),
    ],
};
