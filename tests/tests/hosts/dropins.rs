//! The drop-ins that the package offers: copied to their place, changed as their text says, and at work.

use std::time::Duration;

use figspan_tests::hosts::bed::{install, uplink};
use figspan_tests::hosts::{Bed, Shop};
use figspan_tests::process::{eventually, text};

use super::UNIT;

const OFFERED: &str = "/usr/share/doc/figspan-agent/examples/drop-ins";
const ACTIVE: &str = "/etc/systemd/system/figspan-agent.service.d";

#[test]
fn an_allow_list_lets_the_agent_speak_to_its_hub_and_to_nobody_else() {
    let bed = Bed::start();
    let mut vm = bed.vm("vm-1", 11);
    let shop = Shop::open(&vm.namespace);
    bed.serve(&mut vm, &shop);
    vm.run(&format!(
        "mkdir -p {ACTIVE}; cp {OFFERED}/ip-allow-list.conf {ACTIVE}/; systemctl daemon-reload; systemctl restart figspan-agent"
    ));
    eventually("the examples let it reach no hub", Duration::from_secs(10), || {
        vm.property(UNIT, "StatusText").starts_with("0/1 replicas · 1 uplink ready")
    });
    vm.run(&format!(
        "sed -i 's#192.0.2.0/24#10.97.0.1#' {ACTIVE}/ip-allow-list.conf; systemctl daemon-reload; systemctl restart figspan-agent"
    ));
    bed.serves();
    let report = vm.run(&format!("systemd-analyze security --no-pager {UNIT}"));
    let score: f64 = report.rsplit("figspan-agent.service: ").next().and_then(|rest| rest.split(' ').next()?.parse().ok()).unwrap();
    assert!(score < 1.1, "it lowers the exposure: {report}");
}

#[test]
fn a_grant_can_wait_in_a_form_that_only_this_machine_can_read() {
    let bed = Bed::start();
    let mut vm = bed.vm("vm-1", 11);
    let shop = Shop::open(&vm.namespace);
    vm.boot();
    install(&vm);
    vm.write("/etc/figspan-agent/agent.toml.d/monolith.toml", &uplink(&shop));
    vm.run(&format!("mkdir -p {ACTIVE}; cp {OFFERED}/encrypted-credential.conf {ACTIVE}/; systemctl daemon-reload; mkdir -p -m 700 /etc/credstore.encrypted"));
    let line = bed.grant("vm-1");
    let token = line.split('\'').nth(1).unwrap();
    let encrypt = format!("printf %s '{token}' | systemd-creds encrypt --name=figspan.token - /etc/credstore.encrypted/figspan.token");
    let encrypted = vm.paste(&encrypt).wait_with_output().unwrap();
    assert!(encrypted.status.success(), "{}", text(&encrypted));
    assert!(!vm.read("/etc/credstore.encrypted/figspan.token").contains(token));
    vm.run("systemctl start figspan-agent");
    bed.serves();
}
