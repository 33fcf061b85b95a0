use super::*;

#[test]
fn a_report_lines_up_and_each_fault_has_its_mend_below() {
    let checks = vec![
        Check::pass(What::Settings, "agent.toml", "1 uplink"),
        Check::fail(What::Workload, "monolith", "127.0.0.1:8080: connection refused", "start it"),
        Check::skip(What::Certificate, "of this agent", "not joined", "join"),
    ];
    let report = Report::new(SystemTime::UNIX_EPOCH, None, checks);
    let text = report.to_string();
    assert!(text.contains("FAIL  workload monolith          127.0.0.1:8080: connection refused\n"), "{text}");
    assert!(text.contains("mend: start it\n"), "{text}");
    assert!(text.ends_with("1 passed, 0 warned, 1 failed, 1 skipped"), "{text}");
    assert_eq!(report.worst, Mark::Fail);
    let skipped = Report::new(SystemTime::UNIX_EPOCH, None, vec![Check::skip(What::Disk, "/", "", "")]);
    assert_eq!(skipped.worst, Mark::Pass);
}

/// `docs/reference/doctor.md` is written by this test where `FIGSPAN_WRITE` is set, and compared otherwise.
#[test]
fn the_reference_of_checks_is_complete() {
    let mut text = String::from(
        "# figspan-agent doctor\n\nEach check, in the order of a report. Made from the program's own list: \
         `FIGSPAN_WRITE=1 cargo test -p figspan-agent reference`.\n\n| check | subject | what it looks at |\n|---|---|---|\n",
    );
    for what in What::ALL {
        text.push_str(&format!("| `{}` | {} | {} |\n", what.as_str(), what.subject(), what.doc()));
    }
    text.push_str(
        "\nEach ends in `PASS`, `WARN` (works, but not as well or not for long), `FAIL`, or `SKIP` (could not be looked at; where another \
         check is the\ncause, it is named). The exit code is that of the worst: 0 for PASS, 3 for WARN, 1 for FAIL; 78 where the settings \
         cannot be read.\n\n## `-o json`\n\n| field | is |\n|---|---|\n| `schema` | 1; grows only when an older reader could misread a newer \
         report |\n| `software` | the program that looked |\n| `time_ms` | when, Unix milliseconds by this machine's clock |\n| `agent` | the \
         agent's name, or null before a join |\n| `worst` | the worst mark; skipped checks do not count |\n| `checks` | list of `check`, \
         `subject`, `mark`, `seen` (what was found, for people), `mend` (what to do, empty where nothing) |\n\nNames of checks and fields \
         stay; new ones may come.\n",
    );
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/doctor.md");
    if std::env::var_os("FIGSPAN_WRITE").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let there = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(there, text, "run this test once with FIGSPAN_WRITE=1, and commit {}", file.display());
}
