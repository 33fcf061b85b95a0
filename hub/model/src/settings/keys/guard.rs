//! Keys of breakers and ejection.

use figspan_settings::Table;

use super::key;

pub(in super::super) static CIRCUIT_BREAKER: Table = Table {
    path: "backend_policy.circuit_breaker",
    doc: "Cuts a backend or an endpoint off while it fails: nothing new goes there, requests go to other endpoints or to a fallback, or get 503 with Retry-After. After `open`, `probes` requests try it; if all of them are well it takes its share again. `error_ratio`, `latency` and `expression` each open it alone; without any of them it opens at half errors.",
    keys: &[
        key(
            "scope",
            "endpoint, backend or both",
            "endpoint",
            "What is watched and cut off: each endpoint alone, the backend as a whole, or both. As a whole, one broken endpoint of two cuts off the good one too.",
        ),
        key("error_ratio", "0 to 1", "", "Opens at this part of attempts without an answer or with a 5xx."),
        key("latency", "table", "", "Opens when answers are slow."),
        key(
            "expression",
            "text",
            "",
            "Opens when this holds. `NetworkErrorRatio()`: part of attempts without an answer. `ErrorRatio()`: the same and 5xx. `LatencyAtQuantileMS(99.0)`: milliseconds to the answer's head. `ResponseCodeRatio(500, 600, 0, 600)`: answers with a status from 500 up to 599, of those from 0 up to 599. Compare with `>`, `>=`, `<`, `<=`, `==` or `!=`; join with `&&`, `||`, `!` and parentheses.",
        ),
        key("window", "duration", "10s", "Attempts of this last while count, in steps of a tenth of it."),
        key("min_requests", "1 to 1000000", "20", "It opens only on as many attempts in the window."),
        key("open", "duration", "10s", "How long it stays open before it lets probes through."),
        key(
            "probes",
            "1 to 1000",
            "3",
            "Requests that must go well before it closes; no more run at once until then. One that fails opens it again.",
        ),
    ],
};

pub(in super::super) static BREAKER_LATENCY: Table = Table {
    path: "backend_policy.circuit_breaker.latency",
    doc: "Opens the breaker when answers are slow.",
    keys: &[
        key("quantile", "0 to 1", "0.99", "This part of answers is looked at, the fastest ones first."),
        key("above", "duration", "", "The slowest of them takes longer than this to its head. Required."),
    ],
};

pub(in super::super) static OUTLIER_EJECTION: Table = Table {
    path: "backend_policy.outlier_ejection",
    doc: "Leaves an endpoint out for a while when it fails several times in a row. Never the last one that can take work: an endpoint that all others are worse than stays.",
    keys: &[
        key("consecutive_5xx", "0 to 1000000", "3", "Attempts in a row without an answer or with a 5xx; 0 is off."),
        key("consecutive_gateway_errors", "0 to 1000000", "3", "Attempts in a row without an answer or with 502, 503 or 504; 0 is off."),
        key("latency", "duration", "", "Answers that take longer to their head are slow."),
        key("consecutive_slow", "1 to 1000000", "3", "Slow answers in a row; only with `latency`."),
        key("interval", "duration", "10s", "For each of these that passes without an ejection the next one is shorter by `base`."),
        key("base", "duration", "30s", "How long the first ejection lasts; the second one lasts twice as long, and so on."),
        key("max", "duration", "5m", "The longest ejection."),
        key("max_percent", "1 to 100", "50", "Most endpoints of the backend that are out at once, in percent."),
    ],
};

pub(in super::super) static HEALTH_CHECK: Table = Table {
    path: "backend_policy.health_check",
    doc: "Checks that the hub makes of every address of a service, as agents make them of their workloads. The first one runs at once and counts alone; until it has ended an address is used only where no other is ready. Services only.",
    keys: &[
        key("type", "tcp, http or grpc", "tcp", "What a check does. http and grpc use the service's TLS, if it has any."),
        key("path", "path", "/", "HTTP: what to get."),
        key("status", "statuses, as in \"200-299,401\"", "200-399", "HTTP: statuses that pass."),
        key("host", "host", "the address", "HTTP: the Host to send."),
        key("service", "text", "", "gRPC: the service to ask about; empty for the server as a whole."),
        key("interval", "duration", "5s", "From one check to the next, give or take a tenth."),
        key("timeout", "duration", "2s", "How long a check may take."),
        key("rise", "1 to 100", "2", "Checks that must pass in a row until an address that was down is ready."),
        key("fall", "1 to 100", "3", "Checks that must fail in a row until an address that was ready is down."),
    ],
};
