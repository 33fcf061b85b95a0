//! Word of changes in the settings' files and the state directory.
//!
//! Directories are watched, not files: editors and packages replace a file rather than write to it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use crate::identity::files::Files;
use crate::settings::load::{JOIN_DROP_IN, drop_in_dir};

/// Changes that come within this time are one.
const SETTLE: Duration = Duration::from_millis(200);

/// What to watch.
#[derive(Debug)]
pub(super) struct Paths {
    dirs: Vec<PathBuf>,
}

impl Paths {
    pub(super) fn of(config: &Path, state_dir: &Path) -> Self {
        let parent = |path: &Path| path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
        let identity = parent(&Files::new(state_dir).chain());
        let mut dirs = vec![parent(config), drop_in_dir(config), parent(&state_dir.join(JOIN_DROP_IN)), identity];
        dirs.sort();
        dirs.dedup();
        Self { dirs }
    }
}

/// A watch that lasts as long as this lives.
#[derive(Debug)]
pub(super) struct Watch {
    changes: mpsc::Receiver<()>,
    watcher: Option<RecommendedWatcher>,
    paths: Paths,
    watched: HashSet<PathBuf>,
    settling: bool,
}

impl Watch {
    /// Begins to watch. Where that cannot be, SIGHUP still works, and a log line says so.
    pub(super) fn new(paths: Paths) -> Self {
        let (tell, changes) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading is an event too, and reading is what a reload does.
            if event.is_ok_and(|event| !matches!(event.kind, EventKind::Access(_))) {
                let _ = tell.try_send(());
            }
        });
        let told = |error: &notify::Error| {
            tracing::warn!(%error, "changes of the settings are not noticed: {error}; reload with `systemctl reload figspan-agent`");
        };
        let watcher = watcher.inspect_err(told).ok();
        let mut watch = Self { changes, watcher, paths, watched: HashSet::new(), settling: false };
        watch.look_again();
        watch
    }

    /// Waits until something has changed and settled. Cancel-safe.
    pub(super) async fn changed(&mut self) {
        if !self.settling {
            if self.changes.recv().await.is_none() {
                return std::future::pending().await;
            }
            self.settling = true;
        }
        tokio::time::sleep(SETTLE).await;
        while self.changes.try_recv().is_ok() {}
        self.settling = false;
        self.look_again();
    }

    /// Watches directories that have come to be since.
    fn look_again(&mut self) {
        self.watched.retain(|dir| dir.is_dir());
        let Some(watcher) = &mut self.watcher else { return };
        for dir in self.paths.dirs.iter().filter(|dir| dir.is_dir()) {
            if !self.watched.insert(dir.clone()) {
                continue;
            }
            if let Err(error) = watcher.watch(dir, RecursiveMode::NonRecursive) {
                let dir = dir.display();
                tracing::warn!(%error, %dir, "changes in {dir} are not noticed: {error}; reload with `systemctl reload figspan-agent`");
            }
        }
    }
}
