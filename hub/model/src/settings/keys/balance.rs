//! Keys of choice: `load_balancing` of a backend, `hash` of a rule.

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
    ],
};

pub(in super::super) static HASH: Table = Table {
    path: "http_route.rules.hash",
    doc: "Weighted rendezvous hashing: the same value goes to the same backend and endpoint, on all replicas. Raising a weight moves only the keys of the added share. A request without the value is balanced by weight.",
    keys: &[key(
        "on",
        "client_ip, header:NAME, cookie:NAME, query:NAME or claim:NAME",
        "",
        "What is hashed. `client_ip` is the address that trusted proxies tell. `claim:NAME` reads the bearer token without verifying it: good enough to place a request, never to let it in. Required.",
    )],
};
