//! The key of session cookies: a file that the first start makes and that replicas share.
//!
//! One key of 32 bytes in base64 on each line; the first seals, all open. So the key is changed without losing a session: put
//! the new one first, restart the replicas one by one, and take the old one out when its sessions have ended.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use figspan_data::seal::{KEY, MAX_KEYS, Sealer};
use tempfile::NamedTempFile;

/// Name of the file in the state directory, where the settings name none.
pub(crate) const FILE: &str = "session.key";

/// Keys, and since when every session that they sealed is known.
pub(crate) struct SessionKeys {
    pub(crate) sealer: Sealer,
    /// Unix time in seconds; 0 where this start made the key, so that there can be no older session.
    pub(crate) since: u64,
}

/// Reads the file, or makes it with a fresh key.
pub(crate) fn open(path: &Path) -> Result<SessionKeys, String> {
    let fail = |why: String, mend: &str| format!("cannot use the key of session cookies {}: {why}; {mend}", path.display());
    let unwritable = |error: io::Error| fail(error.to_string(), "let the hub's user write there, or correct hub.session_key_file");
    let unreadable = |error: io::Error| fail(error.to_string(), "let the hub's user read it, or correct hub.session_key_file");
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key: [u8; KEY] = rand::random();
            if write(path, &key).map_err(unwritable)? {
                return Ok(SessionKeys { sealer: Sealer::new(&[key]), since: 0 });
            }
            // Another replica that starts at the same time was first: its key is everybody's. Or it is a link that leads nowhere.
            std::fs::read_to_string(path)
        }
        text => text,
    };
    let keys = read(&text.map_err(unreadable)?)
        .map_err(|why| fail(why, "write 32 bytes in base64 on each line, or remove the file to get a fresh one"))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Ok(SessionKeys { sealer: Sealer::new(&keys), since: now })
}

fn read(text: &str) -> Result<Vec<[u8; KEY]>, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let key = |line: &str| BASE64_STANDARD.decode(line).ok().and_then(|bytes| bytes.try_into().ok());
    let keys: Option<Vec<[u8; KEY]>> = lines.map(key).collect();
    match keys {
        None => Err("a line is not a key".to_owned()),
        Some(keys) if keys.is_empty() => Err("it holds no key".to_owned()),
        Some(keys) if keys.len() > MAX_KEYS => Err(format!("it holds {} keys, and {MAX_KEYS} are the most", keys.len())),
        Some(keys) => Ok(keys),
    }
}

/// Written whole under a name of its own first: a start that ends in the middle leaves no half a key, and of several starts at once one
/// is the first. Whether this one is.
fn write(path: &Path, key: &[u8; KEY]) -> io::Result<bool> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Made for its owner alone.
    let mut fresh = NamedTempFile::with_prefix_in(".session-key-", folder)?;
    writeln!(fresh, "{}", BASE64_STANDARD.encode(key))?;
    fresh.as_file().sync_all()?;
    match fresh.persist_noclobber(path) {
        Ok(_) => File::open(folder)?.sync_all().map(|()| true),
        Err(taken) if taken.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(other) => Err(other.error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use figspan_data::seal::Session;
    use std::os::unix::fs::PermissionsExt;

    const SESSION: Session = Session { backend: 1, endpoint: 2, id: 3, born: 4, ends: 5 };

    #[test]
    fn the_first_start_makes_a_key_that_the_next_one_finds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session.key");
        let (first, second) = (open(&path).unwrap(), open(&path).unwrap());
        let sealed = first.sealer.seal("s", &SESSION).unwrap();
        assert_eq!(second.sealer.open("s", sealed.as_bytes()), Some(SESSION));
        assert_eq!((first.since, second.since > 0), (0, true));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn of_replicas_that_start_at_once_one_makes_the_key_of_all() {
        for _ in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("session.key");
            let starts = std::sync::Barrier::new(8);
            let replica = || {
                starts.wait();
                open(&path).unwrap()
            };
            let replicas: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(replica)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let sealed = replicas[0].sealer.seal("s", &SESSION).unwrap();
            assert!(replicas.iter().all(|replica| replica.sealer.open("s", sealed.as_bytes()) == Some(SESSION)));
            assert_eq!(replicas.iter().filter(|replica| replica.since == 0).count(), 1);
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left of the others");
        }
    }

    #[test]
    fn a_link_that_leads_nowhere_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session.key");
        std::os::unix::fs::symlink(folder.path().join("gone"), &path).unwrap();
        let error = open(&path).err().unwrap();
        assert!(error.contains("session.key") && error.contains("hub.session_key_file"), "{error}");
    }

    #[test]
    fn a_new_key_is_put_first_and_the_old_one_still_opens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session.key");
        let sealed = open(&path).unwrap().sealer.seal("s", &SESSION).unwrap();
        let old = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("# two\n{}\n{old}", BASE64_STANDARD.encode([9; KEY]))).unwrap();
        let both = open(&path).unwrap().sealer;
        assert_eq!(both.open("s", sealed.as_bytes()), Some(SESSION));
        assert_eq!(Sealer::new(&[[9; KEY]]).open("s", both.seal("s", &SESSION).unwrap().as_bytes()), Some(SESSION));
    }

    #[test]
    fn a_damaged_key_is_refused_with_the_way_to_mend_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session.key");
        for (text, why) in [("", "holds no key"), ("short", "not a key"), (&"x\n".repeat(3), "not a key")] {
            std::fs::write(&path, text).unwrap();
            let error = open(&path).err().unwrap();
            assert!(error.contains(why) && error.contains("session.key") && error.contains("remove the file"), "{error}");
        }
    }
}
