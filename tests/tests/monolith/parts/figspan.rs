//! The walk-through's hub and agents: what docs/05-tomcat.md shows, as files and commands.

use std::net::SocketAddr;
use std::time::Duration;

use figspan_tests::process::{HubProcess, Process, eventually, text};

use super::{Orders, Tomcat, folder};

pub struct Figspan {
    hub: HubProcess,
    agents: Vec<Process>,
    orders: (SocketAddr, SocketAddr),
}

impl Figspan {
    pub fn start(tomcats: &[Tomcat], orders: &Orders) -> Self {
        let orders = (orders.http, orders.grpc);
        let hub = HubProcess::start(&folder("figspan"), &config(orders, 100, 0));
        let agents =
            tomcats.iter().map(|tomcat| hub.agent(tomcat.name, &format!("monolith,session-{}", tomcat.name), &uplinks(tomcat))).collect();
        hub.accepts("monolith", 2);
        hub.accepts("session-vm-1", 1);
        hub.accepts("session-vm-2", 1);
        Self { hub, agents, orders }
    }

    /// Where clients go.
    pub fn web(&self) -> SocketAddr {
        self.hub.listener(0)
    }

    /// Changes the weights in the file and waits until the hub says that it routes by them.
    pub fn set_split(&self, monolith: u32, orders: u32) {
        self.hub.rewrite(&config(self.orders, monolith, orders));
        let wanted = f64::from(orders) / f64::from(monolith + orders);
        eventually("the new weights are in force", Duration::from_secs(5), || {
            let split = &self.hub.json(&["get", "routes"])[0]["rules"][3]["backends"][1];
            split["share_wanted"].as_f64().is_some_and(|share| (share - wanted).abs() < 1e-9)
        });
    }

    /// Drains everything that leads to the monolith; whether the proof came in time.
    pub fn drain_all(&self, deadline: Duration) -> bool {
        let timeout = format!("{}s", deadline.as_secs());
        ["monolith", "session-vm-1", "session-vm-2"].iter().all(|uplink| {
            let output = self.hub.ctl(&["drain", "uplink", uplink, "--reason", "walk-through", "--wait", "--timeout", &timeout]);
            println!("drain {uplink}: {}", text(&output).trim());
            output.status.success()
        })
    }

    /// SIGTERM: both sides end by themselves, with 0.
    pub fn stop(mut self) {
        for process in self.agents.iter_mut().chain([&mut self.hub.process]) {
            process.signal("TERM");
            assert!(process.ended(Duration::from_secs(15)), "{process:?} did not end well");
        }
    }
}

fn uplinks(tomcat: &Tomcat) -> String {
    let uplink = |name: &str| {
        format!(
            "[[uplink]]\nname = \"{name}\"\naddress = \"{}\"\nhealth = {{ type = \"http\", path = \"/examples/index.html\", interval = \"1s\" }}\n\n",
            tomcat.address
        )
    };
    uplink("monolith") + &uplink(&format!("session-{}", tomcat.name))
}

fn config((http, grpc): (SocketAddr, SocketAddr), monolith: u32, orders: u32) -> String {
    format!(
        r#"[[listener]]
name = "web"
address = "127.0.0.1:0"
protocol = "HTTP"

[[service]]
name = "orders"
addresses = ["{http}"]

[[service]]
name = "orders-grpc"
protocol = "h2c"
addresses = ["{grpc}"]

[[http_route]]
name = "shop"
listeners = ["web"]

# A session lives in the memory of one Tomcat; its id says which.
[[http_route.rules]]
matches = [{{ headers = [{{ name = "cookie", type = "RegularExpression", value = "(.*; *)?JSESSIONID=[0-9A-F]+\\.vm-1(;.*)?" }}] }}]
backend_refs = [{{ uplink = "session-vm-1" }}]

[[http_route.rules]]
matches = [{{ headers = [{{ name = "cookie", type = "RegularExpression", value = "(.*; *)?JSESSIONID=[0-9A-F]+\\.vm-2(;.*)?" }}] }}]
backend_refs = [{{ uplink = "session-vm-2" }}]

[[http_route.rules]]
matches = [{{ path = {{ type = "PathPrefix", value = "/shop.Orders" }} }}]
backend_refs = [{{ service = "orders-grpc" }}]

# Everybody else: the split.
[[http_route.rules]]
backend_refs = [{{ uplink = "monolith", weight = {monolith} }}, {{ service = "orders", weight = {orders} }}]
"#
    )
}
