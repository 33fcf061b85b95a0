//! Hub and agent one minor version apart, in either direction: whichever is upgraded first, or goes back, nobody notices. The older
//! programs are real ones, built by `tests/hosts/previous`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use figspan_tests::architecture::root;
use figspan_tests::hosts::bed::{install, uplink};
use figspan_tests::hosts::{Bed, Host, Shop, measured};
use figspan_tests::process::{binary, eventually, text};

use super::UNIT;

/// Life of a certificate here, so that each pair of versions also renews.
const LIFE: &str = "certificate_lifetime = \"10s\"";
/// How long each pair serves: longer than until the next renewal.
const SERVES: Duration = Duration::from_secs(8);

fn previous() -> PathBuf {
    let programs = root().join("target/previous/programs");
    assert!(programs.join("commit").exists(), "the programs of the version before are missing: run tests/hosts/previous");
    programs
}

/// Puts another program in the agent's place, as a package does, and lets it be handed over to.
fn hand_over_to(vm: &Host, program: &Path) {
    let before = vm.main_process(UNIT);
    put(vm, program);
    vm.run("systemctl kill --kill-whom=main -s USR2 figspan-agent");
    eventually("the other program is the main process", Duration::from_secs(30), || {
        let main = vm.main_process(UNIT);
        main != before && main != 0
    });
}

fn put(vm: &Host, program: &Path) {
    vm.copy(program, "/usr/bin/figspan-agent.new");
    vm.run("chmod 755 /usr/bin/figspan-agent.new; mv /usr/bin/figspan-agent.new /usr/bin/figspan-agent");
}

#[test]
fn hub_and_agent_one_minor_version_apart_serve_and_renew_in_either_direction() {
    let programs = previous();
    let (older, ours) = (programs.join("figspan-agent"), binary("figspan-agent"));
    assert_ne!(std::fs::read(&older).unwrap(), std::fs::read(&ours).unwrap(), "two versions");
    let mut bed = Bed::start_of(&programs, LIFE);
    let mut vm = bed.vm("vm-1", 11);
    let shop = Shop::open(&vm.namespace);
    vm.boot();
    install(&vm);
    put(&vm, &older);
    vm.write("/etc/figspan-agent/agent.toml.d/monolith.toml", &uplink(&shop));
    bed.join(&vm);
    bed.serves();

    let both = |bed: &Bed, what: &str, change: &dyn Fn()| {
        let ends = || bed.hub.json(&["get", "agents"])[0]["certificate_ends"].clone();
        let (load, before) = (bed.load(50), ends());
        change();
        load.run_for(SERVES);
        eventually("the certificate is renewed", SERVES, || ends() != before);
        let report = load.stop(&[&shop]);
        measured(what, None, None, &report, "certificate renewed meanwhile");
        report.assert_unharmed();
    };
    // No request is lost here either. But what the older program hands over to stays its child in systemd's eyes, and only the next
    // handover mends that: no newer program can.
    both(&bed, "older hub, agent upgraded", &|| hand_over_to(&vm, &ours));

    bed.hub.becomes(None);
    let (outside, hub) = (&bed.outside, &mut bed.hub);
    outside.inside(|| hub.restart());
    bed.serves();
    both(&bed, "newer hub, agent goes back", &|| hand_over_to(&vm, &older));

    // The older program, which was handed over to, is systemd's child as any other, so it may say goodbye before it ends.
    let instances = || bed.hub.json(&["get", "agents"])[0]["instances"].as_array().cloned().unwrap_or_default();
    eventually("the process before it has ended", Duration::from_secs(10), || instances().len() == 1);
    let (main, gone) = (vm.main_process(UNIT), instances());
    let journal = vm.journal(UNIT);
    assert!(!journal.contains(&format!("Supervising process {main} which is not our child")), "{journal}");
    vm.run("systemctl stop figspan-agent");
    // One that was killed would be missed after 5 s.
    eventually("the hub has been told", Duration::from_secs(2), || !instances().contains(&gone[0]));
    assert_eq!((vm.property(UNIT, "Result").as_str(), vm.property(UNIT, "ExecMainPID")), ("success", main.to_string()));

    // Each also meets the other from the start, and a join does.
    vm.run("systemctl start figspan-agent");
    bed.serves();
    let line = bed.grant("vm-2");
    vm.run("mkdir -p /root/other");
    vm.write("/root/other.toml", "state_dir = \"/root/other\"\n");
    let joined = vm.paste(&format!("{line} --config /root/other.toml")).wait_with_output().unwrap();
    assert!(joined.status.success(), "{}", text(&joined));
    both(&bed, "newer hub, older agent from the start", &|| {});
}
