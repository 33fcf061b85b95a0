//! The admin API's Unix socket: never open to more than its group, never taken from a hub that still answers.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

/// Owner and group may connect: the group is how a site names its operators.
const MODE: u32 = 0o660;

const BACKLOG: i32 = 64;

/// Why the socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    /// Another hub.
    #[error("admin socket {0}: another hub answers on it; stop that one, or set another admin.socket")]
    Taken(PathBuf),
    /// Something that is no socket.
    #[error("admin socket {0}: there is a file that is no socket; remove it, or set another admin.socket")]
    NoSocket(PathBuf),
    /// The system's word.
    #[error("admin socket {0}: {1}; the directory must exist or be makeable by the hub's user, or set another admin.socket")]
    Io(PathBuf, io::Error),
}

/// A bound socket; its file goes with it, unless somebody else has put another in its place.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl SocketFile {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|now| now == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Binds. A stale socket file is replaced in one step; there is no moment at which others than owner and group could connect.
pub(crate) fn bind(path: &Path) -> Result<(UnixListener, SocketFile), SocketError> {
    let failed = |error| SocketError::Io(path.to_owned(), error);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    match fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => return Err(SocketError::NoSocket(path.to_owned())),
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(SocketError::Taken(path.to_owned())),
        _ => {}
    }
    // Bound beside its place and not yet listening, restricted, then moved: it can be connected to only when all is set.
    let mut beside = path.as_os_str().to_owned();
    beside.push("~");
    let beside = PathBuf::from(beside);
    let _ = fs::remove_file(&beside);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
    socket.bind(&SockAddr::unix(&beside).map_err(failed)?).map_err(failed)?;
    fs::set_permissions(&beside, Permissions::from_mode(MODE)).map_err(failed)?;
    socket.listen(BACKLOG).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    fs::rename(&beside, path).map_err(failed)?;
    let file = SocketFile { path: path.to_owned(), inode: inode(path).map_err(failed)? };
    Ok((socket.into(), file))
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_hub_keeps_its_socket_and_a_dead_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/admin.sock");
        let (listener, file) = bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        assert!(matches!(bind(&path), Err(SocketError::Taken(_))));
        drop(listener);
        let (_second, second_file) = bind(&path).unwrap();
        drop(file);
        assert!(path.exists(), "the first hub must not remove the second one's socket");
        drop(second_file);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        fs::write(&path, "mine").unwrap();
        assert!(matches!(bind(&path), Err(SocketError::NoSocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }
}
