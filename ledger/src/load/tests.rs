use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::join::{Ledger, join};
use crate::workload::Workload;

fn target(workload: &Workload, rate: u32, mix: Mix) -> Target {
    let host = HeaderValue::from_static("shop.example");
    Target { address: workload.address, host, path: "/".to_owned(), rate, own: Some(mix), keep: true, most: None }
}

/// Waits until so many requests have ended.
fn until_ended(load: &Load, wanted: u64) {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while load.with(|recorder| recorder.stage(0).map_or(0, |stage| stage.ended)) < wanted {
        assert!(std::time::Instant::now() < deadline, "the load does not get on");
        std::thread::yield_now();
    }
}

#[test]
fn a_load_straight_at_a_workload_finds_nothing_wrong() {
    let ledger = Arc::new(Ledger::default());
    let workload = Workload::start("monolith", "vm-1", Arc::clone(&ledger)).unwrap();
    let load = Load::start(target(&workload, 1000, Mix::Orders)).unwrap();
    until_ended(&load, 200);
    let record = load.finish();
    let findings = join(record.kept(), Some(&ledger.rows()), |_, _| false);
    assert!(findings.requests >= 200 && findings.answered == findings.requests, "{findings:?}");
    assert!(findings.faults().iter().all(|(_, n)| *n == 0), "{findings:?} {:?}", record.failures);
    assert_eq!(record.stage(0).unwrap().share("monolith"), 1.0);
    assert_eq!(workload.requests(), findings.requests);
}

#[test]
fn a_bounded_load_of_everything_ends_by_itself_and_finds_nothing_wrong() {
    let ledger = Arc::new(Ledger::default());
    let workload = Workload::start("monolith", "vm-1", Arc::clone(&ledger)).unwrap();
    let load = Load::start(Target { most: Some(600), ..target(&workload, 2000, Mix::Everything) }).unwrap();
    until_ended(&load, 600);
    let record = load.finish();
    let findings = join(record.kept(), Some(&ledger.rows()), |_, _| false);
    assert_eq!((findings.requests, findings.answered), (600, 600), "{findings:?} {:?}", record.failures);
    assert!(findings.faults().iter().all(|(_, n)| *n == 0), "{findings:?} {:?}", record.failures);
}

#[test]
fn a_workload_that_crashes_is_seen_by_clients_and_marked_in_the_book() {
    let ledger = Arc::new(Ledger::default());
    let workload = Workload::start("monolith", "vm-1", Arc::clone(&ledger)).unwrap();
    workload.mood().crash(200);
    let load = Load::start(Target { most: Some(400), ..target(&workload, 2000, Mix::Everything) }).unwrap();
    until_ended(&load, 400);
    let record = load.finish();
    let rows = ledger.rows();
    let cut = rows.values().filter(|row| row.cut).count();
    let strict = join(record.kept(), Some(&rows), |_, _| false);
    assert!(cut > 10 && strict.failed_idempotent + strict.failed_other >= cut as u64, "{cut} {strict:?}");
    assert_eq!((strict.lost, strict.truncated, strict.wrong, strict.duplicate, strict.corrupt), (0, 0, 0, 0, 0), "{strict:?}");
}

#[test]
fn a_workload_that_goes_down_refuses_and_comes_back_at_its_address() {
    let workload = Workload::start("monolith", "vm-1", Arc::default()).unwrap();
    std::net::TcpStream::connect(workload.address).unwrap();
    workload.down();
    assert!(std::net::TcpStream::connect(workload.address).is_err());
    workload.up();
    std::net::TcpStream::connect(workload.address).unwrap();
}

#[test]
fn a_workload_that_dies_under_load_is_noticed_and_nothing_is_made_up() {
    let ledger = Arc::new(Ledger::default());
    let workload = Workload::start("monolith", "vm-1", Arc::clone(&ledger)).unwrap();
    let load = Load::start(target(&workload, 1000, Mix::Orders)).unwrap();
    until_ended(&load, 50);
    drop(workload);
    until_ended(&load, 100);
    let record = load.finish();
    let findings = join(record.kept(), Some(&ledger.rows()), |_, _| false);
    assert!(findings.answered >= 50 && findings.failed_idempotent > 0 && findings.failed_other > 0, "{findings:?}");
    assert_eq!((findings.lost, findings.phantom, findings.duplicate, findings.corrupt, findings.wrong), (0, 0, 0, 0, 0), "{findings:?}");
    assert!(!record.failures.is_empty());
}
