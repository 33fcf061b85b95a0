//! Faults of the network, in the namespace of a host: rules of nftables that are there until the value is dropped.

use super::Namespace;

/// A fault that lasts as long as this lives.
#[derive(Debug)]
#[must_use = "the fault ends when this is dropped"]
pub struct Fault<'a> {
    namespace: &'a Namespace,
    table: &'static str,
}

impl<'a> Fault<'a> {
    /// So many of a hundred packets of UDP are lost, each way.
    pub fn loss(namespace: &'a Namespace, percent: u32) -> Self {
        let rule = format!("meta l4proto udp numgen random mod 100 < {percent} drop");
        Self::rules(namespace, "loss", &[("in", &rule), ("out", &rule)])
    }

    /// What the host sends arrives, and nothing comes back.
    pub fn deaf(namespace: &'a Namespace) -> Self {
        Self::rules(namespace, "deaf", &[("in", "iifname eth0 drop")])
    }

    /// What is sent to the host arrives, and nothing that it sends does.
    pub fn mute(namespace: &'a Namespace) -> Self {
        Self::rules(namespace, "mute", &[("out", "oifname eth0 drop")])
    }

    /// No UDP leaves and none arrives, as behind a firewall that knows only the web.
    pub fn no_udp(namespace: &'a Namespace) -> Self {
        Self::rules(namespace, "no_udp", &[("in", "iifname eth0 meta l4proto udp drop"), ("out", "oifname eth0 meta l4proto udp drop")])
    }

    fn rules(namespace: &'a Namespace, table: &'static str, rules: &[(&str, &str)]) -> Self {
        let mut script = format!("add table inet {table}\n");
        for (chain, hook) in [("in", "input"), ("out", "output")] {
            script.push_str(&format!("add chain inet {table} {chain} {{ type filter hook {hook} priority 0; }}\n"));
        }
        for (chain, rule) in rules {
            script.push_str(&format!("add rule inet {table} {chain} {rule}\n"));
        }
        namespace.run("nft", &[&script]);
        Self { namespace, table }
    }
}

impl Drop for Fault<'_> {
    fn drop(&mut self) {
        self.namespace.run("nft", &["delete", "table", "inet", self.table]);
    }
}
