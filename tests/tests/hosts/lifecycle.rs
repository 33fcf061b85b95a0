//! From a bare host to the first request, and back to a bare host.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use figspan_tests::hosts::bed::{install, package, uplink};
use figspan_tests::hosts::{Bed, Host, Shop, row};
use figspan_tests::web::Connection;

use super::UNIT;

/// Every file of the VM except what any use of a machine changes: logs, caches, apt's own records.
fn files(host: &Host) -> BTreeSet<String> {
    let skip = ["/proc", "/sys", "/dev", "/run", "/tmp", "/var/log", "/var/cache", "/var/lib/apt", "/root", "/var/tmp"];
    let prune: Vec<String> = skip.iter().map(|path| format!("-path {path}")).collect();
    let list = host.run(&format!("find / \\( {} \\) -prune -o -print", prune.join(" -o ")));
    list.lines().map(str::to_owned).collect()
}

#[test]
fn a_bare_host_serves_its_first_request_after_two_commands() {
    let bed = Bed::start();
    let mut vm = bed.vm("vm-1", 11);
    let shop = Shop::open(&vm.namespace);
    vm.boot();
    let before = files(&vm);
    vm.copy(&package("figspan-agent"), "/root/figspan-agent.deb");
    let start = Instant::now();

    // The first command.
    let said = vm.run("apt-get install -y --no-install-recommends /root/figspan-agent.deb </dev/null 2>&1");
    assert!(said.contains("figspanctl grant create"), "installing says how to join: {said}");
    assert_eq!(vm.run("systemctl is-enabled figspan-agent").trim(), "enabled");
    assert_eq!(vm.property(UNIT, "ActiveState"), "inactive", "nothing to run yet, and nothing has failed");
    assert_eq!(vm.run("systemctl is-system-running").trim(), "running");

    // The second: the line that `figspanctl grant create` printed, and where the workload is.
    let line = format!("{} --uplink monolith={}", bed.grant("vm-1"), shop.address());
    assert!(vm.paste(&line).wait().unwrap().success());
    bed.serves();
    let answer = bed.outside.inside(|| Connection::open(bed.web()).get("/first"));
    assert_eq!((answer.status(), answer.text().as_str()), (200, "/first "));
    let took = start.elapsed();
    assert!(took < Duration::from_secs(60), "{took:?}");
    row("bare host to first request", format_args!("two commands, {:.1} s", took.as_secs_f64()));

    // Purging leaves nothing; removing would have kept what cost an operator something.
    vm.run("apt-get remove -y figspan-agent 2>&1");
    assert!(vm.path("/var/lib/figspan-agent/identity/chain.pem").exists() && vm.path("/etc/figspan-agent/agent.toml").exists());
    vm.run("apt-get purge -y figspan-agent 2>&1");
    let after = files(&vm);
    let left: Vec<_> = after.difference(&before).filter(|file| !file.starts_with("/var/lib/dpkg/")).collect();
    assert!(left.is_empty(), "purge left {left:?}");
    assert_eq!(vm.run("systemctl is-system-running").trim(), "running");
    assert_eq!(vm.output("getent passwd figspan-agent").status.code(), Some(2), "the account is gone too");
}

#[test]
fn an_edit_of_the_settings_survives_reinstalling_and_no_program_writes_them() {
    let bed = Bed::start();
    let mut vm = bed.vm("vm-1", 11);
    let shop = Shop::open(&vm.namespace);
    vm.boot();
    install(&vm);
    let shipped = vm.read("/etc/figspan-agent/agent.toml");
    bed.join(&vm);
    assert_eq!(vm.read("/etc/figspan-agent/agent.toml"), shipped, "join writes elsewhere");
    let edited = format!("{shipped}\n{}", uplink(&shop));
    vm.write("/etc/figspan-agent/agent.toml", &edited);
    bed.serves();
    let said = vm.run("apt-get install -y --reinstall --no-install-recommends /root/figspan-agent.deb </dev/null 2>&1");
    assert!(!said.contains("is installed and waits"), "{said}");
    assert_eq!(vm.read("/etc/figspan-agent/agent.toml"), edited);
    bed.serves();
}
