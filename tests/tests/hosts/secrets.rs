//! Where the token and the key must never be seen.

use std::time::Duration;

use figspan_tests::hosts::bed::{install, uplink};
use figspan_tests::hosts::{Bed, Host, Shop};
use figspan_tests::process::{eventually, text};

use super::UNIT;

/// Everything that any user of the VM can read without being root, and everything that systemd tells about the unit, as text.
fn seen_by_all(vm: &Host) -> String {
    let arguments = vm
        .run("for process in /proc/[0-9]*; do tr '\\0' ' ' < $process/cmdline; tr '\\0' ' ' < $process/environ; done 2>/dev/null || true");
    let unit = vm.run(&format!(
        "systemctl cat figspan-agent.service figspan-agent.path; systemctl show {UNIT}; systemctl status --no-pager {UNIT} || true"
    ));
    let journal = vm.run("journalctl --no-pager -q -o json");
    arguments + &unit + &journal
}

/// Files on the VM that hold a text; `find` narrows them.
fn files_with(vm: &Host, secret: &str, find: &str) -> Vec<String> {
    vm.write("/root/pattern", secret);
    let found = vm.run(&format!(
        "find / /run -xdev -type f -size -4096k ! -path /root/pattern {find} -print0 | xargs -0 -r grep -lF -f /root/pattern -- || true; rm /root/pattern"
    ));
    found.lines().map(str::to_owned).collect()
}

#[test]
fn neither_token_nor_key_is_in_an_argument_the_unit_the_journal_or_a_file_that_others_may_read() {
    let bed = Bed::start();
    let mut vm = bed.vm("vm-1", 11);
    let shop = Shop::open(&vm.namespace);
    vm.boot();
    install(&vm);
    let line = bed.grant("vm-1");
    let token = line.split('\'').nth(1).unwrap().to_owned();
    assert!(token.starts_with("figspan1.") && token.len() > 40, "{token}");

    // The hub holds its breath, so that `join` is caught in the act.
    bed.hub.process.signal("STOP");
    let shell = vm.paste(&format!("{line} --uplink monolith={}", shop.address()));
    eventually("join runs", Duration::from_secs(10), || vm.output("pgrep -f 'figspan-agent join'").status.success());
    let during = seen_by_all(&vm);
    assert!(during.contains("join --token-file -"), "join runs while this looks: {during}");
    assert!(!during.contains(&token));
    bed.hub.process.signal("CONT");
    let joined = shell.wait_with_output().unwrap();
    assert!(joined.status.success() && !text(&joined).contains(&token), "{}", text(&joined));
    bed.serves();

    let key = vm.read("/var/lib/figspan-agent/identity/key.pem");
    let key = key.lines().nth(1).unwrap();
    assert!(key.len() > 40, "a line of the key itself");
    let after = seen_by_all(&vm);
    assert!(after.contains("figspan-agent run") && after.contains("tunnel to hub"), "the look sees arguments and the journal");
    for secret in [token.as_str(), key] {
        assert!(!after.contains(secret));
        assert_eq!(files_with(&vm, secret, "-perm /o+r"), Vec::<String>::new());
    }
    assert_eq!(files_with(&vm, &token, ""), Vec::<String>::new(), "nobody kept the token");
    assert_eq!(files_with(&vm, key, ""), ["/var/lib/figspan-agent/identity/key.pem"]);
    let modes = vm.run("stat -c '%a %U %n' /var/lib/figspan-agent /var/lib/figspan-agent/identity/*");
    for mode in modes.lines() {
        assert!((mode.starts_with("700 ") || mode.starts_with("600 ")) && mode.contains(" figspan-agent "), "{modes}");
    }
    assert_eq!(vm.run("cat /proc/sys/kernel/core_pattern >/dev/null; systemctl show --value -p LimitCORE figspan-agent").trim(), "0");
}

#[test]
fn a_grant_waits_as_a_credential_for_the_first_start() {
    let bed = Bed::start();
    let mut vm = bed.vm("vm-1", 11);
    let shop = Shop::open(&vm.namespace);
    let line = bed.grant("vm-1");
    let token = line.split('\'').nth(1).unwrap();
    // As an image or cloud-init leaves it; then the package comes.
    vm.write("/etc/credstore/figspan.token", token);
    vm.write("/etc/figspan-agent/agent.toml.d/monolith.toml", &uplink(&shop));
    vm.boot();
    vm.run("chmod 700 /etc/credstore; chmod 600 /etc/credstore/figspan.token");
    let said = install(&vm);
    assert!(!said.contains(token));
    bed.serves();
    let seen = seen_by_all(&vm);
    assert!(!seen.contains(token) && seen.contains("joined"), "{seen}");
    assert_eq!(files_with(&vm, token, ""), ["/etc/credstore/figspan.token"]);
    // Used up, it is in nobody's way.
    vm.run("systemctl restart figspan-agent");
    bed.serves();
}
