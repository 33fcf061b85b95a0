//! The program itself: exit codes and where its words go. What it says to a hub is tested in the library and end to end.

use std::process::{Command, Output};

fn figspanctl(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_figspanctl")).args(arguments).output().expect("figspanctl runs")
}

#[test]
fn wrong_words_are_exit_code_2_and_no_hub_is_exit_code_1() {
    let wrong = figspanctl(&["uplink", "weight", "shop", "many", "--reason", "x"]);
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    let alone = figspanctl(&["--hub", "unix:/nonexistent/admin.sock", "status"]);
    assert_eq!(alone.status.code(), Some(1), "{alone:?}");
    assert!(alone.stdout.is_empty() && String::from_utf8_lossy(&alone.stderr).contains("/nonexistent/admin.sock"), "{alone:?}");
}

#[test]
fn help_and_version_need_no_hub() {
    for arguments in [&["--help"][..], &["version"], &["drain", "--help"]] {
        let told = figspanctl(arguments);
        assert!(told.status.success() && !told.stdout.is_empty(), "{told:?}");
    }
}
