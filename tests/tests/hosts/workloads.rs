//! A workload on a VM that is down, slow, crashes in the middle, or talks garbage: the ledger says what clients got.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use figspan_ledger::{Findings, Ledger, Mix, Recorder, Row, Sent, Target, Workload, join};
use figspan_tests::hosts::{Bed, Host, Namespace, Shop, measured};
use figspan_tests::process::eventually;
use figspan_tests::web::{self, Connection};

/// A workload that keeps the book, on the loopback of a VM.
fn workload(namespace: &Namespace, name: &'static str, ledger: &Arc<Ledger>) -> Workload {
    namespace.inside(|| Workload::start_at(Ipv4Addr::LOCALHOST.into(), name, name, Arc::clone(ledger)).unwrap())
}

/// Mixed requests from outside: every method, HTTP/1.1 and HTTP/2, bodies up to 300 KiB.
fn load(bed: &Bed, rate: u32) -> figspan_ledger::Load {
    let target = Target {
        address: bed.web(),
        host: http::HeaderValue::from_static("shop.example"),
        path: "/orders".to_owned(),
        rate,
        own: Some(Mix::Everything),
        keep: true,
        most: None,
    };
    bed.outside.inside(|| figspan_ledger::Load::start(target).unwrap())
}

/// Everything but failures that are told, which are the caller's to judge.
fn assert_honest(found: &Findings, why: &Recorder) {
    let harm = (found.lost, found.phantom, found.duplicate, found.corrupt, found.truncated, found.wrong, found.unexplained);
    assert_eq!(harm, (0, 0, 0, 0, 0, 0, 0), "{found:?} {:?}", why.failures);
    assert!(found.requests > 100, "{found:?}");
}

/// The workload broke it off itself, or it never arrived and its body is longer than a hub keeps for another try.
fn excused(sent: &Sent, row: Option<&Row>) -> bool {
    row.map_or(!sent.replayable, |row| row.cut)
}

fn failures(load: &figspan_ledger::Load) -> u64 {
    load.with(|record| record.stage(0).map_or(0, |stage| stage.failed))
}

fn served(load: &figspan_ledger::Load) -> u64 {
    load.with(|record| record.stage(0).map_or(0, |stage| stage.ended - stage.failed))
}

/// Two VMs, each with a workload, and the book of both.
struct Two {
    ledger: Arc<Ledger>,
    workloads: [Workload; 2],
    // Before the bed that they are plugged into.
    _vms: [Host; 2],
    bed: Bed,
}

impl Two {
    fn start() -> Self {
        let (bed, ledger) = (Bed::start(), Arc::new(Ledger::default()));
        let mut vms = [bed.vm("vm-1", 11), bed.vm("vm-2", 12)];
        let workloads = [workload(&vms[0].namespace, "one", &ledger), workload(&vms[1].namespace, "two", &ledger)];
        for (number, vm) in vms.iter_mut().enumerate() {
            bed.serve_also(vm, workloads[number].address, number + 1);
        }
        Self { ledger, workloads, _vms: vms, bed }
    }
}

#[test]
fn a_workload_that_is_down_is_a_503_at_once_and_serves_as_soon_as_it_is_up() {
    let (bed, ledger) = (Bed::start(), Arc::new(Ledger::default()));
    let mut vm = bed.vm("vm-1", 11);
    let shop = workload(&vm.namespace, "shop", &ledger);
    bed.serve(&mut vm, shop.address);
    let load = load(&bed, 100);
    eventually("it serves", Duration::from_secs(5), || served(&load) > 50);
    let start = Instant::now();
    shop.down();
    eventually("a failure is told", Duration::from_secs(5), || failures(&load) > 0);
    let noticed = start.elapsed();
    std::thread::sleep(Duration::from_secs(3));
    let up = Instant::now();
    shop.up();
    let before = served(&load);
    eventually("it serves again", Duration::from_secs(10), || served(&load) > before + 5);
    let back = up.elapsed();
    let record = load.finish();
    let found = join(record.kept(), Some(&ledger.rows()), excused);
    measured("workload down for 3 s, the only one", Some(noticed), Some(back), &found, "503 and Retry-After meanwhile");
    assert_honest(&found, &record);
    assert!(noticed < Duration::from_secs(1) && back < Duration::from_secs(2), "{noticed:?} {back:?}");
}

