use super::*;

#[test]
fn a_report_lines_up_and_each_fault_has_its_mend_below() {
    let report = Report {
        checks: vec![
            Check::pass("version", "figspan-agent"),
            Check::fail("workload monolith", "127.0.0.1:8080: connection refused", "start it"),
            Check::skip("certificate", "not joined", "join"),
        ],
    };
    let text = report.to_string();
    assert!(text.contains("FAIL  workload monolith  127.0.0.1:8080: connection refused\n") && text.contains("mend: start it\n"), "{text}");
    assert!(text.ends_with("1 passed, 0 warned, 1 failed, 1 skipped"), "{text}");
    assert!(!report.is_good());
}
