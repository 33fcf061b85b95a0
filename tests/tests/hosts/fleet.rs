//! Many VMs at once: one grant, and the cloud-init example of docs/08-fleet.md carried out as cloud-init would.

use std::time::Duration;

use figspan_tests::architecture::{read, root};
use figspan_tests::hosts::bed::install;
use figspan_tests::hosts::{Bed, Host, Shop, row};
use serde_yaml_ng::Value;

use super::UNIT;

/// The block of cloud-init's YAML in the document.
fn example() -> Value {
    let text = read(&root().join("docs/08-fleet.md"));
    let block = text.split("```yaml\n").find(|block| block.starts_with("#cloud-config")).and_then(|rest| rest.split("\n```").next());
    let block = block.expect("a block for cloud-init");
    serde_yaml_ng::from_str(block).expect("it is YAML")
}

/// Writes the files that it names, with the token and address of this bed in their places.
fn write_files(vm: &Host, example: &Value, token: &str, address: &str) {
    let files = example["write_files"].as_sequence().expect("files to write");
    assert!(files.len() >= 2, "{files:?}");
    for file in files {
        let (path, content) = (file["path"].as_str().unwrap(), file["content"].as_str().unwrap());
        vm.write(path, &content.replace("figspan1.…", token).replace("127.0.0.1:8080", address));
        vm.run(&format!("chmod {} {path}", file["permissions"].as_str().unwrap()));
    }
}

#[test]
fn three_vms_join_with_one_grant_and_a_fourth_hears_why_not() {
    let bed = Bed::start();
    let grant = bed.hub.json(&["grant", "create", "vm-{hostname}", "--uses", "3", "--uplinks", "monolith"]);
    let (token, example) = (grant["token"].as_str().unwrap(), example());
    assert_eq!(example["packages"][0], "figspan-agent");
    let names = ["vm-1", "vm-2", "vm-3", "vm-4"];
    let vms: Vec<(Host, Shop)> = std::thread::scope(|scope| {
        let bed = &bed;
        let set_up: Vec<_> = (11..)
            .zip(names)
            .map(|(number, name)| {
                let mut vm = bed.vm(name, number);
                scope.spawn(move || {
                    let shop = Shop::open(&vm.namespace);
                    vm.boot();
                    (vm, shop)
                })
            })
            .collect();
        set_up.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for (vm, shop) in &vms[..3] {
        write_files(vm, &example, token, &shop.address().to_string());
        install(vm);
    }
    bed.hub.accepts("monolith", 3);
    let agents = bed.hub.json(&["get", "agents"]).to_string();
    assert!(names[..3].iter().all(|name| agents.contains(&format!("\"{name}\""))), "{agents}");

    let (late, shop) = &vms[3];
    write_files(late, &example, token, &shop.address().to_string());
    install(late);
    late.has(UNIT, "ActiveState", "failed", Duration::from_secs(10));
    assert_eq!(late.property(UNIT, "ExecMainStatus"), "77");
    let journal = late.journal(UNIT);
    assert!(journal.contains("redeemed as often as it may be"), "{journal}");

    let load = bed.load(60);
    load.run_for(Duration::from_secs(2));
    let report = load.stop(&vms.iter().map(|(_, shop)| shop).collect::<Vec<_>>());
    row("three VMs by one grant and cloud-init", &report);
    report.assert_unharmed();
}
