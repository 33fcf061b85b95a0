//! Key, certificate and roots in the state directory: 0600, each written whole or not at all.
//!
//! `join` is often run by root while the agent runs as a user of its own, so what is written belongs to whom the state
//! directory belongs to. Two processes may write at once, while one hands over to the other or a `join` runs beside the service: each
//! writes under a name of its own and renames it into place, and what a killed one left behind goes with the next write. What
//! belongs to another key than the one that is kept is never written: it would outlive the join that replaced it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use figspan_proto::name::{TrustDomain, UplinkName, Zone};
use figspan_tunnel::identity::IdentityError;
use figspan_tunnel::{Identity, KeyPair, Roots};

use super::Kept;
use crate::settings::Address;
use crate::settings::load::JOIN_DROP_IN;

/// How the name of a file ends that is being written.
const BEING_WRITTEN: &str = ".new";

/// What the operator declared with the join, to be kept beside what the grant gave.
#[derive(Debug, Default)]
pub struct Declared {
    /// Workloads to offer.
    pub uplinks: Vec<(UplinkName, Address)>,
    /// Where this machine is.
    pub zone: Option<Zone>,
}

/// Why the state directory could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system.
    #[error("cannot {doing} {}: {source}; {}", .path.display(), mend(.source))]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What stands there is no key or certificate.
    #[error("{} cannot be used: {source}; run `figspan-agent join` with a new grant", .path.display())]
    Content {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: IdentityError,
    },
}

fn mend(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "run it as root or as the user of the service (sudo -u figspan-agent)",
        io::ErrorKind::StorageFull => "free some space on that disk",
        _ => "see state_dir in agent.toml",
    }
}

/// The files of one agent.
#[derive(Debug, Clone)]
pub struct Files {
    state_dir: PathBuf,
}

impl Files {
    /// Files in a state directory, which need not be there yet.
    pub fn new(state_dir: &Path) -> Self {
        Self { state_dir: state_dir.to_owned() }
    }

    /// The private key's file.
    pub fn key(&self) -> PathBuf {
        self.identity_dir().join("key.pem")
    }

    /// The certificate's file.
    pub fn chain(&self) -> PathBuf {
        self.identity_dir().join("chain.pem")
    }

    /// The roots' file.
    pub fn roots(&self) -> PathBuf {
        self.identity_dir().join("roots.pem")
    }

    /// The key of a join whose answer has not come yet: made and kept before the hub is asked, so that whoever loses the answer, or
    /// is ended while it waits, asks again with the same one.
    pub fn joining_key(&self) -> Result<KeyPair, FileError> {
        let path = self.joining();
        if let Some(key) = read(&path)?.and_then(|text| KeyPair::from_pem(&text).ok()) {
            return Ok(key);
        }
        let key = KeyPair::generate().map_err(|source| FileError::Content { path: path.clone(), source })?;
        self.write(&path, &key.to_pem())?;
        Ok(key)
    }

    /// Forgets that key: there is an answer. A machine copied from this one shall not ask with it.
    pub fn forget_joining_key(&self) -> Result<(), FileError> {
        remove(&self.joining())
    }

    /// What is kept; `None` when the agent has never joined.
    pub fn read(&self) -> Result<Option<Kept>, FileError> {
        let Some(chain) = read(&self.chain())? else { return Ok(None) };
        let Some(key) = read(&self.key())? else { return Ok(None) };
        let Some(roots) = read(&self.roots())? else { return Ok(None) };
        let wrong = |path: PathBuf| move |source| FileError::Content { path, source };
        Ok(Some(Kept {
            key: KeyPair::from_pem(&key).map_err(wrong(self.key()))?,
            identity: Identity::from_pem(&chain, &key).map_err(wrong(self.chain()))?,
            roots: Roots::from_pem(&roots).map_err(wrong(self.roots()))?,
        }))
    }

    /// Keeps everything that a join gave, the certificate last: without it the agent has not joined.
    pub fn write_joined(&self, kept: &Kept, hubs: &[String], trust_domain: &TrustDomain, declared: &Declared) -> Result<(), FileError> {
        remove(&self.chain())?;
        self.write(&self.key(), &kept.key.to_pem())?;
        self.write(&self.roots(), &kept.roots.to_pem())?;
        self.write(&self.state_dir.join(JOIN_DROP_IN), &drop_in(hubs, trust_domain, declared))?;
        self.write(&self.chain(), &kept.identity.chain_pem())?;
        self.forget_joining_key()
    }

    /// Tries whether files can be kept, and leaves nothing behind.
    pub fn try_write(&self) -> Result<(), FileError> {
        self.write(&self.trial(), "")?;
        remove(&self.trial())
    }

