//! The unit as systemd keeps it: what it promises, and how it ends, reloads and is watched.

use std::time::{Duration, Instant};

use figspan_tests::hosts::bed::{install, package, uplink};
use figspan_tests::hosts::{Bed, Shop, measured, row};
use figspan_tests::process::{eventually, text};
use figspan_tests::web::Connection;

use super::UNIT;

#[test]
fn the_unit_says_how_it_is_and_may_do_next_to_nothing() {
    let bed = Bed::start();
    let mut vm = bed.vm("vm-1", 11);
    let shop = Shop::open(&vm.namespace);
    bed.serve(&mut vm, &shop);
    for (property, value) in [
        ("Type", "notify"),
        ("ActiveState", "active"),
        ("NRestarts", "0"),
        ("WatchdogUSec", "30s"),
        ("User", "figspan-agent"),
        ("TimeoutStopUSec", "45s"),
    ] {
        assert_eq!(vm.property(UNIT, property), value, "{property}");
    }
    let mut status = String::new();
    eventually("the status is told", Duration::from_secs(5), || {
        status = vm.property(UNIT, "StatusText");
        status.starts_with("1/1 replicas · 1 uplink ready · ") && status.contains(" in flight · certificate 23 h")
    });
    row("STATUS of a joined agent", &status);

    let process = vm.run(&format!("cat /proc/{}/status", vm.main_process(UNIT)));
    for line in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(process.contains(line), "{line}: {process}");
    }
    assert!(!process.contains("Uid:\t0"), "{process}");
    let report = vm.run(&format!("systemd-analyze security --no-pager {UNIT}"));
    let score =
        report.rsplit("figspan-agent.service: ").next().and_then(|rest| rest.split(' ').next()).and_then(|score| score.parse::<f64>().ok());
    let score = score.unwrap_or_else(|| panic!("no score: {report}"));
    assert!(score <= 1.2, "{report}");
    row("systemd-analyze security", score);
    // Nothing listens on the VM, except what other packages brought.
    let sockets = vm.run("ss -Hltunp");
    assert!(!sockets.lines().any(|line| line.contains("figspan") && line.contains("LISTEN")), "{sockets}");
    assert_eq!(vm.run("systemd-analyze verify --man=no figspan-agent.service figspan-agent.path 2>&1").trim(), "");
}

#[test]
fn an_agent_is_small_and_its_words_can_be_found_in_the_journal_by_field() {
    let bed = Bed::start();
    let mut vm = bed.vm("vm-1", 11);
    let shop = Shop::open(&vm.namespace);
    bed.serve(&mut vm, &shop);
    let process = vm.main_process(UNIT);
    let rss = || -> u64 {
        let line = vm.run(&format!("grep VmRSS /proc/{process}/status"));
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap()
    };
    // Hundredths of a second of both user and system.
    let ticks = || -> u64 {
        vm.run(&format!("cut -d' ' -f14,15 /proc/{process}/stat")).split_whitespace().map(|part| part.parse::<u64>().unwrap()).sum()
    };
    let measure = |what: &str| {
        let before = ticks();
        std::thread::sleep(Duration::from_secs(2));
        let (cpu, rss) = ((ticks() - before) as f64 / 2.0, rss());
        row(what, format_args!("{cpu:.1} % of a core, {:.1} MiB", rss as f64 / 1024.0));
        (cpu, rss)
    };
    // What only its start needed is given back by then.
    std::thread::sleep(Duration::from_secs(5));
    let idle = measure("idle agent");
    let load = bed.load(300);
    let busy = measure("agent at 300 requests/s");
    load.stop(&[&shop]).assert_unharmed();
    assert!(idle.0 < 5.0 && idle.1 < 12 * 1024 && busy.1 < 128 * 1024, "{idle:?} {busy:?}");

    for (field, said) in [("FIGSPAN_UPLINK=monolith", "workload monolith"), ("FIGSPAN_REPLICA=hub-0", "tunnel to hub hub-0")] {
        let found = vm.run(&format!("journalctl -q --no-pager -o cat {field}"));
        assert!(found.contains(said), "{field}: {found}");
    }
}

#[test]
fn an_agent_that_hangs_is_restarted_by_the_watchdog() {
    let bed = Bed::start();
    let mut vm = bed.vm("vm-1", 11);
    let shop = Shop::open(&vm.namespace);
    vm.write("/etc/systemd/system/figspan-agent.service.d/watchdog.conf", "[Service]\nWatchdogSec=2s\n");
    bed.serve(&mut vm, &shop);
    let load = bed.load(50);
    load.run_for(Duration::from_secs(3));
    assert_eq!(vm.property(UNIT, "NRestarts"), "0", "an agent that lives feeds it");
    let before = vm.main_process(UNIT);
    let frozen = Instant::now();
    vm.run(&format!("kill -STOP {before}"));
    let noticed = load.failed_after(frozen, Duration::from_secs(10));
    vm.has(UNIT, "NRestarts", "1", Duration::from_secs(15));
    assert_ne!(vm.main_process(UNIT), before);
    bed.serves();
    let back = load.served_after(frozen + noticed, Duration::from_secs(10));
    let report = load.stop(&[&shop]);
    report.assert_honest();
    assert!(vm.journal(UNIT).contains("Watchdog timeout"), "{}", vm.journal(UNIT));
    measured("agent frozen, WatchdogSec=2s", Some(noticed), Some(back), &report, "");
}

