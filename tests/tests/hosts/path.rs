//! A path that is bad for a while: long, or silent in bursts. Nobody is cut off for good, and no client is to notice.

use std::time::{Duration, Instant};

use figspan_tests::hosts::{Bed, Delay, Fault, Host, Load, Report, Shop, measured};
use figspan_tests::process::eventually;

use super::UNIT;
use super::network::tunnels_made;

#[test]
fn two_hundred_milliseconds_with_jitter_cost_time_but_no_request_and_no_tunnel() {
    let bed = Bed::start();
    let mut vm = bed.vm("vm-1", 11);
    let shop = Shop::open(&vm.namespace);
    bed.serve(&mut vm, &shop);
    let delay = Delay::start(&vm.namespace, Duration::from_millis(100), Duration::from_millis(30));
    // It also starts over the long way.
    vm.run("systemctl restart figspan-agent");
    let far = Instant::now();
    bed.serves();
    let started = far.elapsed();
    eventually("a tunnel to each shard", Duration::from_secs(10), || tunnels_made(&vm) == 4);
    let load = bed.load(40);
    load.run_for(Duration::from_secs(6));
    drop(delay);
    load.run_for(Duration::from_millis(500));
    let report = load.stop(&[&shop]);
    let remarks = format!("slowest request {} ms, serves {:.1} s after a restart", report.slowest.as_millis(), started.as_secs_f64());
    measured("200 ms RTT, jitter 60 ms", None, None, &report, remarks);
    report.assert_unharmed();
    assert_eq!(tunnels_made(&vm), 4, "the same tunnels all along");
    assert!(report.slowest < Duration::from_secs(2) && started < Duration::from_secs(4), "{report} {started:?}");
}

/// Twice, nothing passes for two seconds.
fn bursts(load: &Load, vm: &Host) {
    for _ in 0..2 {
        load.run_for(Duration::from_millis(3500));
        let _burst = Fault::no_udp(&vm.namespace);
        load.run_for(Duration::from_secs(2));
    }
    load.run_for(Duration::from_secs(3));
}

#[test]
fn bursts_of_loss_cost_no_tunnel_and_no_request_where_another_agent_serves_too() {
    let bed = Bed::start();
    let (mut vm, mut other) = (bed.vm("vm-1", 11), bed.vm("vm-2", 12));
    let (shop, second) = (Shop::open(&vm.namespace), Shop::open(&other.namespace));
    bed.serve(&mut vm, &shop);
    eventually("a tunnel to each shard", Duration::from_secs(10), || tunnels_made(&vm) == 2);
    let load = bed.load(40);
    bursts(&load, &vm);
    let report = load.stop(&[&shop]);
    let slowest = |report: &Report| format!("slowest served {} ms", report.slowest.as_millis());
    measured("bursts of loss, 2 s each, the only agent", None, None, &report, slowest(&report));
    report.assert_honest();
    // For all that the hub can know, the agent may be dead: who comes late in a burst is told so, with when to ask again.
    assert!(report.failed <= report.sent / 5 && report.reasons.iter().all(|reason| reason.starts_with("503")), "{report}");

    bed.serve_also(&mut other, &second, 2);
    let load = bed.load(40);
    bursts(&load, &vm);
    let report = load.stop(&[&shop, &second]);
    measured("bursts of loss, 2 s each, another agent serves", None, None, &report, slowest(&report));
    report.assert_unharmed();
    assert_eq!(tunnels_made(&vm), 2, "the same tunnels all along: {}", vm.journal(UNIT));
}
