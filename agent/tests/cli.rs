//! The program as a shell sees it: what it prints, and its exit codes.

use std::path::Path;
use std::process::{Command, Output};

fn agent(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_figspan-agent"));
    command.current_dir(folder).args(arguments).env_remove("CREDENTIALS_DIRECTORY").stdin(std::process::Stdio::null());
    command.output().expect("the agent runs")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn folder(settings: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let state = format!("state_dir = {:?}\n[status]\nsocket = {:?}\n", folder.path().join("state"), folder.path().join("status.sock"));
    std::fs::write(folder.path().join("agent.toml"), state + settings).expect("the folder can be written");
    folder
}

const GOOD: &str = "[[uplink]]\nname = \"shop\"\naddress = \"127.0.0.1:1\"\n";

#[test]
fn check_passes_good_settings_and_exits_78_on_mistakes_with_their_lines() {
    let good = folder(GOOD);
    let output = agent(good.path(), &["check", "--config", "agent.toml"]);
    assert!(output.status.success() && out(&output).starts_with("good: 1 uplink, 0 hubs"), "{output:?}");
    let bad = folder("[[uplink]]\nname = \"shop\"\nadress = \"127.0.0.1:1\"\nweight = -1\n");
    for command in ["check", "run", "doctor"] {
        let output = agent(bad.path(), &[command, "--config", "agent.toml"]);
        assert_eq!(output.status.code(), Some(78), "{command}");
        let mistakes = err(&output);
        assert!(mistakes.contains("agent.toml:6:1: uplink[0].adress: is not a key here; write address"), "{mistakes}");
        assert!(mistakes.contains("agent.toml:7:10: uplink[0].weight: -1 is out of range"), "{mistakes}");
        assert_eq!(mistakes.lines().count(), 3, "{mistakes}");
    }
}

#[test]
fn run_without_an_identity_exits_77_and_says_how_to_join() {
    let folder = folder(GOOD);
    let output = agent(folder.path(), &["run", "-c", "agent.toml"]);
    assert_eq!(output.status.code(), Some(77));
    let text = err(&output);
    assert!(text.contains("figspanctl grant create") && text.lines().count() == 1, "{text}");
}

#[test]
fn join_reads_tokens_from_files_only_and_says_what_is_wrong_with_them() {
    let folder = folder(GOOD);
    let refused = |arguments: &[&str]| {
        let output = agent(folder.path(), &[&["join", "-c", "agent.toml"], arguments].concat());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        err(&output)
    };
    assert!(refused(&[]).contains("no token; give --token-file"));
    assert!(refused(&["--token-file", "missing"]).contains("cannot read the token from missing"));
    std::fs::write(folder.path().join("token"), "figspan1.AAAA").unwrap();
    assert!(refused(&["--token-file", "token"]).contains("paste the whole line"));
    let output = agent(folder.path(), &["join", "--uplink", "shop=127.0.0.1", "--token-file", "token"]);
    assert!(output.status.code() == Some(2) && err(&output).contains("127.0.0.1: it has no port"), "{}", err(&output));
    assert_eq!(agent(folder.path(), &["join", "figspan1.AAAA"]).status.code(), Some(2), "a token is never an argument");
}

#[test]
fn doctor_fails_where_a_workload_is_down_and_speaks_json() {
    let folder = folder(GOOD);
    let output = agent(folder.path(), &["doctor", "-c", "agent.toml", "-o", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let workload = checks.iter().find(|check| check["check"] == "workload").unwrap();
    assert_eq!((workload["mark"].as_str(), workload["mend"].as_str().map(str::is_empty)), (Some("FAIL"), Some(false)));
    assert!(checks.iter().any(|check| check["check"] == "identity" && check["mark"] == "FAIL"), "{checks:?}");
}

#[test]
fn status_without_an_agent_says_how_to_start_it() {
    let folder = folder(GOOD);
    let output = agent(folder.path(), &["status", "-c", "agent.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("systemctl start figspan-agent"), "{}", err(&output));
}

#[test]
fn version_man_page_and_completions_are_printed() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(out(&agent(folder.path(), &["version"])).trim(), concat!("figspan-agent ", env!("CARGO_PKG_VERSION")));
    let man = out(&agent(folder.path(), &["man"]));
    assert!(man.contains(".TH figspan-agent 8") && man.contains("doctor"), "{man}");
    for shell in ["bash", "zsh", "fish"] {
        assert!(out(&agent(folder.path(), &["completions", shell])).contains("figspan-agent"), "{shell}");
    }
}

#[test]
fn a_token_typed_on_a_terminal_is_not_shown_and_the_terminal_is_left_as_it_was() {
    use std::io::{BufRead, BufReader, Read, Write};

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::tcgetattr;

    let folder = folder(GOOD);
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&master).expect("a terminal");
    unlockpt(&master).expect("a terminal");
    let name = ptsname(&master, Vec::new()).expect("its name").into_string().expect("text");
    let terminal = std::fs::OpenOptions::new().read(true).write(true).open(name).expect("its other end");
    let before = tcgetattr(&terminal).expect("its modes");
    // The second time somebody changes their mind.
    for (typed, said) in [("figspan1.SECRET\r", "token"), ("figspan1.SECRET\u{3}", "cannot read the token from the terminal")] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_figspan-agent"))
            .current_dir(folder.path())
            .args(["join", "-c", "agent.toml"])
            .stdin(terminal.try_clone().expect("a file can be shared"))
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("the agent runs");
        let mut error = BufReader::new(child.stderr.take().expect("piped"));
        let mut question = Vec::new();
        error.read_until(b':', &mut question).expect("it asks");
        let mut keyboard = std::fs::File::from(master.try_clone().expect("a file can be shared"));
        keyboard.write_all(typed.as_bytes()).expect("it can be typed");
        let mut rest = String::new();
        error.read_to_string(&mut rest).expect("text");
        assert_eq!(child.wait().expect("it ends").code(), Some(1), "{rest}");
        assert!(rest.contains(said) && !rest.contains("SECRET"), "{rest}");
        let after = tcgetattr(&terminal).expect("its modes");
        assert_eq!((after.local_modes, after.input_modes), (before.local_modes, before.input_modes));
    }
    // Now that echo is on again: what a terminal shows of a line, and nothing of what was typed before.
    let mut keyboard = std::fs::File::from(master);
    keyboard.write_all(b"end\r").expect("it can be typed");
    let (mut shown, mut some) = (Vec::new(), [0; 1024]);
    while !shown.ends_with(b"end\r\n") {
        let read = keyboard.read(&mut some).expect("the terminal shows something");
        shown.extend_from_slice(&some[..read]);
        assert!(shown.len() < 100, "{}", String::from_utf8_lossy(&shown));
    }
    assert!(!String::from_utf8_lossy(&shown).contains("SECRET"), "{}", String::from_utf8_lossy(&shown));
}
