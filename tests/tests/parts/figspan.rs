//! figspan as an operator runs it: `figspan-hub`, `figspan-agent` and `figspanctl`, each its own process, each set up by files.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::Duration;

use super::{Orders, Tomcat, eventually, folder};

pub struct Figspan {
    folder: PathBuf,
    orders: (SocketAddr, SocketAddr),
    hub: Child,
    agents: Vec<Child>,
}

impl Figspan {
    pub fn start(tomcats: &[Tomcat], orders: &Orders) -> Self {
        let folder = folder("figspan");
        let mut figspan = Self { orders: (orders.http, orders.grpc), hub: idle(), agents: Vec::new(), folder };
        figspan.write_config(100, 0);
        figspan.hub = spawn("figspan-hub", &figspan.folder, "hub", &["run", "--config", "hub.toml"]);
        let socket = figspan.folder.join("admin.sock");
        eventually("the hub's admin socket", Duration::from_secs(10), || socket.exists() && figspan.ctl(&["status"]).status.success());
        for tomcat in tomcats {
            figspan.join(tomcat);
        }
        eventually("the uplink is ready on both agents", Duration::from_secs(20), || {
            let uplink = figspan.json(&["get", "uplinks", "monolith", "-o", "json"]);
            let endpoints = uplink.as_array().and_then(|list| list.first()).unwrap_or(&uplink)["endpoints"].as_array().cloned().unwrap_or_default();
            endpoints.len() == 2 && endpoints.iter().all(|endpoint| endpoint["accepts"] == true)
        });
        figspan
    }

    /// The two commands of a VM: join with the line that the operator got, run.
    fn join(&mut self, tomcat: &Tomcat) {
        let name = tomcat.name;
        let config = format!(
            r#"state_dir = "{folder}/{name}"
status_socket = "{folder}/{name}.sock"

[[uplink]]
name = "monolith"
address = "{address}"
health = {{ type = "http", path = "/examples/index.html", interval = "1s" }}

[[uplink]]
name = "session-{name}"
address = "{address}"
health = {{ type = "http", path = "/examples/index.html", interval = "1s" }}
"#,
            folder = self.folder.display(),
            address = tomcat.address,
        );
        std::fs::write(self.folder.join(format!("{name}.toml")), config).unwrap();
        let grant = self.json(&["grant", "create", name, "--uplinks", &format!("monolith,session-{name}"), "--ttl", "5m", "-o", "json"]);
        let token = self.folder.join(format!("{name}.token"));
        std::fs::write(&token, grant["token"].as_str().unwrap()).unwrap();
        let config = format!("{name}.toml");
        let joined = command("figspan-agent", &self.folder).args(["--config", &config, "join", "--token-file", token.to_str().unwrap()]).output().unwrap();
        assert!(joined.status.success(), "join: {}", text(&joined));
        self.agents.push(spawn("figspan-agent", &self.folder, name, &["--config", &config, "run"]));
    }

    fn write_config(&self, monolith: u32, orders: u32) {
        let config = format!(
            r#"[hub]
replica = "hub-0"
state_dir = "{folder}/hub-state"
shards = 2

[tunnel]
address = "127.0.0.1:0"

[admin]
socket = "{folder}/admin.sock"

[metrics]
address = "127.0.0.1:0"

[[listener]]
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
"#,
            folder = self.folder.display(),
            http = self.orders.0,
            grpc = self.orders.1,
        );
        // Beside the file and then over it, as an editor or a ConfigMap does.
        std::fs::write(self.folder.join("hub.toml.new"), config).unwrap();
        std::fs::rename(self.folder.join("hub.toml.new"), self.folder.join("hub.toml")).unwrap();
    }

    /// Changes the weights in the file and waits until the hub says that it routes by them.
    pub fn set_split(&self, monolith: u32, orders: u32) {
        self.write_config(monolith, orders);
        let wanted = f64::from(orders) / f64::from(monolith + orders);
        eventually("the new weights are in force", Duration::from_secs(5), || {
            let routes = self.json(&["get", "routes", "-o", "json"]);
            let split = &routes[0]["rules"][3]["backends"][1];
            split["share_wanted"].as_f64().is_some_and(|share| (share - wanted).abs() < 1e-9)
        });
    }

    /// Drains everything that leads to the monolith; whether the proof came in time.
    pub fn drain_all(&self, deadline: Duration) -> bool {
        let timeout = format!("{}s", deadline.as_secs());
        ["monolith", "session-vm-1", "session-vm-2"].iter().all(|uplink| {
            let output = self.ctl(&["drain", "uplink", uplink, "--reason", "walk-through", "--wait", "--timeout", &timeout]);
            println!("drain {uplink}: {}", text(&output).trim());
            output.status.success()
        })
    }

    /// Where clients go.
    pub fn web(&self) -> SocketAddr {
        self.json(&["status", "-o", "json"])["listeners"][0]["address"].as_str().unwrap().parse().unwrap()
    }

    fn ctl(&self, arguments: &[&str]) -> Output {
        command("figspanctl", &self.folder).arg("--hub").arg(format!("unix:{}", self.folder.join("admin.sock").display())).args(arguments).output().unwrap()
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.ctl(arguments);
        assert!(output.status.success(), "figspanctl {arguments:?}: {}", text(&output));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("figspanctl {arguments:?}: {error}: {}", text(&output)))
    }

    /// SIGTERM: both sides end by themselves, with 0.
    pub fn stop(mut self) {
        for mut child in self.agents.drain(..).chain([std::mem::replace(&mut self.hub, idle())]) {
            assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
            let mut status = None;
            eventually("a process ends after SIGTERM", Duration::from_secs(15), || {
                status = child.try_wait().unwrap();
                status.is_some()
            });
            assert!(status.unwrap().success(), "{status:?}");
        }
    }
}

impl Drop for Figspan {
    fn drop(&mut self) {
        for child in self.agents.iter_mut().chain([&mut self.hub]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn idle() -> Child {
    Command::new("true").spawn().unwrap()
}

fn command(binary: &str, folder: &Path) -> Command {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let path = figspan_tests::architecture::root().join("target").join(profile).join(binary);
    assert!(path.exists(), "{} is missing: `just monolith` builds it", path.display());
    let mut command = Command::new(path);
    command.current_dir(folder);
    command
}

fn spawn(binary: &str, folder: &Path, name: &str, arguments: &[&str]) -> Child {
    let log = std::fs::File::create(folder.join(format!("{name}.log"))).unwrap();
    command(binary, folder).args(arguments).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
