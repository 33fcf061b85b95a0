//! Attempts over UDP that somebody waits for: an agent that hears no answer there learns over TCP which direction is cut.
//!
//! The agent names over its tunnel how the connection ids of its next attempts begin; the tunnel is on the shard that they come to.
//! Nothing is kept of attempts that nobody waits for, and looking costs nothing while nobody does. Bounded in number and time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use figspan_proto::join::MARK;
use tokio::sync::Notify;

/// Marks that a shard waits for at once; who asks for one more is told nothing.
const WAITING: usize = 64;

/// How long one is waited for: several attempts, and their time on the way.
pub(crate) const LISTEN: Duration = Duration::from_secs(3);

/// The marks that are waited for.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// How many there are, for a look without the lock.
    waiting: AtomicUsize,
    marks: Mutex<HashMap<[u8; MARK], Arc<Notify>>>,
}

impl Heard {
    /// A first packet with that connection id came over UDP.
    pub(crate) fn note(&self, id: &[u8]) {
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return;
        }
        let Some(mark) = id.first_chunk::<MARK>() else { return };
        if let Some(heard) = self.marks.lock().unwrap_or_else(PoisonError::into_inner).get(mark) {
            heard.notify_one();
        }
    }

    /// Waits for such a packet; `None` where too many are waited for.
    pub(crate) async fn listen(&self, mark: [u8; MARK]) -> Option<bool> {
        let heard = Arc::<Notify>::default();
        let _waiting = self.enter(mark, &heard)?;
        Some(tokio::time::timeout(LISTEN, heard.notified()).await.is_ok())
    }

    fn enter(&self, mark: [u8; MARK], heard: &Arc<Notify>) -> Option<Waiting<'_>> {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        if marks.len() >= WAITING || marks.contains_key(&mark) {
            return None;
        }
        marks.insert(mark, Arc::clone(heard));
        self.waiting.store(marks.len(), Ordering::Relaxed);
        Some(Waiting(self, mark))
    }
}

/// Takes its mark out of the list when dropped.
struct Waiting<'h>(&'h Heard, [u8; MARK]);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut marks = self.0.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.remove(&self.1);
        self.0.waiting.store(marks.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_mark_is_heard_once_it_comes_and_nothing_is_kept_of_others() {
        let heard = Heard::default();
        heard.note(&[1; 8]);
        let (early, late) = tokio::join!(heard.listen([1; MARK]), heard.listen([2; MARK]));
        assert_eq!((early, late), (Some(false), Some(false)), "what came before is not remembered");
        let coming = async {
            tokio::task::yield_now().await;
            heard.note(&[3; 16]);
            heard.note(&[9; 16]);
            heard.note(&[4; 7]);
        };
        let (three, four, ()) = tokio::join!(heard.listen([3; MARK]), heard.listen([4; MARK]), coming);
        assert_eq!((three, four), (Some(true), Some(false)));
        assert!(heard.marks.lock().unwrap().is_empty() && heard.waiting.load(Ordering::Relaxed) == 0);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_so_many_are_waited_for_and_none_twice() {
        let heard = Heard::default();
        let held: Vec<_> = (0..WAITING as u8).map(|n| heard.enter([n; MARK], &Arc::default()).unwrap()).collect();
        assert!(heard.listen([200; MARK]).await.is_none());
        drop(held);
        let _held = heard.enter([1; MARK], &Arc::default()).unwrap();
        assert!(heard.listen([1; MARK]).await.is_none());
        assert_eq!(heard.listen([200; MARK]).await, Some(false));
    }
}
