use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::ledger::{Ledger, join};
use crate::workloads::Workload;

fn target(workload: &Workload, rate: u32) -> Target {
    let host = HeaderValue::from_static("shop.example");
    Target { address: workload.address, host, path: "/".to_owned(), rate, own: true, keep: true }
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
    let load = Load::start(target(&workload, 1000)).unwrap();
    until_ended(&load, 200);
    let record = load.finish();
    let findings = join(record.kept(), Some(&ledger.rows()));
    assert!(findings.requests >= 200 && findings.answered == findings.requests, "{findings:?}");
    assert!(findings.faults().iter().all(|(_, n)| *n == 0), "{findings:?} {:?}", record.failures);
    assert_eq!(record.stage(0).unwrap().share("monolith"), 1.0);
    assert_eq!(workload.requests(), findings.requests);
}

#[test]
fn a_workload_that_dies_under_load_is_noticed_and_nothing_is_made_up() {
    let ledger = Arc::new(Ledger::default());
    let workload = Workload::start("monolith", "vm-1", Arc::clone(&ledger)).unwrap();
    let load = Load::start(target(&workload, 1000)).unwrap();
    until_ended(&load, 50);
    drop(workload);
    until_ended(&load, 100);
    let record = load.finish();
    let findings = join(record.kept(), Some(&ledger.rows()));
    assert!(findings.answered >= 50 && findings.failed_idempotent > 0 && findings.failed_other > 0, "{findings:?}");
    assert_eq!((findings.lost, findings.phantom, findings.duplicate, findings.corrupt, findings.wrong), (0, 0, 0, 0, 0), "{findings:?}");
    assert!(!record.failures.is_empty());
}
