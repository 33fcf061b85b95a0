//! A hub in a network of its own, and VMs on the same bridge: what a test of this tier stands on.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::bridge::Router;
use super::{Bridge, Host, Load, Namespace, Tree, stale, unique};
use crate::process::{HubProcess, eventually};

/// The hub's address on the bridge.
pub(super) const HUB: &str = "10.97.0.1";
/// Where the hub takes tunnels.
pub const TUNNEL: u16 = 7443;

/// Where its listener is.
const WEB: u16 = 8080;

/// The bed. VMs are made by it and must go before it.
#[derive(Debug)]
pub struct Bed {
    /// The hub.
    pub hub: HubProcess,
    /// The hub's network, where clients are too.
    pub outside: Namespace,
    /// The network between.
    pub bridge: Bridge,
    name: String,
    _folder: tempfile::TempDir,
}

impl Bed {
    /// Starts a hub with one listener and a route of everything to the uplink `monolith`; grants tell agents to dial `advertise`, and
    /// `hub` has more keys of its `[hub]` section.
    pub fn start_with(advertise: &str, hub: &str) -> Self {
        Self::start_routed(advertise, hub, "")
    }

    /// The same with more rules of the route, before the one of everything.
    pub fn start_routed(advertise: &str, hub: &str, rules: &str) -> Self {
        Self::set_out(advertise, rules, |folder, config| HubProcess::start_with(folder, hub, config))
    }

    /// The same where the hub is of another version, whose programs are in that folder.
    pub fn start_of(version: &Path, hub: &str) -> Self {
        Self::set_out(&format!("{HUB}:{TUNNEL}"), "", |folder, config| HubProcess::start_of(version, folder, hub, config))
    }

    fn set_out(advertise: &str, rules: &str, start: impl FnOnce(&Path, &str) -> HubProcess + Send) -> Self {
        stale::sweep();
        let name = unique();
        let (bridge, outside) = (Bridge::new(&name), Namespace::new(&format!("{name}-hub")));
        bridge.plug(&outside, &format!("{HUB}/24"));
        let folder = tempfile::Builder::new().prefix("figspan-").tempdir().expect("a folder for this test");
        let config = format!(
            "[tunnel]\naddress = \"{HUB}:{TUNNEL}\"\nadvertise = [\"{advertise}\"]\n\n\
             [[listener]]\nname = \"web\"\naddress = \"{HUB}:{WEB}\"\nprotocol = \"HTTP\"\n\n\
             [[http_route]]\nname = \"shop\"\n\n{rules}[[http_route.rules]]\nbackend_refs = [{{ uplink = \"monolith\" }}]\n"
        );
        let hub = outside.inside(|| start(folder.path(), &config));
        Self { hub, outside, bridge, name, _folder: folder }
    }

    /// The same, where agents dial the hub's address.
    pub fn start() -> Self {
        Self::start_with(&format!("{HUB}:{TUNNEL}"), "")
    }

    /// A VM on the bridge, not booted; `number` is the last part of its address.
    pub fn vm(&self, name: &str, number: u8) -> Host {
        self.vm_of(Tree::Bare, name, number)
    }

    /// The same with another root tree.
    pub fn vm_of(&self, tree: Tree, name: &str, number: u8) -> Host {
        let host = Host::new(tree, &format!("{}-{name}", self.name), name);
        self.bridge.plug(&host.namespace, &format!("10.97.0.{number}/24"));
        host
    }

    /// A VM behind a router with NAT, not booted.
    pub fn vm_behind_nat(&self, name: &str, number: u8) -> (Host, Router) {
        let host = Host::new(Tree::Bare, &format!("{}-{name}", self.name), name);
        let router = self.bridge.plug_behind_nat(&host.namespace, &format!("10.97.0.{number}/24"));
        (host, router)
    }

    /// Boots a VM, installs the agent's package, joins it with a grant for `monolith` and waits until the hub may use it.
    pub fn serve(&self, host: &mut Host, workload: impl Into<SocketAddr>) {
        self.serve_also(host, workload, 1);
    }

