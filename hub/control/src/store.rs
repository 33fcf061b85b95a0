//! The state directory: what must outlive the process.
//!
//! Every file is written whole: to a temporary name with mode 0600, synced, renamed over the old one, and the directory
//! synced. A file that cannot be read back stops the start with an error that names it: this hub never silently forgets
//! grants, revocations or weights. One process at a time holds the directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Layout of the state files; a newer one is refused.
const VERSION: u32 = 1;

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The directory cannot be opened.
    #[error("cannot use state directory {}: {source}; create it for the user that runs the hub, or correct hub.state_dir", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process holds it.
    #[error("state directory {} is in use by another hub; stop that one, or give this one a directory of its own (hub.state_dir)", .0.display())]
    InUse(PathBuf),
    /// A file cannot be read.
    #[error("cannot read state file {}: {source}; correct its owner and mode (0600)", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("state file {} is damaged: {why}; restore it from a backup, or move it away to start without what it held", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A file cannot be written; what was there before is still there.
    #[error("cannot write state file {}: {source}; free space, or correct the directory's owner; nothing was changed", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<T> {
    version: u32,
    data: T,
}

/// The state directory, held.
#[derive(Debug)]
pub(crate) struct Store {
    dir: PathBuf,
    lock: Mutex<Option<File>>,
}

impl Store {
    /// Makes the directory where missing (0700) and takes hold of it.
    pub(crate) fn open(dir: &Path) -> Result<Arc<Self>, StoreError> {
        let fail = |source| StoreError::Directory { path: dir.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(fail)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(dir.join("lock")).map_err(fail)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(StoreError::InUse(dir.to_owned())),
            Err(fs::TryLockError::Error(error)) => return Err(fail(error)),
        }
        Ok(Arc::new(Self { dir: dir.to_owned(), lock: Mutex::new(Some(lock)) }))
    }

    /// Lets go of the directory; nothing may be written afterwards.
    pub(crate) fn release(&self) {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Full path of a file.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Reads a file; `None` when there is none.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StoreError> {
        let path = self.path(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::Read { path, source }),
        };
        let damaged = |why: String| StoreError::Damaged { path: path.clone(), why };
        let envelope: Envelope<serde_json::Value> = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if envelope.version != VERSION {
            return Err(damaged(format!("its layout is number {}, and this hub knows {VERSION}", envelope.version)));
        }
        serde_json::from_value(envelope.data).map(Some).map_err(|error| damaged(error.to_string()))
    }

    /// Replaces a file. Blocks for the disk; see [`Store::save`].
    pub(crate) fn write<T: Serialize>(&self, name: &str, data: &T) -> Result<(), StoreError> {
        let path = self.path(name);
        let result = serde_json::to_vec_pretty(&Envelope { version: VERSION, data })
            .map_err(io::Error::other)
            .and_then(|bytes| self.replace(&path, &bytes));
        result.map_err(|source| StoreError::Write { path, source })
    }

    /// Replaces a file without blocking the runtime.
    pub(crate) async fn save<T: Serialize + Send + 'static>(self: &Arc<Self>, name: &'static str, data: T) -> Result<(), StoreError> {
        let store = Arc::clone(self);
        match tokio::task::spawn_blocking(move || store.write(name, &data)).await {
            Ok(result) => result,
            Err(error) => Err(StoreError::Write { path: self.path(name), source: io::Error::other(error) }),
        }
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if self.lock.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            return Err(io::Error::other("the hub has stopped"));
        }
        let temporary = path.with_extension("tmp");
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(&self.dir)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_written_reads_back_and_is_for_the_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.read::<Vec<u32>>("list.json").unwrap(), None);
        store.write("list.json", &vec![1, 2]).unwrap();
        assert_eq!(store.read::<Vec<u32>>("list.json").unwrap(), Some(vec![1, 2]));
        let mode = fs::metadata(dir.path().join("list.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!dir.path().join("list.tmp").exists());
    }

    #[test]
    fn a_damaged_or_newer_file_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        for text in ["", "{", r#"{"version":1}"#, r#"{"version":2,"data":[]}"#, r#"{"version":1,"data":["x"]}"#] {
            fs::write(dir.path().join("list.json"), text).unwrap();
            let error = store.read::<Vec<u32>>("list.json").unwrap_err().to_string();
            assert!(error.contains("list.json") && error.contains("move it away"), "{error}");
        }
    }

    #[test]
    fn a_directory_has_one_user_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert!(matches!(Store::open(dir.path()), Err(StoreError::InUse(_))));
        store.release();
        assert!(store.write("list.json", &1).is_err());
        assert!(Store::open(dir.path()).is_ok());
    }
}
