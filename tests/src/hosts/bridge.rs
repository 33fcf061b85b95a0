//! The network between hosts and hubs: a bridge in a namespace of its own, and a cable from it to each of them.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Namespace, run};

/// A bridge; goes with its cables when dropped.
#[derive(Debug)]
pub struct Bridge {
    namespace: Namespace,
    cables: AtomicU32,
}

impl Bridge {
    /// Makes one.
    pub fn new(name: &str) -> Self {
        let namespace = Namespace::new(&format!("{name}-bridge"));
        namespace.ip(&["link", "add", "br0", "type", "bridge"]);
        namespace.ip(&["link", "set", "br0", "up"]);
        Self { namespace, cables: AtomicU32::new(0) }
    }

    /// Plugs a namespace in: it gets `eth0` with that address, as in `10.97.0.1/24`.
    pub fn plug(&self, end: &Namespace, address: &str) {
        self.cable(end, "eth0");
        end.ip(&["addr", "add", address, "dev", "eth0"]);
        end.ip(&["link", "set", "eth0", "up"]);
    }

    /// Plugs a namespace in behind a router that hides it: `eth0` with an address of a net of its own, and a source port per flow that
    /// the router makes up anew whenever it has forgotten one. `outside` is the router's address on the bridge.
    pub fn plug_behind_nat(&self, end: &Namespace, outside: &str) -> Router {
        let router = Namespace::new(&format!("{}-nat", end.name()));
        self.cable(&router, "eth0");
        router.ip(&["addr", "add", outside, "dev", "eth0"]);
        router.ip(&["link", "set", "eth0", "up"]);
        router.ip(&["link", "add", "eth1", "type", "veth", "peer", "name", "eth0", "netns", end.name()]);
        router.ip(&["addr", "add", "192.168.99.1/24", "dev", "eth1"]);
        router.ip(&["link", "set", "eth1", "up"]);
        end.ip(&["addr", "add", "192.168.99.2/24", "dev", "eth0"]);
        end.ip(&["link", "set", "eth0", "up"]);
        end.ip(&["route", "add", "default", "via", "192.168.99.1"]);
        router.run("sysctl", &["-qw", "net.ipv4.ip_forward=1"]);
        for rule in [
            "add table ip nat",
            "add chain ip nat out { type nat hook postrouting priority srcnat; }",
            "add rule ip nat out oifname eth0 masquerade fully-random",
        ] {
            router.run("nft", &[rule]);
        }
        Router { namespace: router }
    }

    /// Lets the bridge carry packets up to a length only, in IP: longer ones vanish both ways, and nobody says so
    /// (RFC 2923, section 2.1). 1500 mends it.
    pub fn carries(&self, longest: u32) {
        let rule = format!("add rule bridge holes long meta length > {longest} drop");
        let _ = Command::new("nsenter")
            .args([&format!("--net={}", self.namespace.path()), "nft", "delete", "table", "bridge", "holes"])
            .output();
        if longest < 1500 {
            self.namespace.run("nft", &["add table bridge holes; add chain bridge holes long { type filter hook forward priority 0; }"]);
            self.namespace.run("nft", &[&rule]);
        }
    }

    fn cable(&self, end: &Namespace, interface: &str) {
        let port = format!("p{}", self.cables.fetch_add(1, Ordering::SeqCst));
        self.namespace.ip(&["link", "add", &port, "type", "veth", "peer", "name", interface, "netns", end.name()]);
        self.namespace.ip(&["link", "set", &port, "master", "br0", "up"]);
        // As on a real cable, no packet is longer than a frame: many segments of one send would be counted and dropped as one.
        self.namespace.ip(&["link", "set", &port, "gso_max_segs", "1"]);
        end.ip(&["link", "set", interface, "gso_max_segs", "1"]);
    }
}

/// A router with NAT before one host.
#[derive(Debug)]
pub struct Router {
    namespace: Namespace,
}

impl Router {
    /// Forgets all flows: what the host sends next comes from another port, and what comes back to the old one is refused.
    pub fn forget(&self) {
        let path = format!("--net={}", self.namespace.path());
        // It fails where there is no flow to forget, which is as good.
        let _ = Command::new("nsenter").args([&path, "conntrack", "-D", "-p", "udp"]).output();
    }

    /// Source ports that flows to a port have there now.
    pub fn flows(&self, port: u16) -> String {
        run("nsenter", &[&format!("--net={}", self.namespace.path()), "conntrack", "-L", "-p", "udp", "--dport", &port.to_string()])
    }
}
