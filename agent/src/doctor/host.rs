//! Checks of this machine: limits, buffers, files, disk.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Check, What};
use crate::identity::files::Files;
use crate::settings::load::Loaded;
use crate::status::Status;

/// Descriptors below which a busy agent may run out: each connection takes one.
const DESCRIPTORS: u64 = 4096;
/// Buffer that a tunnel's socket asks for.
const BUFFER: u64 = figspan_tunnel::transport::SOCKET_BUFFER as u64;
/// Room for certificates and their replacements, many times over; below it something else fills the disk.
const ROOM: u64 = 16 << 20;
/// The same in files.
const INODES: u64 = 16;

/// The limit of the running agent, else that of this shell.
pub(super) fn descriptors(status: Option<&Status>) -> Check {
    let what = What::Descriptors;
    let running = status.map(|status| status.process.descriptors).filter(|limit| *limit > 0);
    let (subject, limit, mend) = match running {
        Some(limit) => ("the agent's process", limit, "raise LimitNOFILE in the unit, or `ulimit -n 65536` where it runs without"),
        None => {
            let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
            // Of a shell, low is normal; the unit sets its own.
            return Check::pass(what, "this shell", format!("{limit}; the unit sets its own"));
        }
    };
    match limit {
        DESCRIPTORS.. => Check::pass(what, subject, limit.to_string()),
        _ => Check::warn(what, subject, format!("{limit}, less than {DESCRIPTORS}: connections beyond are refused"), mend),
    }
}

pub(super) fn buffers() -> [Check; 2] {
    [("receive", "rmem_max"), ("send", "wmem_max")].map(|(way, file)| {
        let bytes = fs::read_to_string(Path::new("/proc/sys/net/core").join(file)).ok().and_then(|text| text.trim().parse().ok());
        buffer(way, file, bytes)
    })
}

fn buffer(way: &str, file: &str, bytes: Option<u64>) -> Check {
    match bytes {
        Some(bytes) if bytes >= BUFFER => Check::pass(What::UdpBuffers, way, format!("{bytes} bytes")),
        Some(bytes) => {
            let seen = format!("{bytes} bytes of the {BUFFER} that tunnels ask for: fine for moderate traffic");
            let mend = format!("echo net.core.{file}={BUFFER} > /etc/sysctl.d/60-figspan.conf && sysctl --system");
            Check::warn(What::UdpBuffers, way, seen, mend)
        }
        None => Check::skip(What::UdpBuffers, way, "the kernel does not say", ""),
    }
}

/// Who may read what is secret, and write what is obeyed.
pub(super) fn files(loaded: &Loaded) -> Vec<Check> {
    let state_dir = &loaded.settings.state_dir;
    let files = Files::new(state_dir);
    let owner = fs::metadata(state_dir).map(|meta| meta.uid()).ok();
    let mut checks: Vec<Check> = [files.key(), files.chain()].into_iter().map(|path| secret(path, owner)).collect();
    for path in &loaded.files {
        let Ok(meta) = fs::metadata(path) else { continue };
        if meta.mode() & 0o022 != 0 {
            let seen = format!("can be written by others (mode {:o})", meta.mode() & 0o777);
            let subject = path.display().to_string();
            checks.push(Check::warn(What::Files, &subject, seen, format!("chmod go-w {subject}")));
        }
    }
    checks
}

fn secret(path: PathBuf, owner: Option<u32>) -> Check {
    let subject = path.display().to_string();
    match fs::metadata(&path) {
        Ok(meta) if meta.mode() & 0o077 != 0 => {
            let seen = format!("others may read it (mode {:o})", meta.mode() & 0o777);
            let mend = format!("chmod 600 {subject}; if others use this machine, `figspan-agent join --again` for a new key");
            Check::fail(What::Files, &subject, seen, mend)
        }
        Ok(meta) if owner.is_some_and(|owner| owner != meta.uid()) => {
            let folder = path.ancestors().nth(2).unwrap_or(&path).display().to_string();
            Check::fail(
                What::Files,
                &subject,
                "belongs to another user than its directory, so that the agent cannot read it",
                format!("chown --reference={folder} {subject}"),
            )
        }
        Ok(_) => Check::pass(What::Files, subject, "for its owner alone"),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Check::skip(What::Files, subject, "not for this user", "run doctor as root")
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Check::after(What::Files, subject, What::Identity),
        Err(error) => Check::fail(What::Files, subject, error.to_string(), "mend the file or its disk"),
    }
}

/// Room for what renewal writes.
pub(super) fn disk(state_dir: &Path) -> Check {
    let subject = state_dir.display().to_string();
    match rustix::fs::statvfs(state_dir) {
        Ok(there) => room(subject, there.f_bavail.saturating_mul(there.f_frsize), there.f_favail, there.f_files),
        Err(error) => Check::skip(What::Disk, subject, error.to_string(), ""),
    }
}

fn room(subject: String, bytes: u64, files: u64, all_files: u64) -> Check {
    let seen = format!("{} MiB free", bytes >> 20);
    // File systems without a table of files say 0 of 0.
    if bytes < ROOM || (files < INODES && all_files > 0) {
        let seen = if bytes < ROOM { seen } else { format!("{files} files left") };
        return Check::warn(What::Disk, subject, seen, "free some space: a certificate that cannot be kept is lost with a restart");
    }
    Check::pass(What::Disk, subject, seen)
}

#[cfg(test)]
mod tests {
    use super::super::Mark;
    use super::*;

    #[test]
    fn small_buffers_and_full_disks_are_worth_a_word_with_its_mend() {
        assert_eq!(buffer("receive", "rmem_max", Some(BUFFER)).mark, Mark::Pass);
        let small = buffer("receive", "rmem_max", Some(212_992));
        assert!(small.mark == Mark::Warn && small.mend.contains("net.core.rmem_max=4194304"), "{small:?}");
        assert_eq!(buffer("send", "wmem_max", None).mark, Mark::Skip);
        let marks = [(ROOM, 100, 100), (ROOM - 1, 100, 100), (ROOM, 1, 100), (ROOM, 0, 0)];
        let marks = marks.map(|(bytes, files, all)| room("/".into(), bytes, files, all).mark);
        assert_eq!(marks, [Mark::Pass, Mark::Warn, Mark::Warn, Mark::Pass]);
    }
}
