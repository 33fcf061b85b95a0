//! Keys of retries and limits.

use figspan_settings::Table;

use super::key;

pub(in super::super) static RETRY: Table = Table {
    path: "http_route.rules.retry",
    doc: "When a request is tried again, within `limits.retry_percent`. What reached no workload goes elsewhere with or without this; a POST or PATCH that a workload may have seen is not repeated unless `idempotent` says why it may; each endpoint is asked once, or once more where a kept connection ended under the request.",
    keys: &[
        key("attempts", "0 to 7", "2", "How often a request that a workload may have seen is tried again."),
        key(
            "backoff",
            "duration",
            "50ms",
            "Shortest time between two tries; doubles with each, up to a second, plus up to half of it at random.",
        ),
        key(
            "codes",
            "list of 400 to 599",
            "none",
            "Statuses that are tried again. Only the head of such an answer is waited for; its body is dropped.",
        ),
        key(
            "grpc_codes",
            "list of cancelled, unknown, deadline-exceeded, resource-exhausted, aborted, internal, unavailable",
            "none",
            "gRPC codes that are tried again where the answer's head has them (trailers-only). Needs `idempotent`.",
        ),
        key(
            "idempotent",
            "text",
            "",
            "Why requests of any method may be repeated here. Without it only GET, HEAD, OPTIONS, PUT, DELETE and TRACE are.",
        ),
        key(
            "hedge",
            "duration",
            "off",
            "After this time without an answer another endpoint is asked as well, the first answer wins and the other try is reset. Only for what may be repeated and whose body fits `limits.replay_bytes`.",
        ),
    ],
};

pub(in super::super) static RATE_LIMIT: Table = Table {
    path: "http_route.rules.rate_limits",
    doc: "How many requests of a source pass in a time, over all shards of the hub; more get 429 with Retry-After, RateLimit-Policy and RateLimit. Each limit tells 65536 sources apart; with more, new ones share the debt of those that owe least.",
    keys: &[
        key(
            "per",
            "client, header:NAME or claim:NAME",
            "",
            "What a source is: the client's address as `proxies.trusted` tell it (IPv6: its first 64 bits), a header's value, or a claim of the verified token, so that the rule needs `jwt`; requests without the header or claim are one source. Required.",
        ),
        key("requests", "1 to 10000000", "", "So many requests. Required."),
        key("period", "duration", "", "In this time, evenly. Required."),
        key("burst", "1 to 10000000", "requests", "So many at once after a quiet time."),
        key(
            "tell",
            "refused or always",
            "refused",
            "Which answers carry RateLimit-Policy and RateLimit: those with 429, or those to requests that passed too, so that a client can slow down before it is refused. They show how much a source may have.",
        ),
    ],
};

pub(in super::super) static IN_FLIGHT: Table = Table {
    path: "http_route.rules.in_flight",
    doc: "How many requests of a source may be under way, over all shards of the hub; more get 429. 65536 sources are told apart; beyond that, what finds no place passes uncounted and shows as `figspan_limit_hits_total{limit=\"sources\"}`.",
    keys: &[
        key("per", "client, header:NAME or claim:NAME", "", "What a source is, as in `rate_limits`. Required."),
        key("max", "1 to 1000000", "", "So many; a WebSocket counts until it ends. Required."),
    ],
};

pub(in super::super) static BACKEND_LIMITS: Table = Table {
    path: "backend_policy.limits",
    doc: "How much the backend gets at once, over all rules and shards of the hub, exactly. What finds no room waits in turn; then it goes to another backend of its rule, or gets 503 with Retry-After.",
    keys: &[
        key("connections", "1 to 10000000", "no limit", "Open connections, idle ones too."),
        key("requests", "1 to 10000000", "no limit", "Requests and connections under way; a WebSocket counts until it ends."),
        key("pending", "0 to 10000000", "50", "How many may wait."),
        key("wait", "duration", "1s", "How long they may wait."),
    ],
};
