//! Checks of this machine: limits, buffers, files.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Check;
use crate::identity::files::Files;
use crate::settings::load::Loaded;

/// Descriptors below which a busy agent may run out: each connection takes one.
const DESCRIPTORS: u64 = 4096;
/// Buffer that a tunnel's socket asks for.
const BUFFER: u64 = figspan_tunnel::transport::SOCKET_BUFFER as u64;

pub(super) fn limits() -> Vec<Check> {
    let mut checks = Vec::new();
    let what = "descriptors";
    checks.push(match fs::read_to_string("/proc/self/limits").ok().and_then(|text| descriptors(&text)) {
        Some(limit) if limit >= DESCRIPTORS => Check::pass(what, format!("{limit} for this shell; the unit sets its own")),
        Some(limit) => {
            let seen = format!("{limit} for this shell; the unit sets its own");
            Check::warn(what, seen, "where the agent runs without its unit, raise it with `ulimit -n 65536`")
        }
        None => Check::skip(what, "/proc/self/limits cannot be read", ""),
    });
    for (what, file) in [("UDP receive buffer", "rmem_max"), ("UDP send buffer", "wmem_max")] {
        let number = fs::read_to_string(Path::new("/proc/sys/net/core").join(file)).ok().and_then(|text| text.trim().parse::<u64>().ok());
        checks.push(match number {
            Some(bytes) if bytes >= BUFFER => Check::pass(what, format!("{bytes} bytes")),
            Some(bytes) => {
                let seen = format!("{bytes} bytes of the {BUFFER} that tunnels ask for: fine for moderate traffic");
                Check::warn(what, seen, format!("echo net.core.{file}={BUFFER} > /etc/sysctl.d/60-figspan.conf && sysctl --system"))
            }
            None => Check::skip(what, "the kernel does not say", ""),
        });
    }
    checks
}

/// The soft limit of open files in the text of /proc/self/limits.
fn descriptors(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?.parse().ok()
}

pub(super) fn permissions(loaded: &Loaded) -> Vec<Check> {
    let files = Files::new(&loaded.settings.state_dir);
    let mut checks = Vec::new();
    for path in [files.key(), files.chain()] {
        let what = format!("file {}", path.file_name().unwrap_or_default().display());
        checks.push(match fs::metadata(&path) {
            Ok(meta) if meta.mode() & 0o077 == 0 => Check::pass(what, format!("{} is for its owner alone", path.display())),
            Ok(meta) => {
                Check::fail(what, format!("{} has mode {:o}", path.display(), meta.mode() & 0o777), format!("chmod 600 {}", path.display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                Check::skip(what, format!("{} is not for this user", path.display()), "run doctor as root")
            }
            Err(error) => Check::skip(what, format!("{}: {error}", path.display()), "run `figspan-agent join`"),
        });
    }
    for path in &loaded.files {
        if let Ok(meta) = fs::metadata(path)
            && meta.mode() & 0o022 != 0
        {
            let what = format!("file {}", path.file_name().unwrap_or_default().display());
            let seen = format!("{} can be written by others (mode {:o})", path.display(), meta.mode() & 0o777);
            checks.push(Check::warn(what, seen, format!("chmod go-w {}", path.display())));
        }
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_of_descriptors_is_found() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max processes             63448                63448                processes \n\
                    Max open files            1024                 524288               files     \n";
        assert_eq!(descriptors(text), Some(1024));
        assert_eq!(descriptors("nothing"), None);
    }
}