    /// The same for one more VM, so that there are that many endpoints.
    pub fn serve_also(&self, host: &mut Host, workload: impl Into<SocketAddr>, endpoints: usize) {
        host.boot();
        self.set_up(host, workload);
        self.hub.accepts("monolith", endpoints);
    }

    /// Installs the agent's package on a VM that runs, offers the workload, and joins.
    pub fn set_up(&self, host: &Host, workload: impl Into<SocketAddr>) {
        install(host);
        host.write("/etc/figspan-agent/agent.toml.d/monolith.toml", &uplink(workload));
        self.join(host);
    }

    /// Pastes the line of a new grant on a VM.
    pub fn join(&self, host: &Host) {
        self.join_with(host, "monolith");
    }

    /// The same with a grant for other uplinks.
    pub fn join_with(&self, host: &Host, uplinks: &str) {
        let output = host.paste(&self.grant_for(host.name(), uplinks)).wait_with_output().expect("a shell");
        assert!(output.status.success(), "{}", crate::process::text(&output));
    }

    /// The line that the operator of the hub pastes on a VM.
    pub fn grant(&self, name: &str) -> String {
        self.grant_for(name, "monolith")
    }

    fn grant_for(&self, name: &str, uplinks: &str) -> String {
        let output = self.hub.ctl(&["grant", "create", name, "--uplinks", uplinks]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line =
            text.lines().find(|line| line.contains("figspan-agent join")).unwrap_or_else(|| panic!("{}", crate::process::text(&output)));
        // A bare host has no sudo, and the harness is root.
        line.replace("sudo ", "")
    }

    /// Waits until the hub may use the uplink.
    pub fn serves(&self) {
        self.hub.accepts("monolith", 1);
    }

    /// Waits until so many endpoints of the uplink take new work; how long after a moment.
    pub fn endpoints_become(&self, wanted: usize, since: Instant) -> Duration {
        eventually(&format!("{wanted} endpoints of monolith take new work"), Duration::from_secs(15), || {
            let all = self.hub.json(&["get", "uplinks"]);
            let found = all.as_array().into_iter().flatten().find(|found| found["name"] == "monolith").cloned().unwrap_or_default();
            let accept = found["endpoints"].as_array().into_iter().flatten().filter(|endpoint| endpoint["accepts"] == true).count();
            accept == wanted
        });
        since.elapsed()
    }

    /// Where clients go.
    pub fn web(&self) -> SocketAddr {
        self.hub.listener(0)
    }

    /// Starts load from outside.
    pub fn load(&self, rate: u64) -> Load {
        Load::start(&self.outside, self.web(), rate)
    }
}

/// An uplink `monolith` that leads to the workload.
pub fn uplink(workload: impl Into<SocketAddr>) -> String {
    format!(
        "[[uplink]]\nname = \"monolith\"\naddress = \"{}\"\nhealth = {{ type = \"http\", path = \"/healthz\", interval = \"1s\", rise = 1 }}\n",
        workload.into()
    )
}

/// Copies the agent's package onto a VM and installs it; what apt said.
pub fn install(host: &Host) -> String {
    host.copy(&package("figspan-agent"), "/root/figspan-agent.deb");
    host.run("apt-get install -y --no-install-recommends /root/figspan-agent.deb 2>&1")
}

/// A package that was built: in the folder that `FIGSPAN_PACKAGES` names, else in `target/debian`.
pub fn package(name: &str) -> PathBuf {
    let folder = std::env::var_os("FIGSPAN_PACKAGES").unwrap_or_else(|| "target/debian".into());
    let folder = crate::architecture::root().join(folder);
    let packages = crate::architecture::files(&folder, ".deb");
    let found = packages.iter().find(|path| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&format!("{name}_"))));
    found.unwrap_or_else(|| panic!("no package {name} in {}: run packaging/build-deb", folder.display())).clone()
}
