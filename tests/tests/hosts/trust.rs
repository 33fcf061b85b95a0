//! Certificates of the hub and of a VM, and then the CA that signs them, change while requests come in. No client is to notice.

use std::time::{Duration, Instant};

use figspan_tests::hosts::{Bed, Host, Shop, measured};
use figspan_tests::process::eventually;
use serde_json::Value;

use super::UNIT;
use super::network::tunnels_made;

/// Life of a certificate here: long beside a busy machine's pauses, short beside a test.
const LIFE: Duration = Duration::from_secs(10);

fn bed() -> (Bed, Host, Shop) {
    let bed = Bed::start_with("10.97.0.1:7443", &format!("certificate_lifetime = \"{}s\"", LIFE.as_secs()));
    let mut vm = bed.vm("vm-1", 11);
    let shop = Shop::open(&vm.namespace);
    bed.serve(&mut vm, &shop);
    eventually("a tunnel to each shard", Duration::from_secs(10), || tunnels_made(&vm) == 2);
    (bed, vm, shop)
}

#[test]
fn certificates_of_hub_and_vm_are_renewed_under_load_on_the_same_tunnels() {
    let (bed, vm, shop) = bed();
    let load = bed.load(50);
    let ends = || (bed.hub.json(&["status"])["certificate_ends"].clone(), bed.hub.json(&["get", "agents"])[0]["certificate_ends"].clone());
    for _ in 0..2 {
        let before = ends();
        eventually("both are renewed", 3 * LIFE, || {
            let now = ends();
            now.0 != before.0 && now.1 != before.1
        });
    }
    let report = load.stop(&[&shop]);
    measured("certificates of hub and VM renewed, twice", None, None, &report, format!("life {} s", LIFE.as_secs()));
    report.assert_unharmed();
    assert_eq!(tunnels_made(&vm), 2, "the same tunnels all along: {}", vm.journal(UNIT));
    // What a VM is started with again is the new one.
    vm.run("systemctl restart figspan-agent");
    bed.serves();
}

#[test]
fn the_ca_is_changed_under_load_and_the_vm_comes_back_with_the_new_root_alone() {
    let (bed, mut vm, shop) = bed();
    let show = || bed.hub.json(&["ca", "show"]);
    let load = bed.load(50);
    let start = Instant::now();
    assert_eq!(bed.hub.json(&["ca", "begin", "--reason", "drill"])["ca"]["roots"].as_array().map(Vec::len), Some(2));
    eventually("every agent knows both roots", 2 * LIFE, || show()["safe_to_finish"] == true);
    bed.hub.json(&["ca", "finish", "--reason", "drill"]);
    eventually("agents renew under the new root", 3 * LIFE, || show()["on_old_root"].as_array().is_some_and(Vec::is_empty));
    eventually("the old root runs out", 4 * LIFE, || show()["roots"].as_array().is_some_and(|roots| roots.len() == 1));
    let took = start.elapsed();
    let report = load.stop(&[&shop]);
    measured("CA changed, two roots overlap", None, None, &report, format!("begun to one root in {:.0} s", took.as_secs_f64()));
    report.assert_unharmed();
    let roots = || vm.read("/var/lib/figspan-agent/identity/roots.pem").matches("BEGIN CERTIFICATE").count();
    eventually("the VM keeps the new root alone", LIFE, || roots() == 1);
    // It trusts and is trusted after a reboot, which is shorter than its certificate's life.
    vm.reboot();
    bed.serves();
    assert_ne!(show()["roots"][0]["pin"], Value::Null);
}
