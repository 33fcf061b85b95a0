//! Handing the machine over to a new process of the same agent, so that an upgrade of the only agent loses nothing.
//!
//! The one that serves starts the program anew and goes on serving; the new one brings up its own tunnels and says when hubs
//! know it; only then it is made the main process, and the old one lets hubs turn away from it and finishes its streams. They
//! talk over the new one's standard input; with its last byte the old one hands over the open listeners of services, so that no
//! connection that the kernel has taken is lost. A new one that fails changes nothing: the old one stays.
//!
//! The new one is no child of the old one but of whoever keeps orphans, the service manager: only of its own children it hears at
//! once when they die, and the old process may take long to finish. A process of the old program stands between the two for a
//! moment, so that it is so whatever version the new one is of.

use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::Instant;

use crate::settings::service::MAX_SERVICES;

/// Tells a new process that another one serves, and over how many tunnels.
const VARIABLE: &str = "FIGSPAN_HANDOVER";
/// Names the program that a process is to start, which thus is nobody's child, and to end.
const STARTS: &str = "FIGSPAN_HANDOVER_STARTS";
/// This process's own program, also where its file is gone.
const OWN: &str = "/proc/self/exe";
/// How long a new process may take. Hubs answer within seconds, or the old process is the better one.
const READY_TIME: Duration = Duration::from_secs(30);
/// Longest message: as many places as an agent may have, each as long as it may be.
const MESSAGE: usize = 16 * 1024;
const STARTED: u8 = b's';
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

    /// Starts it anew, beside this process with its tunnels.
    pub(super) fn succeed(&self, tunnels: usize) -> io::Result<Successor> {
        let (ours, theirs) = net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let channel = UnixStream::from_std(ours)?;
        let child = Command::new(OWN)
            .args(std::env::args_os().skip(1))
            .env(VARIABLE, tunnels.to_string())
            .env(STARTS, &self.0)
            // It names this process; the new one will be the one to feed the watchdog.
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()?;
        Ok(Successor { process: child.id(), child, channel, deadline: Instant::now() + READY_TIME })
    }
}

/// What to do first of all: true when this process only had to start a program, and is to end.
pub(super) fn stands_between() -> io::Result<bool> {
    let Some(program) = std::env::var_os(STARTS) else { return Ok(false) };
    let channel = net::UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let new = Command::new(program).args(std::env::args_os().skip(1)).env_remove(STARTS).spawn()?;
    let [a, b, c, d] = new.id().to_be_bytes();
    (&channel).write_all(&[STARTED, a, b, c, d])?;
    Ok(true)
}

/// The new process, as the old one sees it.
#[derive(Debug)]
pub(super) struct Successor {
    /// Its id; until that is known, the id of the one between.
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
        loop {
            match tokio::time::timeout_at(self.deadline, word(&self.channel)).await {
                Ok(Some(STARTED)) => {
                    let mut id = [0; 4];
                    // Written together with the word.
                    if self.channel.try_read(&mut id).is_ok_and(|read| read == id.len()) {
                        self.process = u32::from_be_bytes(id);
                    }
                }
                Ok(Some(READY)) => {
                    // The one between has ended long since.
                    let _ = self.child.try_wait();
                    return Ok(());
                }
                Ok(_) => return Err("it ended; its last lines in the log say why".to_owned()),
                Err(_) => return Err(format!("its tunnels were not up within {} s", READY_TIME.as_secs())),
            }
        }
    }

    /// The machine is the new process's, and so are these listeners; false when it is gone.
    pub(super) fn hand_over(&self, listeners: &[(String, OwnedFd)]) -> bool {
        // Places hold no line ends: they were read from settings.
        let names: Vec<&str> = listeners.iter().map(|(place, _)| place.as_str()).collect();
        let message = [&[YOURS][..], names.join("\n").as_bytes()].concat();
        let fds: Vec<_> = listeners.iter().map(|(_, fd)| fd.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SERVICES))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
            return false;
        }
        let sent = rustix::net::sendmsg(&self.channel, &[IoSlice::new(&message)], &mut control, SendFlags::NOSIGNAL);
        sent.is_ok_and(|sent| sent == message.len())
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

    /// Says that this process can take over, and waits for it. The listeners that come with the machine, when it is ours: also
    /// when the old process is gone, for then nobody else serves it. `None`: it is not ours.
    pub(super) async fn take_over(&self) -> Option<Vec<(String, OwnedFd)>> {
        let _ = self.channel.try_write(&[READY]);
        let heard = self.channel.async_io(Interest::READABLE, || receive(&self.channel)).await;
        match heard {
            Ok((message, _)) if message.first() == Some(&NO) => None,
            Ok((message, fds)) => {
                let names = String::from_utf8_lossy(message.get(1..).unwrap_or_default()).into_owned();
                Some(names.split('\n').map(str::to_owned).zip(fds).collect())
            }
            Err(_) => Some(Vec::new()),
        }
    }

    /// Waits until the old process has dismissed this one, or is gone: whether it is gone. Cancel-safe.
    pub(super) async fn gone(&self) -> bool {
        word(&self.channel).await != Some(NO)
    }
}

/// A message and the descriptors that came with it; empty at the end.
fn receive(channel: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut message = vec![0; MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SERVICES))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(channel, &mut [IoSliceMut::new(&mut message)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let rights = control.drain().filter_map(|part| match part {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let fds = rights.flatten().collect();
    message.truncate(received.bytes);
    Ok((message, fds))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn listeners_come_over_with_their_names_and_go_on() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let child = Command::new("true").spawn().unwrap();
        let mut old = Successor { process: 0, child, channel: ours, deadline: Instant::now() + READY_TIME };
        let new = Predecessor { channel: theirs, tunnels: 0 };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        new.channel.try_write(&[STARTED, 0, 0, 0, 77]).unwrap();
        let handing = async {
            old.ready().await.unwrap();
            assert_eq!(old.id(), 77, "the one between says who it is");
            assert!(old.hand_over(&[(address.to_string(), listener.try_clone().unwrap().into()), ("b".to_owned(), listener.into())]));
        };
        let (taken, ()) = tokio::join!(new.take_over(), handing);
        let mut taken = taken.unwrap();
        assert_eq!(taken.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), [&address.to_string(), "b"]);
        let listener = std::net::TcpListener::from(taken.remove(0).1);
        let client = std::net::TcpStream::connect(address).unwrap();
        assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
        old.dismiss().wait().unwrap();
    }

    #[tokio::test]
    async fn a_machine_without_services_is_handed_over_with_one_byte_as_ever() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let child = Command::new("true").spawn().unwrap();
        let old = Successor { process: 0, child, channel: ours, deadline: Instant::now() + READY_TIME };
        assert!(old.hand_over(&[]));
        assert_eq!(word(&theirs).await, Some(YOURS), "a process from before services understands it");
        let new = Predecessor { channel: theirs, tunnels: 0 };
        let mut child = old.dismiss();
        child.wait().unwrap();
        assert!(new.take_over().await.is_none(), "dismissed");
    }
}
