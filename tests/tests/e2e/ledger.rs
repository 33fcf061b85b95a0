//! The ledger over mixed requests, while weights, health and configuration change at random. `just ledger` does the same with
//! 200,000 requests and release programs.

use std::time::Duration;

use figspan_tests::chaos::{Plan, run, seed};

#[test]
fn five_thousand_mixed_requests_are_all_accounted_for_under_chaos() {
    let verdict = run(Plan { requests: 5_000, rate: 800, seed: seed(), pause: Duration::from_millis(120) });
    assert!(verdict.is_good(), "{verdict}");
    assert!(verdict.findings.answered > 4_500 && verdict.by.len() == 5, "{verdict}");
}
