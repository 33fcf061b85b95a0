//! Our own pair as it ships: strict HTTP, metrics, two shards, one agent, access log off as for the peers where nothing else is said.

use std::net::SocketAddr;
use std::time::Duration;

use figspan_tests::process::{HubProcess, Process};

use crate::bed::{BETWEEN, Bed};
use crate::chain::{Chain, Fronts};
use crate::origin::Addresses;

/// How long a program may take to drain: longer than a lame duck's time.
const END: Duration = Duration::from_secs(40);

/// Hub and agent; end with this value.
pub struct Pair {
    hub: HubProcess,
    agent: Process,
}

impl Pair {
    /// Process ids of hub and agent.
    pub fn ids(&self) -> [u32; 2] {
        [self.hub.process.id(), self.agent.id()]
    }

    /// Lets both drain and end; whether they ended well.
    pub fn end(mut self) -> bool {
        [&mut self.agent, &mut self.hub.process].into_iter().all(|program| {
            program.signal("TERM");
            program.ended(END)
        })
    }
}

/// Where the hub takes tunnels, between the two ends of the chain.
fn tunnel() -> String {
    format!("[tunnel]\naddress = \"{BETWEEN}:0\"\n")
}

/// Whether the hub writes an access log, as it does where nobody says anything.
pub fn log(access: bool) -> String {
    format!("[log]\naccess = {access}\n")
}

/// Listeners and routes to the four kinds of workload.
pub const HUB: &str = r#"
[[listener]]
name = "web"
address = "127.0.0.1:0"
protocol = "HTTP"

[[listener]]
name = "calls"
address = "127.0.0.1:0"
protocol = "HTTP"

[[listener]]
name = "bytes"
address = "127.0.0.1:0"
protocol = "TCP"

[[http_route]]
name = "web"
listeners = ["web"]

[[http_route.rules]]
backend_refs = [{ uplink = "web" }]

[[http_route.rules]]
matches = [{ path = { type = "PathPrefix", value = "/echo" } }]
backend_refs = [{ uplink = "messages" }]

[[http_route]]
name = "calls"
listeners = ["calls"]

[[http_route.rules]]
backend_refs = [{ uplink = "calls" }]

[[tcp_route]]
name = "bytes"
listeners = ["bytes"]
backend_refs = [{ uplink = "bytes" }]
"#;

/// A listener with TLS, and the route to the workload.
fn secure(bed: &Bed) -> String {
    let folder = bed.path().display();
    format!(
        "[[listener]]\nname = \"secure\"\naddress = \"127.0.0.1:0\"\nprotocol = \"HTTPS\"\n\
         certificates = [{{ certificate = \"{folder}/server.pem\", key = \"{folder}/server.key\" }}]\n\n\
         [[http_route]]\nname = \"secure\"\nlisteners = [\"secure\"]\n\n[[http_route.rules]]\nbackend_refs = [{{ uplink = \"web\" }}]\n"
    )
}

/// Starts hub and agent without an access log and waits until all is routed.
pub fn start(bed: &Bed, origin: Addresses) -> anyhow::Result<Option<Chain>> {
    start_as(bed, origin, false).map(Some)
}

/// The same with or without an access log.
pub fn start_as(bed: &Bed, origin: Addresses, access: bool) -> anyhow::Result<Chain> {
    let folder = bed.path().join("figspan");
    std::fs::create_dir(&folder)?;
    let hub = HubProcess::start(&folder, &(tunnel() + &log(access) + HUB + &secure(bed)));
    let uplink = |name: &str, address: SocketAddr, protocol: &str| {
        format!("[[uplink]]\nname = \"{name}\"\naddress = \"{address}\"\nprotocol = \"{protocol}\"\n")
    };
    let uplinks = [
        uplink("web", origin.http, "http1"),
        uplink("messages", origin.websocket, "http1"),
        uplink("calls", origin.grpc, "h2c"),
        uplink("bytes", origin.tcp, "tcp"),
    ];
    let agent = hub.agent("vm-1", "*", &uplinks.concat());
    for name in ["web", "messages", "calls", "bytes"] {
        hub.accepts(name, 1);
    }
    let [web, calls, bytes, secure] = [0, 1, 2, 3].map(|listener| hub.listener(listener));
    let fronts = Fronts { http: web, https: Some(secure), h2: Some(web), websocket: Some(web), grpc: Some(calls), tcp: Some(bytes) };
    Ok(Chain::ours("figspan", fronts, Pair { hub, agent }))
}
