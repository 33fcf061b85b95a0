//! The hub's threads: started here, and missed when one of them dies.
//!
//! A hub is whole or gone. A thread that ends before it was told to, by a panic or not, is named to whoever waits.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How the hub's threads are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Threads {
    pub(crate) alive: usize,
    pub(crate) died: Option<String>,
}

/// Starts the hub's threads and notices their ends. Dropped before [`Spawner::keep`], it ends them.
pub(crate) struct Spawner {
    pub(crate) end: CancellationToken,
    pub(crate) state: watch::Sender<Threads>,
    kept: bool,
}

impl Spawner {
    pub(crate) fn new() -> Self {
        Self { end: CancellationToken::new(), state: watch::Sender::default(), kept: false }
    }

    pub(crate) fn spawn(&mut self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), String> {
        self.state.send_modify(|threads| threads.alive += 1);
        let alive = Alive { name: name.to_owned(), state: self.state.clone(), end: self.end.clone() };
        let run = move || {
            let _alive = alive;
            body();
        };
        let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(run);
        spawned.map(drop).map_err(|error| format!("no thread for {name}: {error}; raise the limit on tasks"))
    }

    /// From now on the threads end when they are told to.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        if !self.kept {
            self.end.cancel();
        }
    }
}

/// Held by a thread for as long as it lives.
struct Alive {
    name: String,
    state: watch::Sender<Threads>,
    end: CancellationToken,
}

impl Drop for Alive {
    fn drop(&mut self) {
        // Ending before it was told to is dying, whether by a panic or not.
        let died = std::thread::panicking() || !self.end.is_cancelled();
        if died {
            tracing::error!(part = self.name, "a part of the hub has died; the hub cannot go on");
        }
        self.state.send_modify(|threads| {
            threads.alive -= 1;
            if died {
                threads.died.get_or_insert_with(|| self.name.clone());
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_thread_that_panics_is_named_to_whoever_waits() {
        let mut threads = Spawner::new();
        let mut state = threads.state.subscribe();
        let end = threads.end.clone();
        threads
            .spawn("control", move || {
                while !end.is_cancelled() {
                    std::thread::yield_now();
                }
            })
            .unwrap();
        threads.spawn("shard-1", || panic!("for the test")).unwrap();
        let died = tokio::time::timeout(SOON, state.wait_for(|threads| threads.died.is_some())).await.unwrap().unwrap().died.clone();
        assert_eq!(died.as_deref(), Some("shard-1"));
        drop(threads);
        tokio::time::timeout(SOON, state.wait_for(|threads| threads.alive == 0)).await.expect("the others are ended").unwrap();
    }
}
