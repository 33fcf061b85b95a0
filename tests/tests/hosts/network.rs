//! What happens between a VM and its hub: loss, cuts, black holes, other addresses, a hub that restarts, names that are gone.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use figspan_tests::hosts::{Bed, Counts, Fault, Host, Load, Names, Shop, measured};
use figspan_tests::process::eventually;
use figspan_tests::web::Connection;

use super::UNIT;

/// The longest that a client may wait until it hears of a cut.
const NOTICED: Duration = Duration::from_secs(2);
/// The longest until requests are served again: the longest pause between two attempts, and some.
const AGAIN: Duration = Duration::from_secs(13);

fn joined() -> (Bed, Host, Shop) {
    let bed = Bed::start();
    let mut vm = bed.vm("vm-1", 11);
    let shop = Shop::open(&vm.namespace);
    bed.serve(&mut vm, &shop);
    (bed, vm, shop)
}

/// How many tunnels came up so far.
pub fn tunnels_made(vm: &Host) -> usize {
    vm.journal(UNIT).lines().filter(|line| line.contains("tunnel to hub") && line.ends_with("is up")).count()
}

/// A fault that cuts the VM off for a time, and what clients saw.
fn cut_off(what: &str, fault: impl for<'a> FnOnce(&'a Host) -> Fault<'a>, away: Duration) {
    let (bed, vm, shop) = joined();
    let load = bed.load(50);
    load.run_for(Duration::from_millis(500));
    let start = Instant::now();
    let fault = fault(&vm);
    let noticed = load.failed_after(start, Duration::from_secs(15));
    load.run_for(away.saturating_sub(start.elapsed()));
    drop(fault);
    let mended = Instant::now();
    let back = load.served_after(mended, Duration::from_secs(30));
    bed.serves();
    let report = load.stop(&[&shop]);
    measured(what, Some(noticed), Some(back), &report, "");
    report.assert_honest();
    assert!(noticed <= NOTICED && back <= AGAIN, "noticed after {noticed:?}, back after {back:?}");
    assert_eq!(vm.property(UNIT, "NRestarts"), "0");
}

/// A fault that clients must not notice.
fn unharmed(what: &str, bed: &Bed, vm: &Host, shop: &Shop, longest: Duration, fault: impl FnOnce(&Load)) {
    let made = tunnels_made(vm);
    let load = bed.load(40);
    load.run_for(Duration::from_millis(500));
    fault(&load);
    load.served_after(Instant::now(), Duration::from_secs(10));
    let report = load.stop(&[shop]);
    let remarks = format!("{} tunnels made anew, slowest request {} ms", tunnels_made(vm) - made, report.slowest.as_millis());
    measured(what, None, None, &report, remarks);
    report.assert_unharmed();
    assert!(report.slowest <= longest, "{report}");
    assert!(tunnels_made(vm) - made <= 2, "no storm of reconnects: {}", vm.journal(UNIT));
}

#[test]
fn thirty_percent_loss_costs_time_but_no_request_and_no_tunnel() {
    let (bed, vm, shop) = joined();
    unharmed("30 % loss both ways for 8 s", &bed, &vm, &shop, Duration::from_secs(8), |load| {
        let _loss = Fault::loss(&vm.namespace, 30);
        load.run_for(Duration::from_secs(8));
    });
}

#[test]
fn a_nat_that_forgets_every_five_seconds_is_not_noticed() {
    let bed = Bed::start();
    let (mut vm, router) = bed.vm_behind_nat("vm-1", 11);
    let shop = Shop::open(&vm.namespace);
    bed.serve(&mut vm, &shop);
    let port = || router.flows(7443);
    unharmed("NAT rebinding every 5 s, 3 times", &bed, &vm, &shop, Duration::from_secs(2), |load| {
        for _ in 0..3 {
            let before = port();
            router.forget();
            load.run_for(Duration::from_secs(5));
            assert_ne!(port(), before, "the router chose other ports");
        }
    });
}

