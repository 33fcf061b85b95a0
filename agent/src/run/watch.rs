//! Word of changes in the settings' files and the state directory.
//!
//! Directories are watched, not files: editors and packages replace a file rather than write to it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::Instant;

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
    settled: Option<Instant>,
}

impl Watch {
    /// Begins to watch. Where that cannot be, SIGHUP still works, and a log line says so.
    pub(super) fn new(paths: Paths) -> Self {
        let (tell, changes) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| matters(&event)) {
                let _ = tell.try_send(());
            }
        });
        let told = |error: &notify::Error| {
            tracing::warn!(%error, "changes of the settings are not noticed: {error}; reload with `systemctl reload figspan-agent`");
        };
        let watcher = watcher.inspect_err(told).ok();
        let mut watch = Self { changes, watcher, paths, watched: HashSet::new(), settled: None };
        watch.look_again();
        watch
    }

    /// Waits until something has changed and settled. Cancel-safe.
    pub(super) async fn changed(&mut self) {
        let settled = match self.settled {
            // Whoever waits is interrupted often; the time that has passed counts all the same.
            Some(settled) => settled,
            None if self.changes.recv().await.is_none() => return std::future::pending().await,
            None => *self.settled.insert(Instant::now() + SETTLE),
        };
        tokio::time::sleep_until(settled).await;
        while self.changes.try_recv().is_ok() {}
        self.settled = None;
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

/// Whether an event may be news. Reading is one too, and what a reload does; other files in the directory are nothing to us.
fn matters(event: &notify::Event) -> bool {
    let ours = |path: &PathBuf| path.extension().is_some_and(|ext| ext == "toml" || ext == "pem" || ext == "d");
    !matches!(event.kind, EventKind::Access(_)) && event.paths.iter().any(ours)
}
