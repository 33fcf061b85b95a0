//! The files that the hub and the agents read: the same as on a server, only shorter. Pure.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use figspan_proto::name::UplinkName;
use figspan_proto::weight::Weight;

use crate::args::Plan;

/// Name of the one listener.
pub(crate) const LISTENER: &str = "web";
/// Name of the one route.
pub(crate) const ROUTE: &str = "all";

/// Weights that the route's file gives to backends; a backend without one takes that of its uplink or service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Written {
    pub(crate) uplinks: Option<u32>,
    pub(crate) services: Option<u32>,
}

/// hub.toml. `services`: addresses by name.
pub(crate) fn hub(plan: &Plan, dir: &Path, listen: SocketAddr, services: &[(UplinkName, Vec<String>)], written: Written) -> String {
    let mut text =
        String::from("# Written by figspan-try. Change it and the hub reloads it; a mistake leaves the last good one in force.\n");
    let path = |name: &str| quoted(&dir.join(name).to_string_lossy());
    let _ = write!(
        text,
        "[hub]\nreplica = \"try\"\nstate_dir = {state}\ndrain_timeout = \"10s\"\n\n[tunnel]\naddress = \"127.0.0.1:0\"\n\n\
         [admin]\nsocket = {socket}\n\n[metrics]\naddress = \"127.0.0.1:0\"\n\n[log]\nformat = \"text\"\nlevel = \"info\"\naccess = false\n\n\
         [[listener]]\nname = \"{LISTENER}\"\naddress = \"{listen}\"\nprotocol = \"HTTP\"\n",
        state = path("hub"),
        socket = path("admin.sock"),
    );
    for (name, addresses) in services {
        let addresses = addresses.iter().map(|address| quoted(address)).collect::<Vec<_>>().join(", ");
        let weight = plan.weight(name);
        let _ = write!(text, "\n[[service]]\nname = \"{name}\"\nprotocol = \"http1\"\naddresses = [{addresses}]\nweight = {weight}\n");
    }
    let _ = write!(text, "\n[[http_route]]\nname = \"{ROUTE}\"\nlisteners = [\"{LISTENER}\"]\n\n[[http_route.rules]]\nbackend_refs = [\n");
    for (name, _) in &plan.uplinks {
        let _ = writeln!(text, "    {{ uplink = \"{name}\"{} }},", weight(written.uplinks));
    }
    for (name, _) in services {
        let _ = writeln!(text, "    {{ service = \"{name}\"{} }},", weight(written.services));
    }
    text.push_str("]\n");
    text
}

/// agent.toml of one agent. `uplinks`: one address each. `hub`: where to dial; the port may be another than when it joined.
pub(crate) fn agent(dir: &Path, hub: SocketAddr, uplinks: &[(UplinkName, String, Weight)], own: bool) -> String {
    let mut text = String::from("# Written by figspan-try.\n");
    let path = |name: &str| quoted(&dir.join(name).to_string_lossy());
    let _ = write!(
        text,
        "hubs = [\"{hub}\"]\nstate_dir = {}\ndrain_timeout = \"10s\"\n\n[status]\nsocket = {}\n\n",
        path("state"),
        path("status.sock")
    );
    text.push_str("[log]\nformat = \"text\"\nlevel = \"info\"\n");
    for (name, address, weight) in uplinks {
        let address = quoted(address);
        let _ = write!(text, "\n[[uplink]]\nname = \"{name}\"\naddress = {address}\nweight = {weight}\nprotocol = \"http1\"\n");
        let health = if own { "type = \"http\", path = \"/healthz\", " } else { "type = \"tcp\", " };
        let _ = writeln!(text, "health = {{ {health}interval = \"1s\", timeout = \"1s\" }}");
    }
    text
}

fn weight(weight: Option<u32>) -> String {
    weight.map(|weight| format!(", weight = {weight}")).unwrap_or_default()
}

/// A basic string of TOML; the escapes of JSON are a part of TOML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Args;

    #[test]
    fn a_backend_has_a_weight_only_where_the_journey_writes_one() {
        let plan = Args::parse_from(["figspan-try", "--once"]).plan().unwrap();
        let services = [("orders".parse().unwrap(), vec!["127.0.0.1:9".to_owned()])];
        let text = |written| hub(&plan, Path::new("/tmp/x"), plan.listen, &services, written);
        let free = text(Written::default());
        assert!(free.contains("{ uplink = \"monolith\" },") && free.contains("{ service = \"orders\" },"), "{free}");
        let moved = text(Written { uplinks: Some(0), services: Some(10) });
        assert!(
            moved.contains("{ uplink = \"monolith\", weight = 0 }") && moved.contains("{ service = \"orders\", weight = 10 }"),
            "{moved}"
        );
    }

    #[test]
    fn a_directory_with_odd_characters_is_written_as_it_is() {
        let text = agent(Path::new("/tmp/a \"b\"\\c"), "127.0.0.1:7443".parse().unwrap(), &[], true);
        assert!(text.contains(r#"state_dir = "/tmp/a \"b\"\\c/state""#), "{text}");
    }
}