#[test]
fn a_vm_that_changes_its_address_keeps_its_tunnels() {
    let (bed, vm, shop) = joined();
    unharmed("VM changes its address", &bed, &vm, &shop, Duration::from_secs(2), |load| {
        vm.namespace.ip(&["addr", "del", "10.97.0.11/24", "dev", "eth0"]);
        vm.namespace.ip(&["addr", "add", "10.97.0.77/24", "dev", "eth0"]);
        load.run_for(Duration::from_secs(4));
    });
}

#[test]
fn a_path_that_swallows_long_packets_stalls_a_megabyte_for_moments_only() {
    let (bed, vm, shop) = joined();
    let whole = "x".repeat(1 << 20);
    for longest in [1400, 1300, 1240] {
        // Fresh tunnels, which have found out how much the path carried.
        vm.run("systemctl restart figspan-agent");
        bed.serves();
        eventually("the tunnels know the path", Duration::from_secs(10), || {
            let status: serde_json::Value = serde_json::from_str(&vm.run("figspan-agent status -o json")).unwrap_or_default();
            status["tunnels"].as_array().is_some_and(|all| !all.is_empty() && all.iter().all(|tunnel| tunnel["mtu"].as_u64() > Some(1400)))
        });
        bed.bridge.carries(longest);
        let start = Instant::now();
        let answer = bed.outside.inside(|| Connection::open(bed.web()).post(&format!("/whole/{longest}"), whole.as_bytes()));
        let took = start.elapsed();
        assert!(
            answer.status() == 200 && answer.text().ends_with(&whole),
            "{} {:?} with {} bytes, long packets fall from {longest} on",
            answer.first,
            answer.fields,
            answer.body.len()
        );
        let remarks = format!("1 MB there and back in {:.2} s", took.as_secs_f64());
        measured(&format!("MTU black hole at {longest}"), None, None, Counts { sent: 1, ..Counts::default() }, remarks);
        assert!(took < Duration::from_secs(4), "{took:?}");
        bed.bridge.carries(1500);
    }
    assert_eq!(shop.count("/whole/1300"), 1);
}

#[test]
fn a_vm_that_hears_nothing_is_noticed_and_comes_back() {
    cut_off("one-way cut, VM hears nothing", |vm| Fault::deaf(&vm.namespace), Duration::from_secs(8));
}

#[test]
fn a_vm_that_is_not_heard_is_noticed_and_comes_back() {
    cut_off("one-way cut, VM is not heard", |vm| Fault::mute(&vm.namespace), Duration::from_secs(8));
}

/// How soon tunnels must be on TCP where UDP does not pass, and back on UDP where it does.
const ON_TCP: Duration = Duration::from_secs(5);
const ON_UDP: Duration = Duration::from_secs(60);

/// Waits until all of the agent's tunnels are on a transport; how long that took.
fn all_over(vm: &Host, transport: &str, within: Duration) -> Duration {
    let start = Instant::now();
    eventually(&format!("all tunnels are on {transport}"), within, || {
        let status: serde_json::Value = serde_json::from_str(&vm.run("figspan-agent status -o json")).unwrap_or_default();
        status["tunnels"].as_array().is_some_and(|all| !all.is_empty() && all.iter().all(|tunnel| tunnel["transport"] == transport))
    });
    start.elapsed()
}

#[test]
fn where_udp_is_blocked_in_the_middle_tunnels_go_over_to_tcp_and_come_back() {
    let (bed, vm, shop) = joined();
    let made = tunnels_made(&vm);
    let load = bed.load(50);
    load.run_for(Duration::from_millis(500));
    let fault = Fault::no_udp(&vm.namespace);
    let over = all_over(&vm, "tcp", ON_TCP);
    let served = load.served_after(Instant::now(), ON_TCP);
    let report = load.stop(&[&shop]);
    // The only agent of its uplink: what comes while its tunnels are silent is told to come again.
    measured("UDP blocked mid-flight", None, Some(over + served), &report, format!("on TCP after {:.2} s", over.as_secs_f64()));
    report.assert_honest();
    assert!(over + served <= ON_TCP, "{over:?} and {served:?}");

    let load = bed.load(50);
    load.run_for(Duration::from_millis(500));
    drop(fault);
    let back = all_over(&vm, "quic", ON_UDP);
    load.run_for(Duration::from_secs(1));
    let report = load.stop(&[&shop]);
    measured("UDP unblocked", None, None, &report, format!("back on UDP after {:.2} s", back.as_secs_f64()));
    report.assert_unharmed();
    assert_eq!(tunnels_made(&vm), made, "the same tunnels all along: {}", vm.journal(UNIT));
    assert_eq!(vm.property(UNIT, "NRestarts"), "0");
}

