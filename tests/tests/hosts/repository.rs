//! The signed apt repository: installed and upgraded from, and distrusted when somebody has touched it.

use std::path::Path;
use std::time::{Duration, Instant};

use figspan_tests::architecture::root;
use figspan_tests::hosts::bed::{package, uplink};
use figspan_tests::hosts::{Archive, Bed, Host, Shop, measured, run};
use figspan_tests::process::{eventually, text};
use figspan_tests::web::Connection;

use super::UNIT;

/// Makes or renews the repository of the packages in a folder.
pub fn publish(packages: &Path, out: &Path, archive: &Archive) {
    let program = root().join("packaging/apt-repository").display().to_string();
    run(&program, &[&packages.display().to_string(), &out.display().to_string(), &format!("http://{}", archive.address())]);
}

/// The same package with another version, changed in its unpacked tree by a shell command.
pub fn next_version(from: &Path, to: &Path, change: &str) {
    let script = "dpkg-deb -R \"$1\" \"$2.tree\"; sed -i 's/^Version: .*/Version: 0.1.1-1/' \"$2.tree/DEBIAN/control\"; \
                  (cd \"$2.tree\" && eval \"$3\"); dpkg-deb -Zgzip --root-owner-group -b \"$2.tree\" \"$2\"; rm -r \"$2.tree\"";
    run("bash", &["-ec", script, "next", &from.display().to_string(), &to.display().to_string(), change]);
}

pub fn version(vm: &Host) -> String {
    vm.run("dpkg-query -W -f '${Version}' figspan-agent")
}

#[test]
fn agents_are_installed_and_upgraded_from_the_signed_repository() {
    let bed = Bed::start();
    let (mut vm, mut other) = (bed.vm("vm-1", 11), bed.vm("vm-2", 12));
    let (shop, second) = (Shop::open(&vm.namespace), Shop::open(&other.namespace));
    vm.boot();
    // Debian's own archive cannot be reached from here.
    vm.run("rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*");

    let folder = tempfile::tempdir().unwrap();
    let (out, packages) = (folder.path().join("repository"), folder.path().join("packages"));
    std::fs::create_dir(&packages).unwrap();
    for name in ["figspan-agent", "figspanctl"] {
        let package = package(name);
        std::fs::copy(&package, packages.join(package.file_name().unwrap())).unwrap();
    }
    let archive = Archive::serve(&vm.namespace, &out);
    publish(&packages, &out, &archive);
    vm.copy(&out.join("pool/main/figspan-archive-keyring_1_all.deb"), "/root/keyring.deb");
    vm.run("apt-get install -y /root/keyring.deb </dev/null 2>&1");
    let said = vm.run("apt-get update 2>&1");
    assert!(!said.contains("W:") && !said.contains("E:"), "{said}");
    assert!(archive.asked().iter().any(|path| path.contains("/by-hash/SHA")), "{:?}", archive.asked());
    vm.run("apt-get install -y --no-install-recommends figspan-agent figspanctl </dev/null 2>&1");
    let first = version(&vm);
    vm.write("/etc/figspan-agent/agent.toml", &uplink(&shop));
    bed.join(&vm);
    bed.serves();

    // A new version, while requests come in: first with a second agent that serves the same uplink.
    std::fs::create_dir(folder.path().join("new")).unwrap();
    next_version(&package("figspan-agent"), &folder.path().join("new/figspan-agent_0.1.1-1_amd64.deb"), ":");
    publish(&folder.path().join("new"), &out, &archive);
    bed.serve_also(&mut other, &second, 2);
    let load = bed.load(50);
    load.run_for(Duration::from_millis(500));
    let before = vm.main_process(UNIT);
    vm.run("apt-get update 2>&1 && apt-get upgrade -y </dev/null 2>&1");
    assert!(version(&vm) == "0.1.1-1" && first != "0.1.1-1", "{first}, then {}", version(&vm));
    assert_ne!(vm.main_process(UNIT), before, "the new program runs");
    bed.hub.accepts("monolith", 2);
    load.served_after(Instant::now(), Duration::from_secs(5));
    let report = load.stop(&[&shop, &second]);
    measured("apt upgrade of a busy agent, another serves too", None, None, &report, "");
    report.assert_unharmed();
    assert_eq!(vm.read("/etc/figspan-agent/agent.toml"), uplink(&shop), "an edited conffile survives the upgrade, and nobody was asked");

    // Somebody changes an index, or signs with a key of their own.
    let index = out.join("dists/stable/InRelease");
    let signed = std::fs::read_to_string(&index).unwrap();
    std::fs::write(&index, signed.replacen("Origin: figspan", "Origin: nobody", 1)).unwrap();
    let refused = vm.output("apt-get update -o APT::Update::Error-Mode=any 2>&1");
    assert!(!refused.status.success() && text(&refused).contains("BADSIG"), "{}", text(&refused));
    std::fs::rename(folder.path().join("repository.key"), folder.path().join("old.key")).unwrap();
    publish(&packages, &out, &archive);
    let refused = vm.output("apt-get update -o APT::Update::Error-Mode=any 2>&1");
    assert!(!refused.status.success() && text(&refused).contains("NO_PUBKEY"), "{}", text(&refused));
}

#[test]
fn the_only_agent_is_upgraded_without_a_lost_request() {
    let bed = Bed::start();
    let mut vm = bed.vm("vm-1", 11);
    let shop = Shop::open(&vm.namespace);
    bed.serve(&mut vm, &shop);
    let folder = tempfile::tempdir().unwrap();
    let next = folder.path().join("next.deb");
    next_version(&package("figspan-agent"), &next, ":");
    vm.copy(&next, "/root/next.deb");
    let load = bed.load(50);
    load.run_for(Duration::from_millis(500));
    let before = vm.main_process(UNIT);
    // One that is under way all the while.
    let slow = std::thread::scope(|scope| {
        let slow = scope.spawn(|| bed.outside.inside(|| Connection::open(bed.web()).get("/slow/4000")));
        eventually("the request is with the workload", Duration::from_secs(5), || shop.count("/slow/4000") == 1);
        vm.run("apt-get install -y /root/next.deb </dev/null 2>&1");
        slow.join().unwrap()
    });
    assert_eq!((slow.status(), version(&vm).as_str()), (200, "0.1.1-1"));
    let after = vm.main_process(UNIT);
    assert!(after != before && after != 0, "the new program is the main process");
    eventually("the old process has ended", Duration::from_secs(10), || !vm.output(&format!("kill -0 {before}")).status.success());
    load.run_for(Duration::from_secs(1));
    let report = load.stop(&[&shop]);
    measured("apt upgrade of the only agent", None, None, &report, "");
    report.assert_unharmed();
    for (property, value) in [("ActiveState", "active"), ("NRestarts", "0"), ("MainPID", &after.to_string())] {
        assert_eq!(vm.property(UNIT, property), value, "{property}: {}", vm.journal(UNIT));
    }
    // It is a service like any other.
    vm.run("systemctl restart figspan-agent");
    bed.serves();
}