#[test]
fn while_another_serves_a_workload_that_goes_down_or_crashes_costs_nothing_that_can_be_mended() {
    let two = Two::start();
    for fault in ["down for 3 s", "crashes, 1 in 5"] {
        let load = load(&two.bed, 100);
        eventually("it serves", Duration::from_secs(5), || served(&load) > 50);
        if fault.starts_with("down") {
            two.workloads[0].down();
            std::thread::sleep(Duration::from_secs(3));
            two.workloads[0].up();
        } else {
            two.workloads[0].mood().crash(200);
            std::thread::sleep(Duration::from_secs(3));
            two.workloads[0].mood().calm();
        }
        two.bed.hub.accepts("monolith", 2);
        let record = load.finish();
        let sent: std::collections::HashSet<u64> = record.kept().iter().map(|sent| sent.id).collect();
        let rows: HashMap<u64, Row> = two.ledger.rows().into_iter().filter(|(id, _)| sent.contains(id)).collect();
        let broken = rows.values().filter(|row| row.cut).count();
        let found = join(record.kept(), Some(&rows), excused);
        measured(&format!("workload {fault}, another serves"), None, None, &found, format!("{broken} broken off by the workload"));
        assert_honest(&found, &record);
        assert_eq!((found.failed_idempotent, found.failed_other), (0, 0), "{found:?} {:?}", record.failures);
    }
}

#[test]
fn a_slow_workload_makes_its_clients_wait_and_nothing_else() {
    let two = Two::start();
    let load = load(&two.bed, 60);
    eventually("it serves", Duration::from_secs(5), || served(&load) > 50);
    two.workloads[0].mood().slow(1500);
    std::thread::sleep(Duration::from_secs(4));
    two.workloads[0].mood().calm();
    let record = load.finish();
    let found = join(record.kept(), Some(&two.ledger.rows()), |_, _| false);
    measured("workload slow, 1.5 s an answer", None, None, &found, "another serves too");
    assert_honest(&found, &record);
    assert_eq!(found.answered, found.requests, "{found:?} {:?}", record.failures);
}

/// Answers that no client must ever take for one.
const GARBAGE: [&str; 6] = [
    "\0\x01\x02 this is no HTTP at all\r\n\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 7\r\n\r\nhello!!",
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    "HTTP/9.9 200 OK\r\n\r\n",
    "HTTP/1.1 200 OK\r\nname : value\r\ncontent-length: 0\r\n\r\n",
];

#[test]
fn garbage_from_a_workload_is_a_502_with_a_reason_and_disturbs_nobody() {
    let bed = Bed::start();
    let mut vm = bed.vm("vm-1", 11);
    let shop = Shop::open(&vm.namespace);
    // What is asked for garbage answers it; everything else is the shop's.
    let mixed = vm.namespace.inside(|| {
        let shop = shop.address();
        web::Workload::raw(move |mut client| {
            while let Ok(Some(request)) = client.message() {
                if let Some(number) = request.target().strip_prefix("/garbage/").and_then(|number| number.parse::<usize>().ok()) {
                    client.send(GARBAGE[number]);
                    return;
                }
                let Ok(mut workload) = Connection::try_open(shop) else { return };
                let Ok(answer) = workload.ask(request.method(), request.target(), "", &request.body) else { return };
                client.send(&format!("{}\r\ncontent-length: {}\r\n\r\n{}", answer.first, answer.body.len(), answer.text()));
            }
        })
    });
    bed.serve(&mut vm, mixed.address);
    let load = bed.load(40);
    load.run_for(Duration::from_millis(500));
    for (number, garbage) in GARBAGE.iter().enumerate() {
        for method in ["GET", "POST"] {
            let ask = || Connection::open(bed.web()).ask(method, &format!("/garbage/{number}"), "", b"").unwrap();
            let answer = bed.outside.inside(ask);
            assert_eq!(answer.status(), 502, "{garbage:?}: {answer:?}");
            assert!(answer.field("proxy-status").contains("error=") && !answer.text().contains("hello"), "{garbage:?}: {answer:?}");
        }
    }
    let report = load.stop(&[&shop]);
    let asked = 2 * GARBAGE.len();
    measured(&format!("workload talks garbage, {asked} times"), None, None, &report, format!("all {asked} answered with 502 and a reason"));
    report.assert_unharmed();
}
