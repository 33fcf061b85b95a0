//! The ledger over mixed requests, while weights, health and configuration, policies of every kind among it, change at random.
//! `just ledger` does the same with 200,000 requests and release programs.

use std::time::Duration;

use figspan_tests::chaos::{Plan, run, seed};

#[test]
fn four_thousand_mixed_requests_are_all_accounted_for_under_chaos() {
    let verdict = run(Plan { requests: 4_000, rate: 600, seed: seed(), pause: Duration::from_millis(120) });
    assert!(verdict.is_good(), "{verdict}");
    // Who gets how much is what the policies of the run say.
    assert!(verdict.findings.answered > 3_200 && verdict.by.len() > 1, "{verdict}");
}
