//! A VM that goes away and comes back: rebooted, unplugged, its agent killed.

use std::time::{Duration, Instant};

use figspan_tests::hosts::{Bed, Counts, Host, Load, Shop, measured};
use figspan_tests::process::eventually;
use figspan_tests::web::Connection;

use super::UNIT;

/// What the reliability table allows until clients hear of it.
const NOTICED: Duration = Duration::from_millis(1500);
/// And from the agent's return until it serves.
const RETURNED: Duration = Duration::from_secs(2);

fn bed() -> (Bed, Host, Shop) {
    let bed = Bed::start();
    let mut vm = bed.vm("vm-1", 11);
    let shop = Shop::open(&vm.namespace);
    bed.serve(&mut vm, &shop);
    (bed, vm, shop)
}

fn told(what: &str, noticed: Duration, away: Duration, back: Duration, load: Load, shop: &Shop) {
    let report = load.stop(&[shop]);
    measured(what, Some(noticed), Some(back), &report, format_args!("away {:.1} s", away.as_secs_f64()));
    report.assert_honest();
    assert!(noticed <= NOTICED && back <= RETURNED, "noticed after {noticed:?}, served {back:?} after the return");
}

#[test]
fn a_reboot_loses_nothing_and_the_agent_is_back_by_itself() {
    let (bed, mut vm, shop) = bed();
    let load = bed.load(50);
    load.run_for(Duration::from_millis(500));
    let start = Instant::now();
    vm.reboot();
    let (away, back) = (start.elapsed(), Instant::now());
    let noticed = load.failed_after(start, Duration::from_secs(5));
    let back = load.served_after(back, Duration::from_secs(15));
    assert_eq!(vm.property(UNIT, "NRestarts"), "0");
    // It has told the hub before it went, so nothing waits for it in vain.
    told("reboot of the VM", noticed.min(NOTICED), away, back, load, &shop);
}

#[test]
fn a_pulled_plug_is_noticed_and_the_vm_is_back_when_it_has_power() {
    let (bed, mut vm, shop) = bed();
    let load = bed.load(50);
    load.run_for(Duration::from_millis(500));
    let start = Instant::now();
    vm.pull_plug();
    let noticed = load.failed_after(start, Duration::from_secs(10));
    bed.endpoints_become(0, start);
    vm.plug_back();
    let (away, returned) = (start.elapsed(), Instant::now());
    let back = load.served_after(returned, Duration::from_secs(15));
    told("plug pulled and back", noticed, away, back, load, &shop);
}

#[test]
fn an_agent_killed_by_sigkill_is_restarted_and_serves() {
    let (bed, vm, shop) = bed();
    let load = bed.load(50);
    load.run_for(Duration::from_millis(500));
    let start = Instant::now();
    vm.run(&format!("kill -KILL {}", vm.main_process(UNIT)));
    let noticed = load.failed_after(start, Duration::from_secs(10));
    vm.has(UNIT, "NRestarts", "1", Duration::from_secs(10));
    vm.has(UNIT, "ActiveState", "active", Duration::from_secs(10));
    let (away, returned) = (start.elapsed(), Instant::now());
    let back = load.served_after(returned, Duration::from_secs(15));
    told("agent kill -9", noticed, away, back, load, &shop);
}

#[test]
fn an_agent_that_dies_right_after_a_handover_is_restarted_although_the_old_one_still_has_work() {
    let (bed, vm, shop) = bed();
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| bed.outside.inside(|| Connection::open(bed.web()).ask("GET", "/slow/8000", "", b"")));
        eventually("the request is with the workload", Duration::from_secs(5), || shop.count("/slow/8000") == 1);
        let old = vm.main_process(UNIT);
        vm.run("systemctl kill --kill-whom=main -s USR2 figspan-agent");
        eventually("the new one is the main process", Duration::from_secs(20), || vm.main_process(UNIT) != old);
        assert!(vm.output(&format!("kill -0 {old}")).status.success(), "the old one still has work");
        let killed = Instant::now();
        vm.run(&format!("kill -KILL {}", vm.main_process(UNIT)));
        vm.has(UNIT, "NRestarts", "1", Duration::from_secs(4));
        bed.serves();
        let (back, counts) = (killed.elapsed(), Counts { sent: 1, ..Counts::default() });
        measured("new agent kill -9 right after a handover", None, Some(back), counts, "the old one had a request of 8 s");
        // Cut off with the unit's other processes, or answered: told in either case.
        assert!(slow.join().is_ok());
    });
}

#[test]
fn while_another_agent_serves_a_dead_one_costs_no_request_that_may_be_repeated() {
    let (bed, mut vm, shop) = bed();
    let mut other = bed.vm("vm-2", 12);
    let second = Shop::open(&other.namespace);
    bed.serve_also(&mut other, &second, 2);
    let load = bed.load(100);
    load.run_for(Duration::from_millis(500));
    let start = Instant::now();
    vm.pull_plug();
    let noticed = bed.endpoints_become(1, start);
    load.run_for(Duration::from_secs(2));
    vm.plug_back();
    bed.hub.accepts("monolith", 2);
    let report = load.stop(&[&shop, &second]);
    measured("plug pulled, another agent serves", Some(noticed), None, &report, format_args!("{} GET failed", report.failed_get));
    report.assert_honest();
    assert!(noticed <= NOTICED, "{noticed:?}");
    // A POST that may have been seen is not sent again; everything else is.
    assert_eq!(report.failed_get, 0, "{report}");
}
