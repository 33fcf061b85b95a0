//! The other direction on a systemd host: what the VM's processes call through the unit's sockets, and who of them may.

use std::net::SocketAddr;
use std::time::Duration;

use figspan_tests::hosts::bed::{install, uplink};
use figspan_tests::hosts::{Bed, Shop};
use figspan_tests::process::eventually;
use figspan_tests::web::{Connection, Workload, ok};

use super::UNIT;

/// Asks over the Unix socket, with the perl that every Debian has.
const ASK: &str = r#"perl -MIO::Socket::UNIX -e '$s = IO::Socket::UNIX->new(Peer => "/run/figspan-agent/orders.sock") or die "$!\n"; print $s "GET /socket HTTP/1.1\r\nHost: orders\r\nConnection: close\r\n\r\n"; print while <$s>'"#;

#[test]
fn processes_of_a_host_call_a_service_by_port_and_by_socket_as_far_as_its_mode_lets_them() {
    let bed = Bed::start();
    let mut vm = bed.vm("vm-1", 11);
    let shop = Shop::open(&vm.namespace);
    let orders =
        bed.outside.inside(|| Workload::http(|request| ok(&format!("{} for {}", request.target(), request.field("x-figspan-agent")))));
    let file = bed.hub.folder.join("hub.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{config}\n[[service]]\nname = \"orders\"\naddresses = [\"{}\"]\n", orders.address)).unwrap();
    vm.boot();
    install(&vm);
    let places = "[[service]]\nname = \"orders\"\nlisten = \"127.0.0.1:9001\"\n\n\
                  [[service]]\nname = \"orders\"\nlisten = \"unix:/run/figspan-agent/orders.sock\"\n";
    vm.write("/etc/figspan-agent/agent.toml.d/monolith.toml", &format!("{}\n{places}", uplink(&shop)));
    let granted = bed.hub.ctl(&["grant", "create", "vm-1", "--uplinks", "monolith", "--services", "orders"]);
    let said = String::from_utf8_lossy(&granted.stdout).into_owned();
    let line = said.lines().find(|line| line.contains("figspan-agent join")).expect("the line to paste");
    assert!(vm.paste(&line.replace("sudo ", "")).wait().unwrap().success());
    bed.serves();

    let at = SocketAddr::from(([127, 0, 0, 1], 9001));
    eventually("the service answers on the VM's loopback", Duration::from_secs(15), || {
        let asked = vm.namespace.inside(|| Connection::try_open(at).and_then(|mut process| process.ask("GET", "/port", "", b"")));
        asked.is_ok_and(|answer| answer.text() == "/port for vm-1")
    });
    assert!(vm.run(ASK).ends_with("/socket for vm-1"), "root may, by the unit's socket in its runtime directory");
    let nobody = vm.output(&format!("runuser -u nobody -- {ASK}"));
    assert!(!nobody.status.success(), "others may not: {}", String::from_utf8_lossy(&nobody.stdout));
    vm.run("usermod -aG figspan-agent daemon");
    assert!(vm.run(&format!("runuser -u daemon -- {ASK}")).ends_with("/socket for vm-1"), "whoever is of the group may");

    // An upgrade hands both places over; a stop closes them.
    let before = vm.main_process(UNIT);
    vm.run("systemctl kill --kill-whom=main -s USR2 figspan-agent");
    eventually("a new process serves", Duration::from_secs(20), || vm.main_process(UNIT) != before);
    assert!(vm.run(ASK).ends_with("/socket for vm-1"));
    assert_eq!(vm.namespace.inside(|| Connection::open(at).get("/again")).text(), "/again for vm-1");
    vm.run("systemctl stop figspan-agent");
    assert!(vm.namespace.inside(|| Connection::try_open(at)).is_err());
}
