//! The audit on disk: who changed what, when, from what to what, and why.
//!
//! A last line that a crash cut off is dropped at the next start; other lines that cannot be read are left where they are and
//! said in the log. At most [`FILES`] times [`FILE_BYTES`] are kept.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use figspan_proto::admin::Event;
use figspan_tunnel::drain::Drain;
use tokio::sync::mpsc;

use super::{Line, RING};
use crate::store::{Store, StoreError};

/// Bytes after which the file is turned over: about 30,000 changes.
const FILE_BYTES: u64 = 8 * 1024 * 1024;
/// Files kept, with the current one.
const FILES: usize = 4;

/// The open audit.
#[derive(Debug)]
pub(crate) struct Audit {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Audit {
    /// Opens it and reads the newest events back.
    pub(crate) fn open(store: &Store) -> Result<(Self, Vec<Event>), StoreError> {
        let path = store.path("audit.jsonl");
        let read = |source| StoreError::Read { path: path.clone(), source };
        let mut file = append(&path).map_err(read)?;
        let mut text = Vec::new();
        file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut text)).map_err(read)?;
        // Behind the last line feed there is nothing, or what a crash cut off.
        let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            tracing::warn!(file = %path.display(), "the last line of the audit was cut off by a crash; it is dropped");
            file.set_len(whole as u64).map_err(read)?;
        }
        let mut kept: Vec<Event> = Vec::new();
        for line in text[..whole].split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(event) => kept.push(event),
                Err(error) => tracing::warn!(file = %path.display(), %error, "a line of the audit cannot be read; it is left as it is"),
            }
        }
        let kept = kept.split_off(kept.len().saturating_sub(RING));
        Ok((Self { path, file, bytes: whole as u64 }, kept))
    }

    /// Writes what comes until it is told to end, and what had come by then.
    pub(crate) async fn run(mut self, mut lines: mpsc::Receiver<Line>, drain: Drain) {
        let mut batch = Vec::new();
        loop {
            let count = tokio::select! {
                biased;
                count = lines.recv_many(&mut batch, 64) => count,
                () = drain.stopping(), if !lines.is_closed() => { lines.close(); continue }
            };
            if count == 0 {
                return;
            }
            let text: String = batch.iter().flat_map(|(line, _)| [line.as_str(), "\n"]).collect();
            let (audit, written) = match tokio::task::spawn_blocking(move || self.append(&text)).await {
                Ok(result) => result,
                // The blocking pool is gone: the process ends.
                Err(_) => return,
            };
            self = audit;
            if let Err(error) = &written {
                tracing::error!(file = %self.path.display(), %error, "the audit cannot be written; free space, or correct the directory's owner");
            }
            for (_, done) in batch.drain(..) {
                if let Some(done) = done {
                    // Nobody waits any more: fine.
                    let _ = done.send(written.is_ok());
                }
            }
        }
    }

    fn append(mut self, text: &str) -> (Self, io::Result<()>) {
        let written = self.try_append(text);
        (self, written)
    }

    fn try_append(&mut self, text: &str) -> io::Result<()> {
        if self.bytes > FILE_BYTES {
            self.turn_over()?;
        }
        if let Err(error) = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data()) {
            // A half-written line must not swallow the next one.
            let _ = self.file.set_len(self.bytes);
            return Err(error);
        }
        self.bytes += text.len() as u64;
        Ok(())
    }

    fn turn_over(&mut self) -> io::Result<()> {
        let numbered = |number: usize| self.path.with_extension(format!("{number}.jsonl"));
        for number in (1..FILES - 1).rev() {
            match fs::rename(numbered(number), numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, numbered(1))?;
        self.file = append(&self.path)?;
        self.bytes = 0;
        Ok(())
    }
}

fn append(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Clock;
    use crate::events::{Events, Note};

    async fn write(dir: &std::path::Path, subjects: &[&str]) -> Vec<String> {
        let store = Store::open(dir).unwrap();
        let (audit, kept) = Audit::open(&store).unwrap();
        let (events, lines) = Events::new(Clock::system(), kept);
        let drain = Drain::new();
        let writing = audit.run(lines, drain.clone());
        let work = async move {
            for subject in subjects {
                assert!(events.record_on_disk(Note::new("weight", subject, "ann", "m".into())).await);
            }
            events.record(Note::new("connect", "not audited", "hub", "m".into()));
            drain.stop();
            events.since(0, 1000).iter().map(|event| format!("{} {}", event.number, event.subject)).collect::<Vec<_>>()
        };
        let (_, seen) = tokio::join!(writing, work);
        seen
    }

    #[tokio::test]
    async fn the_audit_goes_on_after_a_restart_and_a_cut_off_line() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(write(dir.path(), &["a", "b"]).await, ["1 a", "2 b", "3 not audited"]);
        let path = dir.path().join("audit.jsonl");
        let mut text = fs::read_to_string(&path).unwrap();
        text.push_str("{\"number\":9");
        fs::write(&path, text).unwrap();
        assert_eq!(write(dir.path(), &["c"]).await, ["1 a", "2 b", "3 c", "4 not audited"]);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 3);
    }

    #[test]
    fn a_full_audit_is_turned_over_and_the_oldest_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (mut audit, _) = Audit::open(&store).unwrap();
        for _ in 0..6 {
            audit.bytes = FILE_BYTES + 1;
            audit.try_append("{}\n").unwrap();
        }
        let files =
            fs::read_dir(dir.path()).unwrap().filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().starts_with("audit"));
        assert_eq!(files.count(), FILES);
    }
}
