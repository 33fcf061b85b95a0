//! The whole journey, unattended, with the real binary: hub, agents, grants, QUIC, load, drain.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};

#[test]
fn a_short_journey_loses_nothing_and_proves_the_drain() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report.json");
    let ran = Command::new(env!("CARGO_BIN_EXE_figspan-try"))
        .args(["--once", "--duration", "6s", "--rate", "150", "--report"])
        .arg(&report)
        .env("TMPDIR", dir.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{}\n{out}\n{err}", ran.status);
    assert!(out.contains("PASS: nothing was lost, and the drain is proven"), "{out}");

    let report: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&report).unwrap()).unwrap();
    let findings = &report["findings"];
    for count in ["lost", "phantom", "duplicate", "corrupt", "truncated", "wrong", "failed_idempotent", "failed_other", "unexplained"] {
        assert_eq!(findings[count], 0, "{count}: {findings}");
    }
    assert!(findings["requests"].as_u64().unwrap() > 800, "{findings}");
    assert_eq!(findings["requests"], findings["answered"]);
    let shares: Vec<f64> = report["steps"].as_array().unwrap().iter().map(|step| step["wanted"].as_f64().unwrap()).collect();
    assert_eq!(shares, [1.0, 0.9, 0.5, 0.0, 0.0]);
    let verdict = &report["drain"]["verdict"];
    assert_eq!(verdict["drained"], true, "{verdict}");
    assert_eq!(verdict["agents"].as_array().unwrap().len(), 2, "both agents were asked: {verdict}");
    assert_eq!(report["drain"]["requests_after"], 0);

    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["report.json"], "the temporary directory is removed");
}

/// A workload that answers every request with 500; its threads end with the test's process.
fn broken_workload() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                for line in lines.map_while(Result::ok) {
                    if line.is_empty() && stream.write_all(b"HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n").is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[test]
fn a_journey_with_failures_does_not_pass() {
    let (shop, cart) = (broken_workload(), broken_workload());
    let ran = Command::new(env!("CARGO_BIN_EXE_figspan-try"))
        .args(["--once", "--duration", "2s", "--rate", "300", "--uplink", &format!("shop={shop}"), "--service", &format!("cart={cart}")])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&ran.stdout);
    assert_eq!(ran.status.code(), Some(1), "{out}");
    assert!(out.contains("FAIL") && out.contains("failed idempotent") && out.contains("the workload answered 500"), "{out}");
}
