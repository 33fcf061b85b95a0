//! The binary itself: exit codes, signals, what it prints.

use std::fs;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::client::{Connection, admin};
use crate::{SOON, WEB, eventually, preamble};

const BIN: &str = env!("CARGO_BIN_EXE_figspan-hub");

fn run(arguments: &[&str]) -> Output {
    Command::new(BIN).args(arguments).output().unwrap()
}

/// A hub process; killed when the test ends.
struct Process {
    child: Child,
    dir: TempDir,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    async fn start(routes: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("hub.toml"), preamble(&dir) + routes).unwrap();
        let child = Command::new(BIN)
            .args(["run", "--config", dir.path().join("hub.toml").to_str().unwrap()])
            .stderr(fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let process = Self { child, dir };
        let end = Instant::now() + SOON;
        while !process.socket().exists() {
            assert!(Instant::now() < end, "not started: {}", process.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        process
    }

    fn socket(&self) -> std::path::PathBuf {
        self.dir.path().join("admin.sock")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    #[allow(unsafe_code, reason = "std sends no other signal than SIGKILL")]
    fn signal(&self, signal: i32) {
        // SAFETY: the child is ours and not yet waited for, so that its id is its own.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }

    async fn ended(&mut self) -> Option<i32> {
        let end = Instant::now() + SOON;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < end, "still running: {}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn web(&self) -> std::net::SocketAddr {
        let (_, status) = admin(&self.socket(), "GET", "/v1/status", None).await;
        status["listeners"][0]["address"].as_str().unwrap().parse().unwrap()
    }
}

#[test]
fn check_prints_every_mistake_and_exits_with_78() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hub.toml");
    fs::write(&file, "[hub]\nshard = 2\n[tunnel]\naddress = \"nowhere\"\n").unwrap();
    let output = run(&["check", "--config", file.to_str().unwrap()]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{told}");
    assert!(told.contains("hub.toml:2:1") && told.contains("hub.toml:4:"), "{told}");
    let output = run(&["run", "--config", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(78));
    fs::write(&file, WEB).unwrap();
    let output = run(&["check", "--config", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("good\n"));
    assert_eq!(run(&["check", "--config", "/nonexistent/hub.toml"]).status.code(), Some(78));
}

#[test]
fn wrong_arguments_exit_with_2_and_help_names_signals_and_codes() {
    assert_eq!(run(&["--no-such-flag"]).status.code(), Some(2));
    let help = String::from_utf8(run(&["--help"]).stdout).unwrap();
    for word in ["SIGHUP", "78", "/etc/figspan-hub/hub.toml", "check"] {
        assert!(help.contains(word), "{word}: {help}");
    }
    assert!(String::from_utf8(run(&["version"]).stdout).unwrap().starts_with("figspan-hub 0."));
    assert!(String::from_utf8(run(&["man"]).stdout).unwrap().contains(".TH figspan-hub"));
    assert!(String::from_utf8(run(&["completions", "bash"]).stdout).unwrap().contains("figspan-hub"));
}

#[tokio::test]
async fn sigterm_drains_and_exits_with_0() {
    let mut hub = Process::start(WEB).await;
    let mut idle = Connection::tcp(hub.web().await).await;
    assert_eq!(idle.get("/").await.unwrap().0, 503);
    hub.signal(libc::SIGTERM);
    assert_eq!(hub.ended().await, Some(0), "{}", hub.log());
    assert!(!hub.socket().exists());
    assert!(hub.log().contains("leaving") && hub.log().contains("ended"), "{}", hub.log());
}

/// A service that takes a request and never answers it.
const SILENT: &str = r#"
[[listener]]
name = "web"
address = "127.0.0.1:0"
protocol = "HTTP"
[[service]]
name = "silent"
protocol = "http1"
addresses = ["SERVICE"]
[[http_route]]
name = "everything"
[[http_route.rules]]
backend_refs = [{ service = "silent" }]
"#;

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let service = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut hub = Process::start(&SILENT.replace("SERVICE", &service.local_addr().unwrap().to_string())).await;
    let mut client = Connection::tcp(hub.web().await).await;
    let request = client.get("/");
    let signals = async {
        let _taken = service.accept().await.unwrap();
        hub.signal(libc::SIGTERM);
        eventually("the hub leaves", || async { hub.log().contains("leaving") }).await;
        hub.signal(libc::SIGINT);
        std::future::pending::<()>().await
    };
    let begun = Instant::now();
    let answer = tokio::select! {
        answer = request => answer,
        () = signals => unreachable!("the signals wait for ever"),
    };
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!(hub.ended().await, Some(1), "{}", hub.log());
    assert!(begun.elapsed() < Duration::from_secs(4), "before the drain timeout of 5 s: {:?}", begun.elapsed());
    assert!(hub.log().contains("second signal") && !hub.socket().exists(), "{}", hub.log());
}

#[tokio::test]
async fn sighup_reloads() {
    let hub = Process::start(WEB).await;
    let file = hub.dir.path().join("hub.toml");
    fs::write(&file, format!("{}nonsense = 1\n", fs::read_to_string(&file).unwrap())).unwrap();
    hub.signal(libc::SIGHUP);
    eventually("the signal is heard", || async { hub.log().contains("refused") && hub.log().contains("who=signal") }).await;
    let (_, status) = admin(&hub.socket(), "GET", "/v1/status", None).await;
    assert!(status["config"]["errors"][0].as_str().unwrap().contains("nonsense"), "{status}");
}

#[test]
fn a_second_hub_on_the_same_socket_is_refused_with_the_reason() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime.block_on(Process::start(WEB));
    let output = Command::new(BIN)
        .args(["run", "--config", first.dir.path().join("hub.toml").to_str().unwrap()])
        .stdout(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("another hub answers"), "{}", String::from_utf8_lossy(&output.stderr));
}