#[test]
fn what_only_a_person_can_mend_is_not_restarted() {
    let bed = Bed::start();
    let mut vm = bed.vm("vm-1", 11);
    let shop = Shop::open(&vm.namespace);
    bed.serve(&mut vm, &shop);
    let stays_down = |code: &str, why: &str| {
        vm.has(UNIT, "ActiveState", "failed", Duration::from_secs(10));
        assert_eq!(vm.property(UNIT, "ExecMainStatus"), code);
        let journal = vm.journal(UNIT);
        assert!(journal.contains(why), "{why}: {journal}");
        let starts = journal.matches("Starting figspan-agent").count();
        // Longer than RestartSec.
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(vm.journal(UNIT).matches("Starting figspan-agent").count(), starts);
        assert_eq!(vm.property(UNIT, "NRestarts"), "0");
    };

    vm.write("/etc/figspan-agent/agent.toml.d/zz.toml", "adress = 1\n");
    assert!(!vm.output("systemctl restart figspan-agent").status.success());
    stays_down("78", "zz.toml:1:1: adress: is not a key here");
    vm.run("rm /etc/figspan-agent/agent.toml.d/zz.toml");

    // A token that was used already, waiting as a credential, and no identity.
    let line = bed.grant("vm-2");
    vm.run("mkdir -p /root/other");
    vm.write("/root/other.toml", "state_dir = \"/root/other\"\n");
    let used = vm.paste(&format!("{line} --config /root/other.toml")).wait_with_output().unwrap();
    assert!(used.status.success(), "{}", text(&used));
    vm.run("rm -r /var/lib/figspan-agent/identity; mkdir -p -m 700 /etc/credstore; systemctl reset-failed figspan-agent");
    vm.write("/etc/credstore/figspan.token", line.split('\'').nth(1).unwrap());
    assert!(!vm.output("systemctl start figspan-agent").status.success());
    stays_down("77", "has been redeemed");
}

#[test]
fn a_reload_validates_first_and_a_stop_finishes_what_runs() {
    let bed = Bed::start();
    let mut vm = bed.vm("vm-1", 11);
    let shop = Shop::open(&vm.namespace);
    bed.serve(&mut vm, &shop);
    let load = bed.load(50);
    let process = vm.main_process(UNIT);
    vm.write("/etc/figspan-agent/agent.toml.d/zz.toml", "drain_timeout = \"soon\"\n");
    let refused = vm.output("systemctl reload figspan-agent");
    assert!(!refused.status.success(), "{}", text(&refused));
    assert!(vm.journal(UNIT).contains("zz.toml:1:17: drain_timeout"), "{}", vm.journal(UNIT));
    eventually("the status says so", Duration::from_secs(5), || vm.property(UNIT, "StatusText").ends_with("last reload refused"));
    vm.write("/etc/figspan-agent/agent.toml.d/zz.toml", "drain_timeout = \"20s\"\n");
    vm.run("systemctl reload figspan-agent");
    eventually("the status is well again", Duration::from_secs(5), || !vm.property(UNIT, "StatusText").contains("refused"));
    assert_eq!((vm.main_process(UNIT), vm.property(UNIT, "ActiveState").as_str()), (process, "active"));
    load.stop(&[&shop]).assert_unharmed();

    // A request that takes its time while the service is stopped.
    let slow = std::thread::scope(|scope| {
        let slow = scope.spawn(|| bed.outside.inside(|| Connection::open(bed.web()).get("/slow/3000")));
        eventually("the request is with the workload", Duration::from_secs(5), || shop.count("/slow/3000") == 1);
        let stopping = Instant::now();
        vm.run("systemctl stop figspan-agent");
        (slow.join().unwrap(), stopping.elapsed())
    });
    assert_eq!((slow.0.status(), slow.0.text().as_str()), (200, "/slow/3000 "));
    assert!(slow.1 > Duration::from_secs(1) && slow.1 < Duration::from_secs(20), "the stop waited for it: {:?}", slow.1);
    assert_eq!(vm.property(UNIT, "Result"), "success");
    row("systemctl stop with a 3 s request running", format_args!("answered whole, stopped after {:.1} s", slow.1.as_secs_f64()));
}

#[test]
fn reinstalling_under_load_hands_over_and_is_not_noticed() {
    let bed = Bed::start();
    let mut vm = bed.vm("vm-1", 11);
    let shop = Shop::open(&vm.namespace);
    bed.serve(&mut vm, &shop);
    vm.copy(&package("figspan-agent"), "/root/again.deb");
    let load = bed.load(50);
    load.run_for(Duration::from_millis(500));
    let before = vm.main_process(UNIT);
    vm.run("apt-get install -y --reinstall /root/again.deb </dev/null 2>&1");
    let after = vm.main_process(UNIT);
    assert!(after != before && after != 0, "the new program runs");
    load.served_after(Instant::now(), Duration::from_secs(10));
    let report = load.stop(&[&shop]);
    measured("package reinstalled, one agent", None, None, &report, "");
    report.assert_unharmed();
    // The new program is a main process like any other: stopping it lets it finish, and its end is noticed.
    assert!(!vm.journal(UNIT).contains("not our child"), "{}", vm.journal(UNIT));
    vm.run("systemctl restart figspan-agent");
    assert!(!vm.journal(UNIT).contains("SIGKILL"), "{}", vm.journal(UNIT));
    bed.serves();
    // What an operator wrote beside the package's files is read by the unit that it came with.
    install(&vm);
    vm.write("/etc/figspan-agent/agent.toml.d/monolith.toml", &uplink(&shop));
    bed.serves();
}
