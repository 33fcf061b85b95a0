//! Which keys agent.toml has: written down once, used to refuse the others and to print the reference in `docs/`.

use figspan_settings::{Key, Table};

const fn key(name: &'static str, kind: &'static str, default: &'static str, doc: &'static str) -> Key {
    Key { name, kind, default, doc }
}

/// The top of the file.
pub static TOP: Table = Table {
    path: "",
    doc: "The agent itself. What `figspan-agent join` learned (`hubs`, `trust_domain`) is kept beside the certificate; keys here win over it.",
    keys: &[
        key("name", "name", "the host's name", "Name to ask for when joining with a grant that leaves the name open."),
        key(
            "hubs",
            "list of host:port",
            "",
            "Hubs to dial. A host without a port is looked up by SRV (`_figspan._udp.HOST`), then with port 7443.",
        ),
        key(
            "zone",
            "label value of Kubernetes",
            "",
            "Where this machine is, as in `topology.kubernetes.io/zone`. Hubs of the same zone may prefer it. A change needs a restart.",
        ),
        key("trust_domain", "name", "that of the certificate", "Trust domain to insist on."),
        key("state_dir", "directory", "/var/lib/figspan-agent", "Where key and certificate are kept. A change needs a restart."),
        key("workers", "1 to 64", "1", "Threads that carry tunnels; one is enough for several Gbit/s. A change needs a restart."),
        key("drain_timeout", "duration", "30s", "How long streams may go on after SIGTERM. Keep the unit's TimeoutStopSec above it."),
        key("tunnels_per_hub", "1 to 128", "8", "Most tunnels to one replica of the hub; each of its shards likes one of its own."),
        key(
            "transport",
            "auto, quic or tcp",
            "auto",
            "What carries tunnels: `quic` is UDP, `tcp` is TLS 1.3 over TCP to the same port, `auto` is UDP, and TCP for as long as no UDP passes.",
        ),
        key(
            "max_streams",
            "1 to 1000000",
            "10000",
            "Most streams at once over all uplinks; more are refused as not delivered and go elsewhere.",
        ),
        key("status", "table", "", "The socket of `figspan-agent status`."),
        key("metrics", "table", "", "The metrics endpoint."),
        key("log", "table", "", "Logging."),
        key("uplink", "list of tables", "", "One workload each."),
        key("service", "list of tables", "", "One place each where processes of this VM call a service of the cluster."),
    ],
};

/// `[status]`
pub static STATUS: Table = Table {
    path: "status",
    doc: "The socket of `figspan-agent status`.",
    keys: &[key("socket", "path, or \"\" for none", "/run/figspan-agent/status.sock", "Where it is. A change needs a restart.")],
};

/// `[metrics]`
pub static METRICS: Table = Table {
    path: "metrics",
    doc: "Metrics are always served on the status socket; this adds a TCP address.",
    keys: &[key("address", "ip:port", "", "Where to serve `/metrics`. A change needs a restart.")],
};

/// `[log]`
pub static LOG: Table = Table {
    path: "log",
    doc: "Logging.",
    keys: &[
        key(
            "format",
            "auto, journald, text or json",
            "auto",
            "How to write. `auto` is journald under systemd, else text. A change needs a restart.",
        ),
        key("level", "error, warn, info, debug, trace, or a filter", "info", "What to write."),
    ],
};

/// `[[uplink]]`
pub static UPLINK: Table = Table {
    path: "uplink",
    doc: "A workload on this VM, offered under a name. The agent connects to addresses written here and to no others.",
    keys: &[
        key("name", "name", "", "What routes on the hub ask for. The grant must allow it."),
        key("address", "host:port or ip:port", "", "Where the workload listens."),
        key("weight", "0 to 1000000", "100", "Share among agents that offer the same name; 0 drains."),
        key("protocol", "http1, h2c or tcp", "http1", "What the workload speaks. gRPC is h2c."),
        key("health", "table", "tcp", "How the workload is checked."),
        key(
            "proxy_protocol",
            "true or false",
            "false",
            "Begin each connection with a PROXY protocol v2 header. Only with `protocol = \"tcp\"`.",
        ),
        key("max_connections", "1 to 1000000", "1000", "Most connections at once; more are refused as not delivered and go elsewhere."),
        key("connect_timeout", "duration", "5s", "How long connecting may take."),
        key("idle_timeout", "duration, 0s for none", "0s", "Ends a connection on which no byte has moved for so long."),
    ],
};

/// `uplink.health`
pub static HEALTH: Table = Table {
    path: "uplink.health",
    doc: "The first check runs at once and counts alone; after that `rise` and `fall` apply.",
    keys: &[
        key("type", "tcp, http, grpc or none", "tcp", "What a check does."),
        key("path", "path", "/", "HTTP: what to get."),
        key("status", "statuses, as in \"200-299,401\"", "200-399", "HTTP: statuses that pass."),
        key("host", "host", "the address", "HTTP: the Host to send."),
        key("service", "text", "", "gRPC: the service to ask about; empty for the server as a whole."),
        key("interval", "duration", "5s", "From one check to the next, give or take a tenth."),
        key("timeout", "duration", "2s", "How long a check may take."),
        key("rise", "1 to 100", "2", "Checks that must pass in a row until a workload that was down is ready."),
        key("fall", "1 to 100", "3", "Checks that must fail in a row until a workload that was ready is down."),
    ],
};

/// `[[service]]`
pub static SERVICE: Table = Table {
    path: "service",
    doc: "The other direction: a place on this VM where its processes call a service of the cluster, through the tunnel. The hub must \
          know the service, and the agent's grant must allow it (`figspanctl grant create ... --services`); by default it allows none.",
    keys: &[
        key("name", "name", "", "The service's name in the hub's settings. May stand in several tables."),
        key(
            "listen",
            "ip:port or unix:/path",
            "",
            "Where processes call it: a loopback address, or a Unix socket below /run/figspan-agent.",
        ),
        key("protocol", "http or tcp", "http", "What they speak; `http` is HTTP/1.1, and HTTP/2 with prior knowledge (gRPC)."),
        key("mode", "octal", "0660", "Permissions of a Unix socket: 0660 lets the group figspan-agent call, 0666 every local user."),
        key(
            "allow_remote",
            "text",
            "",
            "Allows a `listen` that is no loopback address, and says why. Whoever reaches it calls as this VM.",
        ),
        key("max_connections", "1 to 10000", "256", "Most connections at once; more are answered 503 (HTTP) or reset (TCP)."),
        key(
            "connect_timeout",
            "duration",
            "5s",
            "How long it may take until a hub has taken a connection; then 503 (HTTP) or a reset (TCP).",
        ),
        key("idle_timeout", "duration, 0s for none", "0s", "Ends a connection on which no byte has moved for so long."),
    ],
};

/// All tables, in the order of the reference.
pub static TABLES: &[&Table] = &[&TOP, &STATUS, &METRICS, &LOG, &UPLINK, &HEALTH, &SERVICE];
