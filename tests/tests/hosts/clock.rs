//! A VM whose clock is wrong: a little, which nobody notices, and a lot, which everybody is told of.

use std::time::{Duration, Instant};

use figspan_tests::hosts::{Bed, Host, Shop, measured};
use figspan_tests::process::eventually;

use super::UNIT;

/// From a clock that is right again until requests are served.
const AGAIN: Duration = Duration::from_secs(13);

/// The agent's clock, as libfaketime reads it: `+0`, `-5m`, `+1d`.
const CLOCK: &str = "/run/clock";

/// Lets the agent of a VM look at another clock from now on; the VM itself keeps its own.
fn set(vm: &Host, clock: &str) {
    vm.write(
        "/etc/systemd/system/figspan-agent.service.d/clock.conf",
        &format!(
            "[Service]\nEnvironment=LD_PRELOAD=/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1 FAKETIME_TIMESTAMP_FILE={CLOCK} \
         FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME_DISABLE_SHM=1 NO_FAKE_STAT=1\n"
        ),
    );
    vm.run(&format!("echo {clock} > {CLOCK}"));
}

#[test]
fn five_minutes_off_are_borne_by_new_and_old_tunnels_and_told() {
    let bed = Bed::start();
    let mut vm = bed.vm("vm-1", 11);
    let shop = Shop::open(&vm.namespace);
    vm.boot();
    set(&vm, "-5m");
    bed.set_up(&vm, &shop);
    bed.serves();
    for (clock, said) in [("-5m", "behind"), ("+5m", "ahead of")] {
        set(&vm, clock);
        vm.run("systemctl restart figspan-agent");
        bed.serves();
        let journal = vm.journal(UNIT);
        assert!(journal.contains("this VM's clock is") && journal.contains(said), "{journal}");
        let load = bed.load(50);
        load.run_for(Duration::from_secs(1));
        // It jumps while requests are under way.
        set(&vm, if clock == "-5m" { "+5m" } else { "-5m" });
        load.run_for(Duration::from_secs(3));
        let report = load.stop(&[&shop]);
        measured(&format!("clock {clock} off, then it jumps"), None, None, &report, "");
        report.assert_unharmed();
    }
}

#[test]
fn a_day_off_is_named_and_mends_itself_when_the_clock_is_right() {
    let bed = Bed::start();
    let mut vm = bed.vm("vm-1", 11);
    let shop = Shop::open(&vm.namespace);
    bed.serve(&mut vm, &shop);
    for (clock, side) in [("+1d", "later"), ("-1d", "earlier")] {
        set(&vm, clock);
        vm.run("systemctl daemon-reload; systemctl restart figspan-agent");
        let started = Instant::now();
        let said = || vm.journal(UNIT).lines().filter(|line| line.contains("this machine's clock says") && line.contains(side)).count();
        eventually("it says how far the clocks are apart", Duration::from_secs(10), || said() > 0);
        let noticed = started.elapsed();
        assert!(vm.property(UNIT, "StatusText").starts_with("0/1 replicas"), "{}", vm.property(UNIT, "StatusText"));
        let load = bed.load(50);
        load.run_for(Duration::from_secs(4));
        set(&vm, "+0");
        let right = Instant::now();
        let back = load.served_after(right, Duration::from_secs(30));
        let report = load.stop(&[&shop]);
        measured(&format!("clock {clock} off at the agent's start"), Some(noticed), Some(back), &report, "");
        report.assert_honest();
        assert!(noticed < Duration::from_secs(2) && back <= AGAIN, "{noticed:?} {back:?}");
        // Once, however often it tries; and systemd had nothing to do.
        assert_eq!((said(), vm.property(UNIT, "NRestarts").as_str()), (1, "0"), "{}", vm.journal(UNIT));
    }
}
