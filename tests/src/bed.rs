//! A hub, agents and their files in a folder that goes when the test ends: what an end-to-end test stands on.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::process::{HubProcess, Process, eventually};
use crate::web::{Connection, Message};

/// An HTTP listener and one route; `rules` are its `[[http_route.rules]]`.
pub fn http(rules: &str) -> String {
    format!(
        "[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\nprotocol = \"HTTP\"\n\n[[http_route]]\nname = \"shop\"\nlisteners = [\"web\"]\n\n{rules}"
    )
}

/// A rule for everything, with those backends.
pub fn rule(backends: &str) -> String {
    format!("[[http_route.rules]]\nbackend_refs = [{backends}]\n")
}

/// The bed.
#[derive(Debug)]
pub struct Bed {
    /// The hub.
    pub hub: HubProcess,
    /// The agents by name.
    pub agents: BTreeMap<String, Process>,
    _folder: tempfile::TempDir,
}

impl Bed {
    /// Starts a hub with that configuration.
    pub fn start(config: &str) -> Self {
        Self::start_with("", config)
    }

    /// The same with more keys of the hub's `[hub]` section.
    pub fn start_with(hub: &str, config: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("figspan-").tempdir().expect("a folder for this test");
        Self { hub: HubProcess::start_with(folder.path(), hub, config), agents: BTreeMap::new(), _folder: folder }
    }

    /// Joins a VM that may advertise anything, with those `[[uplink]]`s, and starts its agent.
    pub fn agent(mut self, name: &str, uplinks: &str) -> Self {
        let agent = self.hub.agent(name, "*", uplinks);
        self.agents.insert(name.to_owned(), agent);
        self
    }

    /// The same in a zone.
    pub fn agent_in(mut self, zone: &str, name: &str, uplinks: &str) -> Self {
        let agent = self.hub.agent_with(name, "*", uplinks, &["--zone", zone]);
        self.agents.insert(name.to_owned(), agent);
        self
    }

    /// Waits until the uplink has that many endpoints that accept.
    pub fn ready(self, uplink: &str, endpoints: usize) -> Self {
        self.hub.accepts(uplink, endpoints);
        self
    }

    /// Waits until that agent has a tunnel to each shard, and its endpoints are published with all of them.
    pub fn covered(self, agent: &str) -> Self {
        eventually("a tunnel to each shard", Duration::from_secs(20), || {
            let status = self.hub.agent_status(agent);
            let tunnels = status["tunnels"].as_array().cloned().unwrap_or_default();
            let all = self.hub.json(&["get", "uplinks"]);
            let uplinks = all.as_array().into_iter().flatten();
            let endpoints = uplinks.flat_map(|uplink| uplink["endpoints"].as_array().into_iter().flatten());
            let mut own = endpoints.filter(|endpoint| endpoint["agent"] == agent);
            tunnels.first().is_some_and(|tunnel| tunnel["shards"] == tunnels.len())
                && own.all(|endpoint| endpoint["tunnels"] == tunnels.len())
        });
        self
    }

    /// Where clients go: the first listener.
    pub fn web(&self) -> SocketAddr {
        self.hub.listener(0)
    }

    /// A connection of a client.
    pub fn client(&self) -> Connection {
        Connection::open(self.web())
    }

    /// What `/metrics` says.
    pub fn metrics(&self) -> String {
        let address =
            self.hub.json(&["status"])["metrics_address"].as_str().and_then(|text| text.parse().ok()).expect("metrics are served");
        Connection::open(address).get("/metrics").text()
    }

    /// One request on a connection of its own.
    pub fn get(&self, target: &str) -> Message {
        self.client().get(target)
    }
}
