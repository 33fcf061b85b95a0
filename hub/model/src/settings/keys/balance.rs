//! Keys of choice: `load_balancing` of a backend, `session_persistence` and `hash` of a rule.

use figspan_settings::Table;

use super::key;

pub(in super::super) static LOAD_BALANCING: Table = Table {
    path: "backend_policy.load_balancing",
    doc: "How the endpoints of a backend share its requests.",
    keys: &[
        key(
            "method",
            "RoundRobin or LeastLoad",
            "RoundRobin",
            "RoundRobin: exact shares by weight. LeastLoad: of two endpoints that their weights bring up, the one with fewer requests under way for its weight, times how long its answers take lately; failures count as answers of a second.",
        ),
        key(
            "slow_start",
            "duration, 0s is off",
            "0s",
            "How long an endpoint that is new or has recovered takes to come from a tenth of its share to all of it.",
        ),
        key(
            "zone",
            "any or prefer",
            "any",
            "prefer: as long as an endpoint in the zone of this hub (`hub.zone`) takes requests, no other one gets any; what slow start holds back there, and what it cannot take, goes to all. Agents tell their zone (`zone` in agent.toml), services' addresses have theirs in `service.addresses`. It never moves requests from one backend to another.",
        ),
    ],
};

pub(in super::super) static HASH: Table = Table {
    path: "http_route.rules.hash",
    doc: "Weighted rendezvous hashing: the same value goes to the same backend and endpoint, on all replicas. Raising a weight moves only the keys of the added share. A request without the value is balanced by weight.",
    keys: &[key(
        "on",
        "client_ip, header:NAME, cookie:NAME, query:NAME or claim:NAME",
        "",
        "What is hashed. `client_ip` is the address that trusted proxies tell. `claim:NAME` is a claim of the verified token, so the rule needs `jwt`; names as in `jwt.claims_to_headers`. Required.",
    )],
};

pub(in super::super) static SESSION: Table = Table {
    path: "http_route.rules.session_persistence",
    doc: "Keeps a client at the backend and endpoint of its first request, by a cookie that only the hub can read. A session on a backend at weight 0 stays until it ends, or until the deadline of the drain; a backend that is not ready loses its sessions at once.",
    keys: &[
        key("type", "Cookie", "Cookie", "What carries the session."),
        key(
            "name",
            "text",
            "one of the rule's own",
            "Name of the cookie. Rules that give the same name share sessions as far as they share backends.",
        ),
        key("ttl", "1s to 400d", "1h", "How long a session lasts without a request. An answer in its second half renews it."),
        key("absolute_timeout", "1s to 400d", "", "How long a session lasts at most."),
        key("path", "text", "/", "Path of the cookie."),
        key("domain", "host", "the host asked", "Domain of the cookie."),
        key("secure", "true or false", "as the client came", "Whether it is sent over TLS only."),
        key("http_only", "true or false", "true", "Whether scripts cannot see it."),
        key("same_site", "Strict, Lax or None", "Lax", "When browsers send it from other sites; None needs TLS."),
    ],
};
