//! How a workload behaves; changed from any thread, while it serves.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::watch;

/// A workload's behaviour. Well-behaved unless told otherwise.
#[derive(Debug)]
pub struct Mood {
    slow: AtomicU32,
    sick: AtomicBool,
    crash: AtomicU32,
    restless: AtomicU32,
    down: watch::Sender<bool>,
    listens: AtomicBool,
}

impl Default for Mood {
    fn default() -> Self {
        Self {
            slow: AtomicU32::new(0),
            sick: AtomicBool::new(false),
            crash: AtomicU32::new(0),
            restless: AtomicU32::new(0),
            down: watch::Sender::new(false),
            listens: AtomicBool::new(false),
        }
    }
}

impl Mood {
    /// Milliseconds before each answer, beside what it takes anyway.
    pub fn slow(&self, milliseconds: u32) {
        self.slow.store(milliseconds, Ordering::SeqCst);
    }

    /// Whether its health check fails; it still answers.
    pub fn sick(&self, sick: bool) {
        self.sick.store(sick, Ordering::SeqCst);
    }

    /// How many of a thousand requests end in a crash: half of them before the answer begins, half in its middle.
    pub fn crash(&self, per_mille: u32) {
        self.crash.store(per_mille, Ordering::SeqCst);
    }

    /// Milliseconds after which it ends a connection without a word, at the most; 0: never.
    pub fn restless(&self, milliseconds: u32) {
        self.restless.store(milliseconds, Ordering::SeqCst);
    }

    /// Well-behaved again.
    pub fn calm(&self) {
        self.slow(0);
        self.sick(false);
        self.crash(0);
        self.restless(0);
    }

    pub(super) fn is_sick(&self) -> bool {
        self.sick.load(Ordering::SeqCst)
    }

    pub(super) fn is_down(&self) -> bool {
        *self.down.borrow()
    }

    pub(super) fn delay(&self) -> Duration {
        Duration::from_millis(self.slow.load(Ordering::SeqCst).into())
    }

    /// Whether a request ends in a crash, and where.
    pub(super) fn crashes(&self) -> Option<Crash> {
        let dice = rand::random_range(0..2000);
        let chance = self.crash.load(Ordering::SeqCst);
        if dice >= 2 * chance {
            return None;
        }
        Some(if dice % 2 == 0 { Crash::BeforeTheAnswer } else { Crash::WithinTheAnswer })
    }

    /// Returns when a connection has lasted too long for the workload's liking.
    pub(super) async fn bored(&self) {
        loop {
            match self.restless.load(Ordering::SeqCst) {
                0 => tokio::time::sleep(Duration::from_millis(100)).await,
                most => return tokio::time::sleep(Duration::from_millis(rand::random_range(0..u64::from(most)))).await,
            }
        }
    }

    pub(super) fn turn(&self, down: bool) {
        self.down.send_replace(down);
    }

    pub(super) fn listens(&self) -> bool {
        self.listens.load(Ordering::SeqCst)
    }

    pub(super) fn now_listens(&self, listens: bool) {
        self.listens.store(listens, Ordering::SeqCst);
    }

    /// Returns when it is to be down, or not.
    pub(super) async fn until(&self, down: bool) {
        // The sender is `self`.
        let _ = self.down.subscribe().wait_for(|now| *now == down).await;
    }
}

/// Where a request ends in a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Crash {
    BeforeTheAnswer,
    WithinTheAnswer,
}
