//! The threads that carry tunnels: the one that started the agent, and more where settings ask for them.
//!
//! Each has a current-thread runtime, and a tunnel stays on the one on which it was dialled: no wake-up crosses threads on
//! the way of a byte.

use std::io;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// Runtimes for tunnels. Dropped, the threads end.
#[derive(Debug)]
pub struct Workers {
    handles: Vec<Handle>,
    stop: CancellationToken,
}

impl Workers {
    /// The current runtime and `count - 1` threads.
    pub fn start(count: usize) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let mut handles = vec![Handle::current()];
        for number in 1..count {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            handles.push(runtime.handle().clone());
            let stop = stop.clone();
            std::thread::Builder::new().name(format!("figspan-tunnel-{number}")).spawn(move || runtime.block_on(stop.cancelled()))?;
        }
        Ok(Self { handles, stop })
    }

    /// Calls `start` in the context of one of the runtimes; the same `number` always is the same one.
    pub fn enter<R>(&self, number: u64, start: impl FnOnce() -> R) -> R {
        let index = number % self.handles.len() as u64;
        let _context = self.handles[index as usize].enter();
        start()
    }

    /// Whether every runtime answers within `time`: what the watchdog is fed by.
    pub async fn alive(&self, time: Duration) -> bool {
        for handle in &self.handles {
            #[allow(clippy::disallowed_methods, reason = "an empty task whose end is waited for right here")]
            let task = handle.spawn(async {});
            if !matches!(tokio::time::timeout(time, task).await, Ok(Ok(()))) {
                return false;
            }
        }
        true
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn one_stalled_thread_of_several_stops_the_signs_of_life() {
        let workers = Workers::start(3).unwrap();
        let (soon, patience) = (Duration::from_millis(50), Duration::from_secs(10));
        assert!(workers.alive(patience).await);
        for stalled in [1, 2] {
            let (release, held) = mpsc::channel::<()>();
            let (entered, inside) = mpsc::channel();
            // As a lock that is never released, or a loop without an end, would hold it.
            #[allow(clippy::disallowed_methods, reason = "a task that must not be waited for")]
            let task = workers.enter(stalled, || {
                tokio::spawn(async move {
                    entered.send(()).expect("the test waits");
                    let _ = held.recv();
                })
            });
            inside.recv_timeout(patience).expect("the thread runs the task");
            assert!(!workers.alive(soon).await, "thread {stalled} stands still, the others do not");
            drop(release);
            task.await.unwrap();
            assert!(workers.alive(patience).await, "it goes on");
        }
    }
}
