//! Key, certificate and roots in the state directory: 0600, each written whole or not at all.
//!
//! `join` is often run by root while the agent runs as a user of its own, so what is written belongs to whom the state
//! directory belongs to.

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
        self.write_roots(&kept.roots)?;
        self.write(&self.state_dir.join(JOIN_DROP_IN), &drop_in(hubs, trust_domain, declared))?;
        self.write_chain(&kept.identity)?;
        self.forget_joining_key()
    }

    /// Tries whether files can be kept, and leaves nothing behind.
    pub fn try_write(&self) -> Result<(), FileError> {
        let path = self.identity_dir().join("try");
        self.write(&path, "")?;
        remove(&path)
    }

    /// Keeps a certificate.
    pub fn write_chain(&self, identity: &Identity) -> Result<(), FileError> {
        self.write(&self.chain(), &identity.chain_pem())
    }

    /// Keeps roots.
    pub fn write_roots(&self, roots: &Roots) -> Result<(), FileError> {
        self.write(&self.roots(), &roots.to_pem())
    }

    fn joining(&self) -> PathBuf {
        self.identity_dir().join("joining.pem")
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
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        remove(&temporary)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).map_err(fail("create"))?;
        file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(fail("protect"))?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(fail("write"))?;
        for path in [temporary.as_path(), dir] {
            give(path, &owner).map_err(fail("give away"))?;
        }
        fs::rename(&temporary, path).map_err(fail("replace"))?;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(fail("keep"))
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
mod tests {
    use super::*;
    use figspan_proto::name::Role;
    use figspan_tunnel::testing::Authority;
    use std::time::{Duration, SystemTime};

    fn kept(authority: &Authority) -> Kept {
        let key = KeyPair::generate().unwrap();
        let id =
            figspan_proto::name::SpiffeId { trust_domain: authority.ca.trust_domain().clone(), role: Role::Agent("vm-1".parse().unwrap()) };
        let chain = authority.ca.issue(&id, &key.csr().unwrap(), SystemTime::now(), Duration::from_secs(60)).unwrap();
        Kept { identity: Identity::from_der(chain, &key).unwrap(), key, roots: authority.ca.roots() }
    }

    #[test]
    fn what_a_join_gave_is_read_back_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(&dir.path().join("state"));
        assert!(files.read().unwrap().is_none());
        let authority = Authority::new();
        let joined = kept(&authority);
        let declared = Declared {
            uplinks: [("shop".parse().unwrap(), "127.0.0.1:8080".parse().unwrap())].into(),
            zone: Some("eu-1a".parse().unwrap()),
        };
        files.write_joined(&joined, &["hub.example:7443".to_owned()], authority.ca.trust_domain(), &declared).unwrap();
        let back = files.read().unwrap().unwrap();
        assert_eq!(back.identity.chain_pem(), joined.identity.chain_pem());
        for file in [files.key(), files.chain(), files.roots()] {
            assert_eq!(fs::metadata(file).unwrap().mode() & 0o777, 0o600);
        }
        let mut reader = crate::settings::read::Reader::default();
        reader.read("join", &fs::read_to_string(dir.path().join("state").join(JOIN_DROP_IN)).unwrap());
        let (settings, _) = reader.finish().unwrap();
        assert_eq!(settings.hubs, ["hub.example:7443"]);
        assert_eq!((&settings.uplinks[0].name, &settings.uplinks[0].address), (&declared.uplinks[0].0, &declared.uplinks[0].1));
        assert_eq!(settings.zone, declared.zone);
        // Another join replaces all of it.
        let other = kept(&authority);
        files.write_joined(&other, &["other:1".to_owned()], authority.ca.trust_domain(), &Declared::default()).unwrap();
        assert_eq!(files.read().unwrap().unwrap().identity.chain_pem(), other.identity.chain_pem());
    }

    #[test]
    fn the_key_of_a_join_stays_the_same_until_its_answer_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(dir.path());
        let first = files.joining_key().unwrap().to_pem();
        assert_eq!(files.joining_key().unwrap().to_pem(), first);
        assert_eq!(fs::metadata(files.joining()).unwrap().mode() & 0o777, 0o600);
        let authority = Authority::new();
        files.write_joined(&kept(&authority), &["hub:1".to_owned()], authority.ca.trust_domain(), &Declared::default()).unwrap();
        assert!(!files.joining().exists());
        assert_ne!(files.joining_key().unwrap().to_pem(), first);
    }

    #[test]
    fn a_key_of_another_certificate_is_told_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(dir.path());
        let authority = Authority::new();
        files.write_joined(&kept(&authority), &["hub:1".to_owned()], authority.ca.trust_domain(), &Declared::default()).unwrap();
        fs::write(files.key(), KeyPair::generate().unwrap().to_pem()).unwrap();
        let error = files.read().unwrap_err().to_string();
        assert!(error.contains("chain.pem") && error.contains("figspan-agent join"), "{error}");
    }
}