#[test]
fn where_udp_is_blocked_at_the_start_an_agent_serves_over_tcp_within_five_seconds() {
    let (bed, vm, shop) = joined();
    let fault = Fault::no_udp(&vm.namespace);
    vm.run("systemctl restart figspan-agent");
    let start = Instant::now();
    bed.serves();
    let served = start.elapsed();
    all_over(&vm, "tcp", ON_TCP);
    assert!(vm.property(UNIT, "StatusText").contains("over TCP"), "{}", vm.property(UNIT, "StatusText"));
    assert_eq!(vm.run("systemctl is-system-running").trim(), "running");
    measured("UDP blocked at the start of the agent", None, Some(served), Counts::default(), "over TCP");
    assert!(served <= ON_TCP, "{served:?}");

    let load = bed.load(50);
    load.run_for(Duration::from_millis(500));
    drop(fault);
    let back = all_over(&vm, "quic", ON_UDP);
    let report = load.stop(&[&shop]);
    measured("UDP unblocked after a start without", None, None, &report, format!("back on UDP after {:.2} s", back.as_secs_f64()));
    report.assert_unharmed();
}

#[test]
fn agents_are_back_as_soon_as_a_restarted_hub_is() {
    let (mut bed, vm, shop) = joined();
    for how in ["SIGTERM", "kill -9"] {
        let load = bed.load(50);
        load.run_for(Duration::from_millis(500));
        let (outside, hub) = (&bed.outside, &mut bed.hub);
        if how == "kill -9" {
            hub.process.signal("KILL");
            assert!(!hub.process.ended(Duration::from_secs(5)));
            outside.inside(|| hub.start_again());
        } else {
            outside.inside(|| hub.restart());
        }
        let returned = Instant::now();
        let back = load.served_after(returned, Duration::from_secs(20));
        let report = load.stop(&[&shop]);
        measured(&format!("hub restarted, {how}"), None, Some(back), &report, "the only hub");
        assert!(report.lost + report.duplicate + report.phantom == 0, "{report}");
        assert!(back <= Duration::from_secs(3), "{back:?}");
        bed.serves();
    }
    assert_eq!(vm.property(UNIT, "NRestarts"), "0");
}

#[test]
fn tunnels_outlive_their_names_and_a_start_without_names_waits_for_them() {
    let bed = Bed::start_with("hub.test:7443", "");
    let names = Names::serve(&bed.outside, "hub.test", Ipv4Addr::new(10, 97, 0, 1));
    let mut vm = bed.vm("vm-1", 11);
    vm.write("/etc/resolv.conf", "nameserver 10.97.0.1\noptions timeout:1 attempts:1\n");
    let shop = Shop::open(&vm.namespace);
    bed.serve(&mut vm, &shop);
    unharmed("DNS gone for 12 s", &bed, &vm, &shop, Duration::from_secs(1), |load| {
        names.silent(true);
        // Longer than the answers live.
        load.run_for(Duration::from_secs(12));
    });
    vm.run("systemctl restart figspan-agent");
    eventually("the status tells", Duration::from_secs(10), || vm.property(UNIT, "StatusText").starts_with("0/1 replicas"));
    names.silent(false);
    let start = Instant::now();
    bed.serves();
    measured("agent started while DNS is gone", None, Some(start.elapsed()), Counts::default(), "");
    assert!(start.elapsed() <= AGAIN);
}
