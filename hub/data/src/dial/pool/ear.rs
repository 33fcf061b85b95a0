//! Hears what happens on a connection that idles.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use tokio::sync::Notify;

/// A connection's own, for all the times that it idles: to make a waker anew, or to share it, costs more than to look.
pub struct Ear {
    drum: Arc<Drum>,
    waker: Waker,
}

struct Drum {
    heard: AtomicBool,
    pool: Arc<Notify>,
}

impl Ear {
    /// Tells that pool when something happens.
    pub fn new(pool: &Arc<Notify>) -> Self {
        let drum = Arc::new(Drum { heard: AtomicBool::new(false), pool: Arc::clone(pool) });
        Self { waker: Waker::from(Arc::clone(&drum)), drum }
    }

    /// Hears from now on what happens to whatever `look` polls.
    pub fn listen<R>(&self, look: impl FnOnce(&mut Context<'_>) -> R) -> R {
        self.drum.heard.store(false, Ordering::Release);
        look(&mut Context::from_waker(&self.waker))
    }

    /// Whether something has happened since.
    pub fn has_heard(&self) -> bool {
        self.drum.heard.load(Ordering::Acquire)
    }
}

impl Wake for Drum {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.heard.store(true, Ordering::Release);
        self.pool.notify_one();
    }
}
