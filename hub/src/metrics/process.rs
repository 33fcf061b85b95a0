//! The process as Linux sees it, under the names that every Prometheus client uses.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// One look at `/proc/self`; what cannot be read is left out.
#[derive(Debug, Default)]
pub(super) struct Process {
    cpu_seconds: Option<f64>,
    resident_bytes: Option<u64>,
    threads: Option<u64>,
    open_fds: Option<u64>,
    max_fds: Option<u64>,
}

/// Linux shows processor time in hundredths of a second on every platform that figspan runs on (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

impl Process {
    pub(super) fn now() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        Self {
            cpu_seconds: cpu_seconds(&stat),
            resident_bytes: field(&status, "VmRSS:").map(|kib| kib * 1024),
            threads: field(&status, "Threads:"),
            // The directory's own descriptor is one of them.
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count().saturating_sub(1) as u64),
            max_fds: field(&limits, "Max open files"),
        }
    }
}

/// User and system time. The second field, a name in parentheses, may hold anything, blanks and parentheses included.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

/// The number behind a name at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        if let Some(seconds) = self.cpu_seconds {
            encoder
                .encode_descriptor("process_cpu_seconds", "User and system processor time.", None, MetricType::Counter)?
                .encode_counter::<NoLabelSet, _, f64>(&seconds, None)?;
        }
        let gauges = [
            ("process_resident_memory_bytes", "Resident memory.", self.resident_bytes),
            ("process_threads", "Threads.", self.threads),
            ("process_open_fds", "Open file descriptors.", self.open_fds),
            ("process_max_fds", "Most file descriptors.", self.max_fds),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                super::hub::gauge(&mut encoder, name, help, value)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_any_process_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 5 1000 200";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds(""), None);
    }

    #[test]
    fn this_process_has_memory_threads_and_descriptors() {
        let process = Process::now();
        assert!(process.resident_bytes.is_some_and(|bytes| bytes > 1 << 20), "{process:?}");
        assert!(process.threads.is_some_and(|n| n >= 1) && process.open_fds.is_some_and(|n| n >= 3), "{process:?}");
        assert!(process.max_fds >= process.open_fds && process.cpu_seconds.is_some(), "{process:?}");
    }
}
