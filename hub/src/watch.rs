//! Notices that files have changed: the configuration, and certificates. Says only "look again"; comparing is the reader's.
//!
//! Folders are watched, not files, because programs replace files by renaming: editors, certbot, and Kubernetes, which swaps a
//! `..data` link beside the file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// Quiet time after a change before it is read: writers need a moment for all their files.
const QUIET: Duration = Duration::from_millis(150);

/// A change is read after that long, however busy the folder is.
const LONGEST: Duration = Duration::from_secs(2);

/// Watches folders; ends when dropped.
pub(crate) struct FileWatch {
    watcher: RecommendedWatcher,
    folders: BTreeSet<PathBuf>,
    changes: mpsc::Receiver<()>,
}

impl FileWatch {
    /// Begins with one change. Fails where the system has no more watches to give.
    pub(crate) fn new() -> notify::Result<Self> {
        let (changed, changes) = mpsc::channel(1);
        // Files may have changed between being read and being watched.
        let _ = changed.try_send(());
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading is no change; an error may hide one.
            if event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
                return;
            }
            // One waiting message says it all.
            let _ = changed.try_send(());
        })?;
        Ok(Self { watcher, folders: BTreeSet::new(), changes })
    }

    /// Watches the folders of these files, and of what they link to, and no others.
    pub(crate) fn set_files<'p>(&mut self, files: impl IntoIterator<Item = &'p Path>) {
        let mut wanted = BTreeSet::new();
        for file in files {
            wanted.insert(folder(file));
            if let Ok(target) = file.canonicalize() {
                wanted.insert(folder(&target));
            }
        }
        for gone in self.folders.difference(&wanted) {
            let _ = self.watcher.unwatch(gone);
        }
        let mut watched = BTreeSet::new();
        for folder in wanted {
            let known = self.folders.contains(&folder);
            match if known { Ok(()) } else { self.watcher.watch(&folder, RecursiveMode::NonRecursive) } {
                Ok(()) => drop(watched.insert(folder)),
                Err(error) => {
                    tracing::warn!(folder = %folder.display(), %error, "changes of files are not noticed here; reload by SIGHUP or `figspanctl reload`");
                }
            }
        }
        self.folders = watched;
    }

    /// Waits for a change and the quiet after it. Cancel-safe but for the quiet.
    pub(crate) async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        let last = Instant::now() + LONGEST;
        while let Ok(Some(())) = timeout_at((Instant::now() + QUIET).min(last), self.changes.recv()).await {
            if Instant::now() >= last {
                break;
            }
        }
    }
}

fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    async fn notices(watch: &mut FileWatch, change: impl FnOnce()) {
        change();
        tokio::time::timeout(Duration::from_secs(5), watch.changed()).await.expect("the change is noticed");
    }

    #[tokio::test]
    async fn edits_replacements_and_swapped_links_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hub.toml");
        fs::write(&file, "a").unwrap();
        let mut watch = FileWatch::new().unwrap();
        watch.set_files([file.as_path()]);
        watch.changed().await;
        notices(&mut watch, || fs::write(&file, "b").unwrap()).await;
        notices(&mut watch, || {
            fs::write(dir.path().join("new"), "c").unwrap();
            fs::rename(dir.path().join("new"), &file).unwrap();
        })
        .await;
    }

    #[tokio::test]
    async fn a_config_map_that_swaps_its_data_link_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (version, text) in [("..v1", "a"), ("..v2", "b")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("hub.toml"), text).unwrap();
        }
        symlink("..v1", at("..data")).unwrap();
        symlink("..data/hub.toml", at("hub.toml")).unwrap();
        let mut watch = FileWatch::new().unwrap();
        watch.set_files([at("hub.toml").as_path()]);
        watch.changed().await;
        notices(&mut watch, || {
            symlink("..v2", at("..tmp")).unwrap();
            fs::rename(at("..tmp"), at("..data")).unwrap();
        })
        .await;
        assert_eq!(fs::read_to_string(at("hub.toml")).unwrap(), "b");
    }
}
