//! Where a run keeps its files, ports and keys, and how it starts programs.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tempfile::TempDir;

use crate::keys;

/// How long a program may take until it listens.
const START: Duration = Duration::from_secs(20);

/// Folder, keys and origin of one run.
pub struct Bed {
    folder: TempDir,
    /// Where the install script puts programs that Debian does not have.
    peers: PathBuf,
}

impl Bed {
    /// Makes the folder and the keys that peers use between their two ends.
    pub fn new() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("figspan-bench-").tempdir().context("no folder for this run")?;
        // Workers of nginx started by root run as another user and read files here.
        fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        keys::write(folder.path())?;
        Ok(Self { folder, peers: figspan_tests::architecture::root().join("target/bench-peers") })
    }

    /// The folder, as text for configurations.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file and says where it is.
    pub fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let file = self.path().join(name);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    }

    /// Where a program is: among the installed peers, else on the PATH (and where Debian keeps daemons).
    pub fn find(&self, program: &str) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let own = [self.peers.join("bin"), self.peers.join("venv/bin")];
        own.into_iter()
            .chain(std::env::split_paths(&path))
            .chain([PathBuf::from("/usr/sbin")])
            .map(|folder| folder.join(program))
            .find(|file| file.is_file())
    }

    /// Starts a program that stays in the foreground; what it says goes to `NAME.log`.
    pub fn start(&self, name: &str, program: &Path, arguments: &[&str]) -> anyhow::Result<Part> {
        let log = File::create(self.path().join(format!("{name}.log")))?;
        let child = Command::new(program)
            .args(arguments)
            .current_dir(self.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("{} does not start", program.display()))?;
        Ok(Part { name: name.to_owned(), child })
    }

    /// Waits until something listens there; else says what the program said.
    pub fn listens(&self, part: &mut Part, address: SocketAddr) -> anyhow::Result<()> {
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            if part.child.try_wait()?.is_some() || start.elapsed() > START {
                let log = fs::read_to_string(self.path().join(format!("{}.log", part.name))).unwrap_or_default();
                bail!("{} does not listen on {address}:\n{log}", part.name);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// A running program; ends with this value.
pub struct Part {
    name: String,
    child: Child,
}

impl Part {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let family = crate::procs::family(self.child.id());
        let _ = self.child.kill();
        let _ = self.child.wait();
        for id in family.into_iter().skip(1) {
            let _ = Command::new("kill").args(["-KILL", &id.to_string()]).stderr(Stdio::null()).status();
        }
    }
}

/// An address of the loopback for programs that cannot tell which port they were given.
pub use figspan_tests::port::kept as port;

/// The address of the hop between the two ends of each chain, so that a network can be put there (`tests/bench/network`).
pub const BETWEEN: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// The same as [`port`], between the two ends of a chain.
pub fn between() -> SocketAddr {
    figspan_tests::port::kept_on(BETWEEN)
}
