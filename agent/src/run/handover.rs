//! Handing the machine over to a new process of the same agent, so that an upgrade of the only agent loses nothing.
//!
//! The one that serves starts the program anew and goes on serving; the new one brings up its own tunnels and says when hubs
//! know it; only then it is made the main process, and the old one lets hubs turn away from it and finishes its streams. They
//! talk over the new one's standard input. A new one that fails changes nothing: the old one stays.
//!
//! The new one is no child of the old one but of whoever keeps orphans, the service manager: only of its own children it hears at
//! once when they die, and the old process may take long to finish.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::Instant;

/// Tells a new process that another one serves, and over how many tunnels.
const VARIABLE: &str = "FIGSPAN_HANDOVER";
/// Tells a process that is started so to start another one in its place, which thus is nobody's child, and to end.
const ASIDE: &str = "FIGSPAN_HANDOVER_ASIDE";
/// How long a new process may take. Hubs answer within seconds, or the old process is the better one.
const READY_TIME: Duration = Duration::from_secs(30);
const READY: u8 = b'r';
const YOURS: u8 = b'y';
const NO: u8 = b'n';

/// The program as it was started: an upgrade puts another file in its place, and that is the one to start.
#[derive(Debug, Clone)]
pub(super) struct Program(PathBuf);

impl Program {
    /// To be called at the start, while the file is the one that runs.
    pub(super) fn find() -> io::Result<Self> {
        std::env::current_exe().map(Self)
    }

    /// What to do first of all: true when this process has started another one in its place, and is to end.
    pub(super) fn steps_aside(&self) -> io::Result<bool> {
        if std::env::var_os(ASIDE).is_none() {
            return Ok(false);
        }
        Command::new(&self.0).args(std::env::args_os().skip(1)).env_remove(ASIDE).spawn().map(|_| true)
    }

    /// Starts it anew, beside this process with its tunnels.
    pub(super) fn succeed(&self, tunnels: usize) -> io::Result<Successor> {
        let (ours, theirs) = net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let channel = UnixStream::from_std(ours)?;
        let child = Command::new(&self.0)
            .args(std::env::args_os().skip(1))
            .env(VARIABLE, tunnels.to_string())
            .env(ASIDE, "1")
            // It names this process; the new one will be the one to feed the watchdog.
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()?;
        Ok(Successor { process: child.id(), child, channel, deadline: Instant::now() + READY_TIME })
    }
}

/// The new process, as the old one sees it.
#[derive(Debug)]
pub(super) struct Successor {
    /// The one that serves; until it has said who it is, the one that was started.
    process: u32,
    child: Child,
    channel: UnixStream,
    deadline: Instant,
}

impl Successor {
    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        self.process
    }

    /// Waits until it can take over; an error says why it cannot. Cancel-safe.
    pub(super) async fn ready(&mut self) -> Result<(), String> {
        match tokio::time::timeout_at(self.deadline, word(&self.channel)).await {
            Ok(Some(READY)) => {
                // Of one that did not step aside nothing follows.
                let mut id = [0; 4];
                if self.channel.try_read(&mut id).is_ok_and(|read| read == id.len()) {
                    self.process = u32::from_be_bytes(id);
                    // It has ended long since: its place was taken before there were tunnels.
                    let _ = self.child.try_wait();
                }
                Ok(())
            }
            Ok(_) => Err("it ended; its last lines in the log say why".to_owned()),
            Err(_) => Err(format!("its tunnels were not up within {} s", READY_TIME.as_secs())),
        }
    }

    /// The machine is the new process's; false when it is gone.
    pub(super) fn hand_over(&self) -> bool {
        self.channel.try_write(&[YOURS]).is_ok()
    }

    /// It is not wanted any more: it finishes what it has taken on, and ends.
    pub(super) fn dismiss(self) -> Child {
        // Who is gone needs no word.
        let _ = self.channel.try_write(&[NO]);
        self.child
    }
}

/// The old process, as the new one sees it.
#[derive(Debug)]
pub(super) struct Predecessor {
    channel: UnixStream,
    /// Tunnels that it has.
    pub(super) tunnels: usize,
}

impl Predecessor {
    /// The process that started this one to take over, if one did.
    pub(super) fn find() -> io::Result<Option<Self>> {
        let Some(tunnels) = std::env::var_os(VARIABLE) else { return Ok(None) };
        let tunnels = tunnels.to_str().and_then(|text| text.parse().ok());
        let tunnels = tunnels.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{VARIABLE} is no number; unset it")))?;
        let channel = net::UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        channel.set_nonblocking(true)?;
        Ok(Some(Self { channel: UnixStream::from_std(channel)?, tunnels }))
    }

    /// Says that this process can take over, and waits for it. True when the machine is ours: also when the old process is
    /// gone, for then nobody else serves it.
    pub(super) async fn take_over(&self) -> bool {
        let [a, b, c, d] = std::process::id().to_be_bytes();
        let _ = self.channel.try_write(&[READY, a, b, c, d]);
        word(&self.channel).await != Some(NO)
    }

    /// Waits until the old process has dismissed this one, or is gone: whether it is gone. Cancel-safe.
    pub(super) async fn gone(&self) -> bool {
        word(&self.channel).await != Some(NO)
    }
}

/// The next byte; `None` at the end. Cancel-safe.
async fn word(channel: &UnixStream) -> Option<u8> {
    let mut byte = [0];
    loop {
        channel.readable().await.ok()?;
        match channel.try_read(&mut byte) {
            Ok(0) => return None,
            Ok(_) => return Some(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
    }
}
