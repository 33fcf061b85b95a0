//! Whole hubs in this process, with scripted agents over real tunnels, and the real binary.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "hub/agent.rs"]
mod agent;
#[path = "hub/binary.rs"]
mod binary;
#[path = "hub/calls.rs"]
mod calls;
#[path = "hub/client.rs"]
mod client;
#[path = "hub/drain.rs"]
mod drain;
#[path = "hub/operate.rs"]
mod operate;
#[path = "hub/reload.rs"]
mod reload;
#[path = "hub/tls.rs"]
mod tls;
#[path = "hub/traffic.rs"]
mod traffic;

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use figspan_hub::{Config, Hub, Options, Running};
use tempfile::TempDir;

/// Longest wait for anything in these tests.
const SOON: Duration = Duration::from_secs(15);

/// A hub with a directory of its own; every port is the kernel's choice.
struct TestHub {
    running: Running,
    dir: TempDir,
}

/// What every configuration in these tests begins with.
fn preamble(dir: &TempDir) -> String {
    let dir = dir.path().display();
    format!(
        "[hub]\nreplica = \"hub-0\"\nstate_dir = \"{dir}/state\"\nshards = 2\nlame_duck = \"0s\"\ndrain_timeout = \"5s\"\n\
         [tunnel]\naddress = \"127.0.0.1:0\"\n[admin]\nsocket = \"{dir}/admin.sock\"\n[metrics]\naddress = \"127.0.0.1:0\"\n"
    )
}

/// A listener `web` whose requests all go to the uplink `monolith`.
const WEB: &str = r#"
[[listener]]
name = "web"
address = "127.0.0.1:0"
protocol = "HTTP"
[[http_route]]
name = "everything"
listeners = ["web"]
[[http_route.rules]]
backend_refs = [{ uplink = "monolith" }]
"#;

impl TestHub {
    /// Starts on a file that holds these routes.
    fn start(routes: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hub.toml");
        std::fs::write(&file, preamble(&dir) + routes).unwrap();
        let running = Hub::start(Options::new(Config::File(file))).unwrap();
        Self { running, dir }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("hub.toml")
    }

    /// Writes other routes into the file.
    fn rewrite(&self, routes: &str) {
        std::fs::write(self.file(), preamble(&self.dir) + routes).unwrap();
    }
}

/// Tries until it holds.
async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let end = tokio::time::Instant::now() + SOON;
    while !holds().await {
        assert!(tokio::time::Instant::now() < end, "{what}: not within {SOON:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
