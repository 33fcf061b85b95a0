//! A VM that upgrades itself: unattended-upgrades takes a new version from the signed repository while requests come in, nobody is
//! there to be asked, and needrestart restarts what uses old programs and libraries, without a question. The settings were edited here
//! and by the new version.

use std::time::{Duration, Instant};

use figspan_tests::hosts::bed::{package, uplink};
use figspan_tests::hosts::{Archive, Bed, Shop, Tree, measured};
use figspan_tests::process::eventually;

use super::UNIT;
use super::repository::{next_version, publish, version};

const ORIGIN: &str = "Unattended-Upgrade::Origins-Pattern { \"origin=figspan\"; };\nUnattended-Upgrade::MinimalSteps \"true\";\n";
/// It restarts what it finds, without a question.
const NEEDRESTART: &str = "$nrconf{restart} = 'a';\n";

/// Makes a package of what the VM has installed as another one, with a later version and other files of the same content: those that
/// are in use are old from then on, as after a security update of a library. Prints the version.
const LIBRARY: &str = r#"
mkdir -p /root/library/DEBIAN && cd /root/library
dpkg-query -s libgcc-s1 | sed -E '/^(Status|Conffiles):/d; s/^(Version: .*)/\1+figspan1/' > DEBIAN/control
dpkg -L libgcc-s1 | while read -r file; do
    [ -f "$file" ] && [ ! -L "$file" ] && mkdir -p ".$(dirname "$file")" && cp -p "$file" ".$file"
done
dpkg-deb -Zgzip --root-owner-group -b . /root/library.deb >/dev/null
dpkg-deb -f /root/library.deb Version
"#;

/// Whoever edited the settings keeps them.
const KEEP: &str = "Dpkg::Options { \"--force-confdef\"; \"--force-confold\"; };\n";

#[test]
fn a_vm_that_upgrades_itself_keeps_its_settings_and_loses_no_request() {
    let bed = Bed::start();
    let mut vm = bed.vm_of(Tree::Unattended, "vm-1", 11);
    let shop = Shop::open(&vm.namespace);
    vm.boot();
    vm.run("rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*; systemctl stop apt-daily.timer apt-daily-upgrade.timer");
    vm.write("/etc/apt/apt.conf.d/99figspan", ORIGIN);
    vm.write("/etc/needrestart/conf.d/figspan.conf", NEEDRESTART);

    let folder = tempfile::tempdir().unwrap();
    let (out, first) = (folder.path().join("repository"), folder.path().join("first"));
    std::fs::create_dir(&first).unwrap();
    let built = package("figspan-agent");
    std::fs::copy(&built, first.join(built.file_name().unwrap())).unwrap();
    let archive = Archive::serve(&vm.namespace, &out);
    publish(&first, &out, &archive);
    vm.copy(&out.join("pool/main/figspan-archive-keyring_1_all.deb"), "/root/keyring.deb");
    vm.run("apt-get install -y /root/keyring.deb </dev/null 2>&1 && apt-get update 2>&1");
    vm.run("apt-get install -y --no-install-recommends figspan-agent </dev/null 2>&1");
    // The conffile is edited here and by the next version, which is when dpkg would ask.
    vm.write("/etc/figspan-agent/agent.toml", &uplink(&shop));
    bed.join(&vm);
    bed.serves();

    let next = folder.path().join("next");
    std::fs::create_dir(&next).unwrap();
    next_version(&built, &next.join("figspan-agent_0.1.1-1_amd64.deb"), "echo '# of the next version' >> etc/figspan-agent/agent.toml");
    publish(&next, &out, &archive);
    vm.run("apt-get update 2>&1");
    let load = bed.load(50);
    load.run_for(Duration::from_millis(500));
    let before = vm.main_process(UNIT);
    // Somebody would have to be asked about the settings, so it leaves the package alone and says why.
    let said = vm.run("unattended-upgrade -v </dev/null 2>&1");
    assert!(said.contains("has conffile prompt and needs to be upgraded manually"), "{said}");
    assert_eq!((version(&vm).as_str(), vm.main_process(UNIT)), ("0.1.0-1", before), "{said}");
    // As docs/06-operate.md advises.
    vm.write("/etc/apt/apt.conf.d/99keep", KEEP);
    let start = Instant::now();
    let said = vm.run("unattended-upgrade -v </dev/null 2>&1");
    assert_eq!(version(&vm), "0.1.1-1", "{said}");
    let took = start.elapsed();
    eventually("the old process has ended", Duration::from_secs(10), || !vm.output(&format!("kill -0 {before}")).status.success());
    load.run_for(Duration::from_secs(1));
    let report = load.stop(&[&shop]);
    measured(
        "unattended-upgrades of the only agent",
        None,
        None,
        &report,
        format!("{:.1} s, conffile edited on both sides", took.as_secs_f64()),
    );
    report.assert_unharmed();
    assert_eq!(vm.read("/etc/figspan-agent/agent.toml"), uplink(&shop), "{said}");
    assert!(vm.read("/etc/figspan-agent/agent.toml.dpkg-dist").contains("of the next version"), "{said}");
    let after = vm.main_process(UNIT);
    assert!(after != before && after != 0 && vm.property(UNIT, "NRestarts") == "0", "{}", vm.journal(UNIT));

    // A library that the agent uses is upgraded, and the agent itself is not: it is needrestart that sees to it.
    let maps = |process: u32| vm.run(&format!("grep libgcc_s /proc/{process}/maps"));
    assert!(maps(after).contains("r-xp"), "the agent uses it: {}", maps(after));
    let newer = vm.run(LIBRARY).trim().to_owned();
    let libraries = folder.path().join("libraries");
    std::fs::create_dir(&libraries).unwrap();
    std::fs::copy(vm.path("/root/library.deb"), libraries.join("libgcc-s1_next_amd64.deb")).unwrap();
    publish(&libraries, &out, &archive);
    vm.run("apt-get update 2>&1");
    let load = bed.load(50);
    load.run_for(Duration::from_millis(500));
    let start = Instant::now();
    let said = vm.run("unattended-upgrade -v </dev/null 2>&1");
    let took = start.elapsed();
    assert_eq!(vm.run("dpkg-query -W -f '${Version}' libgcc-s1"), newer, "{said}");
    let last = vm.main_process(UNIT);
    assert!(last != after && last != 0, "another process serves: {said}\n{}", vm.read("/var/log/apt/term.log"));
    eventually("the old process has ended", Duration::from_secs(10), || !vm.output(&format!("kill -0 {after}")).status.success());
    load.run_for(Duration::from_secs(1));
    let report = load.stop(&[&shop]);
    measured("needrestart after a library's upgrade, the only agent", None, None, &report, format!("{:.1} s", took.as_secs_f64()));
    report.assert_unharmed();
    assert!(!maps(last).contains("(deleted)"), "{}", maps(last));
    // Handed over to, never restarted.
    let journal = vm.journal(UNIT);
    let starts = journal.matches("Started figspan-agent.service").count();
    assert!(starts == 1 && vm.property(UNIT, "NRestarts") == "0", "{starts} starts: {journal}");

    // needrestart has nothing more to say about it.
    let outdated = vm.run("needrestart -b -r l 2>&1 || true");
    assert!(!outdated.contains("figspan-agent"), "{outdated}");
    vm.run("dpkg --audit");
    bed.serves();
}