    /// Keeps a renewed certificate of this key; false where another join has put another key there, whose certificate it is not.
    pub fn renew_chain(&self, identity: &Identity, key: &KeyPair) -> Result<bool, FileError> {
        self.replace(&self.chain(), &identity.chain_pem(), key)
    }

    /// Keeps roots that whoever has this key shall trust; false where another join has put another key there.
    pub fn renew_roots(&self, roots: &Roots, key: &KeyPair) -> Result<bool, FileError> {
        self.replace(&self.roots(), &roots.to_pem(), key)
    }

    fn replace(&self, path: &Path, text: &str, key: &KeyPair) -> Result<bool, FileError> {
        let kept = read(&self.key())?.and_then(|text| KeyPair::from_pem(&text).ok());
        if kept.is_some_and(|kept| kept.to_pem() != key.to_pem()) {
            return Ok(false);
        }
        self.write(path, text).map(|()| true)
    }

    fn joining(&self) -> PathBuf {
        self.identity_dir().join("joining.pem")
    }

    fn trial(&self) -> PathBuf {
        self.identity_dir().join("try")
    }

    fn identity_dir(&self) -> PathBuf {
        self.state_dir.join("identity")
    }

    fn write(&self, path: &Path, text: &str) -> Result<(), FileError> {
        let fail = |doing| {
            let path = path.to_owned();
            move |source| FileError::Io { doing, path, source }
        };
        let dir = path.parent().unwrap_or(&self.state_dir);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(fail("make the directory of"))?;
        let owner = fs::metadata(&self.state_dir).map_err(fail("look at the directory of"))?;
        self.sweep(dir);
        let (temporary, mut file) = being_written(path).map_err(fail("create"))?;
        file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(fail("protect"))?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(fail("write"))?;
        for path in [temporary.as_path(), dir] {
            give(path, &owner).map_err(fail("give away"))?;
        }
        fs::rename(&temporary, path).map_err(fail("replace"))?;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(fail("keep"))
    }

    /// Removes what writers left behind that were ended in the middle; one that lives holds its file's lock. A left-over that stays
    /// does no harm but to take room, so nothing fails here.
    fn sweep(&self, dir: &Path) {
        let files = [self.key(), self.chain(), self.roots(), self.joining(), self.trial(), self.state_dir.join(JOIN_DROP_IN)];
        let names: Vec<&str> = files.iter().filter_map(|path| path.file_name()?.to_str()).collect();
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let start = name.to_str().and_then(|name| name.strip_suffix(BEING_WRITTEN));
            let of =
                |name: &&str| start.and_then(|start| start.strip_prefix(name)).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
            let ours = names.iter().any(of);
            if ours
                && entry.file_type().is_ok_and(|kind| kind.is_file())
                && let Ok(left) = File::open(entry.path())
                && left.try_lock().is_ok()
            {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// Makes a file beside `path` that no other writer has, locked for as long as it is open.
fn being_written(path: &Path) -> io::Result<(PathBuf, File)> {
    loop {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{:016x}{BEING_WRITTEN}", rand::random::<u64>()));
        let name = PathBuf::from(name);
        let file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(error),
        };
        // Where files cannot be locked, nobody takes one for a left-over either.
        let _ = file.lock();
        // Another writer may have done so just before.
        if file.metadata()?.nlink() > 0 {
            return Ok((name, file));
        }
    }
}

/// Gives a file to the owner of the state directory; only root has to, and only root can.
fn give(path: &Path, owner: &fs::Metadata) -> io::Result<()> {
    let now = fs::metadata(path)?;
    if (now.uid(), now.gid()) == (owner.uid(), owner.gid()) {
        return Ok(());
    }
    std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid()))
}

fn read(path: &Path) -> Result<Option<String>, FileError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FileError::Io { doing: "read", path: path.to_owned(), source }),
    }
}

fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(FileError::Io { doing: "remove", path: path.to_owned(), source }),
        _ => Ok(()),
    }
}

fn drop_in(hubs: &[String], trust_domain: &TrustDomain, declared: &Declared) -> String {
    let hubs: Vec<String> = hubs.iter().map(|hub| format!("{hub:?}")).collect();
    let zone = declared.zone.as_ref().map(|zone| format!("zone = \"{zone}\"\n")).unwrap_or_default();
    let uplinks: String =
        declared.uplinks.iter().map(|(name, address)| format!("\n[[uplink]]\nname = \"{name}\"\naddress = \"{address}\"\n")).collect();
    format!(
        "# Written by `figspan-agent join`. Do not edit: what agent.toml says wins over it.\nhubs = [{}]\ntrust_domain = \"{trust_domain}\"\n{zone}{uplinks}",
        hubs.join(", ")
    )
}

#[cfg(test)]
mod tests;
