//! The agents: processes of their own, this same binary run again, each as it would run on a VM.
//!
//! An agent lives as long as its standard input is open. When this process ends, however it ends, the kernel closes the pipe,
//! and the agent drains and ends by itself; to stop one, the pipe is closed on purpose.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use figspan_proto::name::AgentName;
use tokio::time::Instant;

/// The hidden subcommand under which this binary is an agent.
pub(crate) const SUBCOMMAND: &str = "agent";

/// Longest wait for an agent to drain and end; its own drain_timeout is shorter.
const STOP_TIME: Duration = Duration::from_secs(15);

/// Lines of a log shown when an agent ends by itself.
const LOG_TAIL: usize = 15;

/// One agent.
#[derive(Debug)]
pub(crate) struct AgentProcess {
    pub(crate) name: AgentName,
    dir: PathBuf,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    /// Open as long as the agent shall live.
    alive: ChildStdin,
}

impl AgentProcess {
    /// Prepares an agent in a directory of its own, with its agent.toml.
    pub(crate) fn prepare(name: AgentName, dir: PathBuf, settings: &str) -> anyhow::Result<Self> {
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let file = dir.join("agent.toml");
        fs::write(&file, settings).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Self { name, dir, running: None })
    }

    /// Whether it has joined before (a kept --state-dir, or a restart).
    pub(crate) fn has_joined(&self) -> bool {
        self.dir.join("state/identity/chain.pem").exists()
    }

    /// Starts it. With a token it joins first. The token goes through a file of this user's: never into arguments or the
    /// environment.
    pub(crate) fn start(&mut self, token: Option<&str>) -> anyhow::Result<()> {
        let log = self.dir.join("agent.log");
        let log = File::options().create(true).append(true).open(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let mut command = Command::new(program);
        command.arg(SUBCOMMAND).arg("--config").arg(self.dir.join("agent.toml"));
        if let Some(token) = token {
            let file = self.token_file();
            let write = File::options().create(true).write(true).truncate(true).mode(0o600).open(&file);
            write.and_then(|mut file| file.write_all(token.as_bytes())).with_context(|| format!("cannot write {}", file.display()))?;
            command.arg("--token-file").arg(file);
        }
        // What systemd says to this process is not meant for its agents.
        command.env_remove("NOTIFY_SOCKET").env_remove("CREDENTIALS_DIRECTORY").env_remove("WATCHDOG_USEC");
        // A Ctrl-C on the terminal is meant for this process, which ends its agents in order.
        command.process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        let mut child = command.spawn().with_context(|| format!("cannot start agent {}", self.name))?;
        let Some(alive) = child.stdin.take() else { bail!("agent {} has no standard input", self.name) };
        self.running = Some(Running { child, alive });
        Ok(())
    }

    /// It has joined: the token is of no use any more.
    pub(crate) fn joined(&self) {
        let _ = fs::remove_file(self.token_file());
    }

    fn token_file(&self) -> PathBuf {
        self.dir.join("token")
    }

    /// An error when it ended by itself.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        let ended = self.running.as_mut().and_then(|running| running.child.try_wait().ok().flatten());
        match ended {
            Some(status) => bail!("agent {} ended by itself ({status}); its log says:\n{}", self.name, self.log_tail()),
            None => Ok(()),
        }
    }

    /// Lets it drain and end; ends it by force after a while, and says so.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        let Some(Running { mut child, alive }) = self.running.take() else { return Ok(()) };
        drop(alive);
        let deadline = Instant::now() + STOP_TIME;
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => bail!("agent {} ended with {status}; its log says:\n{}", self.name, self.log_tail()),
                Ok(None) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(20)).await,
                Ok(None) | Err(_) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    bail!("agent {} did not end within {STOP_TIME:?} and was killed; its log says:\n{}", self.name, self.log_tail());
                }
            }
        }
    }

    /// The end of its log.
    pub(crate) fn log_tail(&self) -> String {
        tail(&self.dir.join("agent.log"), LOG_TAIL)
    }
}

impl Drop for AgentProcess {
    fn drop(&mut self) {
        // Closing the pipe ends it; whoever wants to know how has called `stop`.
        if let Some(Running { mut child, alive }) = self.running.take() {
            drop(alive);
            let _ = child.try_wait();
        }
    }
}

/// The last lines of a file.
pub(crate) fn tail(file: &Path, lines: usize) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let all: Vec<_> = text.lines().collect();
    let last = all[all.len().saturating_sub(lines)..].iter().map(|line| format!("  {}", figspan_proto::control::plain(line)));
    last.collect::<Vec<_>>().join("\n")
}
